//! Which tool a document is of, told by its content.

use serde_json::{Map, Value};

use super::Tool;

/// A kind of file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    /// `antigravity-accounts.json`
    AntigravityAuth,
    /// `antigravity.json`
    AntigravityAuthConfig,
    /// `anthropic-accounts.json`
    AnthropicMultiAuth,
    /// `.credentials.json`
    ClaudeCode,
    /// `.claude.json`
    ClaudeCodeSettings,
    /// Codex's `auth.json`
    Codex,
    /// `oauth_creds.json`
    GeminiCli,
    /// `google_accounts.json`
    GeminiCliAccounts,
    /// opencode's `auth.json`
    Opencode,
    /// `accounts/<id>.json`
    AntigravityManager,
    /// `accounts.json`, which only repeats what the files of the accounts say.
    AntigravityManagerIndex,
    /// Its export: a list of addresses and refresh tokens.
    AntigravityManagerList,
    /// `gui_config.json`
    AntigravityManagerConfig,
    /// A file of its auth directory.
    CliProxyApi,
    /// lessor's own export.
    Lessor,
    /// An object or a list with nothing in it, as a tool leaves behind that has logged out.
    Empty,
}

impl Format {
    /// Whose files are like this, where that can be told.
    #[must_use]
    pub fn tool(self) -> Option<Tool> {
        let tool = match self {
            Self::AntigravityAuth | Self::AntigravityAuthConfig => Tool::AntigravityAuth,
            Self::AnthropicMultiAuth => Tool::AnthropicMultiAuth,
            Self::ClaudeCode | Self::ClaudeCodeSettings => Tool::ClaudeCode,
            Self::Codex => Tool::Codex,
            Self::GeminiCli | Self::GeminiCliAccounts => Tool::GeminiCli,
            Self::Opencode => Tool::Opencode,
            Self::AntigravityManager
            | Self::AntigravityManagerIndex
            | Self::AntigravityManagerList
            | Self::AntigravityManagerConfig => Tool::AntigravityManager,
            Self::CliProxyApi => Tool::CliProxyApi,
            Self::Lessor => Tool::Lessor,
            Self::Empty => return None,
        };
        Some(tool)
    }

    /// Whether it holds settings rather than accounts.
    #[must_use]
    pub fn is_config(self) -> bool {
        matches!(self, Self::AntigravityAuthConfig | Self::AntigravityManagerConfig)
    }
}

/// Keys that only the settings of opencode-antigravity-auth have.
const ANTIGRAVITY_KEYS: [&str; 22] = [
    "account_selection_strategy",
    "pid_offset_enabled",
    "switch_on_first_rate_limit",
    "scheduling_mode",
    "max_cache_first_wait_seconds",
    "max_rate_limit_wait_seconds",
    "soft_quota_threshold_percent",
    "quota_refresh_interval_minutes",
    "health_score",
    "token_bucket",
    "proactive_token_refresh",
    "quota_fallback",
    "cli_first",
    "failure_ttl_seconds",
    "default_retry_after_seconds",
    "max_backoff_seconds",
    "request_jitter_max_ms",
    "soft_quota_cache_ttl_minutes",
    "toast_scope",
    "keep_thinking",
    "session_recovery",
    "auto_resume",
];

/// What kind of file this is the content of.
#[must_use]
pub fn recognise(document: &Value) -> Option<Format> {
    match document {
        Value::Object(map) if map.is_empty() => Some(Format::Empty),
        Value::Array(list) if list.is_empty() => Some(Format::Empty),
        Value::Object(map) => of_object(map),
        Value::Array(list) => {
            let all = |value: &Value| value.get("refresh_token").is_some_and(Value::is_string);
            list.iter().all(all).then_some(Format::AntigravityManagerList)
        }
        _ => None,
    }
}

fn of_object(map: &Map<String, Value>) -> Option<Format> {
    let has = |name: &str| map.contains_key(name);
    let text = |name: &str| map.get(name).is_some_and(Value::is_string);
    let object = |name: &str| map.get(name).is_some_and(Value::is_object);
    if has("lessor_export") {
        return Some(Format::Lessor);
    }
    if has("claudeAiOauth") || has("mcpOAuth") || has("trustedDeviceToken") {
        return Some(Format::ClaudeCode);
    }
    if has("oauthAccount") || has("primaryApiKey") || has("numStartups") {
        return Some(Format::ClaudeCodeSettings);
    }
    if object("tokens") || has("OPENAI_API_KEY") || has("auth_mode") {
        return Some(Format::Codex);
    }
    if let Some(Value::Array(accounts)) = map.get("accounts") {
        return of_list(map, accounts);
    }
    if object("token") && text("id") {
        return Some(Format::AntigravityManager);
    }
    if text("type") && (has("access_token") || has("refresh_token") || object("token")) {
        return Some(Format::CliProxyApi);
    }
    if text("refresh_token") || (text("access_token") && has("expiry_date")) {
        return Some(Format::GeminiCli);
    }
    if has("active") && map.get("old").is_some_and(Value::is_array) {
        return Some(Format::GeminiCliAccounts);
    }
    if ANTIGRAVITY_KEYS.iter().any(|name| has(name)) {
        return Some(Format::AntigravityAuthConfig);
    }
    if object("proxy") && ["circuit_breaker", "quota_protection", "refresh_interval"].iter().any(|name| has(name)) {
        return Some(Format::AntigravityManagerConfig);
    }
    let is_login = |value: &Value| {
        let kind = value.get("type").and_then(Value::as_str);
        kind.is_some_and(|kind| ["oauth", "api", "wellknown"].contains(&kind))
    };
    // one that does not fit among others that do is a broken entry, not another kind of file
    map.values().any(is_login).then_some(Format::Opencode)
}

fn of_list(map: &Map<String, Value>, accounts: &[Value]) -> Option<Format> {
    let any = |name: &str| accounts.iter().any(|account| account.get(name).is_some());
    if any("refreshToken") {
        return Some(Format::AntigravityAuth);
    }
    if any("refresh") {
        return Some(Format::AnthropicMultiAuth);
    }
    if map.contains_key("current_account_id") || map.get("version").is_some_and(Value::is_string) {
        return Some(Format::AntigravityManagerIndex);
    }
    // an empty list of either: nothing is lost by taking it for the one whose versions are many
    map.contains_key("activeIndex").then_some(Format::AntigravityAuth)
}
