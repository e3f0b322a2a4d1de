//! Gemini CLI: `oauth_creds.json`; `google_accounts.json` names the login's owner.

use serde_json::Value;

use super::codex::is_short;
use super::entry::{Entry, login};
use super::fields::Fields;
use super::jwt;
use super::tool::Tool;

pub(super) fn read(top: &Fields<'_>, accounts: Option<&Fields<'_>>) -> Vec<Entry> {
    let tokens = login(top.secret("access_token"), top.secret("refresh_token"), top.instant("expiry_date"));
    let Some(credential) = tokens else {
        top.note("it has neither an access nor a refresh token");
        return Vec::new();
    };
    let mut entry = Entry::new(Tool::GeminiCli, "oauth_creds".to_owned(), "google", credential);
    let (email, vendor_id) = owner(top);
    entry.email = email.or_else(|| accounts.and_then(|accounts| accounts.text("active")));
    entry.vendor_id = vendor_id;
    vec![entry]
}

/// Address and Google's own id of the account, by the token that says so.
pub(super) fn owner(tokens: &Fields<'_>) -> (Option<String>, Option<String>) {
    let claims = tokens.secret("id_token").and_then(|token| jwt::claims(token.expose())).unwrap_or_default();
    let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| is_short(text)).map(str::to_owned);
    (text("email"), text("sub"))
}
