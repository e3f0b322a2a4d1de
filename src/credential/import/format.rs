//! Recognising a file's format by its content.

use serde_json::{Map, Value};

use super::Tool;

/// A file format.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileFormat {
    /// `antigravity-oauth-token`
    AntigravityCli,
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
    /// opencode's `opencode.db`
    OpencodeDatabase,
    /// `accounts/<id>.json`
    AntigravityManager,
    /// `accounts.json`, an index that only repeats the account files.
    AntigravityManagerIndex,
    /// The export of Antigravity Manager: a list of email addresses and refresh tokens.
    AntigravityManagerList,
    /// `gui_config.json`
    AntigravityManagerConfig,
    /// A file in the auth directory of CLIProxyAPI.
    CliProxyApi,
    /// lessor's own export.
    Lessor,
    /// An empty object or list, as a tool leaves behind after logging out.
    Empty,
}

impl FileFormat {
    /// The tool that writes this format, if known.
    #[must_use]
    pub fn tool(self) -> Option<Tool> {
        let tool = match self {
            Self::AntigravityCli => Tool::AntigravityCli,
            Self::AntigravityAuth | Self::AntigravityAuthConfig => Tool::AntigravityAuth,
            Self::AnthropicMultiAuth => Tool::AnthropicMultiAuth,
            Self::ClaudeCode | Self::ClaudeCodeSettings => Tool::ClaudeCode,
            Self::Codex => Tool::Codex,
            Self::GeminiCli | Self::GeminiCliAccounts => Tool::GeminiCli,
            Self::Opencode | Self::OpencodeDatabase => Tool::Opencode,
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

    /// Whether the file contains settings instead of accounts.
    #[must_use]
    pub fn is_config(self) -> bool {
        matches!(self, Self::AntigravityAuthConfig | Self::AntigravityManagerConfig)
    }
}

/// Keys that occur in the settings of opencode-antigravity-auth only.
const ANTIGRAVITY_KEYS: &str = "account_selection_strategy pid_offset_enabled switch_on_first_rate_limit scheduling_mode \
    max_cache_first_wait_seconds max_rate_limit_wait_seconds soft_quota_threshold_percent \
    quota_refresh_interval_minutes health_score token_bucket proactive_token_refresh quota_fallback cli_first \
    failure_ttl_seconds default_retry_after_seconds max_backoff_seconds request_jitter_max_ms \
    soft_quota_cache_ttl_minutes toast_scope keep_thinking session_recovery auto_resume";

/// Recognises the format of a document.
#[must_use]
pub fn recognise(document: &Value) -> Option<FileFormat> {
    match document {
        Value::Object(map) if map.is_empty() => Some(FileFormat::Empty),
        Value::Array(list) if list.is_empty() => Some(FileFormat::Empty),
        Value::Object(map) => of_object(map),
        Value::Array(list) => {
            let all = |value: &Value| value.get("refresh_token").is_some_and(Value::is_string);
            list.iter().all(all).then_some(FileFormat::AntigravityManagerList)
        }
        _ => None,
    }
}

fn of_object(map: &Map<String, Value>) -> Option<FileFormat> {
    let has = |name: &str| map.contains_key(name);
    let text = |name: &str| map.get(name).is_some_and(Value::is_string);
    let object = |name: &str| map.get(name).is_some_and(Value::is_object);
    let accounts = map.get("accounts").and_then(Value::as_array);
    let settings = || ["circuit_breaker", "quota_protection", "refresh_interval"].into_iter().any(has);
    let is_login = |value: &Value| {
        let kind = value.get("type").and_then(Value::as_str);
        kind.is_some_and(|kind| ["oauth", "api", "wellknown"].contains(&kind))
    };
    let format = match () {
        () if has("lessor_export") => FileFormat::Lessor,
        () if has("claudeAiOauth") || has("mcpOAuth") || has("trustedDeviceToken") => FileFormat::ClaudeCode,
        () if has("oauthAccount") || has("primaryApiKey") || has("numStartups") => FileFormat::ClaudeCodeSettings,
        () if object("tokens") || has("OPENAI_API_KEY") || has("auth_mode") => FileFormat::Codex,
        () if accounts.is_some() => return of_list(map, accounts?),
        () if object("token") && text("id") => FileFormat::AntigravityManager,
        // a second file of the same shape has a `type`
        () if object("token") && text("auth_method") && !text("type") => FileFormat::AntigravityCli,
        () if text("access_token") && text("expiry") && !text("type") => FileFormat::AntigravityCli,
        () if text("type") && (has("access_token") || has("refresh_token") || object("token")) => {
            FileFormat::CliProxyApi
        }
        () if text("refresh_token") || (text("access_token") && has("expiry_date")) => FileFormat::GeminiCli,
        () if has("active") && map.get("old").is_some_and(Value::is_array) => FileFormat::GeminiCliAccounts,
        () if ANTIGRAVITY_KEYS.split(' ').any(has) => FileFormat::AntigravityAuthConfig,
        () if object("proxy") && settings() => FileFormat::AntigravityManagerConfig,
        // an invalid entry among valid ones is a damaged entry, not another format
        () if map.values().any(is_login) => FileFormat::Opencode,
        () => return None,
    };
    Some(format)
}

fn of_list(map: &Map<String, Value>, accounts: &[Value]) -> Option<FileFormat> {
    let any = |name: &str| accounts.iter().any(|account| account.get(name).is_some());
    if any("refreshToken") {
        return Some(FileFormat::AntigravityAuth);
    }
    if any("refresh") {
        return Some(FileFormat::AnthropicMultiAuth);
    }
    if map.contains_key("current_account_id") || map.get("version").is_some_and(Value::is_string) {
        return Some(FileFormat::AntigravityManagerIndex);
    }
    // an empty list of either tool: assume the one with several versions
    map.contains_key("activeIndex").then_some(FileFormat::AntigravityAuth)
}
