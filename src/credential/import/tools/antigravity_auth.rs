//! opencode-antigravity-auth: `antigravity-accounts.json`, versions 1 to 4.

use super::super::account::{DiscoveredAccount, DiscoveredLimit, login};
use super::super::fields::{JsonFields, instant};
use super::super::tool::Tool;
use crate::limits::{Reason, Scope};
use crate::pool::{Wall, Window};
const VERSIONS: std::ops::RangeInclusive<u64> = 1..=4;
/// The plugin's quota names, which are the same as lessor's.
const KEYS: [&str; 3] = ["claude", "gemini-antigravity", "gemini-cli"];

pub(super) fn read(top: &JsonFields<'_>, now: Wall) -> Vec<DiscoveredAccount> {
    let version = top.value("version").and_then(serde_json::Value::as_u64);
    let Some(version) = version.filter(|version| VERSIONS.contains(version)) else {
        top.note("this version of the file is not supported; lessor reads versions 1 to 4");
        return Vec::new();
    };
    top.objects("accounts").iter().filter_map(|account| entry(account, version, now)).collect()
}

fn entry(account: &JsonFields<'_>, version: u64, now: Wall) -> Option<DiscoveredAccount> {
    let Some(refresh) = account.secret("refreshToken") else { return account.leave_out("it has no refresh token") };
    let credential = login(None, Some(refresh), None)?;
    let mut entry = DiscoveredAccount::new(Tool::AntigravityAuth, account.place().to_owned(), "google", credential);
    entry.email = account.text("email");
    entry.project_id = account.text("managedProjectId").or_else(|| account.text("projectId"));
    entry.limits = limits(account, version);
    entry.usage = usage(account, now);
    entry.last_used_at = account.instant("lastUsed");
    entry.as_of = [account.instant("lastUsed"), account.instant("addedAt")].into_iter().flatten().max();
    if let Some(until) = account.instant("coolingDownUntil").filter(|until| *until > now) {
        entry.limits.push(cooldown(account, until));
    }
    if account.flag("verificationRequired") == Some(true) {
        let why = account.prose("verificationReason").or_else(|| account.prose("verificationRequiredReason"));
        let why = why.unwrap_or_else(|| "Google requires this account to be verified".to_owned());
        entry.verification = Some(match account.link("verificationUrl") {
            Some(link) => format!("{why}: {link}"),
            None => why,
        });
    }
    if account.flag("enabled") == Some(false) {
        let why = entry.verification.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        entry.disabled = Some(format!("disabled in opencode-antigravity-auth{why}"));
    }
    Some(entry)
}

fn limits(account: &JsonFields<'_>, version: u64) -> Vec<DiscoveredLimit> {
    if version == 1 {
        // one time for all quotas, valid while the flag is set
        let limited = account.flag("isRateLimited") == Some(true);
        let until = account.instant("rateLimitResetTime").filter(|_| limited);
        return until
            .map(|until| ["claude", "gemini-antigravity"].map(|key| limit(key, until)))
            .into_iter()
            .flatten()
            .collect();
    }
    let Some(times) = account.object("rateLimitResetTimes") else { return Vec::new() };
    let mut limits = Vec::new();
    for key in times.names() {
        let Some(until) = times.value(key).and_then(instant) else { continue };
        // before version 3 Gemini had one quota
        let name = if key == "gemini" { "gemini-antigravity" } else { key };
        let pool = name.split(':').next().unwrap_or_default();
        if KEYS.contains(&pool) && name.len() <= 200 && !name.chars().any(char::is_control) {
            limits.push(limit(name, until));
        } else {
            times.pass_over("contains a limit of an unknown quota; it is left out");
        }
    }
    limits
}

/// The plugin's quota readings, by group of models.
fn usage(account: &JsonFields<'_>, now: Wall) -> Vec<Window> {
    let Some(groups) = account.object("cachedQuota") else { return Vec::new() };
    let as_of = account.instant("cachedQuotaUpdatedAt").unwrap_or(now);
    let window = |name: &&str| {
        let group = groups.object(name)?;
        let left = group.number("remainingFraction")?;
        Some(window(name, left, group.instant("resetTime"), as_of))
    };
    ["claude", "gemini-pro", "gemini-flash"].iter().filter_map(window).collect()
}

/// A window with this remaining fraction. Gemini's groups are parts of one quota: they are shown, but none stands for
/// the others.
pub(super) fn window(name: &str, left: f64, resets_at: Option<Wall>, as_of: Wall) -> Window {
    let key = if name.contains("claude") { "claude".to_owned() } else { format!("gemini-antigravity:{name}") };
    Window { name: name.to_owned(), utilization: (1.0 - left).clamp(0.0, 1.0), resets_at, as_of, key }
}

fn limit(key: &str, until: Wall) -> DiscoveredLimit {
    let scope = if key.contains(':') { Scope::Model } else { Scope::Pool };
    DiscoveredLimit { scope, key: key.to_owned(), reason: Reason::RateLimitExceeded, until }
}

fn cooldown(account: &JsonFields<'_>, until: Wall) -> DiscoveredLimit {
    let reason = match account.text("cooldownReason").as_deref() {
        Some("auth-failure") => Reason::AuthFailed,
        Some("validation-required") => Reason::VerificationRequired,
        Some("project-error") => Reason::Forbidden,
        Some("network-error") => Reason::ServerError,
        _ => Reason::Unknown,
    };
    DiscoveredLimit { scope: Scope::Account, key: String::new(), reason, until }
}
