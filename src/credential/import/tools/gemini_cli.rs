//! Gemini CLI: `oauth_creds.json`; `google_accounts.json` names the owner.

use super::super::{account::DiscoveredAccount, fields::JsonFields, tool::Tool};
use crate::credential::{Secret, claims::LoginClaims};

pub(super) fn read(top: &JsonFields<'_>, accounts: Option<&JsonFields<'_>>) -> Vec<DiscoveredAccount> {
    let login = top.login("access_token", "refresh_token", top.instant("expiry_date"));
    let Some(credential) = login else { return Vec::new() };
    let mut entry = DiscoveredAccount::new(Tool::GeminiCli, "oauth_creds".to_owned(), "google", credential);
    entry.learn(identity_claims(top));
    entry.email = entry.email.or_else(|| accounts.and_then(|accounts| accounts.text("active")));
    vec![entry]
}

/// What the identity token beside Google's tokens says.
pub(super) fn identity_claims(tokens: &JsonFields<'_>) -> LoginClaims {
    LoginClaims::of("", tokens.secret("id_token").as_ref().map(Secret::expose))
}
