//! The table of all keys. A new key is a row here with its setter, and a field in `settings.rs`.

use std::time::Duration;

use super::assign::Assign;
use super::value::{ConfigValue, quoted};
use super::value_kind::ValueKind::{
    self, Bool, Command, Durations, Integer, Listen, Number, OneOf, PoolUrl, Protect, ProxyUrl, Size, SshHost, Text,
    Texts, Url, Variable, Webhook,
};
use crate::config::settings::{AgentSection, Config, OauthClientSection, PriceSection, ProviderSection, ShareSection};
use crate::pool::{AccountSettings, DirectorySettings};

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);
/// The longest stated wait that `limits` accepts, too.
const MONTH: Duration = Duration::from_secs(32 * 86_400);
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

/// A duration that may be zero.
const fn upto(to: Duration) -> ValueKind {
    ValueKind::Duration(Duration::ZERO, to, None)
}

/// A duration that may not be zero.
const fn some(to: Duration) -> ValueKind {
    ValueKind::Duration(MS, to, None)
}

/// Assigns a value, given the names for each `*`; false if the kinds do not match.
type Setter = fn(&mut Config, &[&str], &ConfigValue) -> bool;

/// One key of the configuration.
pub struct KeySpec {
    /// Its path; `*` stands for a name the user chooses.
    pub key: &'static str,
    /// What values it may have.
    pub kind: ValueKind,
    /// Its default as a user types it; none for keys that are unset by default.
    pub default: Option<&'static str>,
    /// What it does, in one line.
    pub doc: &'static str,
    /// Assigns a value, given the names for each `*`; false if the kinds do not match.
    pub(in crate::config) set: Setter,
}

impl KeySpec {
    /// The names that stand for each `*` in a key.
    pub(in crate::config) fn names_in<'p>(&self, path: &[&'p str]) -> Vec<&'p str> {
        self.key.split('.').zip(path).filter(|(part, _)| *part == "*").map(|(_, name)| *name).collect()
    }

    /// The TOML literal of a value as a user types it.
    pub(in crate::config) fn literal(&self, plain: &str) -> String {
        if self.kind.is_text_as(plain) { quoted(plain) } else { plain.trim().to_owned() }
    }
}

impl std::fmt::Debug for KeySpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySpec").field("key", &self.key).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A key with a default.
const fn on(key: &'static str, kind: ValueKind, default: &'static str, doc: &'static str, set: Setter) -> KeySpec {
    KeySpec { key, kind, default: Some(default), doc, set }
}

/// A key of a named section, unset by default.
const fn named(key: &'static str, kind: ValueKind, doc: &'static str, set: Setter) -> KeySpec {
    KeySpec { default: None, ..on(key, kind, "", doc, set) }
}

/// Every key, in the order of the reference.
#[rustfmt::skip]
pub static KEYS: &[KeySpec] = &[
    on("daemon.log", OneOf(&["error", "warn", "info", "debug", "trace"]), "info", "the least important messages that are logged; LESSOR_LOG overrides it", |c, _, v| c.daemon.log.assign(v)),
    on("daemon.idle_exit", ValueKind::Duration(MS, Duration::from_secs(365 * 86_400), Some("never")), "never", "how long a daemon that a client has started may be unused before it stops", |c, _, v| c.daemon.idle_exit.assign(v)),

    on("leases.per_account", Integer(1, 10_000), "1", "capacity of an account that has no max_leases", |c, _, v| c.pool.leases.per_account.assign(v)),
    on("leases.overflow", OneOf(&["share", "wait", "fail"]), "share", "when every account is at its capacity: share grants more leases per account, wait queues, fail refuses", |c, _, v| c.pool.leases.overflow.assign(v)),
    on("leases.max_per_account", Integer(1, 10_000), "16", "maximum number of leases on one account, even when sharing", |c, _, v| c.pool.leases.max_per_account.assign(v)),
    on("leases.ttl", some(MONTH), "10m", "lifetime of leases that are bound to a time only; they can be renewed", |c, _, v| c.pool.leases.ttl.assign(v)),
    on("leases.grace", upto(Duration::from_secs(2)), "2s", "after an unclean restart of the daemon, how long new leases wait so that holders can resume theirs", |c, _, v| c.pool.leases.grace.assign(v)),
    on("leases.max_in_flight", Integer(0, 10_000), "0", "how many requests of the gateway may be under way on an account; 0 for any number", |c, _, v| c.pool.leases.max_in_flight.assign(v)),
    on("leases.max_in_flight_per_key", Integer(0, 10_000), "0", "the same with one key of the gateway", |c, _, v| c.pool.leases.max_in_flight_per_key.assign(v)),

    on("selection.strategy", OneOf(&["sticky", "round-robin", "hybrid", "least-used", "drain-soonest"]), "hybrid", "how to choose among equally loaded accounts: see lessor simulate", |c, _, v| c.pool.selection.strategy.assign(v)),
    on("selection.mode", OneOf(&["cache-first", "balance", "performance-first"]), "balance", "when the wanted account has a limit: cache-first waits for it, balance moves at once, performance-first ignores session bindings", |c, _, v| c.pool.selection.mode.assign(v)),
    on("selection.preferred_account", Text, "", "account to use while it is available and below its capacity; \"\" for none", |c, _, v| c.pool.selection.preferred_account.assign(v)),
    on("selection.pid_offset", Bool, "false", "whether holders without a session start at an account derived from their process id", |c, _, v| c.pool.selection.pid_offset.assign(v)),
    on("selection.max_cache_wait", upto(DAY), "60s", "how long cache-first waits for the preferred account", |c, _, v| c.pool.selection.max_cache_wait.assign(v)),
    on("selection.session_ttl", upto(MONTH), "1h", "how long an unused session keeps its account", |c, _, v| c.pool.selection.session_ttl.assign(v)),
    on("selection.reuse_window", upto(DAY), "60s", "how long a process that acquires again gets the same account", |c, _, v| c.pool.selection.reuse_window.assign(v)),
    on("selection.tier_first", Bool, "false", "whether higher tiers (ultra, pro, free) are preferred before the strategy applies", |c, _, v| c.pool.selection.tier_first.assign(v)),
    on("selection.subagents", OneOf(&["with-parent", "spread", "auto"]), "auto", "where the sub-agents of a run go: with-parent, spread over the accounts, or auto: with the parent while its account has room", |c, _, v| c.pool.selection.subagents.assign(v)),
    on("selection.health.initial", Number(0.0, 1e6), "70", "initial health of an account; at most max", |c, _, v| c.pool.selection.health.initial.assign(v)),
    on("selection.health.success", Number(0.0, 1e6), "1", "health gained by a success", |c, _, v| c.pool.selection.health.success.assign(v)),
    on("selection.health.rate_limit", Number(-1e6, 0.0), "-10", "change of health at a rate limit", |c, _, v| c.pool.selection.health.rate_limit.assign(v)),
    on("selection.health.failure", Number(-1e6, 0.0), "-20", "change of health at another failure", |c, _, v| c.pool.selection.health.failure.assign(v)),
    on("selection.health.recovery_per_hour", Number(0.0, 1e6), "2", "health regained per hour without failures", |c, _, v| c.pool.selection.health.recovery_per_hour.assign(v)),
    on("selection.health.min_usable", Number(0.0, 1e6), "50", "hybrid chooses accounts below this health last; at most max", |c, _, v| c.pool.selection.health.min_usable.assign(v)),
    on("selection.health.max", Number(1.0, 1e6), "100", "maximum health", |c, _, v| c.pool.selection.health.max.assign(v)),
    on("selection.tokens.max", Number(1.0, 1e6), "50", "maximum number of tokens of an account", |c, _, v| c.pool.selection.tokens.max.assign(v)),
    on("selection.tokens.initial", Number(0.0, 1e6), "50", "initial tokens of an account; may equal max", |c, _, v| c.pool.selection.tokens.initial.assign(v)),
    on("selection.tokens.per_minute", Number(0.0, 1e6), "6", "tokens regained per minute", |c, _, v| c.pool.selection.tokens.per_minute.assign(v)),

    on("limits.switch_on_first_rate_limit", Bool, "true", "whether the first rate limit already moves the holder to another account; false: it retries once first", |c, _, v| c.pool.limits.switch_on_first_rate_limit.assign(v)),
    on("limits.max_rate_limit_wait", upto(MONTH), "5m", "how long a request waits when the caller states no time; in the gateway, over all requests of a session since its first refusal", |c, _, v| c.pool.limits.max_rate_limit_wait.assign(v)),
    on("limits.quota_backoff", Durations(MS, MONTH, 16), r#"["1m", "5m", "30m", "2h"]"#, "waits for an exhausted quota when the server states none, by consecutive failures", |c, _, v| c.pool.limits.backoff.quota.assign(v)),
    on("limits.rate_limit_backoff", some(MONTH), "30s", "wait for a rate limit when the server states none", |c, _, v| c.pool.limits.backoff.rate_limit.assign(v)),
    on("limits.capacity_backoff", some(MONTH), "15s", "wait for an overloaded model when the server states none", |c, _, v| c.pool.limits.backoff.capacity.assign(v)),
    on("limits.server_error_backoff", some(MONTH), "20s", "wait after a server error when the server states none", |c, _, v| c.pool.limits.backoff.server_error.assign(v)),
    on("limits.unknown_backoff", some(MONTH), "60s", "wait after a refusal of unknown reason when the server states none", |c, _, v| c.pool.limits.backoff.unknown.assign(v)),
    on("limits.dedup_window", upto(DAY), "2s", "reports for the same quota key within this time count once", |c, _, v| c.pool.limits.dedup_window.assign(v)),
    on("limits.reset_after", upto(MONTH), "2m", "time without a failure after which the retry counter is reset", |c, _, v| c.pool.limits.reset_after.assign(v)),
    on("limits.quota_failure_ttl", upto(MONTH), "1h", "time after the last limit's end after which quota_backoff starts again at its first wait", |c, _, v| c.pool.limits.quota_failure_ttl.assign(v)),
    on("limits.retry_delay", upto(DAY), "1s", "delay of the first retry on the same account, if switch_on_first_rate_limit is off", |c, _, v| c.pool.limits.retry_delay.assign(v)),
    on("limits.max_attempts", Integer(1, 100), "3", "gateway: maximum attempts after server, request and network errors", |c, _, v| c.limits.max_attempts.assign(v)),

    on("quota.primary", OneOf(&["antigravity", "gemini-cli"]), "antigravity", "Gemini quota pool to use first", |c, _, v| c.pool.quota.primary.assign(v)),
    on("quota.fallback", OneOf(&["off", "accounts-first", "same-account-first"]), "off", "whether the other Gemini quota pool is used: accounts-first after the first pool of all accounts, same-account-first before another account", |c, _, v| c.pool.quota.fallback.assign(v)),
    on("quota.soft_threshold", Number(0.0, 1.0), "0.9", "an account that has used more than this share of its quota is chosen last for the model family; 1 disables this", |c, _, v| c.pool.quota.soft_threshold.assign(v)),
    on("quota.overage", OneOf(&["avoid", "allow"]), "avoid", "after an answer that was paid for beyond the plan: avoid moves sessions to an account whose plan is not used up, if one has room; allow leaves them", |c, _, v| c.pool.quota.overage.assign(v)),
    on("quota.protect", Protect, "[]", "reserves: an account with less than this share of its quota left serves none of these models: [{ models = [\"claude-opus*\"], below = 0.1 }]", |c, _, v| c.pool.quota.protect.assign(v)),
    on("quota.poll", ValueKind::Duration(Duration::from_secs(1), MONTH, Some("off")), "15m", "how often providers are asked for usage, within a budget per provider", |c, _, v| c.quota.poll.assign(v)),

    on("refresh.ahead", upto(DAY), "30m", "how long before expiry a token is refreshed; at most half its lifetime", |c, _, v| c.refresh.ahead.assign(v)),
    on("refresh.min_life", upto(DAY), "60s", "a token whose remaining lifetime is shorter is not handed out", |c, _, v| c.refresh.min_life.assign(v)),
    on("refresh.wait", upto(DAY), "5s", "how long a holder waits for the refresh of an expired token before it gets another account", |c, _, v| c.refresh.wait.assign(v)),

    on("gateway.enabled", Bool, "true", "whether the gateway runs", |c, _, v| c.gateway.enabled.assign(v)),
    on("gateway.listen", Listen, "127.0.0.1:0", "address to listen on; port 0 means a free port, chosen once and then kept", |c, _, v| c.gateway.listen.assign(v)),
    on("gateway.max_body", Size(KIB, 64 * GIB), "32MiB", "maximum size of a request; larger ones get status 413", |c, _, v| c.gateway.max_body.assign(v)),
    on("gateway.buffer_total", Size(0, 1024 * GIB), "48MiB", "memory for all request bodies that are kept for retries; a request that does not fit gets one attempt", |c, _, v| c.gateway.buffer_total.assign(v)),
    on("gateway.socket", Text, "", "Unix socket of the gateway; \"\" for gateway.sock in the lease socket's directory, or \"off\"", |c, _, v| c.gateway.socket.assign(v)),
    on("gateway.tls", Bool, "false", "whether the gateway also listens for https, on a second loopback port", |c, _, v| c.gateway.tls.assign(v)),
    on("gateway.allow_remote", Bool, "false", "whether the gateway may listen on other addresses than loopback", |c, _, v| c.gateway.allow_remote.assign(v)),
    on("gateway.websocket", Bool, "true", "whether the gateway relays WebSockets of the Responses API; otherwise they get status 426 and clients use HTTP", |c, _, v| c.gateway.websocket.assign(v)),

    on("join.host", SshHost, "", "machine whose accounts this one uses, as ssh knows it; \"\" to use its own: see lessor join", |c, _, v| c.join.host.assign(v)),
    on("join.options", Texts(0, 64), "[]", "options of ssh for that, each as after -o: [\"Port=2222\"]", |c, _, v| c.join.options.assign(v)),
    on("join.program", Text, "lessor", "file of lessor on that machine", |c, _, v| c.join.program.assign(v)),
    on("join.grace", upto(Duration::from_secs(3600)), "30s", "how long leases outlive the link to that machine, and requests wait for it", |c, _, v| c.join.grace.assign(v)),

    on("telemetry.otlp", Url, "", "URL of a collector that gets metrics and traces, such as http://127.0.0.1:4318; \"\" for none", |c, _, v| c.telemetry.otlp.assign(v)),
    on("telemetry.interval", ValueKind::Duration(Duration::from_secs(1), DAY, None), "15s", "interval of sending metrics and traces", |c, _, v| c.telemetry.interval.assign(v)),

    on("notify.desktop", Bool, "false", "whether the desktop shows notifications: account switched, second quota pool used, login needed, everything limited and free again", |c, _, v| c.notify.desktop.assign(v)),
    on("notify.command", Command, "[]", "program that is run for each notification, without a shell, with the notification as JSON on standard input", |c, _, v| c.notify.command.assign(v)),
    on("notify.webhook", Webhook, "", "URL that each notification is sent to as JSON: https, or http on this machine; \"\" for none", |c, _, v| c.notify.webhook.assign(v)),

    on("history.max_age", upto(Duration::from_secs(3650 * 86_400)), "30d", "how long requests, leases and events of the past are kept; \"0\" turns the history off and deletes it", |c, _, v| c.history.max_age.assign(v)),
    on("history.max_size", Size(0, 64 * GIB), "64MiB", "the most bytes of the history's files, at least 1MiB; the oldest rows go first; \"0\" turns the history off", |c, _, v| c.history.max_size.assign(v)),

    named("prices.*.input", Number(0.0, 1e6), "price of the input of models with this name, in US dollars for a million tokens; `*` in the name stands for any characters, and the most specific name wins", |c, n, v| price(c, n).input.assign(v)),
    named("prices.*.output", Number(0.0, 1e6), "price of its output", |c, n, v| price(c, n).output.assign(v)),
    named("prices.*.cached", Number(0.0, 1e6), "price of input that was read from a cache; as `input` by default", |c, n, v| price(c, n).cached.assign(v)),
    named("prices.*.cache_written", Number(0.0, 1e6), "price of input that was written to a cache; as `input` by default", |c, n, v| price(c, n).cache_written.assign(v)),

    on("secrets.key", OneOf(&["file", "keyring"]), "file", "where the key that seals secrets is stored", |c, _, v| c.secrets.key.assign(v)),

    on("pool.url", PoolUrl, "", "URL of the PostgreSQL database of a pool that many machines share, without a password; \"\" for none", |c, _, v| c.shared_pool.url.assign(v)),
    on("pool.refresher", Bool, "true", "whether this machine may refresh the logins of the shared pool; it does only if an admin has given it the right, with the join token", |c, _, v| c.shared_pool.refresher.assign(v)),
    on("pool.own_accounts", Texts(0, 1024), "[]", "accounts of this machine that are never given to the shared pool: labels, email addresses or ids", |c, _, v| c.shared_pool.own_accounts.assign(v)),
    on("pool.linger", upto(DAY), "30s", "how long this machine keeps a place on a shared account after its last lease on it has ended", |c, _, v| c.pool.leases.linger.assign(v)),
    on("pool.root_certificate", Text, "", "PEM file with the certificates to trust for the database instead of the system's; \"\" for those", |c, _, v| c.shared_pool.root_certificate.assign(v)),

    named("providers.*.base_url", Url, "where API keys are served; a version at its end (/v1) is not doubled", |c, n, v| provider(c, n).base_url.assign(v)),
    named("providers.*.usage_url", Url, "where usage is requested, a host or a whole URL; without it, below oauth.base_url", |c, n, v| provider(c, n).usage_url.assign(v)),
    named("providers.*.mix", OneOf(&["new-sessions", "never", "always"]), "when a conversation may move between logins and API keys; without it new-sessions: a new conversation may begin on either, one that has begun stays", |c, n, v| provider(c, n).mix.assign(v)),
    named("providers.*.proxy", ProxyUrl, "proxy for all requests to the provider, including refresh, usage and login; without it the proxy variables of the environment apply", |c, n, v| provider(c, n).proxy.assign(v)),
    named("providers.*.ca_file", Text, "PEM file with certificates to trust in addition to the system's, for all requests to the provider", |c, n, v| provider(c, n).ca_file.assign(v)),
    named("providers.*.oauth.base_url", Url, "where logins are served, if elsewhere", |c, n, v| provider(c, n).oauth.base_url.assign(v)),
    named("providers.*.oauth.issuer", Url, "OpenID issuer, whose discovery document provides the URLs below", |c, n, v| provider(c, n).oauth.issuer.assign(v)),
    named("providers.*.oauth.authorize_url", Url, "authorization URL, where users log in", |c, n, v| provider(c, n).oauth.authorize_url.assign(v)),
    named("providers.*.oauth.token_url", Url, "token URL, where tokens come from", |c, n, v| provider(c, n).oauth.token_url.assign(v)),
    named("providers.*.oauth.device_url", Url, "device authorization URL, where device codes come from", |c, n, v| provider(c, n).oauth.device_url.assign(v)),
    named("providers.*.oauth.client_id", Text, "id of the OAuth client of lessor login, and of logins for which no other one is known", |c, n, v| provider(c, n).oauth.client_id.assign(v)),
    named("providers.*.oauth.client_secret_env", Variable, "name of the environment variable with the client secret, never the secret itself", |c, n, v| provider(c, n).oauth.client_secret_env.assign(v)),
    named("providers.*.oauth.scopes", Texts(0, 64), "requested scopes", |c, n, v| provider(c, n).oauth.scopes.assign(v)),
    named("providers.*.oauth.redirect_port", Integer(0, 65_535), "loopback port of the redirect; 0 means any free port", |c, n, v| provider(c, n).oauth.redirect_port.assign(v)),

    named("providers.*.oauth.clients.*.client_id", Text, "id of another OAuth client, which refreshes the logins that it made", |c, n, v| client(c, n).client_id.assign(v)),
    named("providers.*.oauth.clients.*.client_secret_env", Variable, "name of the environment variable with the secret of that client, which can also be stored: see lessor secrets", |c, n, v| client(c, n).client_secret_env.assign(v)),

    named("providers.*.direct.issuer", Url, "OpenID issuer of the login for the public API, whose discovery document provides the URLs below", |c, n, v| provider(c, n).direct.issuer.assign(v)),
    named("providers.*.direct.authorize_url", Url, "authorization URL of that login", |c, n, v| provider(c, n).direct.authorize_url.assign(v)),
    named("providers.*.direct.token_url", Url, "token URL of that login", |c, n, v| provider(c, n).direct.token_url.assign(v)),
    named("providers.*.direct.redirect_port", Integer(0, 65_535), "loopback port of its redirect; 0 means any free port", |c, n, v| provider(c, n).direct.redirect_port.assign(v)),

    named("accounts.*.enabled", Bool, "whether the account may be used; both this and lessor account enable must allow it", |c, n, v| account(c, n).enabled.assign(v)),
    named("accounts.*.max_leases", Integer(1, 10_000), "capacity of this account", |c, n, v| account(c, n).max_leases.assign(v)),
    named("accounts.*.priority", Integer(-1_000_000, 1_000_000), "accounts with higher priority are preferred among equally loaded ones", |c, n, v| account(c, n).priority.assign(v)),
    named("accounts.*.use", Texts(1, 64), "agents that may use it, or [\"any\"]", |c, n, v| account(c, n).allowed_agents.assign(v)),
    named("accounts.*.attest", OneOf(&["declared", "strict"]), "whether the program must be the agent that it states, where `use` names agents; declared (the default) only warns about another program, strict refuses it", |c, n, v| account(c, n).attest.assign(v)),
    named("accounts.*.reserve", Number(0.0, 1.0), "part of its windows that is kept for requests that name it", |c, n, v| account(c, n).reserve.assign(v)),
    named("accounts.*.fallback_only", Bool, "whether it is used only while no other account can serve", |c, n, v| account(c, n).fallback_only.assign(v)),
    named("directories.*.accounts", Texts(1, 64), "accounts that what is started in the directory or below it may use, and no others: labels, email addresses or ids", |c, n, v| directory(c, n).accounts.assign(v)),
    named("share.*.socket", Text, "path of a further socket, for a container: see lessor share", |c, n, v| share(c, n).socket.assign(v)),
    named("share.*.uid", Integer(0, 4_294_967_294), "user that is served there", |c, n, v| share(c, n).uid.assign(v)),
    named("share.*.gid", Integer(0, 4_294_967_294), "group that is served there", |c, n, v| share(c, n).gid.assign(v)),
    named("share.*.only", Texts(1, 64), "the only accounts for it, by label, email address or id; leases on others end", |c, n, v| share(c, n).only.assign(v)),
    named("share.*.max_leases", Integer(1, 10_000), "how many leases there may be there; a lower number ends the newest", |c, n, v| share(c, n).max_leases.assign(v)),
    named("agents.*.programs", Texts(1, 64), "further programs that are this agent: absolute paths of executables or scripts; links are followed", |c, n, v| agent(c, n).programs.assign(v)),
];

impl Default for Config {
    /// The documented defaults, from the table of keys.
    fn default() -> Self {
        let mut config = Self::blank();
        for key in KEYS {
            if let Some(Ok(value)) = key.default.map(|text| key.kind.read_plain(text)) {
                (key.set)(&mut config, &[], &value);
            }
        }
        config
    }
}

/// The named account's settings; sorted by name, so that equal files give equal settings.
pub(in crate::config) fn account<'c>(config: &'c mut Config, names: &[&str]) -> &'c mut AccountSettings {
    let name = names.first().copied().unwrap_or_default();
    let accounts = &mut config.pool.accounts;
    let at = accounts.binary_search_by(|account| account.name.as_str().cmp(name)).unwrap_or_else(|at| {
        accounts.insert(at, AccountSettings { name: name.to_owned(), ..AccountSettings::default() });
        at
    });
    &mut accounts[at]
}

/// The named directory's set; sorted by name, so that equal files give equal settings.
pub(in crate::config) fn directory<'c>(config: &'c mut Config, names: &[&str]) -> &'c mut DirectorySettings {
    let name = names.first().copied().unwrap_or_default();
    let sets = &mut config.pool.directories;
    let at = sets.binary_search_by(|set| set.name.as_str().cmp(name)).unwrap_or_else(|at| {
        sets.insert(at, DirectorySettings { name: name.to_owned(), ..DirectorySettings::default() });
        at
    });
    &mut sets[at]
}

/// The prices of models whose names match.
pub(in crate::config) fn price<'c>(config: &'c mut Config, names: &[&str]) -> &'c mut PriceSection {
    config.prices.entry(names.first().copied().unwrap_or_default().to_owned()).or_default()
}

pub(in crate::config) fn share<'c>(config: &'c mut Config, names: &[&str]) -> &'c mut ShareSection {
    config.shares.entry(names.first().copied().unwrap_or_default().to_owned()).or_default()
}

pub(in crate::config) fn agent<'c>(config: &'c mut Config, names: &[&str]) -> &'c mut AgentSection {
    config.agents.entry(names.first().copied().unwrap_or_default().to_owned()).or_default()
}

pub(in crate::config) fn provider<'c>(config: &'c mut Config, names: &[&str]) -> &'c mut ProviderSection {
    config.providers.entry(names.first().copied().unwrap_or_default().to_owned()).or_default()
}

/// The named OAuth client of a provider.
pub(in crate::config) fn client<'c>(config: &'c mut Config, names: &[&str]) -> &'c mut OauthClientSection {
    let name = names.get(1).copied().unwrap_or_default().to_owned();
    provider(config, names).oauth.clients.entry(name).or_default()
}
