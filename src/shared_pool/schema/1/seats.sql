-- Seats: units of an account's capacity. Never more are taken than there are rows, and a row belongs to one term.

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
  select least(ceiling, p_most) into roof from lessor.account where id = p_account and removed_at is null;
  if not found then
    outcome := 'gone';
    return next;
    return;
  end if;
  -- Only seats up to a number are taken: the highest one that, with those that are taken above it, keeps to the roof. So
  -- claims at the same time keep to it too, without a lock on the account.
  select coalesce(max(number), 0) into room from (
    select number, count(*) filter (where term is not null or handed_out_until > now_ms)
      over (order by number desc rows between unbounded preceding and 1 preceding) as above
      from lessor.seat where account = p_account
  ) s where number + above <= roof;
  with free as (
    select number from lessor.seat
      where account = p_account and number <= room and term is null and handed_out_until <= now_ms
      order by number limit greatest(p_seats, 0) for update skip locked
  )
  select coalesce(array_agg(number), '{}') into taken from free;
  if cardinality(taken) = 0 or (p_whole and cardinality(taken) < p_seats) then
    outcome := 'full';
    insert into lessor.want (account, term, at) values (p_account, p_term, now_ms)
      on conflict (account, term) do update set at = excluded.at;
    perform lessor.wake('w', p_account);
  else
    outcome := 'claimed';
    seats := cardinality(taken);
    fence_from := nextval('lessor.fence');
    fence_to := fence_from + 4095;
    -- a token that was handed out may be used for the new seats as well
    select coalesce(max(handed_out_until), 0) into mark from lessor.seat where account = p_account and term = p_term;
    update lessor.seat set term = p_term, fence = fence_from, handed_out_until = mark, changed = default
      where account = p_account and number = any (taken);
    delete from lessor.want where account = p_account and term = p_term;
  end if;
  select count(*) into elsewhere from lessor.seat
    where account = p_account and term is distinct from p_term and (term is not null or handed_out_until > now_ms);
  return next;
end $$;

-- Wakes hosts in any case: one may wait whose want is not visible here yet.
create function lessor.give_back_seats(p_term bigint, p_life bigint, p_account bigint, p_seats integer) returns integer
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
  given integer;
begin
  perform from lessor.term where id = p_term and life = p_life and host = me and ended_at is null for key share;
  if not found then
    return 0;
  end if;
  perform from lessor.seat where account = p_account and term = p_term order by number for update;
  update lessor.seat set term = null, handed_out_until = 0, changed = default
    where account = p_account and number in (
      select number from lessor.seat where account = p_account and term = p_term
        order by number desc limit greatest(p_seats, 0)
    );
  get diagnostics given = row_count;
  if given > 0 then
    perform lessor.wake('s', p_account);
  end if;
  return given;
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
