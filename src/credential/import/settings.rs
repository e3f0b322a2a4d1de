//! Settings of other tools, translated to lessor's configuration keys. They are proposed to the user, never applied
//! automatically.

use serde_json::{Map, Value};

use super::fields::JsonFields;

/// A configuration key, and the value that corresponds to another tool's setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingProposal {
    /// lessor's key.
    pub key: &'static str,
    /// Its value, as TOML.
    pub value: String,
    /// The other tool's key.
    pub from: String,
}

/// Translates a value; `None` if it has no counterpart.
type Translate = fn(&Value) -> Option<String>;

/// The keys of opencode-antigravity-auth, with lessor's counterparts.
const ANTIGRAVITY_AUTH: &[(&str, &str, Translate)] = &[
    ("account_selection_strategy", "selection.strategy", word),
    ("pid_offset_enabled", "selection.pid_offset", |value| choice(value, "true", "false")),
    ("scheduling_mode", "selection.mode", word),
    ("max_cache_first_wait_seconds", "selection.max_cache_wait", seconds),
    ("switch_on_first_rate_limit", "limits.switch_on_first_rate_limit", |value| choice(value, "true", "false")),
    ("failure_ttl_seconds", "limits.quota_failure_ttl", seconds),
    ("default_retry_after_seconds", "limits.unknown_backoff", seconds),
    ("max_rate_limit_wait_seconds", "limits.max_rate_limit_wait", seconds_or_ever),
    ("soft_quota_threshold_percent", "quota.soft_threshold", percent),
    ("quota_refresh_interval_minutes", "quota.poll", minutes_or_off),
    ("quota_fallback", "quota.fallback", |value| choice(value, r#""accounts-first""#, r#""off""#)),
    ("cli_first", "quota.primary", |value| choice(value, r#""gemini-cli""#, r#""antigravity""#)),
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
    ("quiet_mode", "notify.desktop", |value| choice(value, "false", "true")),
    ("debug", "daemon.log", |value| choice(value, r#""debug""#, r#""info""#)),
];

/// Keys of opencode-antigravity-auth without a counterpart, with the reason.
const ANTIGRAVITY_AUTH_ONLY: &[(&str, &str)] = &[
    ("max_backoff_seconds", "it has no effect in that tool either"),
    ("request_jitter_max_ms", "lessor does not delay requests"),
    ("soft_quota_cache_ttl_minutes", "lessor shows how old its knowledge of a quota is"),
    ("proactive_refresh_check_interval_seconds", "lessor refreshes when a token is due, without periodic checks"),
    ("empty_response_max_attempts", "retrying empty answers is left to the agent"),
    ("empty_response_retry_delay_ms", "retrying empty answers is left to the agent"),
];

/// Keys of Antigravity Manager without a counterpart, with the reason.
const ANTIGRAVITY_MANAGER_ONLY: &[(&str, &str)] = &[
    ("scheduled_warmup", "lessor does not send requests to start a quota window"),
    ("proxy.custom_mapping", "lessor does not change the requested model"),
];

/// The keys of Antigravity Manager, with lessor's counterparts.
const ANTIGRAVITY_MANAGER: &[(&str, &str, Translate)] = &[
    ("proxy.scheduling.mode", "selection.mode", word),
    ("proxy.scheduling.max_wait_seconds", "selection.max_cache_wait", seconds),
    ("circuit_breaker.backoff_steps", "limits.quota_backoff", steps),
    ("refresh_interval", "quota.poll", minutes_or_off),
    // resolved later, with the list of accounts: lessor refers to an account by its email address
    ("proxy.preferred_account_id", PREFERRED, name),
    ("quota_protection", "quota.protect", protection),
];

/// The settings that amount to what opencode-anthropic-multi-auth does; it has no settings of its own.
pub(super) fn anthropic_multi_auth() -> (Vec<SettingProposal>, Vec<(String, String)>) {
    let proposal = SettingProposal {
        key: "selection.strategy",
        value: "\"least-used\"".to_owned(),
        from: "it chooses the account with the lowest use".to_owned(),
    };
    (vec![proposal], Vec::new())
}

/// The key whose value names an account.
pub const PREFERRED: &str = "selection.preferred_account";
pub(super) fn antigravity_auth(top: &JsonFields<'_>) -> (Vec<SettingProposal>, Vec<(String, String)>) {
    let mut proposals = translate(top, ANTIGRAVITY_AUTH);
    // refreshing ahead was disabled
    if top.value("proactive_token_refresh") == Some(&Value::Bool(false)) {
        replace(&mut proposals, "refresh.ahead", "\"0s\"", "proactive_token_refresh");
    }
    (proposals, unmatched(top, ANTIGRAVITY_AUTH_ONLY))
}
pub(super) fn antigravity_manager(top: &JsonFields<'_>) -> (Vec<SettingProposal>, Vec<(String, String)>) {
    let mut proposals = translate(top, ANTIGRAVITY_MANAGER);
    let mut without = unmatched(top, ANTIGRAVITY_MANAGER_ONLY);
    let mut propose = |key, value: &str, from: &str| {
        proposals.push(SettingProposal { key, value: value.to_owned(), from: from.to_owned() });
    };
    propose("selection.tier_first", "true", "it always prefers higher tiers");
    let mode = top.object("proxy").and_then(|proxy| proxy.object("scheduling")).and_then(|fields| fields.value("mode"));
    if mode.and_then(word).as_deref() == Some("\"performance-first\"") {
        propose("selection.strategy", "\"round-robin\"", "proxy.scheduling.mode");
    }
    if let Some(upstream) = top.object("proxy").and_then(|proxy| proxy.object("upstream_proxy"))
        && upstream.flag("enabled") == Some(true)
        && let Some(url) = upstream.text("url")
    {
        // an address with a password belongs into no message
        if url.contains('@') {
            without.push((
                "proxy.upstream_proxy".to_owned(),
                "its address contains a password; set providers.google.proxy".to_owned(),
            ));
        } else {
            let url = if url.contains("://") { url } else { format!("http://{url}") };
            propose("providers.google.proxy", &format!("{url:?}"), "proxy.upstream_proxy.url");
        }
    }
    if top.value("auto_refresh") == Some(&Value::Bool(false)) {
        replace(&mut proposals, "quota.poll", "\"off\"", "auto_refresh");
    }
    let breaker = top.value("circuit_breaker").and_then(|breaker| breaker.get("enabled"));
    if breaker == Some(&Value::Bool(false)) {
        without.push(("circuit_breaker.enabled".to_owned(), "lessor always avoids limited accounts".to_owned()));
    }
    (proposals, without)
}

fn replace(proposals: &mut Vec<SettingProposal>, key: &'static str, value: &str, from: &str) {
    proposals.retain(|proposal| proposal.key != key);
    proposals.push(SettingProposal { key, value: value.to_owned(), from: from.to_owned() });
}

/// Those of the keys that have a value.
fn unmatched(top: &JsonFields<'_>, keys: &[(&str, &str)]) -> Vec<(String, String)> {
    let is_set = |key: &str| {
        let mut parts = key.split('.');
        let first = parts.next().and_then(|part| top.value(part));
        let value = parts.try_fold(first?, |value, part| value.get(part))?;
        let off = value.get("enabled") == Some(&Value::Bool(false)) || value.as_object().is_some_and(Map::is_empty);
        (!off && !value.is_null()).then_some(())
    };
    let set = keys.iter().filter(|(key, _)| is_set(key).is_some());
    set.map(|(key, why)| ((*key).to_owned(), (*why).to_owned())).collect()
}

fn translate(top: &JsonFields<'_>, table: &[(&str, &'static str, Translate)]) -> Vec<SettingProposal> {
    let mut proposals = Vec::new();
    for (from, key, translate) in table {
        let mut fields = Some(top.clone());
        let mut parts = from.split('.').peekable();
        while let (Some(part), Some(here)) = (parts.next(), fields.take()) {
            if parts.peek().is_some() {
                fields = here.object(part);
            } else if let Some(value) = here.value(part) {
                match translate(value) {
                    Some(value) => proposals.push(SettingProposal { key, value, from: (*from).to_owned() }),
                    None => top.note(format!("`{from}` is left out: its value has no counterpart in lessor")),
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

fn choice(value: &Value, yes: &str, no: &str) -> Option<String> {
    value.as_bool().map(|flag| if flag { yes } else { no }.to_owned())
}

fn number(value: &Value) -> Option<String> {
    value.as_f64().filter(|number| number.abs() <= 1e6).map(|number| number.to_string())
}

fn seconds(value: &Value) -> Option<String> {
    let seconds = value.as_f64().filter(|seconds| (0.0..=1e6).contains(seconds))?;
    // in the largest unit that divides it, for readability
    let units = [(3600.0, "h"), (60.0, "m"), (1.0, "s")];
    let unit = units.into_iter().find(|(size, _)| seconds >= *size && seconds % size == 0.0);
    let text = match unit {
        Some((size, unit)) => format!("{}{unit}", seconds / size),
        None => format!("{}ms", (seconds * 1000.0).round()),
    };
    Some(format!("{text:?}"))
}

/// Seconds, where 0 means no limit.
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

fn steps(value: &Value) -> Option<String> {
    let steps: Option<Vec<String>> = value.as_array()?.iter().take(16).map(seconds).collect();
    steps.filter(|steps| !steps.is_empty()).map(|steps| format!("[{}]", steps.join(", ")))
}

/// Any short text.
fn name(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty() && text.len() <= 256)?;
    (!text.chars().any(|c| c.is_control() || c == '"' || c == '\\')).then(|| format!("\"{text}\""))
}

/// Converts reserved model families to patterns of model names.
fn protection(value: &Value) -> Option<String> {
    if value.get("enabled") != Some(&Value::Bool(true)) {
        return Some("[]".to_owned());
    }
    let below = value.get("threshold_percentage").map_or(Some(10.0), Value::as_f64);
    let below = below.filter(|percent| (0.0..=100.0).contains(percent))? / 100.0;
    let families = ["claude", "gemini-3-pro-high", "gemini-3-flash", "gemini-3.1-flash-image"];
    let given = value.get("monitored_models").and_then(Value::as_array);
    let given: Vec<&str> =
        given.map_or(families.to_vec(), |given| given.iter().filter_map(Value::as_str).take(64).collect());
    let mut patterns: Vec<&str> = given.into_iter().filter_map(pattern).collect();
    patterns.dedup();
    if patterns.is_empty() {
        return Some("[]".to_owned());
    }
    Some(format!("[{{ models = [{}], below = {below} }}]", patterns.join(", ")))
}

/// The pattern of the family that this model belongs to.
fn pattern(model: &str) -> Option<&'static str> {
    let model = model.to_ascii_lowercase();
    let families = [
        ("image", "\"gemini*image*\""),
        ("flash", "\"gemini*flash*\""),
        ("pro", "\"gemini*pro*\""),
        ("claude", "\"claude*\""),
        ("opus", "\"claude*\""),
        ("sonnet", "\"claude*\""),
        ("haiku", "\"claude*\""),
    ];
    families.iter().find(|(part, _)| model.contains(part)).map(|(_, pattern)| *pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Users look for the keys of their tool.
    #[test]
    fn the_documentation_names_each_setting() {
        const PAGE: &str = include_str!("../../../docs/coming-from.md");
        let translated = ANTIGRAVITY_AUTH.iter().chain(ANTIGRAVITY_MANAGER).map(|(from, key, _)| (*from, Some(*key)));
        let others = ANTIGRAVITY_AUTH_ONLY.iter().chain(ANTIGRAVITY_MANAGER_ONLY).map(|(from, _)| (*from, None));
        for (from, key) in translated.chain(others) {
            // a group of keys that is translated as one has one row
            let group = |key: &str| {
                key.rsplit_once('.').map_or_else(|| format!("`{key}`"), |(group, _)| format!("`{group}.…`"))
            };
            let has_row = PAGE.lines().any(|line| {
                let names = |key: &str| line.contains(&format!("`{key}`")) || line.contains(&group(key));
                line.starts_with("| `") && names(from) && key.is_none_or(names)
            });
            assert!(has_row, "docs/coming-from.md has no row for {from}");
        }
    }
}
