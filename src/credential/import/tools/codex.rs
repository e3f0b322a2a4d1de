//! Codex: `auth.json`. Codex rewrites it in place, so it may be read half written.

use super::super::account::{DiscoveredAccount, key};
use super::super::{fields::JsonFields, tool::Tool};
use crate::credential::{Secret, claims::LoginClaims};

pub(super) fn read(top: &JsonFields<'_>) -> Vec<DiscoveredAccount> {
    let mut entries = Vec::new();
    if let Some(secret) = top.secret("OPENAI_API_KEY") {
        let mut entry = DiscoveredAccount::new(Tool::Codex, "OPENAI_API_KEY".to_owned(), "openai", key(secret));
        entry.label = Some("codex".to_owned());
        entries.push(entry);
    }
    if let Some(tokens) = top.object("tokens") {
        let login = of_tokens(Tool::Codex, "tokens", &tokens);
        entries.extend(login.map(|entry| DiscoveredAccount { as_of: top.instant("last_refresh"), ..entry }));
    }
    if ["agent_identity", "personal_access_token", "bedrock_api_key"].iter().any(|name| top.value(name).is_some()) {
        top.pass_over("also contains a credential that lessor cannot use: of an agent, or of Bedrock");
    }
    entries
}

/// A login in the format of Codex, which other tools use as well.
pub(super) fn of_tokens(tool: Tool, item: &str, tokens: &JsonFields<'_>) -> Option<DiscoveredAccount> {
    let mut credential = tokens.login("access_token", "refresh_token", None)?;
    let identity = tokens.secret("id_token");
    let claims = LoginClaims::of(credential.access.expose(), identity.as_ref().map(Secret::expose));
    credential.expires_at = credential.expires_at.or(claims.expires_at);
    let mut entry = DiscoveredAccount::new(tool, item.to_owned(), "openai", credential);
    entry.rotates = entry.credential.refresh.is_some();
    entry.owner.organization = tokens.text("account_id");
    entry.learn(claims);
    Some(entry)
}
