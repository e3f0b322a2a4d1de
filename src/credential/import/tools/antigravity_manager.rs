//! Antigravity Manager: one file per account, and its export.

use serde_json::Value;

use super::super::account::{DiscoveredAccount, DiscoveredLimit, login};
use super::super::fields::{JsonFields, ProblemList, objects};
use super::super::tool::Tool;
use super::{antigravity_auth::window, gemini_cli};
use crate::limits::{Reason, Scope};
use crate::pool::{Tier, Wall, Window};
use crate::provider::plan_tier;

/// The maximum number of models per account whose quota is kept.
const MOST_WINDOWS: usize = 64;

pub(super) fn account(top: &JsonFields<'_>, now: Wall) -> Option<DiscoveredAccount> {
    let token = top.object("token")?;
    let credential = token.login("access_token", "refresh_token", token.instant("expiry_timestamp"))?;
    let item = top.text("id").unwrap_or_default();
    let mut entry = DiscoveredAccount::new(Tool::AntigravityManager, item, "google", credential);
    entry.email = top.text("email").or_else(|| token.text("email"));
    entry.learn(gemini_cli::identity_claims(&token));
    entry.label = top.text("custom_label");
    entry.project_id = token.text("project_id");
    let quota = top.object("quota");
    let plan = quota.as_ref().and_then(|quota| quota.text("subscription_tier"));
    entry.tier = plan.map_or(Tier::Unknown, |plan| plan_tier("google", &plan));
    entry.as_of = top.instant("last_used");
    entry.last_used_at = top.instant("last_used");
    entry.usage = quota.as_ref().map(|quota| usage(quota, now)).unwrap_or_default();
    entry.limits = limits(top);
    entry.verification = verification(top, now);
    let disabled = top.flag("disabled") == Some(true);
    let because = |name: &str| top.prose(name).map(|why| format!(": {why}")).unwrap_or_default();
    if disabled {
        let why = because("disabled_reason");
        // set when a refresh was finally rejected
        entry.login_ended = why.contains("invalid_grant").then(|| "its login was revoked (invalid_grant)".to_owned());
        entry.disabled = Some(format!("disabled in Antigravity Manager{why}"));
    } else if top.flag("proxy_disabled") == Some(true) {
        entry.disabled = Some(format!("disabled in Antigravity Manager{}", because("proxy_disabled_reason")));
    } else if quota.as_ref().is_some_and(|quota| quota.flag("is_forbidden") == Some(true)) {
        let why = quota.as_ref().and_then(|quota| quota.prose("forbidden_reason"));
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        entry.disabled = Some(format!("forbidden by Google according to Antigravity Manager{why}"));
    }
    Some(entry)
}

/// Its quota readings by model, as whole percents that remain.
fn usage(quota: &JsonFields<'_>, now: Wall) -> Vec<Window> {
    let as_of = quota.instant("last_updated").unwrap_or(now);
    let window = |model: &JsonFields<'_>| {
        let name = model.text("name")?;
        Some(window(&name, model.number("percentage")? / 100.0, model.instant("reset_time"), as_of))
    };
    quota.objects("models").iter().filter_map(window).take(MOST_WINDOWS).collect()
}

/// Its export: email addresses and refresh tokens.
pub(super) fn list(document: &Value, problems: &ProblemList) -> Vec<DiscoveredAccount> {
    let Value::Array(list) = document else { return Vec::new() };
    let read = |account: &JsonFields<'_>| {
        let credential = login(None, account.secret("refresh_token"), None)?;
        let mut entry =
            DiscoveredAccount::new(Tool::AntigravityManager, account.place().to_owned(), "google", credential);
        entry.email = account.text("email");
        Some(entry)
    };
    objects(list, "", problems).iter().filter_map(read).collect()
}

/// A block with a time ends at that time; one without lasts until a request succeeds.
fn verification(top: &JsonFields<'_>, now: Wall) -> Option<String> {
    let until = top.instant("validation_blocked_until");
    if top.flag("validation_blocked") != Some(true) || until.is_some_and(|until| until <= now) {
        return None;
    }
    let why = top.prose("validation_blocked_reason");
    let why = why.unwrap_or_else(|| "Google requires this account to be verified".to_owned());
    let link = top.link("validation_url").or_else(|| top.link("validation_blocked_url"));
    Some(match link {
        Some(link) if !why.contains(&link) => format!("{why}: {link}"),
        _ => why,
    })
}

/// It records limits by family. Claude is one quota; Gemini's limits are kept by model.
fn limits(top: &JsonFields<'_>) -> Vec<DiscoveredLimit> {
    let Some(limited) = top.object("live_limited_models") else { return Vec::new() };
    let mut limits = Vec::new();
    for family in limited.names().take(super::super::MOST_ENTRIES) {
        let Some(limit) = limited.object(family) else { continue };
        let Some(until) = limit.instant("until") else { continue };
        let model = limit.text("model").unwrap_or_else(|| family.to_owned());
        let (scope, key) = if family == "claude" || model.contains("claude") {
            (Scope::Pool, "claude".to_owned())
        } else {
            (Scope::Model, format!("gemini-antigravity:{model}"))
        };
        limits.push(DiscoveredLimit { scope, key, reason: reason(&limit.text("reason").unwrap_or_default()), until });
    }
    limits
}

fn reason(name: &str) -> Reason {
    let plain: String = name.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
    match plain.as_str() {
        "quotaexhausted" => Reason::QuotaExhausted,
        "ratelimitexceeded" => Reason::RateLimitExceeded,
        "modelcapacityexhausted" => Reason::ModelCapacityExhausted,
        "servererror" => Reason::ServerError,
        _ => Reason::Unknown,
    }
}
