//! Gemini CLI: `oauth_creds.json`; `google_accounts.json` names the owner.

use serde_json::Value;

use super::super::{account::DiscoveredAccount, fields::JsonFields, tool::Tool};
use super::codex::is_short;
use crate::credential::claims::claims;

pub(super) fn read(top: &JsonFields<'_>, accounts: Option<&JsonFields<'_>>) -> Vec<DiscoveredAccount> {
    let login = top.login("access_token", "refresh_token", top.instant("expiry_date"));
    let Some(credential) = login else { return Vec::new() };
    let mut entry = DiscoveredAccount::new(Tool::GeminiCli, "oauth_creds".to_owned(), "google", credential);
    let (email, vendor_id) = owner(top);
    entry.email = email.or_else(|| accounts.and_then(|accounts| accounts.text("active")));
    entry.vendor_id = vendor_id;
    vec![entry]
}

/// The email address and Google's id of the account, from the identity token.
pub(super) fn owner(tokens: &JsonFields<'_>) -> (Option<String>, Option<String>) {
    let claims = tokens.secret("id_token").and_then(|token| claims(token.expose())).unwrap_or_default();
    let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| is_short(text)).map(str::to_owned);
    (text("email"), text("sub"))
}
