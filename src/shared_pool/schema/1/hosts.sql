-- Hosts: how they join, and how they lose their access.

-- Makes the role of a host. The owner becomes a member of it, which lets it end its connections.
create function lessor.make_login(p_host bigint, p_verifier text) returns name language plpgsql volatile as $$
declare
  role_name name := format('lessor_%s_h%s', (select id from lessor.pool), p_host);
begin
  if p_verifier !~ '^SCRAM-SHA-256\$\d+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$' then
    raise 'a password must come as a SCRAM verifier' using errcode = '22023';
  end if;
  execute format('create role %I login connection limit 16 password %L', role_name, p_verifier);
  execute format('grant %I to current_user', role_name);
  return role_name;
end $$;

create function lessor.grant_groups(p_host lessor.host) returns void language plpgsql volatile as $$
declare
  kind text;
begin
  foreach kind in array array['member', 'refresher', 'admin'] loop
    if kind = 'member' or (kind = 'refresher' and p_host.refresher) or (kind = 'admin' and p_host.admin) then
      execute format('grant %I to %I', lessor.group_role(kind), p_host.login);
    end if;
  end loop;
end $$;

-- Ends the access of a host whose row the caller has locked. A role that was not made for it only loses its groups.
create function lessor.end_host(p_host lessor.host) returns void language plpgsql volatile as $$
declare
  kind text;
begin
  update lessor.host set ended_at = lessor.now_ms(), changed = default where id = p_host.id;
  update lessor.refresh_claim set state = 'reported' where host = p_host.id and state = 'open';
  foreach kind in array array['member', 'refresher', 'admin'] loop
    execute format('revoke %I from %I', lessor.group_role(kind), p_host.login);
  end loop;
  if p_host.own_login then
    execute format('alter role %I nologin password null', p_host.login);
  end if;
  perform lessor.wake('h');
end $$;

-- Called by the owner while the pool is made. Without a verifier the host connects with the owner's role.
create function lessor.found_pool(
  p_pool text, p_per_account integer, p_max_per_account integer, p_overflow text, p_ttl bigint, p_margin bigint,
  p_name text, p_public_key bytea, p_wrapped bytea, p_verifier text
) returns table (host bigint, login name) language plpgsql volatile as $$
declare
  first lessor.host;
begin
  insert into lessor.pool (id, schema, per_account, max_per_account, overflow, ttl_ms, margin_ms, system, timeline, database)
    values (
      p_pool, 1, p_per_account, p_max_per_account, p_overflow, p_ttl, p_margin,
      (select system_identifier from pg_control_system()), lessor.timeline(),
      (select oid from pg_database where datname = current_database())::bigint
    );
  insert into lessor.host (name, login, own_login, admin, refresher, public_key, wrapped, key_generation, joined_at)
    values (p_name, session_user, false, true, true, p_public_key, p_wrapped, 1, lessor.now_ms()) returning * into first;
  if p_verifier is not null then
    update lessor.host h set login = lessor.make_login(first.id, p_verifier), own_login = true
      where h.id = first.id returning * into first;
    perform lessor.grant_groups(first);
  end if;
  host := first.id;
  login := first.login;
  return next;
end $$;

create function lessor.invite(
  p_name text, p_admin boolean, p_refresher boolean, p_public_key bytea, p_wrapped bytea, p_keys integer, p_lasts bigint,
  p_verifier text
) returns table (host bigint, login name)
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  now_ms bigint := lessor.now_ms();
  late lessor.host;
  invited lessor.host;
begin
  perform lessor.my_admin();
  perform lessor.check_keys(p_keys);
  for late in
    select h.* from lessor.host h
      where h.ended_at is null and h.joined_at is null and h.invited_until <= now_ms order by h.id for update
  loop
    perform lessor.end_host(late);
  end loop;
  if exists (select from lessor.host h where h.name = p_name and h.ended_at is null) then
    raise 'the pool has a host with this name' using errcode = 'LE007';
  end if;
  insert into lessor.host (
    name, login, own_login, admin, refresher, public_key, wrapped, key_generation, invited_until
  ) values (
    p_name, '-', true, p_admin, p_refresher, p_public_key, p_wrapped, p_keys, now_ms + least(greatest(p_lasts, 0), 2592000000)
  ) returning * into invited;
  update lessor.host h set login = lessor.make_login(invited.id, p_verifier)
    where h.id = invited.id returning * into invited;
  perform lessor.grant_groups(invited);
  perform lessor.wake('h');
  host := invited.id;
  login := invited.login;
  return next;
end $$;

-- Also for a host that has not accepted its invitation yet.
create function lessor.own_host() returns table (
  pool text, host bigint, name text, admin boolean, refresher boolean, joined boolean, public_key bytea,
  key_generation integer, wrapped bytea
) language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  return query
    select p.id, h.id, h.name, h.admin, h.refresher, h.joined_at is not null, h.public_key, h.key_generation, h.wrapped
      from lessor.host h, lessor.pool p where h.login = session_user and h.ended_at is null;
  if not found then
    -- says why
    perform lessor.my_host();
  end if;
end $$;

create function lessor.accept_invitation(p_public_key bytea, p_keys integer, p_wrapped bytea, p_verifier text)
  returns bigint language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  me lessor.host;
begin
  perform lessor.check_keys(p_keys);
  select * into me from lessor.host h where h.login = session_user and h.ended_at is null for update;
  if me.id is null or me.joined_at is not null or me.invited_until <= lessor.now_ms() then
    raise 'the invitation was accepted before, or has ended' using errcode = 'LE006';
  end if;
  if p_verifier !~ '^SCRAM-SHA-256\$\d+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$' then
    raise 'a password must come as a SCRAM verifier' using errcode = '22023';
  end if;
  execute format('alter role %I password %L', me.login, p_verifier);
  update lessor.host set
    public_key = p_public_key, wrapped = p_wrapped, key_generation = p_keys, joined_at = lessor.now_ms(),
    invited_until = null, changed = default
    where id = me.id;
  perform lessor.wake('h');
  return me.id;
end $$;

-- Its seats are not freed here: it may still use them until its heartbeats are refused for so long.
create function lessor.evict(p_host bigint) returns boolean language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  me lessor.host := lessor.my_admin();
  other lessor.host;
begin
  if p_host = me.id then
    raise 'a host cannot evict itself; it can leave: lessor pool leave' using errcode = 'LE003';
  end if;
  select * into other from lessor.host where id = p_host and ended_at is null for update;
  if other.id is null then
    return false;
  end if;
  perform lessor.end_host(other);
  if other.own_login then
    perform pg_terminate_backend(pid) from pg_stat_activity where usename = other.login;
  end if;
  return true;
end $$;

create function lessor.leave() returns void language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  me lessor.host := lessor.my_host();
  mine bigint;
begin
  for mine in select id from lessor.term where host = me.id and ended_at is null order by id for update loop
    perform lessor.close_term(mine);
  end loop;
  select * into me from lessor.host where id = me.id for update;
  if me.admin and exists (select from lessor.host where id <> me.id and joined_at is not null and ended_at is null)
    and not exists (
      select from lessor.host where id <> me.id and admin and joined_at is not null and ended_at is null
    )
  then
    raise 'this host is the last admin of the pool: invite another one first' using errcode = 'LE003';
  end if;
  perform lessor.end_host(me);
end $$;

-- Replaces the keys if nothing has changed since the caller read what it sealed again. Invitations that no host has
-- accepted end: their keys cannot be wrapped again.
create function lessor.rekey(p_keys integer, p_accounts json, p_wrapped json) returns boolean
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  current integer;
  late lessor.host;
begin
  perform lessor.my_admin();
  select key_generation into current from lessor.pool for update;
  perform from lessor.account where removed_at is null order by id for no key update;
  perform from lessor.host where ended_at is null order by id for update;
  if current + 1 <> p_keys
    or exists (
      select from (select id, generation, has_refresh from lessor.account where removed_at is null) a
        full join (
          select (x->>'account')::bigint as account, (x->>'generation')::bigint as generation,
            x->>'refresh' is not null as has_refresh from json_array_elements(p_accounts) as x
        ) s on s.account = a.id
        where (a.id, a.generation, a.has_refresh) is distinct from (s.account, s.generation, s.has_refresh)
    )
    or exists (
      select from (select id from lessor.host where ended_at is null and joined_at is not null) h
        full join (select (x->>'host')::bigint as host from json_array_elements(p_wrapped) as x) w on w.host = h.id
        where h.id is distinct from w.host
    )
  then
    return false;
  end if;
  update lessor.account a set
    access = decode(s.access, 'hex'), key_generation = p_keys, changed = default
    from json_to_recordset(p_accounts) as s (account bigint, access text) where s.account = a.id;
  update lessor.refresh_token r set
    token = decode(s.refresh, 'hex'), key_generation = p_keys
    from json_to_recordset(p_accounts) as s (account bigint, refresh text)
    where s.account = r.account and s.refresh is not null;
  update lessor.host h set
    wrapped = decode(w.wrapped, 'hex'), key_generation = p_keys, changed = default
    from json_to_recordset(p_wrapped) as w (host bigint, wrapped text) where w.host = h.id;
  for late in select * from lessor.host where ended_at is null and joined_at is null order by id loop
    perform lessor.end_host(late);
  end loop;
  update lessor.pool set key_generation = p_keys, changed = default;
  perform lessor.wake('p');
  return true;
end $$;

create function lessor.host_json(p_host lessor.host) returns json language sql stable as $$
  select json_build_object(
    'id', p_host.id, 'name', p_host.name, 'admin', p_host.admin, 'refresher', p_host.refresher,
    'public_key', encode(p_host.public_key, 'hex'), 'keys', p_host.key_generation,
    'invited_until', p_host.invited_until, 'joined_at', p_host.joined_at, 'ended_at', p_host.ended_at,
    'terms', coalesce((select json_agg(id order by id) from lessor.term where host = p_host.id and ended_at is null), '[]'),
    'last_beat', (select max(beat_at) from lessor.term where host = p_host.id)
  )
$$;

create function lessor.hosts() returns json language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp as $$
begin
  perform lessor.my_host();
  return (
    select coalesce(json_agg(lessor.host_json(h) order by h.id), '[]') from lessor.host h
      where h.ended_at is null or h.ended_at > lessor.now_ms() - 2592000000
  );
end $$;
