-- Who calls, and which database this is.

-- The only function that every later version keeps as it is.
create function lessor.schema_version() returns integer language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$ select coalesce((select schema from lessor.pool), 0) $$;

-- the role of a group of hosts: 'member', 'refresher' or 'admin'; roles belong to all databases of the server
create function lessor.group_role(p_kind text) returns text language sql stable
  as $$ select format('lessor_%s_%s', id, p_kind) from lessor.pool $$;

-- The host of the session. SET ROLE does not change session_user.
create function lessor.my_host() returns lessor.host language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  me lessor.host;
begin
  select * into me from lessor.host where login = session_user and ended_at is null;
  if me.id is null then
    if exists (select from lessor.host where login = session_user) then
      raise 'this host was evicted, or has left the pool' using errcode = 'LE002';
    end if;
    raise 'the database role % is no host of this pool', session_user using errcode = 'LE001';
  end if;
  if me.joined_at is null then
    raise 'this host has not accepted its invitation yet' using errcode = 'LE001';
  end if;
  return me;
end $$;

create function lessor.my_admin() returns lessor.host language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  me lessor.host := lessor.my_host();
begin
  if not me.admin then
    raise 'this host is no admin of the pool' using errcode = 'LE003';
  end if;
  return me;
end $$;

create function lessor.my_refresher() returns lessor.host language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  me lessor.host := lessor.my_host();
begin
  if not me.refresher then
    raise 'this host is no refresher of the pool' using errcode = 'LE003';
  end if;
  return me;
end $$;

-- Wakes the hosts when this transaction commits. A letter, and an account; a call wakes no more than it has to: see
-- notices.rs.
create function lessor.wake(p_kind text, p_account bigint default null) returns void language sql volatile
  as $$ select pg_notify('lessor', concat_ws(' ', p_kind, p_account::text)) $$;

create function lessor.timeline() returns bigint language sql volatile
  as $$ select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint $$;

-- It is another database than before, or an older state of it: hosts read everything again, and no host claims until
-- every seat that a host may still believe in has ended.
create function lessor.another_database() returns void language plpgsql volatile as $$
begin
  update lessor.pool set
    system = (select system_identifier from pg_control_system()),
    timeline = lessor.timeline(),
    database = (select oid from pg_database where datname = current_database())::bigint,
    incarnation = incarnation + 1,
    paused_until = lessor.now_ms() + ttl_ms,
    changed = default;
  update lessor.account set changed = default;
  update lessor.seat set changed = default;
  update lessor.account_limit set changed = default;
  update lessor.usage_window set changed = default;
  update lessor.host set changed = default;
  perform lessor.wake('p');
end $$;

create function lessor.is_another_database(p_pool lessor.pool) returns boolean language sql volatile as $$
  select (p_pool.system, p_pool.timeline, p_pool.database) is distinct from (
    (select system_identifier from pg_control_system()),
    lessor.timeline(),
    (select oid from pg_database where datname = current_database())::bigint
  )
$$;

-- A failover and a restore end all connections, so it is enough to look when one begins, and at heartbeats.
create function lessor.check_database() returns void language plpgsql volatile as $$
declare
  known lessor.pool;
begin
  select * into known from lessor.pool;
  if lessor.is_another_database(known) then
    -- another session may have been faster
    select * into known from lessor.pool for update;
    if lessor.is_another_database(known) then
      perform lessor.another_database();
    end if;
  end if;
end $$;

-- The keys that a caller sealed with must be those of the pool; they stay it until this transaction ends.
create function lessor.check_keys(p_keys integer) returns void language plpgsql volatile as $$
declare
  current integer;
begin
  select key_generation into current from lessor.pool for share;
  if current <> p_keys then
    raise 'the keys of the pool were replaced: % is needed, not %', current, p_keys using errcode = 'LE005';
  end if;
end $$;

create function lessor.pool_info() returns json language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
begin
  perform lessor.my_host();
  perform lessor.check_database();
  return (
    select json_build_object(
      'id', id, 'schema', schema, 'per_account', per_account, 'max_per_account', max_per_account,
      'overflow', overflow, 'ttl_ms', ttl_ms, 'margin_ms', margin_ms, 'key_generation', key_generation,
      'system', system, 'timeline', timeline, 'incarnation', incarnation, 'paused_until', paused_until,
      'db_time', lessor.now_ms(), 'fsync', current_setting('fsync')::boolean
    )
    from lessor.pool
  );
end $$;
