-- Terms: a host's periods of holding seats.
--
-- A claim, a return and a mark hold the row of their term with FOR KEY SHARE, which a heartbeat does not disturb. The end
-- of a term takes it with FOR UPDATE, so it waits for them, and they find the term over afterwards.

-- Ends a term whose row the caller has locked. Handed-out tokens keep their seats.
create function lessor.close_term(p_term bigint) returns void language plpgsql volatile as $$
declare
  now_ms bigint := lessor.now_ms();
  owner bigint;
  freed integer;
begin
  perform from lessor.seat where term = p_term order by account, number for update;
  update lessor.seat set
    term = null,
    handed_out_until = case when handed_out_until > now_ms then handed_out_until else 0 end,
    changed = default
    where term = p_term;
  get diagnostics freed = row_count;
  delete from lessor.want where term = p_term;
  update lessor.term set ended_at = now_ms where id = p_term returning host into owner;
  update lessor.host set changed = default where id = owner;
  if freed > 0 then
    perform lessor.wake('s');
  end if;
end $$;

create function lessor.begin_term(p_life bigint) returns bigint language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
  older bigint;
  created bigint;
begin
  -- the same connection has begun these, and their leases have ended
  for older in
    select id from lessor.term where host = me and life = p_life and ended_at is null order by id for update
  loop
    perform lessor.close_term(older);
  end loop;
  if (select count(*) from lessor.term where host = me and ended_at is null) >= 64 then
    raise 'this host has too many terms that are not over' using errcode = '53400';
  end if;
  insert into lessor.term (host, life) values (me, p_life) returning id into created;
  update lessor.host set changed = default where id = me;
  perform lessor.wake('h');
  return created;
end $$;

-- The first row stands for the term itself.
create function lessor.resume_term(p_term bigint, p_life bigint, p_new_life bigint)
  returns table (account bigint, seats integer) language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
begin
  update lessor.term t set life = p_new_life, beat = t.beat + 1, beat_at = lessor.now_ms()
    where t.id = p_term and t.life = p_life and t.host = me and t.ended_at is null;
  if not found then
    return;
  end if;
  return next;
  return query
    select s.account, count(*)::integer from lessor.seat s where s.term = p_term group by s.account order by s.account;
end $$;

create function lessor.end_term(p_term bigint, p_life bigint) returns void language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
begin
  perform from lessor.term where id = p_term and life = p_life and host = me and ended_at is null for update;
  if found then
    perform lessor.close_term(p_term);
  end if;
end $$;

create function lessor.beat(p_term bigint, p_life bigint)
  returns table (beat bigint, db_time bigint, timeline bigint, incarnation bigint) language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
begin
  perform lessor.check_database();
  update lessor.term t set beat = t.beat + 1, beat_at = lessor.now_ms()
    where t.id = p_term and t.life = p_life and t.host = me and t.ended_at is null
    returning t.beat into beat;
  if not found then
    return;
  end if;
  if beat % 8 = 0 then
    perform lessor.tidy();
  end if;
  db_time := lessor.now_ms();
  select p.timeline, p.incarnation into timeline, incarnation from lessor.pool p;
  return next;
end $$;

-- The caller has seen the number unchanged for ttl + margin on its own clock. This clock is asked too, so that a host
-- cannot end the term of one that is alive.
create function lessor.end_silent_term(p_term bigint, p_beat bigint) returns boolean language plpgsql volatile
  security definer set search_path = pg_catalog, pg_temp as $$
declare
  seen lessor.term;
begin
  perform lessor.my_host();
  select * into seen from lessor.term where id = p_term and ended_at is null for update;
  if seen.id is null or seen.beat <> p_beat
    or lessor.now_ms() - seen.beat_at < (select ttl_ms from lessor.pool)
  then
    return false;
  end if;
  perform lessor.close_term(p_term);
  return true;
end $$;

-- Removes what is of no more use, at most so many rows of each kind, and waits for no lock.
create function lessor.tidy() returns void language plpgsql volatile as $$
declare
  now_ms bigint := lessor.now_ms();
  day constant bigint := 86400000;
  most constant integer := 200;
  freed bigint;
begin
  -- tokens that were handed out have ended
  for freed in
    with ended as (
      select account, number from lessor.seat
        where term is null and handed_out_until > 0 and handed_out_until <= now_ms limit most for update skip locked
    ), cleared as (
      update lessor.seat s set handed_out_until = 0, changed = default
        from ended where (s.account, s.number) = (ended.account, ended.number) returning s.account
    )
    select distinct account from cleared
  loop
    perform lessor.wake('s', freed);
  end loop;
  delete from lessor.want where ctid in (
    select ctid from lessor.want where at < now_ms - 60000 limit most for update skip locked);
  delete from lessor.term where ctid in (
    select ctid from lessor.term where ended_at < now_ms - day limit most for update skip locked);
  delete from lessor.refresh_claim where ctid in (
    select ctid from lessor.refresh_claim where state <> 'open' and made_at < now_ms - 30 * day
      limit most for update skip locked);
  delete from lessor.account_limit where ctid in (
    select ctid from lessor.account_limit where coalesce(cleared_at, until) < now_ms - 7 * day
      limit most for update skip locked);
  delete from lessor.usage_window where ctid in (
    select ctid from lessor.usage_window where read_at < now_ms - 40 * day limit most for update skip locked);
  delete from lessor.duty where ctid in (
    select ctid from lessor.duty where until < now_ms - day limit most for update skip locked);
  -- of accounts that were removed
  delete from lessor.seat where ctid in (
    select s.ctid from lessor.seat s join lessor.account a on a.id = s.account
      where a.removed_at < now_ms - day and s.term is null and s.handed_out_until <= now_ms
      limit most for update of s skip locked);
  delete from lessor.account where ctid in (
    select a.ctid from lessor.account a
      where a.removed_at < now_ms - 90 * day and not exists (select from lessor.seat s where s.account = a.id)
      limit most for update of a skip locked);
  delete from lessor.host where ctid in (
    select ctid from lessor.host where ended_at < now_ms - 365 * day limit most for update skip locked);
end $$;
