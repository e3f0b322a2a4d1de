//! Every key there is. A new key is a row here with its setter, and a field in `settings.rs`.

use std::time::Duration;

use super::kind::ValueKind::{
    self, Bool, Durations, Integer, Listen, Number, OneOf, Protect, Size, Text, Texts, Url, Variable,
};
use super::schema::KeySpec;
use super::settings::{Config, ProviderSection};
use super::slot::Assign;
use super::value::ConfigValue;
use crate::pool::AccountSettings;

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);
/// A wait stated by a server is not believed beyond this either.
const MONTH: Duration = Duration::from_secs(32 * 86_400);
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

/// A duration that may be nothing.
const fn upto(to: Duration) -> ValueKind {
    ValueKind::Duration(Duration::ZERO, to, None)
}

/// A duration that may not be nothing.
const fn some(to: Duration) -> ValueKind {
    ValueKind::Duration(MS, to, None)
}

/// A key that already does something.
const fn on(
    key: &'static str,
    kind: ValueKind,
    default: &'static str,
    doc: &'static str,
    set: fn(&mut Config, &str, &ConfigValue) -> bool,
) -> KeySpec {
    KeySpec { key, kind, default: Some(default), doc, active: true, set }
}

/// A key that is checked, but whose feature is still to come.
const fn off(
    key: &'static str,
    kind: ValueKind,
    default: &'static str,
    doc: &'static str,
    set: fn(&mut Config, &str, &ConfigValue) -> bool,
) -> KeySpec {
    KeySpec { active: false, ..on(key, kind, default, doc, set) }
}

/// A key of a named section, unset unless the file says otherwise.
const fn named(
    key: &'static str,
    kind: ValueKind,
    active: bool,
    doc: &'static str,
    set: fn(&mut Config, &str, &ConfigValue) -> bool,
) -> KeySpec {
    KeySpec { key, kind, default: None, doc, active, set }
}

/// Every key, in the order of the reference.
#[rustfmt::skip]
pub static KEYS: &[KeySpec] = &[
    on("daemon.log", OneOf(&["error", "warn", "info", "debug", "trace"]), "info", "least important messages that are logged; LESSOR_LOG goes before it", |c, _, v| c.daemon.log.put(v)),
    on("daemon.idle_exit", ValueKind::Duration(MS, Duration::from_secs(365 * 86_400), Some("never")), "never", "an auto-started daemon ends itself when unused for so long", |c, _, v| c.daemon.idle_exit.put(v)),

    on("leases.per_account", Integer(1, 10_000), "1", "capacity of an account without its own max_leases", |c, _, v| c.pool.leases.per_account.put(v)),
    on("leases.overflow", OneOf(&["share", "wait", "fail"]), "share", "what happens when every account is at its capacity", |c, _, v| c.pool.leases.overflow.put(v)),
    on("leases.max_per_account", Integer(1, 10_000), "16", "never more leases on one account than this, even when sharing", |c, _, v| c.pool.leases.max_per_account.put(v)),
    on("leases.ttl", some(MONTH), "10m", "life of leases bound to nothing else; renewable", |c, _, v| c.pool.leases.ttl.put(v)),
    on("leases.grace", upto(Duration::from_secs(2)), "2s", "for holders to come back after an unclean restart of the daemon", |c, _, v| c.pool.leases.grace.put(v)),

    on("selection.strategy", OneOf(&["sticky", "round-robin", "hybrid", "least-used", "drain-soonest"]), "hybrid", "the rule among equally loaded accounts", |c, _, v| c.pool.selection.strategy.put(v)),
    on("selection.mode", OneOf(&["cache-first", "balance", "performance-first"]), "balance", "what happens when the wanted account is limited", |c, _, v| c.pool.selection.mode.put(v)),
    on("selection.preferred_account", Text, "", "fixed account, while it can serve; \"\" for none", |c, _, v| c.pool.selection.preferred_account.put(v)),
    on("selection.pid_offset", Bool, "false", "holders without a session start at an account of their pid's", |c, _, v| c.pool.selection.pid_offset.put(v)),
    on("selection.max_cache_wait", upto(DAY), "60s", "how long cache-first waits for the wanted account", |c, _, v| c.pool.selection.max_cache_wait.put(v)),
    on("selection.session_ttl", upto(MONTH), "1h", "how long an unused session keeps its account", |c, _, v| c.pool.selection.session_ttl.put(v)),
    on("selection.reuse_window", upto(DAY), "60s", "how long the same process gets the same account again", |c, _, v| c.pool.selection.reuse_window.put(v)),
    on("selection.tier_first", Bool, "false", "ultra > pro > free before the strategy", |c, _, v| c.pool.selection.tier_first.put(v)),
    on("selection.health.initial", Number(0.0, 1e6), "70", "health an account starts with, at most max", |c, _, v| c.pool.selection.health.initial.put(v)),
    on("selection.health.success", Number(0.0, 1e6), "1", "health gained by a success", |c, _, v| c.pool.selection.health.success.put(v)),
    on("selection.health.rate_limit", Number(-1e6, 0.0), "-10", "health changed by a rate limit", |c, _, v| c.pool.selection.health.rate_limit.put(v)),
    on("selection.health.failure", Number(-1e6, 0.0), "-20", "health changed by another failure", |c, _, v| c.pool.selection.health.failure.put(v)),
    on("selection.health.recovery_per_hour", Number(0.0, 1e6), "2", "health regained for each quiet hour", |c, _, v| c.pool.selection.health.recovery_per_hour.put(v)),
    on("selection.health.min_usable", Number(0.0, 1e6), "50", "below this hybrid takes an account last; at most max", |c, _, v| c.pool.selection.health.min_usable.put(v)),
    on("selection.health.max", Number(1.0, 1e6), "100", "the best health", |c, _, v| c.pool.selection.health.max.put(v)),
    on("selection.tokens.max", Number(1.0, 1e6), "50", "the most tokens an account saves up", |c, _, v| c.pool.selection.tokens.max.put(v)),
    on("selection.tokens.initial", Number(0.0, 1e6), "50", "tokens an account starts with; may equal max", |c, _, v| c.pool.selection.tokens.initial.put(v)),
    on("selection.tokens.per_minute", Number(0.0, 1e6), "6", "tokens regained each minute", |c, _, v| c.pool.selection.tokens.per_minute.put(v)),

    on("limits.switch_on_first_rate_limit", Bool, "true", "the first rate limit already moves the holder", |c, _, v| c.pool.limits.switch_on_first_rate_limit.put(v)),
    on("limits.max_rate_limit_wait", upto(MONTH), "5m", "how long a request waits when its caller does not say", |c, _, v| c.pool.limits.max_rate_limit_wait.put(v)),
    on("limits.quota_backoff", Durations(MS, MONTH, 16), r#"["1m", "5m", "30m", "2h"]"#, "waits for an exhausted quota without the server's word, by failures in a row", |c, _, v| c.pool.limits.backoff.quota.put(v)),
    on("limits.rate_limit_backoff", some(MONTH), "30s", "wait for a rate limit without the server's word", |c, _, v| c.pool.limits.backoff.rate_limit.put(v)),
    on("limits.capacity_backoff", some(MONTH), "15s", "wait for a model without capacity", |c, _, v| c.pool.limits.backoff.capacity.put(v)),
    on("limits.server_error_backoff", some(MONTH), "20s", "wait for a failing server", |c, _, v| c.pool.limits.backoff.server_error.put(v)),
    on("limits.unknown_backoff", some(MONTH), "60s", "wait for a refusal of unknown reason", |c, _, v| c.pool.limits.backoff.unknown.put(v)),
    on("limits.dedup_window", upto(DAY), "2s", "reports for one quota key within this are one event", |c, _, v| c.pool.limits.dedup_window.put(v)),
    on("limits.reset_after", upto(MONTH), "2m", "the retry counter forgets after so long without a failure", |c, _, v| c.pool.limits.reset_after.put(v)),
    on("limits.quota_failure_ttl", upto(MONTH), "1h", "the quota ladder forgets so long after the last limit's end", |c, _, v| c.pool.limits.quota_failure_ttl.put(v)),
    on("limits.retry_delay", upto(DAY), "1s", "first retry on the same account, when not switching", |c, _, v| c.pool.limits.retry_delay.put(v)),
    on("limits.max_attempts", Integer(1, 100), "3", "gateway: attempts at service, request and network failures", |c, _, v| c.limits.max_attempts.put(v)),

    on("quota.primary", OneOf(&["antigravity", "gemini-cli"]), "antigravity", "Gemini pool to start on", |c, _, v| c.pool.quota.primary.put(v)),
    on("quota.fallback", OneOf(&["off", "accounts-first", "same-account-first"]), "off", "whether and how the other Gemini pool is tried", |c, _, v| c.pool.quota.fallback.put(v)),
    on("quota.soft_threshold", Number(0.0, 1.0), "0.9", "above this utilisation an account ranks last for the family; 1 is off", |c, _, v| c.pool.quota.soft_threshold.put(v)),
    on("quota.protect", Protect, "[]", "reserves per model: [{ models = [\"claude-opus*\"], below = 0.1 }]", |c, _, v| c.pool.quota.protect.put(v)),
    on("quota.poll", ValueKind::Duration(Duration::from_secs(1), MONTH, Some("off")), "15m", "usage polling, under each provider's own budget", |c, _, v| c.quota.poll.put(v)),

    on("refresh.ahead", upto(DAY), "30m", "how long before expiry a token is refreshed; at most half its lifetime", |c, _, v| c.refresh.ahead.put(v)),
    on("refresh.min_life", upto(DAY), "60s", "a token with less life is not handed out", |c, _, v| c.refresh.min_life.put(v)),
    on("refresh.wait", upto(DAY), "5s", "a holder meeting an expired token waits this long, then gets another account", |c, _, v| c.refresh.wait.put(v)),

    on("gateway.enabled", Bool, "true", "whether the gateway serves", |c, _, v| c.gateway.enabled.put(v)),
    on("gateway.listen", Listen, "127.0.0.1:0", "where it listens; port 0 is chosen once, then kept", |c, _, v| c.gateway.listen.put(v)),
    on("gateway.max_body", Size(KIB, 64 * GIB), "32MiB", "larger requests are answered 413", |c, _, v| c.gateway.max_body.put(v)),
    on("gateway.buffer_total", Size(0, 1024 * GIB), "256MiB", "kept for retries over all requests; beyond it a request gets one attempt", |c, _, v| c.gateway.buffer_total.put(v)),
    on("gateway.socket", Text, "", "its Unix socket; \"\" for gateway.sock beside the lease socket, or \"off\"", |c, _, v| c.gateway.socket.put(v)),
    on("gateway.allow_remote", Bool, "false", "whether it may listen beyond loopback", |c, _, v| c.gateway.allow_remote.put(v)),

    off("notify.desktop", Bool, "false", "notifications: account switched, login needed, everything limited", |c, _, v| c.notify.desktop.put(v)),

    on("secrets.key", OneOf(&["file", "keyring"]), "file", "where the key that seals secrets is", |c, _, v| c.secrets.key.put(v)),

    named("providers.*.base_url", Url, true, "where API keys are served", |c, n, v| provider(c, n).base_url.put(v)),
    named("providers.*.usage_url", Url, true, "where usage is asked for", |c, n, v| provider(c, n).usage_url.put(v)),
    named("providers.*.proxy", Url, true, "the proxy it is reached by; without one, the proxy variables of the environment count", |c, n, v| provider(c, n).proxy.put(v)),
    named("providers.*.ca_file", Text, true, "a PEM file with certificates to trust besides those of the system", |c, n, v| provider(c, n).ca_file.put(v)),
    named("providers.*.oauth.base_url", Url, true, "where OAuth credentials are served, if elsewhere", |c, n, v| provider(c, n).oauth.base_url.put(v)),
    named("providers.*.oauth.issuer", Url, true, "OpenID discovery fills the URLs below", |c, n, v| provider(c, n).oauth.issuer.put(v)),
    named("providers.*.oauth.authorize_url", Url, true, "where users log in", |c, n, v| provider(c, n).oauth.authorize_url.put(v)),
    named("providers.*.oauth.token_url", Url, true, "where tokens come from", |c, n, v| provider(c, n).oauth.token_url.put(v)),
    named("providers.*.oauth.device_url", Url, true, "where device codes come from", |c, n, v| provider(c, n).oauth.device_url.put(v)),
    named("providers.*.oauth.client_id", Text, true, "the OAuth client's id", |c, n, v| provider(c, n).oauth.client_id.put(v)),
    named("providers.*.oauth.client_secret_env", Variable, true, "name of an environment variable, never the secret itself", |c, n, v| provider(c, n).oauth.client_secret_env.put(v)),
    named("providers.*.oauth.scopes", Texts(0, 64), true, "scopes that are asked for", |c, n, v| provider(c, n).oauth.scopes.put(v)),
    named("providers.*.oauth.redirect_port", Integer(0, 65_535), true, "loopback port of the redirect; 0 is any", |c, n, v| provider(c, n).oauth.redirect_port.put(v)),

    named("accounts.*.enabled", Bool, true, "both this and the account's record must allow it", |c, n, v| account(c, n).enabled.put(v)),
    named("accounts.*.max_leases", Integer(1, 10_000), true, "capacity of this account", |c, n, v| account(c, n).max_leases.put(v)),
    named("accounts.*.priority", Integer(-1_000_000, 1_000_000), true, "higher is preferred among equally loaded accounts", |c, n, v| account(c, n).priority.put(v)),
    named("accounts.*.use", Texts(1, 64), true, "which agents may hold it, or [\"any\"]", |c, n, v| account(c, n).allowed_agents.put(v)),
];

/// The named account's settings; kept in the order of names, so that equal files make equal settings.
pub(super) fn account<'c>(config: &'c mut Config, name: &str) -> &'c mut AccountSettings {
    let accounts = &mut config.pool.accounts;
    let at = accounts.binary_search_by(|account| account.name.as_str().cmp(name)).unwrap_or_else(|at| {
        accounts.insert(at, AccountSettings { name: name.to_owned(), ..AccountSettings::default() });
        at
    });
    &mut accounts[at]
}

/// The named provider's settings.
pub(super) fn provider<'c>(config: &'c mut Config, name: &str) -> &'c mut ProviderSection {
    config.providers.entry(name.to_owned()).or_default()
}
