//! Antigravity CLI (`agy`): `antigravity-oauth-token`, or the same document in the keyring.

use serde_json::Value;

use super::super::{account::DiscoveredAccount, fields::JsonFields, tool::Tool};
use super::gemini_cli::identity_claims;

pub(super) fn read(top: &JsonFields<'_>) -> Vec<DiscoveredAccount> {
    match top.value("token") {
        Some(Value::Object(_)) => top.object("token").and_then(|tokens| account(top, &tokens)),
        // the tokens without an object around them
        _ => account(top, top),
    }
    .into_iter()
    .collect()
}

fn account(top: &JsonFields<'_>, tokens: &JsonFields<'_>) -> Option<DiscoveredAccount> {
    let credential = tokens.login("access_token", "refresh_token", tokens.instant("expiry"))?;
    let mut entry =
        DiscoveredAccount::new(Tool::AntigravityCli, "antigravity-oauth-token".to_owned(), "google", credential);
    entry.learn(identity_claims(top));
    entry.learn(identity_claims(tokens));
    Some(entry)
}
