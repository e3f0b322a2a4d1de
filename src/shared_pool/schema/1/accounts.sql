-- Accounts: their records and sealed credentials.

-- A label's uniqueness, the capacity and the ceiling follow from the record and the settings of the pool.
create function lessor.capacity_of(p_record json) returns integer language sql stable as $$
  select least(greatest(coalesce((p_record->>'max_leases')::integer, per_account), 1), max_per_account) from lessor.pool
$$;

create function lessor.ceiling_of(p_record json) returns integer language sql stable as $$
  select case overflow when 'share' then max_per_account else lessor.capacity_of(p_record) end from lessor.pool
$$;

-- Seats above a lowered ceiling stay with those who hold them; they are not claimed again.
create function lessor.fill_seats(p_account bigint) returns void language sql volatile as $$
  insert into lessor.seat (account, number)
    select id, generate_series(1, ceiling) from lessor.account where id = p_account
    on conflict (account, number) do nothing
$$;

-- The same after a change of the ceiling, for an account whose row the caller has locked. See `kept_for`.
create function lessor.change_seats(p_account bigint, p_before integer) returns void language sql volatile as $$
  select lessor.fill_seats(p_account);
  update lessor.account a set kept_for = all_seats.term
    from (
      select min(term) as term from lessor.seat where account = p_account and term is not null
        having count(distinct term) = 1 and count(*) >= p_before
    ) all_seats
    where a.id = p_account and a.ceiling > p_before
$$;

create function lessor.put_refresh_token(p_account bigint, p_keys integer, p_token bytea) returns void
  language sql volatile as $$
  insert into lessor.refresh_token (account, key_generation, token) values (p_account, p_keys, p_token)
    on conflict (account) do update set key_generation = excluded.key_generation, token = excluded.token
$$;

create function lessor.add_account(
  p_account bigint, p_record json, p_state json, p_access bytea, p_refresh bytea, p_expires bigint, p_keys integer,
  p_limits json
) returns bigint language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  added bigint;
begin
  perform lessor.my_admin();
  perform lessor.check_keys(p_keys);
  -- the generations of an account that was removed go on: a late answer of its refresh must not fit
  insert into lessor.account as a (
    id, record, label, login_state, capacity, ceiling, key_generation, access, has_refresh, expires_at
  ) values (
    p_account, p_record, p_record->>'label', p_state, lessor.capacity_of(p_record), lessor.ceiling_of(p_record), p_keys,
    p_access, p_refresh is not null, p_expires
  ) on conflict (id) do update set
    record = excluded.record, label = excluded.label, login_state = excluded.login_state,
    capacity = excluded.capacity, ceiling = excluded.ceiling, generation = a.generation + 1,
    key_generation = excluded.key_generation, access = excluded.access, has_refresh = excluded.has_refresh,
    expires_at = excluded.expires_at, token_life = null, removed_at = null, changed = default
    where a.removed_at is not null
    returning generation into added;
  if added is null then
    raise 'the pool has this account already' using errcode = 'LE007';
  end if;
  if p_refresh is not null then
    perform lessor.put_refresh_token(p_account, p_keys, p_refresh);
  end if;
  perform lessor.fill_seats(p_account);
  perform lessor.set_limits(p_limits);
  perform lessor.wake('a', p_account);
  return added;
end $$;

create function lessor.save_account(p_account bigint, p_record json) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  before integer;
begin
  perform lessor.my_admin();
  select ceiling into before from lessor.account where id = p_account for no key update;
  update lessor.account set
    record = p_record, label = p_record->>'label', capacity = lessor.capacity_of(p_record),
    ceiling = lessor.ceiling_of(p_record), changed = default
    where id = p_account and removed_at is null;
  if not found then
    raise 'the pool has no such account' using errcode = 'LE006';
  end if;
  perform lessor.change_seats(p_account, before);
  perform lessor.wake('a', p_account);
end $$;

-- After a new login. What is known of the old credential is over: its refreshes, and their claims.
create function lessor.replace_credential(
  p_account bigint, p_record json, p_state json, p_access bytea, p_refresh bytea, p_expires bigint, p_keys integer
) returns bigint language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  replaced bigint;
begin
  perform lessor.my_admin();
  perform lessor.check_keys(p_keys);
  update lessor.account set
    record = p_record, label = p_record->>'label', login_state = p_state, capacity = lessor.capacity_of(p_record),
    ceiling = lessor.ceiling_of(p_record), generation = generation + 1, key_generation = p_keys, access = p_access,
    has_refresh = p_refresh is not null, expires_at = p_expires, token_life = null, changed = default
    where id = p_account and removed_at is null returning generation into replaced;
  if replaced is null then
    raise 'the pool has no such account' using errcode = 'LE006';
  end if;
  delete from lessor.refresh_token where account = p_account;
  if p_refresh is not null then
    perform lessor.put_refresh_token(p_account, p_keys, p_refresh);
  end if;
  delete from lessor.refresh_claim where account = p_account;
  perform lessor.fill_seats(p_account);
  perform lessor.wake('a', p_account);
  return replaced;
end $$;

create function lessor.set_login_state(p_account bigint, p_generation bigint, p_state json) returns boolean
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform lessor.my_host();
  update lessor.account set login_state = p_state, changed = default
    where id = p_account and generation = p_generation and removed_at is null and login_state::text <> p_state::text;
  if found then
    perform lessor.wake('a', p_account);
    return true;
  end if;
  return exists (select from lessor.account where id = p_account and generation = p_generation and removed_at is null);
end $$;

-- Its seats stay with those who hold them until they give them back; the rows go later: see lessor.tidy.
create function lessor.remove_account(p_account bigint) returns void language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
begin
  perform lessor.my_admin();
  update lessor.account set
    record = null, label = null, login_state = null, access = null, has_refresh = false, expires_at = null,
    removed_at = lessor.now_ms(), changed = default
    where id = p_account and removed_at is null;
  if not found then
    return;
  end if;
  delete from lessor.refresh_token where account = p_account;
  delete from lessor.refresh_claim where account = p_account;
  delete from lessor.account_limit where account = p_account;
  delete from lessor.usage_window where account = p_account;
  delete from lessor.duty where account = p_account;
  perform lessor.wake('a', p_account);
end $$;

create function lessor.set_settings(
  p_per_account integer, p_max_per_account integer, p_overflow text, p_ttl bigint, p_margin bigint
) returns void language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  changed_one record;
begin
  perform lessor.my_admin();
  update lessor.pool set
    per_account = p_per_account, max_per_account = p_max_per_account, overflow = p_overflow, ttl_ms = p_ttl,
    margin_ms = p_margin, changed = default;
  for changed_one in
    select id, ceiling from lessor.account where removed_at is null order by id for no key update
  loop
    update lessor.account set
      capacity = lessor.capacity_of(record), ceiling = lessor.ceiling_of(record), changed = default
      where id = changed_one.id;
    perform lessor.change_seats(changed_one.id, changed_one.ceiling);
  end loop;
  perform lessor.wake('p');
end $$;
