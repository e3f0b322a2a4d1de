-- The tables of the shared pool. No role may touch them: everything goes through the functions.
--
-- Times are milliseconds since 1970 on this server's clock (lessor.now_ms); 0 means never.
-- Every row that hosts read as news has `changed`, the transaction that wrote it last: see news.sql.
-- Locks are taken in this order: pool, account, term, lock_wants, seat, want, host. A function that cannot keep it skips
-- locked rows; that can wait too, for a row that has just changed, so a host repeats a call that the server has ended
-- because of a deadlock.

create schema lessor;

create function lessor.now_ms() returns bigint language sql volatile
  as $$ select floor(extract(epoch from clock_timestamp()) * 1000)::bigint $$;

-- one row
create table lessor.pool (
  one boolean primary key default true check (one),
  id text not null check (id ~ '^[a-z0-9]{8}$'),
  schema integer not null,
  per_account integer not null check (per_account between 1 and 10000),
  max_per_account integer not null check (max_per_account between 1 and 10000),
  overflow text not null check (overflow in ('share', 'wait', 'fail')),
  ttl_ms bigint not null check (ttl_ms between 1000 and 3600000),
  margin_ms bigint not null check (margin_ms between 0 and 3600000),
  key_generation integer not null default 1,
  -- which database this is; when it is found to be another one, incarnation rises and claims are paused
  system bigint not null,
  timeline bigint not null,
  database bigint not null,
  incarnation bigint not null default 1,
  paused_until bigint not null default 0,
  changed xid8 not null default pg_current_xact_id(),
  check (margin_ms < ttl_ms)
);

create table lessor.host (
  id bigint primary key generated always as identity,
  name text not null check (length(name) between 1 and 100),
  -- the database role that is this host
  login name not null,
  -- whether the role was made for it, and ends with it
  own_login boolean not null,
  admin boolean not null,
  refresher boolean not null,
  public_key bytea not null check (length(public_key) <= 1024),
  -- the keys of the pool, wrapped for public_key
  wrapped bytea not null check (length(wrapped) <= 65536),
  key_generation integer not null,
  invited_until bigint,
  joined_at bigint,
  ended_at bigint,
  -- the last block of fences that it drew: makes drawing a write, which is flushed before it is confirmed
  fence bigint not null default 0,
  changed xid8 not null default pg_current_xact_id()
) with (fillfactor = 70);
create unique index host_login on lessor.host (login) where ended_at is null;
create unique index host_name on lessor.host (name) where ended_at is null;
create index host_changed on lessor.host (changed);

-- a heartbeat changes no column that is in an index
create table lessor.term (
  id bigint primary key generated always as identity,
  host bigint not null,
  life bigint not null,
  beat bigint not null default 1,
  began_at bigint not null default lessor.now_ms(),
  beat_at bigint not null default lessor.now_ms(),
  ended_at bigint
) with (fillfactor = 50);
create index term_live on lessor.term (host) where ended_at is null;

create table lessor.account (
  id bigint primary key check (id between 0 and 1099511627775),
  -- without the state of its login; none when it was removed
  record json check (length(record::text) <= 65536),
  label text,
  login_state json,
  capacity integer not null,
  ceiling integer not null,
  -- of the credential
  generation bigint not null default 1,
  key_generation integer not null,
  access bytea check (length(access) <= 1048576),
  has_refresh boolean not null,
  expires_at bigint,
  -- how long the access token lives in all, in ms; of one that a refresh brought
  token_life bigint,
  removed_at bigint,
  -- the term that held all seats when the ceiling was raised: it may have an exclusive lease, and says whether it needs the
  -- new seats; until then no other term claims any
  kept_for bigint,
  changed xid8 not null default pg_current_xact_id()
);
create unique index account_label on lessor.account (label) where removed_at is null;
create index account_changed on lessor.account (changed);

-- only the functions of refreshers and of rekeying read it
create table lessor.refresh_token (
  account bigint primary key,
  key_generation integer not null,
  token bytea not null check (length(token) <= 1048576)
);

-- a free seat has neither a term nor a time in the future
create table lessor.seat (
  account bigint not null,
  number integer not null,
  term bigint,
  fence bigint not null default 0,
  handed_out_until bigint not null default 0,
  changed xid8 not null default pg_current_xact_id(),
  primary key (account, number)
) with (fillfactor = 70);
create index seat_term on lessor.seat (term) where term is not null;
create index seat_handed_out on lessor.seat (handed_out_until) where term is null and handed_out_until > 0;
create index seat_changed on lessor.seat (changed);

-- who waits for a seat
create table lessor.want (
  account bigint not null,
  term bigint not null,
  at bigint not null,
  primary key (account, term)
);

-- a limit, or the mark that it was cleared; scope '*' with an empty key: all limits of the account were cleared
create table lessor.account_limit (
  account bigint not null,
  scope text not null check (scope in ('model', 'pool', 'account', 'request', 'service', '*')),
  key text not null check (length(key) <= 500),
  reason text not null check (length(reason) <= 100),
  until bigint not null,
  source text not null check (length(source) <= 100),
  since bigint not null,
  evidence text check (length(evidence) <= 10000),
  link text check (length(link) <= 10000),
  cleared_at bigint,
  changed xid8 not null default pg_current_xact_id(),
  primary key (account, scope, key)
);
create index account_limit_changed on lessor.account_limit (changed);

create table lessor.usage_window (
  account bigint not null,
  key text not null check (length(key) <= 500),
  name text not null check (length(name) <= 200),
  content json not null check (length(content::text) <= 10000),
  as_of bigint not null,
  read_at bigint not null,
  changed xid8 not null default pg_current_xact_id(),
  primary key (account, key, name)
);
create index usage_window_changed on lessor.usage_window (changed);

-- what one host does for all; that of a probe ends with its term
create table lessor.duty (
  account bigint not null,
  kind text not null check (kind in ('usage', 'probe')),
  host bigint not null,
  term bigint not null,
  until bigint not null,
  primary key (account, kind)
);

-- open: the request may be under way, and its owner may get the living token
create table lessor.refresh_claim (
  account bigint not null,
  generation bigint not null,
  host bigint not null,
  attempt bigint not null,
  term bigint not null,
  made_at bigint not null,
  deadline bigint not null,
  state text not null check (state in ('open', 'reported', 'refused')),
  primary key (account, generation, host, attempt)
);

-- the first of a block of 4096 fences
create sequence lessor.fence increment 4096 minvalue 1 start 1;
