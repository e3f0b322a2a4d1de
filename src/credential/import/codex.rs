//! Codex: `auth.json`. It is written in place, so it may be met half written.

use serde_json::Value;

use crate::pool::Tier;

use super::entry::{Entry, key, login};
use super::fields::{Fields, instant};
use super::jwt;
use super::tool::Tool;

/// The claim that holds what is OpenAI's own.
const CLAIM: &str = "https://api.openai.com/auth";

pub(super) fn read(top: &Fields<'_>) -> Vec<Entry> {
    let mut entries = Vec::new();
    if let Some(secret) = top.secret("OPENAI_API_KEY") {
        let mut entry = Entry::new(Tool::Codex, "OPENAI_API_KEY".to_owned(), "openai", key(secret));
        entry.label = Some("codex".to_owned());
        entries.push(entry);
    }
    if let Some(tokens) = top.object("tokens") {
        match of_tokens(Tool::Codex, "tokens", &tokens) {
            Some(mut entry) => {
                entry.as_of = top.instant("last_refresh");
                entries.push(entry);
            }
            None => tokens.note("is left out: it has neither an access nor a refresh token"),
        }
    }
    if ["agent_identity", "personal_access_token", "bedrock_api_key"].iter().any(|name| top.value(name).is_some()) {
        top.pass_over("holds a credential beside the login that lessor cannot use: of an agent, or of Bedrock");
    }
    entries
}

/// A login as Codex keeps it; others keep it alike.
pub(super) fn of_tokens(tool: Tool, item: &str, tokens: &Fields<'_>) -> Option<Entry> {
    let access = tokens.secret("access_token");
    let about_access = access.as_ref().and_then(|token| jwt::claims(token.expose())).unwrap_or_default();
    let about_owner = tokens.secret("id_token").and_then(|token| jwt::claims(token.expose())).unwrap_or_default();
    let ends = about_access.get("exp").and_then(instant);
    let credential = login(access, tokens.secret("refresh_token"), ends)?;
    let claim = |name: &str| {
        let own = [&about_owner, &about_access].into_iter().find_map(|claims| claims.get(CLAIM)?.get(name)?.as_str());
        own.map(str::to_owned)
    };
    let mut entry = Entry::new(tool, item.to_owned(), "openai", credential);
    entry.rotates = entry.credential.refresh.is_some();
    entry.email = about_owner.get("email").and_then(Value::as_str).filter(|email| is_short(email)).map(str::to_owned);
    entry.vendor_id = tokens.text("account_id").or_else(|| claim("chatgpt_account_id")).filter(|id| is_short(id));
    entry.tier = tier(claim("chatgpt_plan_type").as_deref());
    Some(entry)
}

pub(super) fn is_short(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && !text.chars().any(char::is_control)
}

pub(super) fn tier(plan: Option<&str>) -> Tier {
    match plan {
        Some("pro") => Tier::Ultra,
        Some("go" | "plus" | "team" | "business" | "enterprise" | "edu") => Tier::Pro,
        Some("free") => Tier::Free,
        _ => Tier::Unknown,
    }
}
