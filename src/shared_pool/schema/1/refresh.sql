-- Refresh claims: one refresh at a time of a login in the whole pool.
--
-- The row of the account is locked by each of these, so they follow one another.

create function lessor.refresh_token(p_account bigint)
  returns table (token_generation bigint, key_generation integer, token bytea)
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  perform lessor.my_refresher();
  return query
    select a.generation, r.key_generation, r.token
      from lessor.account a join lessor.refresh_token r on r.account = a.id
      where a.id = p_account and a.removed_at is null;
end $$;

-- A claim of another host stands in the way while it is open, until the access token has ended and the claim's deadline
-- has passed. Then its owner may still have the living token, so the claim stays open. An open claim of an earlier term
-- of the same host is no obstacle when that term is over: the process that made it has ended, or knows that it is over.
create function lessor.claim_refresh(
  p_term bigint, p_account bigint, p_generation bigint, p_attempt bigint, p_lasts bigint
) returns table (outcome text, host bigint, until bigint)
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  me bigint := (lessor.my_refresher()).id;
  a lessor.account;
  now_ms bigint;
  other lessor.refresh_claim;
begin
  select * into a from lessor.account where id = p_account and removed_at is null for no key update;
  if a.id is null then
    raise 'the pool has no such account' using errcode = 'LE006';
  end if;
  perform from lessor.term t where t.id = p_term and t.host = me and t.ended_at is null for key share;
  if not found then
    raise 'the term of this host is over' using errcode = 'LE004';
  end if;
  now_ms := lessor.now_ms();
  if a.generation <> p_generation then
    outcome := 'rotated';
    return next;
    return;
  end if;
  if a.login_state::jsonb ? 'needs_login' and not (a.login_state::jsonb @> '{"needs_login": "access_token_ended"}') then
    outcome := 'ended';
    return next;
    return;
  end if;
  -- the same call again
  if exists (
    select from lessor.refresh_claim c
      where (c.account, c.generation, c.host, c.attempt, c.state) = (p_account, p_generation, me, p_attempt, 'open')
  ) then
    outcome := 'claimed';
    return next;
    return;
  end if;
  select c.* into other from lessor.refresh_claim c
    where c.account = p_account and c.generation = p_generation and c.state = 'open'
      and greatest(coalesce(a.expires_at, 0), c.deadline) > now_ms
      and not (c.host = me and (c.term = p_term or not exists (
        select from lessor.term t where t.id = c.term and t.ended_at is null)))
    order by c.deadline desc limit 1;
  if other.account is not null then
    outcome := 'held';
    host := other.host;
    until := greatest(coalesce(a.expires_at, 0), other.deadline);
    return next;
    return;
  end if;
  -- this host knows what became of its own earlier attempts
  update lessor.refresh_claim c set state = 'reported'
    where c.account = p_account and c.generation = p_generation and c.host = me and c.state = 'open'
      and (c.term = p_term or not exists (select from lessor.term t where t.id = c.term and t.ended_at is null));
  insert into lessor.refresh_claim as c (account, generation, host, attempt, term, made_at, deadline, state)
    values (p_account, p_generation, me, p_attempt, p_term, now_ms, now_ms + least(greatest(p_lasts, 0), 3600000), 'open')
    on conflict (account, generation, host, attempt) do update
      set term = excluded.term, made_at = excluded.made_at, deadline = excluded.deadline, state = 'open';
  outcome := 'claimed';
  return next;
end $$;

-- Compares the generation, not the claim: the answer to a claim that was taken over is the only living token if no host
-- has rotated since. It ends all claims on older generations.
create function lessor.store_refreshed(
  p_account bigint, p_from bigint, p_keys integer, p_access bytea, p_refresh bytea, p_expires bigint
) returns bigint language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  stored bigint;
begin
  perform lessor.my_refresher();
  perform lessor.check_keys(p_keys);
  update lessor.account set
    generation = generation + 1, key_generation = p_keys, access = p_access,
    has_refresh = has_refresh or p_refresh is not null, expires_at = p_expires, login_state = '"ready"', changed = default,
    token_life = case when p_expires > lessor.now_ms() then p_expires - lessor.now_ms() end
    where id = p_account and generation = p_from and removed_at is null returning generation into stored;
  if stored is null then
    return null;
  end if;
  if p_refresh is not null then
    perform lessor.put_refresh_token(p_account, p_keys, p_refresh);
  end if;
  delete from lessor.refresh_claim where account = p_account and generation < stored;
  perform lessor.wake('a', p_account);
  return stored;
end $$;

create function lessor.fail_refresh(p_account bigint, p_generation bigint, p_attempt bigint, p_unsent boolean) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  me bigint := (lessor.my_refresher()).id;
begin
  perform from lessor.account where id = p_account for no key update;
  update lessor.refresh_claim set state = 'reported'
    where (account, generation, host, attempt) = (p_account, p_generation, me, p_attempt);
  if found then
    -- hosts that wait for this claim, or for the report about it
    perform lessor.wake('a', p_account);
  end if;
  if p_unsent then
    delete from lessor.refresh_claim where (account, generation, host, attempt) = (p_account, p_generation, me, p_attempt);
  end if;
end $$;

-- Another host's open claim on the same generation may have made this one's token the old one.
create function lessor.refuse_refresh(p_account bigint, p_generation bigint, p_attempt bigint)
  returns table (outcome text, host bigint)
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  me bigint := (lessor.my_refresher()).id;
  current bigint;
begin
  select a.generation into current from lessor.account a where a.id = p_account and a.removed_at is null for no key update;
  if current is distinct from p_generation then
    outcome := 'rotated';
    return next;
    return;
  end if;
  update lessor.refresh_claim c set state = 'refused'
    where (c.account, c.generation, c.host, c.attempt) = (p_account, p_generation, me, p_attempt);
  select c.host into host from lessor.refresh_claim c
    where c.account = p_account and c.generation = p_generation and c.state = 'open' order by c.deadline desc limit 1;
  outcome := case when host is null then 'final' else 'open' end;
  perform lessor.wake('a', p_account);
  return next;
end $$;
