//! Claude Code: `.credentials.json`, or the same document in the keychain; `.claude.json` names the owner.

use super::super::account::{DiscoveredAccount, key};
use super::super::fields::JsonFields;
#[cfg(any(target_os = "macos", all(test, unix)))]
use super::super::fields::is_secret;
use super::super::tool::Tool;
use crate::credential::Secret;
use crate::pool::{Tier, Wall};

pub(super) fn credentials(
    top: &JsonFields<'_>,
    settings: Option<&JsonFields<'_>>,
    now: Wall,
) -> Vec<DiscoveredAccount> {
    // without a login the file may still contain other data
    let Some(oauth) = top.object("claudeAiOauth") else { return Vec::new() };
    let login = oauth.login("accessToken", "refreshToken", oauth.instant("expiresAt"));
    let Some(credential) = login else { return Vec::new() };
    let mut entry = DiscoveredAccount::new(Tool::ClaudeCode, "claudeAiOauth".to_owned(), "anthropic", credential);
    entry.rotates = entry.credential.refresh.is_some();
    entry.tier = tier(oauth.text("subscriptionType").as_deref(), oauth.text("rateLimitTier").as_deref());
    let over = |name: &str| oauth.instant(name).is_some_and(|ends| ends <= now);
    if over("expiresAt") && over("refreshTokenExpiresAt") {
        entry.login_ended = Some("its login has ended: its refresh token has expired".to_owned());
    }
    if let Some(owner) = settings.and_then(|settings| settings.object("oauthAccount")) {
        entry.email = owner.text("emailAddress");
        entry.owner.person = owner.text("accountUuid");
        entry.owner.organization = owner.text("organizationUuid");
        entry.owner.organization_name = owner.text("organizationName");
    }
    vec![entry]
}

/// `.claude.json`: an API key that Claude Code created.
pub(super) fn settings(top: &JsonFields<'_>) -> Vec<DiscoveredAccount> {
    top.secret("primaryApiKey").map(own_key).into_iter().collect()
}

/// The API key in the macOS keychain: the key only.
#[cfg(any(target_os = "macos", all(test, unix)))]
pub(in crate::credential::import) fn managed_key(text: &[u8]) -> Option<DiscoveredAccount> {
    let text = str::from_utf8(text).ok().filter(|text| is_secret(text))?;
    Some(own_key(Secret::new(text.to_owned())))
}

fn own_key(secret: Secret) -> DiscoveredAccount {
    let mut entry = DiscoveredAccount::new(Tool::ClaudeCode, "primaryApiKey".to_owned(), "anthropic", key(secret));
    entry.label = Some("claude-code".to_owned());
    entry
}

fn tier(subscription: Option<&str>, limits: Option<&str>) -> Tier {
    let lower = |text: Option<&str>| text.map(str::to_ascii_lowercase);
    let (subscription, limits) = (lower(subscription), lower(limits));
    match (subscription.as_deref(), limits.as_deref()) {
        (Some("max"), _) => Tier::Ultra,
        (_, Some(limits)) if limits.contains("max") => Tier::Ultra,
        (Some("pro" | "team" | "enterprise"), _) => Tier::Pro,
        (Some("free"), _) => Tier::Free,
        _ => Tier::Unknown,
    }
}
