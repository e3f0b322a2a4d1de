-- What hosts learn about accounts. Limits are merged by invariant I8: see `yields_to` in pool/limit.

-- The account's row is locked, so that a limit that was set before a clearing cannot pass it.
create function lessor.set_limits(p_limits json) returns integer language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  now_ms bigint := lessor.now_ms();
  l record;
  taken integer := 0;
  learnt_at bigint;
begin
  perform lessor.my_host();
  for l in
    select * from json_to_recordset(p_limits) as x (
      account bigint, scope text, key text, reason text, until bigint, source text, since bigint, evidence text, link text
    ) order by account, scope, key
  loop
    perform from lessor.account where id = l.account and removed_at is null for no key update;
    continue when not found;
    -- a clock that is ahead must not win over a clearing
    learnt_at := least(coalesce(l.since, now_ms), now_ms);
    if l.until <= now_ms then
      -- it comes too late; but a stated wait had replaced a guess, which is over with it
      update lessor.account_limit e set cleared_at = l.until, changed = default
        where (e.account, e.scope, e.key) = (l.account, l.scope, l.key) and e.cleared_at is null and e.until > now_ms
          and e.source = 'table' and l.source <> 'table' and e.since <= learnt_at and learnt_at <= l.until;
      if found then
        perform lessor.wake('l', l.account);
      end if;
      continue;
    end if;
    continue when exists (
      select from lessor.account_limit e
        where e.account = l.account and e.scope = '*' and e.key = '' and e.cleared_at >= learnt_at
    );
    if (select count(*) from lessor.account_limit e where e.account = l.account) >= 500 then
      delete from lessor.account_limit e
        where e.account = l.account and coalesce(e.cleared_at, e.until) <= now_ms and e.scope <> '*';
      continue when (select count(*) from lessor.account_limit e where e.account = l.account) >= 500;
    end if;
    insert into lessor.account_limit as e (account, scope, key, reason, until, source, since, evidence, link)
      values (l.account, l.scope, l.key, l.reason, l.until, l.source, learnt_at, left(l.evidence, 2000), left(l.link, 2000))
      on conflict (account, scope, key) do update set
        reason = excluded.reason, until = excluded.until, source = excluded.source, since = excluded.since,
        evidence = excluded.evidence, link = excluded.link, cleared_at = null, changed = default
        where case
          when e.cleared_at is not null then excluded.since > e.cleared_at
          else e.until <= now_ms or (excluded.source <> 'table', excluded.until) > (e.source <> 'table', e.until)
        end;
    if found then
      taken := taken + 1;
      perform lessor.wake('l', l.account);
    end if;
  end loop;
  return taken;
end $$;

-- Without a scope, all of the account. What is known since p_at is not touched: a success clears no later limit.
create function lessor.clear_limit(p_account bigint, p_scope text, p_key text, p_at bigint) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  now_ms bigint := lessor.now_ms();
  at_ms bigint := least(coalesce(p_at, now_ms), now_ms);
begin
  perform lessor.my_host();
  perform from lessor.account where id = p_account and removed_at is null for no key update;
  if not found then
    return;
  end if;
  update lessor.account_limit set cleared_at = at_ms, changed = default
    where account = p_account and cleared_at is null and scope <> '*' and since <= at_ms
      and (p_scope is null or (scope, key) = (p_scope, p_key));
  -- limits that are under way on other hosts may have no row yet
  insert into lessor.account_limit as e (account, scope, key, reason, until, source, since, cleared_at)
    values (p_account, coalesce(p_scope, '*'), case when p_scope is null then '' else p_key end, 'unknown', 0, 'table', 0, at_ms)
    on conflict (account, scope, key) do update set cleared_at = excluded.cleared_at, changed = default
      where e.cleared_at < excluded.cleared_at;
  if p_scope is null then
    -- A host may take what was learnt a moment later for older, by its own clock: these are news again, after the clearing.
    update lessor.account_limit set changed = default
      where account = p_account and cleared_at is null and scope <> '*' and until > now_ms;
  end if;
  perform lessor.wake('l', p_account);
end $$;

-- The windows of a reading, each on its own: a reading may not name all. Nobody is woken: readings are no hurry.
create function lessor.set_usage(p_account bigint, p_windows json, p_read_at bigint) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  now_ms bigint := lessor.now_ms();
begin
  perform lessor.my_host();
  perform from lessor.account where id = p_account and removed_at is null for key share;
  if not found then
    return;
  end if;
  insert into lessor.usage_window as w (account, key, name, content, as_of, read_at)
    select distinct on (1, 2, 3) p_account, x->>'key', x->>'name', x, least((x->>'as_of')::bigint, now_ms), least(p_read_at, now_ms)
      from json_array_elements(p_windows) as x
      where (select count(*) from lessor.usage_window where account = p_account) < 128
        or exists (
          select from lessor.usage_window k where (k.account, k.key, k.name) = (p_account, x->>'key', x->>'name')
        )
      order by 1, 2, 3, 5 desc
    on conflict (account, key, name) do update
      set content = excluded.content, as_of = excluded.as_of, read_at = excluded.read_at, changed = default
      where excluded.as_of > w.as_of;
end $$;

-- Whether the caller reads the usage of the account now.
create function lessor.claim_reading(p_term bigint, p_account bigint, p_every bigint) returns boolean
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
  now_ms bigint := lessor.now_ms();
begin
  if not exists (select from lessor.term where id = p_term and host = me and ended_at is null) then
    raise 'the term of this host is over' using errcode = 'LE004';
  end if;
  if not exists (select from lessor.account where id = p_account and removed_at is null) then
    return false;
  end if;
  insert into lessor.duty as d (account, kind, host, term, until)
    values (p_account, 'usage', me, p_term, now_ms + least(greatest(p_every, 0), 86400000))
    on conflict (account, kind) do update
      set host = excluded.host, term = excluded.term, until = excluded.until where d.until <= now_ms;
  return found;
end $$;

-- Whether the caller alone probes the account, to find out whether these limits are over: 'claimed' with the end of the
-- duty, 'held' by another host, 'cleared' with those that another host has found to be over, or 'limited' again. Limits
-- are compared in the transaction of the claim, so that a host that has not read the last outcome does not probe. The
-- duty ends with the term; a host that has it gets it again.
create function lessor.claim_probe(p_term bigint, p_account bigint, p_limits json, p_lasts bigint) returns json
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
  now_ms bigint := lessor.now_ms();
  cleared json;
  ends bigint;
begin
  if not exists (select from lessor.term where id = p_term and host = me and ended_at is null) then
    raise 'the term of this host is over' using errcode = 'LE004';
  end if;
  -- a change of its limits waits for this
  perform from lessor.account where id = p_account and removed_at is null for no key update;
  if not found then
    return json_build_object('answer', 'held');
  end if;
  select json_agg(json_build_object('scope', e.scope, 'key', e.key)) into cleared
    from lessor.account_limit e
    join json_to_recordset(p_limits) as x (scope text, key text) on (e.scope, e.key) = (x.scope, x.key)
    where e.account = p_account and e.cleared_at is not null;
  if cleared is not null then
    return json_build_object('answer', 'cleared', 'cleared', cleared);
  end if;
  -- clocks differ by less than a second
  if exists (
    select from lessor.account_limit e
      join json_to_recordset(p_limits) as x (scope text, key text) on (e.scope, e.key) = (x.scope, x.key)
      where e.account = p_account and e.until > now_ms + 1000
  ) then
    return json_build_object('answer', 'limited');
  end if;
  insert into lessor.duty as d (account, kind, host, term, until)
    values (p_account, 'probe', me, p_term, now_ms + least(greatest(p_lasts, 0), 86400000))
    on conflict (account, kind) do update
      set host = excluded.host, term = excluded.term,
        -- another one than that of the earlier claim
        until = case when d.term = p_term then greatest(excluded.until, d.until + 1) else excluded.until end
      where d.until <= now_ms or d.term = p_term
        or not exists (select from lessor.term t where t.id = d.term and t.ended_at is null)
    returning d.until into ends;
  if ends is null then
    return json_build_object('answer', 'held');
  end if;
  return json_build_object('answer', 'claimed', 'until', ends);
end $$;

-- The caller does not probe any more. p_until is that of its claim: a later one stands.
create function lessor.end_probe(p_term bigint, p_account bigint, p_until bigint) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
begin
  delete from lessor.duty
    where account = p_account and kind = 'probe' and host = me and term = p_term and until = p_until;
end $$;
