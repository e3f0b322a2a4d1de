//! CLIProxyAPI: its auth directory contains one file per login, with a `type`.

use super::super::{account::DiscoveredAccount, fields::JsonFields, tool::Tool};
use super::{codex::of_tokens, gemini_cli};
use crate::provider::plan_tier;

pub(super) fn read(top: &JsonFields<'_>) -> Option<DiscoveredAccount> {
    let kind = top.text("type").unwrap_or_default();
    let mut entry = match kind.as_str() {
        "claude" | "codex" => vendor(&kind, top)?,
        "gemini" | "gemini-cli" | "antigravity" => google(&kind, top)?,
        _ => {
            top.pass_over("is left out: logins of this type are not supported");
            return None;
        }
    };
    entry.email = top.text("email").or(entry.email);
    entry.label = top.text("label");
    entry.as_of = top.instant("last_refresh").or_else(|| top.instant("timestamp"));
    entry.priority = top.value("priority").and_then(serde_json::Value::as_i64).and_then(|n| i32::try_from(n).ok());
    entry.disabled = (top.flag("disabled") == Some(true)).then(|| "disabled in CLIProxyAPI".to_owned());
    Some(entry)
}

fn vendor(kind: &str, top: &JsonFields<'_>) -> Option<DiscoveredAccount> {
    let mut entry = if kind == "codex" {
        of_tokens(Tool::CliProxyApi, kind, top)?
    } else {
        let credential = top.login("access_token", "refresh_token", None)?;
        DiscoveredAccount::new(Tool::CliProxyApi, kind.to_owned(), "anthropic", credential)
    };
    if let Some(ends) = top.instant("expired").filter(|_| !entry.credential.access.expose().is_empty()) {
        entry.credential.expires_at = Some(ends);
    }
    if let Some(account) = top.object("account").filter(|_| kind == "claude") {
        entry.owner.person = account.text("uuid");
    }
    if let Some(organization) = top.object("organization").filter(|_| kind == "claude") {
        entry.owner.organization = organization.text("uuid");
        entry.owner.organization_name = organization.text("name");
    }
    entry.tier = top.text("plan_type").map_or(entry.tier, |plan| plan_tier("openai", &plan));
    entry.rotates = entry.credential.refresh.is_some();
    Some(entry)
}

fn google(kind: &str, top: &JsonFields<'_>) -> Option<DiscoveredAccount> {
    // one variant keeps its tokens in an object, the other at the top level
    let token = top.object("token").unwrap_or_else(|| top.clone());
    let ends = ["expiry", "expired", "expiry_date"].into_iter().find_map(|name| token.instant(name));
    let credential = token.login("access_token", "refresh_token", ends)?;
    let mut entry = DiscoveredAccount::new(Tool::CliProxyApi, kind.to_owned(), "google", credential);
    entry.credential.client_id = token.text("client_id");
    entry.learn(gemini_cli::identity_claims(&token));
    entry.project_id = top.text("project_id").filter(|project| !project.contains(','));
    entry.tier = top.text("tier").map_or(entry.tier, |name| plan_tier("google", &name));
    Some(entry)
}
