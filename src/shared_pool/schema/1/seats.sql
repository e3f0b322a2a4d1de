-- Seats: units of an account's capacity. Never more are taken than there are rows, and a row belongs to one term.

-- A commit that need not be on disk before its answer: if a crash takes it back, a seat stays taken until its host says
-- again that it does not hold it, or a want is missing until it is repeated. A later commit that is confirmed, such as the
-- claim of the seat, takes this one to the disk as well. It matters most for commits that notify, which take turns.
create function lessor.commit_without_flush() returns void language sql volatile
  as $$ select set_config('synchronous_commit', 'off', true) $$;

-- Held by a claim that finds no free seat until its want is there, and by those who give seats back: so one of both knows
-- of the other, and a return notifies only if a host waits. It is taken before the locks of seats: where a seat has just
-- changed, `skip locked` waits all the same, and a host that holds this one must not wait for a host that waits for it.
create function lessor.lock_wants(p_account bigint, p_shared boolean) returns void language plpgsql volatile as $$
declare
  kind constant integer := 'lessor.want'::regclass::oid::integer;
begin
  if p_shared then
    perform pg_advisory_xact_lock_shared(kind, hashint8(p_account));
  else
    perform pg_advisory_xact_lock(kind, hashint8(p_account));
  end if;
end $$;

-- Fences rise over the whole pool: the sequence is drawn from after the row of the seat was locked, so a later holder of
-- it has a higher block.
create function lessor.claim_seats(
  p_term bigint, p_life bigint, p_account bigint, p_seats integer, p_most integer, p_whole boolean
) returns table (outcome text, seats integer, elsewhere integer, fence_from bigint, fence_to bigint)
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
  now_ms bigint;
  roof integer;
  room integer;
  mark bigint;
  taken integer[];
  is_locked boolean;
  is_second_try boolean := false;
begin
  seats := 0;
  elsewhere := 0;
  perform from lessor.term where id = p_term and life = p_life and host = me and ended_at is null for key share;
  if not found then
    outcome := 'over';
    return next;
    return;
  end if;
  now_ms := lessor.now_ms();
  if (select paused_until from lessor.pool) > now_ms then
    outcome := 'paused';
    return next;
    return;
  end if;
  -- a change of the ceiling comes before a claim of all seats, or sees them
  perform from lessor.account where id = p_account and (p_whole or kept_for = p_term) for no key update;
  is_locked := found;
  select case
      when kept_for <> p_term and exists (select from lessor.term where id = kept_for and ended_at is null) then 0
      else least(ceiling, p_most)
    end into roof from lessor.account where id = p_account and removed_at is null;
  if not found then
    outcome := 'gone';
    return next;
    return;
  end if;
  loop
    -- Only seats up to a number are taken: the highest one that, with those that are taken above it, keeps to the roof. So
    -- claims at the same time keep to it too, without a lock on the account.
    select coalesce(max(number), 0) into room from (
      select number, count(*) filter (where term is not null or handed_out_until > now_ms)
        over (order by number desc rows between unbounded preceding and 1 preceding) as above
        from lessor.seat where account = p_account
    ) s where number + above <= roof;
    begin
      with free as (
        select number from lessor.seat
          where account = p_account and number <= room and term is null and handed_out_until <= now_ms
          order by number limit greatest(p_seats, 0) for update skip locked
      )
      select coalesce(array_agg(number), '{}') into taken from free;
      if cardinality(taken) > 0 and (not p_whole or cardinality(taken) >= p_seats) then
        outcome := 'claimed';
      elsif is_second_try then
        outcome := 'full';
      else
        raise sqlstate 'LE000';
      end if;
    exception when sqlstate 'LE000' then
      -- too few, or changed meanwhile: their locks end here
      null;
    end;
    exit when outcome is not null;
    -- a seat may be on its way back: then it is free after this
    perform lessor.lock_wants(p_account, false);
    is_second_try := true;
  end loop;
  if outcome = 'claimed' then
    seats := cardinality(taken);
    fence_from := nextval('lessor.fence');
    fence_to := fence_from + 4095;
    -- a token that was handed out may be used for the new seats as well
    select coalesce(max(handed_out_until), 0) into mark from lessor.seat where account = p_account and term = p_term;
    update lessor.seat set term = p_term, fence = fence_from, handed_out_until = mark, changed = default
      where account = p_account and number = any (taken);
    delete from lessor.want where account = p_account and term = p_term;
    if is_locked then
      update lessor.account set kept_for = null where id = p_account and kept_for = p_term;
    end if;
  else
    perform lessor.commit_without_flush();
    insert into lessor.want (account, term, at) values (p_account, p_term, now_ms)
      on conflict (account, term) do update set at = excluded.at;
    if exists (select from lessor.seat where account = p_account and term <> p_term) then
      perform lessor.wake('w', p_account);
    end if;
  end if;
  select count(*) into elsewhere from lessor.seat
    where account = p_account and term is distinct from p_term and (term is not null or handed_out_until > now_ms);
  return next;
end $$;

-- The request that waited for a seat is gone: other hosts need not give one back.
create function lessor.withdraw_want(p_term bigint, p_life bigint, p_account bigint) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
begin
  perform lessor.commit_without_flush();
  delete from lessor.want where account = p_account and term = (
    select id from lessor.term where id = p_term and life = p_life and host = me and ended_at is null
  );
end $$;

create function lessor.give_back_seats(p_term bigint, p_life bigint, p_account bigint, p_seats integer) returns integer
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
  given integer;
  is_kept_for_us boolean;
begin
  perform lessor.commit_without_flush();
  perform from lessor.term where id = p_term and life = p_life and host = me and ended_at is null for key share;
  if not found then
    return 0;
  end if;
  -- before the seats: see the order of locks
  perform from lessor.account where id = p_account and kept_for = p_term for no key update;
  is_kept_for_us := found;
  perform lessor.lock_wants(p_account, true);
  perform from lessor.seat where account = p_account and term = p_term order by number for update;
  update lessor.seat set term = null, handed_out_until = 0, changed = default
    where account = p_account and number in (
      select number from lessor.seat where account = p_account and term = p_term
        order by number desc limit greatest(p_seats, 0)
    );
  get diagnostics given = row_count;
  if is_kept_for_us then
    -- it has no exclusive lease any more
    update lessor.account set kept_for = null where id = p_account;
  end if;
  if given > 0 and exists (
    select from lessor.want where account = p_account and term <> p_term and at > lessor.now_ms() - 60000
  ) then
    perform lessor.wake('s', p_account);
  end if;
  return given;
end $$;

-- This host has read that the ceiling was raised while it held all seats, and has no exclusive lease.
create function lessor.release_kept_seats(p_term bigint, p_life bigint, p_account bigint) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
begin
  update lessor.account set kept_for = null where id = p_account and kept_for = (
    select id from lessor.term where id = p_term and life = p_life and host = me and ended_at is null
  );
  if found then
    perform lessor.wake('s', p_account);
  end if;
end $$;

create function lessor.mark_handed_out(p_term bigint, p_life bigint, p_account bigint, p_until bigint) returns boolean
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
begin
  perform from lessor.term where id = p_term and life = p_life and host = me and ended_at is null for key share;
  if not found then
    return false;
  end if;
  perform from lessor.seat where account = p_account and term = p_term order by number for update;
  update lessor.seat set handed_out_until = greatest(handed_out_until, coalesce(p_until, 9223372036854775807))
    where account = p_account and term = p_term;
  return found;
end $$;

-- Writes a row, so that the block is on disk before it is confirmed: a transaction that only draws is not flushed.
create function lessor.claim_fences() returns table (fence_from bigint, fence_to bigint)
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
begin
  fence_from := nextval('lessor.fence');
  fence_to := fence_from + 4095;
  update lessor.host set fence = fence_from where id = me;
  return next;
end $$;

-- Seldom needed: after a restore, and for a host that has used higher fences before it joined.
create function lessor.raise_fences(p_highest bigint) returns void language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  drawn constant text := 'select case when is_called then last_value + 4095 else 0 end from lessor.fence';
  highest bigint;
begin
  perform lessor.my_host();
  if p_highest > 4611686018427387904 then
    raise 'the fence % is too high', p_highest using errcode = '22003';
  end if;
  execute drawn into highest;
  if highest >= p_highest then
    return;
  end if;
  -- waits for transactions that have drawn, and keeps others from drawing until this one commits
  alter sequence lessor.fence no cycle;
  execute drawn into highest;
  if highest < p_highest then
    execute format('alter sequence lessor.fence restart with %s', p_highest + 1);
  end if;
end $$;

create function lessor.seats_of_hosts()
  returns table (host bigint, term bigint, account bigint, seats integer, handed_out integer)
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  now_ms bigint := lessor.now_ms();
begin
  perform lessor.my_host();
  return query
    select t.host, s.term, s.account, count(*)::integer, (count(*) filter (where s.handed_out_until > now_ms))::integer
      from lessor.seat s left join lessor.term t on t.id = s.term
      where s.term is not null or s.handed_out_until > now_ms
      group by t.host, s.term, s.account order by t.host, s.term, s.account;
end $$;
