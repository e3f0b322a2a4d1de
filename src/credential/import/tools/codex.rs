//! Codex: `auth.json`. Codex rewrites it in place, so it may be read half written.

use serde_json::Value;

use super::super::account::{DiscoveredAccount, key};
use super::super::fields::{JsonFields, instant};
use super::super::tool::Tool;
use crate::{credential::claims::claims, pool::Tier, provider::plan_tier};

/// The claim that contains OpenAI's fields.
const CLAIM: &str = "https://api.openai.com/auth";

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
    let about_access = claims(credential.access.expose()).unwrap_or_default();
    let about_owner = tokens.secret("id_token").and_then(|token| claims(token.expose())).unwrap_or_default();
    credential.expires_at = credential.expires_at.or_else(|| about_access.get("exp").and_then(instant));
    let claim = |name: &str| {
        let own = [&about_owner, &about_access].into_iter().find_map(|claims| claims.get(CLAIM)?.get(name)?.as_str());
        own.map(str::to_owned)
    };
    let mut entry = DiscoveredAccount::new(tool, item.to_owned(), "openai", credential);
    entry.rotates = entry.credential.refresh.is_some();
    entry.email = about_owner.get("email").and_then(Value::as_str).filter(|email| is_short(email)).map(str::to_owned);
    entry.vendor_id = tokens.text("account_id").or_else(|| claim("chatgpt_account_id")).filter(|id| is_short(id));
    entry.tier = claim("chatgpt_plan_type").map_or(Tier::Unknown, |plan| plan_tier("openai", &plan));
    Some(entry)
}

pub(super) fn is_short(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && !text.chars().any(char::is_control)
}
