//! A sample of every format and version, and what is read from it.

mod hostile;

use serde_json::{Value, json};

use super::*;
use crate::limits::{Reason, Scope};
use crate::pool::{CredentialKind, Tier};

/// 2026-06-01, and a day later.
const NOW: u64 = 1_780_272_000_000;
const LATER: u64 = NOW + 86_400_000;
const BEFORE: u64 = NOW - 86_400_000;

fn content(bytes: &[u8]) -> FileContent<'_> {
    FileContent { bytes, beside: None, written: Some(Wall(NOW - 5)), now: Wall(NOW) }
}

fn read_json(document: &Value) -> (FileFormat, ParsedFile) {
    read(&content(document.to_string().as_bytes())).unwrap()
}
pub(super) fn token(claims: &Value) -> String {
    use base64::Engine as _;
    let body = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("FAKE.{body}.FAKE")
}

fn limit(scope: Scope, key: &str, reason: Reason) -> DiscoveredLimit {
    DiscoveredLimit { scope, key: key.into(), reason, until: Wall(LATER) }
}

#[test]
fn antigravity_auth_in_all_versions() {
    let account = |more: Value| {
        let mut account = json!({ "email": "a@b.c", "refreshToken": "1//FAKE-r", "projectId": "own-project",
            "managedProjectId": "managed-1", "addedAt": BEFORE, "lastUsed": BEFORE + 5 });
        account.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        account
    };
    let pools =
        |keys: &[&str]| keys.iter().map(|key| limit(Scope::Pool, key, Reason::RateLimitExceeded)).collect::<Vec<_>>();
    for (version, more, limits) in [
        (1, json!({ "isRateLimited": true, "rateLimitResetTime": LATER }), pools(&["claude", "gemini-antigravity"])),
        (1, json!({ "isRateLimited": false, "rateLimitResetTime": LATER }), vec![]),
        (1, json!({ "isRateLimited": true, "rateLimitResetTime": BEFORE }), vec![]),
        (2, json!({ "rateLimitResetTimes": { "claude": BEFORE, "gemini": LATER } }), pools(&["gemini-antigravity"])),
        (
            3,
            json!({ "rateLimitResetTimes": { "claude": LATER, "gemini-cli": LATER } }),
            pools(&["claude", "gemini-cli"]),
        ),
        (
            4,
            json!({ "rateLimitResetTimes": { "gemini-antigravity:gemini-3-pro": LATER } }),
            vec![limit(Scope::Model, "gemini-antigravity:gemini-3-pro", Reason::RateLimitExceeded)],
        ),
        (
            4,
            json!({ "cachedQuota": { "claude": { "remainingFraction": 0.25, "resetTime": "2026-06-02T00:00:00Z", "modelCount": 2 },
                "gemini-pro": { "remainingFraction": 1, "resetTime": "2026-05-02T00:00:00Z" } },
                "cachedQuotaUpdatedAt": BEFORE }),
            vec![],
        ),
        (
            4,
            json!({ "coolingDownUntil": LATER, "cooldownReason": "auth-failure" }),
            vec![limit(Scope::Account, "", Reason::AuthFailed)],
        ),
    ] {
        let store = json!({ "version": version, "accounts": [account(more.clone())], "activeIndex": 0 });
        let (format, reading) = read_json(&store);
        assert_eq!((format, &reading.problems), (FileFormat::AntigravityAuth, &vec![]), "{store}");
        let entry = &reading.entries[0];
        assert_eq!(entry.limits, limits, "{store}");
        assert_eq!((entry.email.as_deref(), entry.project_id.as_deref()), (Some("a@b.c"), Some("managed-1")));
        assert_eq!((entry.rotates, entry.as_of, entry.provider.as_str()), (false, Some(Wall(BEFORE + 5)), "google"));
        assert_eq!(entry.credential.refresh.as_ref().unwrap().expose(), "1//FAKE-r");
        let expected = if more["cachedQuota"].is_null() { vec![] } else { vec![("claude", 0.75, Wall(BEFORE))] };
        let usage: Vec<_> = entry.usage.iter().map(|w| (w.name.as_str(), w.utilization, w.as_of)).collect();
        assert_eq!((usage, entry.last_used_at), (expected, Some(Wall(BEFORE + 5))));
        assert_eq!((entry.credential.access.expose(), entry.credential.expires_at), ("", Some(Wall(0))));
    }
    let store = json!({ "version": 4, "accounts": [
        account(json!({ "enabled": false, "verificationRequired": true, "verificationReason": "verify it",
            "verificationUrl": "https://accounts.google.com/x" })),
        { "refreshToken": 7 }, "nonsense", { "email": "no@token" } ] });
    let (_, reading) = read_json(&store);
    assert_eq!(reading.entries.len(), 1);
    assert_eq!(reading.entries[0].verification.as_deref(), Some("verify it: https://accounts.google.com/x"));
    assert!(reading.entries[0].disabled.as_ref().unwrap().contains("verify it"));
    let places: Vec<&str> = reading.problems.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(places, ["accounts[2]", "accounts[1].refreshToken", "accounts[1]", "accounts[3]"]);
    let (_, reading) = read_json(&json!({ "version": 5, "accounts": [account(json!({}))] }));
    assert!(reading.entries.is_empty() && reading.problems[0].message.contains("1 to 4"), "{reading:?}");
}

#[test]
fn anthropic_multi_auth() {
    let (format, reading) = read_json(&json!({ "version": 1, "activeIndex": 1, "accounts": [
        { "refresh": "sk-ant-ort01-FAKE-1", "access": "sk-ant-oat01-FAKE-1", "expires": LATER, "addedAt": 1_700_000_000_001_u64,
          "rateLimitedUntil": LATER, "enabled": false },
        { "refresh": "sk-ant-ort01-FAKE-2", "addedAt": 1_700_000_000_002_u64, "label": "work", "email": "a@b.c" } ] }));
    assert_eq!(format, FileFormat::AnthropicMultiAuth);
    let [first, second] = &reading.entries[..] else { panic!("{reading:?}") };
    assert_eq!((first.item.as_str(), first.rotates), ("added 1700000000001", true));
    assert_eq!(first.credential.expires_at, Some(Wall(LATER)));
    assert_eq!(first.limits, [limit(Scope::Pool, "claude", Reason::RateLimitExceeded)]);
    assert_eq!((first.label.as_deref(), first.disabled.is_some()), (Some("multi-auth 1"), true));
    assert_eq!((second.label.as_deref(), second.email.as_deref()), (Some("work"), Some("a@b.c")));
    assert_eq!((second.credential.expires_at, second.disabled.is_some()), (Some(Wall(0)), false));
}

#[test]
fn claude_code_and_its_owner() {
    let file = json!({ "claudeAiOauth": { "accessToken": "sk-ant-oat01-FAKE", "refreshToken": "sk-ant-ort01-FAKE",
        "expiresAt": LATER, "scopes": ["user:inference"], "subscriptionType": "max",
        "rateLimitTier": "default_claude_max_20x" }, "mcpOAuth": {} });
    let settings = json!({ "oauthAccount": { "emailAddress": "a@b.c", "accountUuid": "uuid-1" } }).to_string();
    let bytes = file.to_string();
    let whole = FileContent { beside: Some(settings.as_bytes()), ..content(bytes.as_bytes()) };
    let (format, reading) = read(&whole).unwrap();
    let entry = &reading.entries[0];
    assert_eq!((format, entry.tier, entry.rotates), (FileFormat::ClaudeCode, Tier::Ultra, true));
    assert_eq!((entry.email.as_deref(), entry.owner.person.as_deref()), (Some("a@b.c"), Some("uuid-1")));
    assert_eq!((entry.credential.expires_at, entry.as_of), (Some(Wall(LATER)), Some(Wall(NOW - 5))));
    assert_eq!(read_json(&json!({ "mcpOAuth": { "x": 1 } })).1.entries.len(), 0);
    let (format, reading) = read_json(&json!({ "numStartups": 3, "primaryApiKey": "sk-ant-api03-FAKE" }));
    assert_eq!((format, reading.entries[0].credential.kind), (FileFormat::ClaudeCodeSettings, CredentialKind::ApiKey));
}

#[test]
fn codex_with_a_key_and_a_login() {
    let owner = token(&json!({ "email": "a@b.c", "https://api.openai.com/auth":
        { "chatgpt_account_id": "acc-claim", "chatgpt_plan_type": "plus" } }));
    let access = token(&json!({ "exp": LATER / 1000 }));
    let (format, reading) = read_json(&json!({ "OPENAI_API_KEY": "sk-FAKE", "auth_mode": "chatgpt", "tokens":
        { "id_token": owner, "access_token": access, "refresh_token": "rt-FAKE", "account_id": null },
        "last_refresh": "2026-05-31T00:00:00Z" }));
    assert_eq!(format, FileFormat::Codex);
    let [key, login] = &reading.entries[..] else { panic!("{reading:?}") };
    assert_eq!(
        (key.credential.kind, key.label.as_deref(), key.rotates),
        (CredentialKind::ApiKey, Some("codex"), false)
    );
    assert_eq!((login.email.as_deref(), login.owner.organization.as_deref()), (Some("a@b.c"), Some("acc-claim")));
    assert_eq!((login.tier, login.rotates, login.credential.expires_at), (Tier::Pro, true, Some(Wall(LATER))));
    assert_eq!(login.as_of, Some(Wall(1_780_185_600_000)));
    let (_, reading) = read_json(&json!({ "OPENAI_API_KEY": null, "tokens": { "account_id": "x" } }));
    assert_eq!((reading.entries.len(), reading.problems[0].place.as_str()), (0, "tokens"));
}

#[test]
fn gemini_cli_and_its_owner() {
    let mut file = json!({ "access_token": "ya29.FAKE", "refresh_token": "1//FAKE", "scope": "s", "token_type": "Bearer",
        "id_token": token(&json!({ "email": "a@b.c", "sub": "1234" })), "expiry_date": LATER });
    let (format, reading) = read_json(&file);
    let entry = &reading.entries[0];
    assert_eq!((format, entry.rotates, entry.credential.expires_at), (FileFormat::GeminiCli, false, Some(Wall(LATER))));
    assert_eq!((entry.email.as_deref(), entry.owner.person.as_deref()), (Some("a@b.c"), Some("1234")));
    file["id_token"] = Value::Null;
    let (bytes, beside) = (file.to_string(), json!({ "active": "d@e.f", "old": [] }).to_string());
    let whole = FileContent { beside: Some(beside.as_bytes()), ..content(bytes.as_bytes()) };
    assert_eq!(read(&whole).unwrap().1.entries[0].email.as_deref(), Some("d@e.f"));
    assert_eq!(read_json(&json!({ "active": null, "old": [] })).0, FileFormat::GeminiCliAccounts);
}

#[test]
fn agy_in_its_shapes() {
    let tokens = json!({ "access_token": "ya29.FAKE", "refresh_token": "1//FAKE", "token_type": "Bearer",
        "expiry": "2026-06-02T00:00:00Z" });
    let id = token(&json!({ "email": "a@b.c", "sub": "1234", "azp": "their-client" }));
    for (document, email) in [
        (json!({ "token": tokens, "auth_method": "consumer", "id_token": id }), Some("a@b.c")),
        (json!({ "token": tokens, "auth_method": "gcp" }), None),
        (tokens.clone(), None),
    ] {
        let (format, reading) = read_json(&document);
        let entry = &reading.entries[0];
        assert_eq!((format, entry.tool.name()), (FileFormat::AntigravityCli, "antigravity-cli"), "{document}");
        assert_eq!((entry.rotates, entry.email.as_deref(), entry.as_of), (false, email, None), "{document}");
        assert_eq!(entry.credential.expires_at, Some(Wall(1_780_358_400_000)), "{document}");
        assert_eq!(entry.credential.client_id.as_deref(), email.map(|_| "their-client"), "{document}");
    }
    // the same words in a file of another tool
    let other = json!({ "type": "antigravity", "auth_method": "x", "token": tokens });
    assert_eq!(read_json(&other).0, FileFormat::CliProxyApi);
    // logged out
    assert!(read_json(&json!({ "token": {}, "auth_method": "consumer" })).1.entries.is_empty());
}

#[test]
fn opencode_in_all_types() {
    let (format, reading) = read_json(&json!({
        "anthropic": { "type": "oauth", "refresh": "sk-ant-ort01-FAKE", "access": "sk-ant-oat01-FAKE", "expires": LATER },
        "google": { "type": "oauth", "refresh": "1//FAKE|own|managed", "access": "ya29.FAKE", "expires": LATER },
        "openai": { "type": "api", "key": "sk-FAKE" },
        "openrouter": { "type": "api", "key": "sk-or-FAKE" },
        "github-copilot": { "type": "oauth", "refresh": "gho_FAKE", "access": "x", "expires": 0 },
        "https://corp.example": { "type": "wellknown", "key": "K", "token": "t" },
        "other": { "type": "api", "key": "sk-FAKE", "baseURL": "https://elsewhere" } }));
    assert_eq!(format, FileFormat::Opencode);
    let seen: Vec<_> = reading.entries.iter().map(|e| (e.provider.as_str(), e.rotates, e.label.as_deref())).collect();
    assert_eq!(
        seen,
        [
            ("anthropic", true, None),
            ("google", false, None),
            ("openai", false, Some("opencode-openai")),
            ("openrouter", false, Some("opencode-openrouter")),
        ]
    );
    let google = &reading.entries[1];
    assert_eq!(google.project_id.as_deref(), Some("managed"));
    assert_eq!(google.credential.refresh.as_ref().unwrap().expose(), "1//FAKE");
    assert_eq!(reading.problems.len(), 3, "{:?}", reading.problems);
}

#[test]
fn antigravity_manager_account_index_and_export() {
    let account = json!({ "id": "5f0c", "email": "a@b.c", "name": "A", "custom_label": "work", "created_at": 1_700_000_000,
        "last_used": BEFORE / 1000, "disabled": true, "disabled_reason": "invalid_grant: revoked",
        "token": { "access_token": "ya29.FAKE", "refresh_token": "1//FAKE", "expires_in": 3599,
            "expiry_timestamp": LATER / 1000, "token_type": "Bearer", "project_id": "p-1" },
        "quota": { "models": [{ "name": "gemini-3-pro-high", "percentage": 40, "reset_time": "2026-06-02T00:00:00Z" }], "last_updated": 1, "subscription_tier": "Google AI Ultra", "is_forbidden": false },
        "live_limited_models": { "claude": { "model": "claude-opus-4", "status": 429, "reason": "QuotaExhausted",
            "until": LATER / 1000 }, "gemini-3-flash": { "model": "gemini-3-flash", "until": LATER / 1000 } },
        "validation_blocked": true, "validation_blocked_reason": "verify", "validation_url": "https://x" });
    let (format, reading) = read_json(&account);
    let entry = &reading.entries[0];
    assert_eq!(
        (format, entry.tier, entry.label.as_deref()),
        (FileFormat::AntigravityManager, Tier::Ultra, Some("work"))
    );
    assert_eq!((entry.project_id.as_deref(), entry.credential.expires_at), (Some("p-1"), Some(Wall(LATER))));
    assert_eq!(
        entry.limits,
        [
            limit(Scope::Pool, "claude", Reason::QuotaExhausted),
            limit(Scope::Model, "gemini-antigravity:gemini-3-flash", Reason::Unknown)
        ]
    );
    assert_eq!(entry.disabled.as_deref(), Some("disabled in Antigravity Manager: invalid_grant: revoked"));
    assert_eq!((entry.usage[0].utilization, entry.usage[0].resets_at), (0.6, Some(Wall(LATER))));
    assert_eq!((entry.verification.as_deref(), entry.login_ended.is_some()), (Some("verify: https://x"), true));
    let index =
        json!({ "version": "2.0", "accounts": [{ "id": "5f0c", "email": "a@b.c" }], "current_account_id": null });
    assert_eq!(read_json(&index).0, FileFormat::AntigravityManagerIndex);
    let (format, reading) = read_json(&json!([{ "email": "a@b.c", "refresh_token": "1//FAKE" }]));
    assert_eq!((format, reading.entries.len()), (FileFormat::AntigravityManagerList, 1));
}

#[test]
fn cliproxyapi_in_all_types() {
    let expired = "2026-06-02T00:00:00Z";
    for (file, (provider, rotates, project)) in [
        (
            json!({ "type": "claude", "access_token": "sk-ant-oat01-FAKE", "refresh_token": "sk-ant-ort01-FAKE",
            "email": "a@b.c", "expired": expired, "disabled": true }),
            ("anthropic", true, None),
        ),
        (
            json!({ "type": "codex", "access_token": "FAKE", "refresh_token": "rt-FAKE", "account_id": "acc",
            "email": "a@b.c", "expired": expired, "id_token": "" }),
            ("openai", true, None),
        ),
        (
            json!({ "type": "gemini", "email": "a@b.c", "project_id": "p-1", "auto": true, "token":
            { "access_token": "ya29.FAKE", "refresh_token": "1//FAKE", "expiry": expired } }),
            ("google", false, Some("p-1")),
        ),
        (
            json!({ "type": "antigravity", "email": "a@b.c", "project_id": "p-1", "access_token": "ya29.FAKE",
            "refresh_token": "1//FAKE", "expired": expired, "timestamp": NOW }),
            ("google", false, Some("p-1")),
        ),
    ] {
        let (format, reading) = read_json(&file);
        assert_eq!((format, &reading.problems), (FileFormat::CliProxyApi, &vec![]), "{file}");
        let entry = &reading.entries[0];
        assert_eq!((entry.provider.as_str(), entry.rotates, entry.project_id.as_deref()), (provider, rotates, project));
        assert_eq!((entry.email.as_deref(), entry.credential.expires_at), (Some("a@b.c"), Some(Wall(LATER))), "{file}");
        assert_eq!(entry.disabled.is_some(), provider == "anthropic");
    }
    let (_, reading) = read_json(&json!({ "type": "qwen", "access_token": "FAKE" }));
    assert!(reading.entries.is_empty() && reading.problems.len() == 1);
}

#[test]
fn environment_variables() {
    let read = |set: &[(&str, &str)]| {
        environment::read(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    };
    let reading = read(&[
        ("ANTHROPIC_API_KEY", "sk-FAKE"),
        ("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-FAKE"),
        ("GEMINI_API_KEY", ""),
    ]);
    let kinds: Vec<_> = reading.entries.iter().map(|entry| (entry.provider.as_str(), entry.credential.kind)).collect();
    assert_eq!(kinds, [("anthropic", CredentialKind::ApiKey), ("anthropic", CredentialKind::Token)]);
    let reading =
        read(&[("OPENAI_API_KEY", "sk-FAKE"), ("OPENAI_BASE_URL", "http://localhost"), ("GOOGLE_API_KEY", "a b")]);
    assert_eq!((reading.entries.len(), reading.problems.len()), (0, 2));
}

#[test]
fn settings_are_translated() {
    let (format, reading) = read_json(&json!({ "$schema": "x", "account_selection_strategy": "round-robin",
        "scheduling_mode": "cache_first", "pid_offset_enabled": true, "max_rate_limit_wait_seconds": 0,
        "max_cache_first_wait_seconds": 90, "soft_quota_threshold_percent": 85, "quota_refresh_interval_minutes": 0,
        "cli_first": true, "quota_fallback": true, "health_score": { "min_usable": 40, "rate_limit_penalty": -5 },
        "token_bucket": { "max_tokens": 30 }, "proactive_token_refresh": false, "quiet_mode": true, "toast_scope": "all",
        "max_backoff_seconds": 60 }));
    assert_eq!(reading.unmatched.len(), 1, "{:?}", reading.unmatched);
    assert!(format.is_config());
    let found: Vec<String> =
        reading.settings.iter().map(|proposal| format!("{} = {}", proposal.key, proposal.value)).collect();
    assert_eq!(
        found,
        [
            "selection.strategy = \"round-robin\"",
            "selection.pid_offset = true",
            "selection.mode = \"cache-first\"",
            "selection.max_cache_wait = \"90s\"",
            "limits.max_rate_limit_wait = \"32d\"",
            "quota.soft_threshold = 0.85",
            "quota.poll = \"off\"",
            "quota.fallback = \"accounts-first\"",
            "quota.primary = \"gemini-cli\"",
            "selection.health.rate_limit = -5",
            "selection.health.min_usable = 40",
            "selection.tokens.max = 30",
            "notify.desktop = false",
            "refresh.ahead = \"0s\"",
        ]
    );
    let (format, reading) = read_json(&json!({ "refresh_interval": 15, "circuit_breaker": { "enabled": true,
        "backoff_steps": [60, 300.5] }, "proxy": { "scheduling": { "mode": "PerformanceFirst", "max_wait_seconds": 60 } } }));
    assert!(format.is_config());
    let found: Vec<&str> = reading.settings.iter().map(|proposal| proposal.value.as_str()).collect();
    let expected = ["\"performance-first\"", "\"1m\"", "[\"1m\", \"300500ms\"]", "\"15m\"", "true", "\"round-robin\""];
    assert_eq!(found, expected);
    let proposed = |settings: Value| {
        let (_, reading) = read_json(&settings);
        let settings = reading.settings.into_iter().map(|proposal| (proposal.key, proposal.value));
        (settings.collect::<Vec<_>>(), reading.unmatched)
    };
    let (found, without) = proposed(json!({ "proxy": { "preferred_account_id": "uuid-1", "custom_mapping": {} },
        "refresh_interval": 15, "auto_refresh": false, "scheduled_warmup": { "enabled": false },
        "quota_protection": { "enabled": true, "monitored_models": ["gemini-3-pro-image", "claude-opus-4", "other"] } }));
    assert_eq!(
        found,
        [
            ("selection.preferred_account", "\"uuid-1\"".to_owned()),
            ("quota.protect", "[{ models = [\"gemini*image*\", \"claude*\"], below = 0.1 }]".to_owned()),
            ("selection.tier_first", "true".to_owned()),
            ("quota.poll", "\"off\"".to_owned()),
        ]
    );
    assert_eq!(without, []);
    let (found, without) = proposed(json!({ "proxy": { "custom_mapping": { "a": "b" } },
        "circuit_breaker": { "enabled": false }, "quota_protection": { "enabled": false } }));
    let tier_first = || ("selection.tier_first", "true".to_owned());
    assert_eq!(found, [("quota.protect", "[]".to_owned()), tier_first()]);
    assert_eq!(without.len(), 2, "{without:?}");
    let upstream = |url: &str| {
        proposed(json!({ "refresh_interval": 15, "proxy": { "upstream_proxy": { "enabled": true, "url": url } } }))
    };
    let proxy = |url: &str| ("providers.google.proxy", format!("{url:?}"));
    assert!(upstream("http://proxy:3128").0.contains(&proxy("http://proxy:3128")));
    assert!(upstream("proxy:3128").0.contains(&proxy("http://proxy:3128")));
    let (found, without) = upstream("http://me:FAKE@proxy:3128");
    assert_eq!((found.len(), without.len()), (2, 1), "a password is not shown: {found:?} {without:?}");
}

#[test]
fn the_rule_of_a_tool_without_settings_is_proposed() {
    let (_, reading) = read_json(&json!({ "version": 1, "activeIndex": 0, "accounts": [{ "refresh": "rt-FAKE" }] }));
    let found: Vec<(&str, &str)> =
        reading.settings.iter().map(|proposal| (proposal.key, proposal.value.as_str())).collect();
    assert_eq!(found, [("selection.strategy", "\"least-used\"")]);
}
