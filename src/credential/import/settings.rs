//! Other tools' settings, in lessor's words: proposed to the user, never applied unasked.

use serde_json::Value;

use super::fields::Fields;

/// A key of lessor's configuration, and the value that another tool's setting amounts to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// lessor's key.
    pub key: &'static str,
    /// Its value, as TOML.
    pub value: String,
    /// The key it comes from.
    pub from: String,
}

/// Translates the value of a key; `None` when it does not fit.
type Translate = fn(&Value) -> Option<String>;

/// What opencode-antigravity-auth's keys amount to.
const ANTIGRAVITY_AUTH: &[(&str, &str, Translate)] = &[
    ("account_selection_strategy", "selection.strategy", word),
    ("pid_offset_enabled", "selection.pid_offset", flag),
    ("scheduling_mode", "selection.mode", word),
    ("max_cache_first_wait_seconds", "selection.max_cache_wait", seconds),
    ("switch_on_first_rate_limit", "limits.switch_on_first_rate_limit", flag),
    ("failure_ttl_seconds", "limits.quota_failure_ttl", seconds),
    ("default_retry_after_seconds", "limits.unknown_backoff", seconds),
    ("max_rate_limit_wait_seconds", "limits.max_rate_limit_wait", seconds_or_ever),
    ("soft_quota_threshold_percent", "quota.soft_threshold", percent),
    ("quota_refresh_interval_minutes", "quota.poll", minutes_or_off),
    ("quota_fallback", "quota.fallback", fallback),
    ("cli_first", "quota.primary", primary),
    ("health_score.initial", "selection.health.initial", number),
    ("health_score.success_reward", "selection.health.success", number),
    ("health_score.rate_limit_penalty", "selection.health.rate_limit", number),
    ("health_score.failure_penalty", "selection.health.failure", number),
    ("health_score.recovery_rate_per_hour", "selection.health.recovery_per_hour", number),
    ("health_score.min_usable", "selection.health.min_usable", number),
    ("health_score.max_score", "selection.health.max", number),
    ("token_bucket.max_tokens", "selection.tokens.max", number),
    ("token_bucket.initial_tokens", "selection.tokens.initial", number),
    ("token_bucket.regeneration_rate_per_minute", "selection.tokens.per_minute", number),
    ("proactive_refresh_buffer_seconds", "refresh.ahead", seconds),
    ("quiet_mode", "notify.desktop", unless),
    ("debug", "daemon.log", debug),
];

/// What Antigravity Manager's keys amount to.
const ANTIGRAVITY_MANAGER: &[(&str, &str, Translate)] = &[
    ("proxy.scheduling.mode", "selection.mode", word),
    ("proxy.scheduling.max_wait_seconds", "selection.max_cache_wait", seconds),
    ("circuit_breaker.backoff_steps", "limits.quota_backoff", steps),
    ("refresh_interval", "quota.poll", minutes_or_off),
];

/// The settings of opencode-antigravity-auth.
pub(super) fn antigravity_auth(top: &Fields<'_>) -> Vec<Proposal> {
    let mut proposals = translate(top, ANTIGRAVITY_AUTH);
    // refreshing ahead was turned off altogether
    if top.value("proactive_token_refresh") == Some(&Value::Bool(false)) {
        proposals.retain(|proposal| proposal.key != "refresh.ahead");
        let from = "proactive_token_refresh".to_owned();
        proposals.push(Proposal { key: "refresh.ahead", value: "\"0s\"".to_owned(), from });
    }
    proposals
}

/// The settings of Antigravity Manager.
pub(super) fn antigravity_manager(top: &Fields<'_>) -> Vec<Proposal> {
    translate(top, ANTIGRAVITY_MANAGER)
}

fn translate(top: &Fields<'_>, table: &[(&str, &'static str, Translate)]) -> Vec<Proposal> {
    let mut proposals = Vec::new();
    for (from, key, translate) in table {
        let mut fields = Some(top.clone());
        let mut parts = from.split('.').peekable();
        while let (Some(part), Some(here)) = (parts.next(), fields.take()) {
            if parts.peek().is_some() {
                fields = here.object(part);
            } else if let Some(value) = here.value(part) {
                match translate(value) {
                    Some(value) => proposals.push(Proposal { key, value, from: (*from).to_owned() }),
                    None => top.note(format!("`{from}` is left out: its value has no meaning for lessor")),
                }
            }
        }
    }
    proposals
}

/// `cache_first`, `CacheFirst` → `"cache-first"`
fn word(value: &Value) -> Option<String> {
    let mut word = String::new();
    for letter in value.as_str()?.chars().take(64) {
        if letter.is_ascii_uppercase() && !word.is_empty() {
            word.push('-');
        }
        match letter {
            '_' => word.push('-'),
            letter if letter.is_ascii_alphabetic() || letter == '-' => word.push(letter.to_ascii_lowercase()),
            _ => return None,
        }
    }
    let known = ["sticky", "round-robin", "hybrid", "cache-first", "balance", "performance-first"];
    known.contains(&word.as_str()).then(|| format!("{word:?}"))
}

fn flag(value: &Value) -> Option<String> {
    value.as_bool().map(|flag| flag.to_string())
}

fn unless(value: &Value) -> Option<String> {
    value.as_bool().map(|flag| (!flag).to_string())
}

fn number(value: &Value) -> Option<String> {
    value.as_f64().filter(|number| number.abs() <= 1e6).map(|number| number.to_string())
}

fn seconds(value: &Value) -> Option<String> {
    let seconds = value.as_f64().filter(|seconds| (0.0..=1e6).contains(seconds))?;
    // whole ones where they are: people read this
    let text = if seconds.fract() == 0.0 { format!("{seconds}s") } else { format!("{}ms", (seconds * 1000.0).round()) };
    Some(format!("{text:?}"))
}

/// There 0 means: as long as it takes.
fn seconds_or_ever(value: &Value) -> Option<String> {
    if value.as_f64() == Some(0.0) { Some("\"32d\"".to_owned()) } else { seconds(value) }
}

fn minutes_or_off(value: &Value) -> Option<String> {
    let minutes = value.as_f64().filter(|minutes| (0.0..=1e4).contains(minutes))?;
    if minutes == 0.0 {
        return Some("\"off\"".to_owned());
    }
    if minutes.fract() == 0.0 {
        Some(format!("\"{minutes}m\""))
    } else {
        Some(format!("\"{}s\"", (minutes * 60.0).round()))
    }
}

fn percent(value: &Value) -> Option<String> {
    value.as_f64().filter(|percent| (0.0..=100.0).contains(percent)).map(|percent| (percent / 100.0).to_string())
}

fn fallback(value: &Value) -> Option<String> {
    value.as_bool().map(|on| if on { "\"accounts-first\"" } else { "\"off\"" }.to_owned())
}

fn primary(value: &Value) -> Option<String> {
    value.as_bool().map(|cli| if cli { "\"gemini-cli\"" } else { "\"antigravity\"" }.to_owned())
}

fn debug(value: &Value) -> Option<String> {
    value.as_bool().map(|on| if on { "\"debug\"" } else { "\"info\"" }.to_owned())
}

fn steps(value: &Value) -> Option<String> {
    let steps: Option<Vec<String>> = value.as_array()?.iter().take(16).map(seconds).collect();
    steps.filter(|steps| !steps.is_empty()).map(|steps| format!("[{}]", steps.join(", ")))
}
