-- News: rows that a transaction at or after a position has changed.
--
-- A position is the lowest transaction that is still under way (xmin), so that one which commits late is read the next
-- time. It comes from the same snapshot as the rows: everything is one statement.

create function lessor.news(p_since bigint, p_term bigint) returns json language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_host()).id;
  earliest xid8;
  is_full boolean := p_since is null;
  now_ms bigint := lessor.now_ms();
begin
  -- a host that has read further than the database has come: it is an older state
  if p_since > pg_snapshot_xmax(pg_current_snapshot())::text::bigint then
    perform lessor.another_database();
    is_full := true;
  end if;
  earliest := (case when is_full then 0 else p_since end)::text::xid8;
  return (select json_build_object(
    'position', pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
    'db_time', lessor.now_ms(),
    'incarnation', p.incarnation,
    'key_generation', p.key_generation,
    'full', is_full,
    'settings_changed', p.changed >= earliest,
    'accounts', (
      select coalesce(json_agg(json_build_object(
        'record', a.record, 'login_state', a.login_state, 'capacity', a.capacity, 'ceiling', a.ceiling,
        'generation', a.generation, 'keys', a.key_generation, 'access', encode(a.access, 'hex'),
        'has_refresh', a.has_refresh, 'kept_for_us', coalesce(a.kept_for = p_term, false),
        'expires_at', a.expires_at, 'token_life', a.token_life
      )), '[]') from lessor.account a where a.changed >= earliest and a.removed_at is null
    ),
    'removed', (
      select coalesce(json_agg(a.id), '[]') from lessor.account a
        where a.changed >= earliest and a.removed_at is not null
    ),
    'limits', (
      select coalesce(json_agg(case when l.cleared_at is null
        then json_build_object('set', json_build_object(
          'account', l.account, 'scope', l.scope, 'key', l.key, 'reason', l.reason, 'until', l.until,
          'source', l.source, 'since', l.since, 'evidence', l.evidence, 'link', l.link
        ))
        else json_build_object('cleared', json_build_object(
          'account', l.account, 'scope', nullif(l.scope, '*'), 'key', l.key, 'at', l.cleared_at
        )) end order by l.cleared_at is null), '[]')
        from lessor.account_limit l where l.changed >= earliest and (l.cleared_at is not null or l.until > now_ms)
    ),
    'usage', (
      select coalesce(json_agg(json_build_object('account', u.account, 'windows', u.windows, 'read_at', u.read_at)), '[]')
        from (
          select account, json_agg(content) as windows, max(read_at) as read_at
            from lessor.usage_window where changed >= earliest group by account
        ) u
    ),
    'elsewhere', (
      select coalesce(json_agg(json_build_array(e.account, e.seats)), '[]') from (
        select s.account, count(*) filter (
          where s.term is distinct from p_term and (s.term is not null or s.handed_out_until > now_ms)
        ) as seats
          from lessor.seat s
          where s.account in (select account from lessor.seat where changed >= earliest)
          group by s.account
      ) e
    ),
    'hosts', (
      select coalesce(json_agg(lessor.host_json(h)), '[]') from lessor.host h
        where h.changed >= earliest and (not is_full or h.ended_at is null)
    ),
    'beats', (
      select coalesce(json_agg(json_build_array(t.id, t.beat) order by t.id), '[]')
        from lessor.term t where t.ended_at is null
    ),
    'wanted', (
      select coalesce(json_agg(w.account), '[]') from (
        select distinct w.account from lessor.want w
          where w.term <> p_term and w.at > now_ms - 60000
            and exists (select from lessor.seat s where s.account = w.account and s.term = p_term)
      ) w
    )
  ) from lessor.pool p);
end $$;
