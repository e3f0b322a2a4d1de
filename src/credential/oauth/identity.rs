//! The identity of the user who logged in: from the tokens, otherwise from the server's identity endpoint.

use serde_json::{Map, Value};

use super::{fetch::send, server::AuthorizationServer, token::TokenSet};
use crate::credential::{Secret, claims::LoginClaims};
use crate::http::{self, ConnectOptions};
use crate::pool::Tier;
use crate::provider::{base_for_path, built_in, plan_tier};

/// The longest text that is accepted, in bytes.
const LONGEST: usize = 256;

/// The user who logged in, as far as known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LoginIdentity {
    /// The email address.
    pub email: Option<String>,
    /// The vendor's id of the account: at OpenAI that of the workspace, else that of the person.
    pub account_id: Option<String>,
    /// The vendor's id of the person.
    pub person_id: Option<String>,
    /// The vendor's id of the organisation or workspace.
    pub organization_id: Option<String>,
    /// The name of that organisation.
    pub organization: Option<String>,
    /// The plan.
    pub tier: Option<Tier>,
}

/// Finds the identity. A failure does not prevent the login.
pub async fn identify(server: &AuthorizationServer, tokens: &TokenSet) -> LoginIdentity {
    let provider = server.settings.provider.as_str();
    let known = LoginIdentity::of_claims(provider, &tokens.claims).or(read(&tokens.about));
    let Some(url) = server.identity_url.as_deref().filter(|_| known.email.is_none()) else { return known };
    let request = server.http.get(url).bearer_auth(tokens.access.expose()).header("accept", "application/json");
    let Ok(response) = send(request).await else { return known };
    match serde_json::from_slice(&response.body) {
        Ok(Value::Object(about)) if response.status == 200 => known.or(read(&about)),
        _ => known,
    }
}

/// Whose token it is, by the provider's identity endpoint, below `base` if there is one; `None` if the provider has
/// no such endpoint or does not let this token ask.
pub async fn identify_token(
    provider: &str,
    base: Option<&str>,
    token: &Secret,
    reach: &ConnectOptions,
) -> Option<LoginIdentity> {
    let vendor_url = built_in(provider)?.oauth.identity_url?;
    let path = url::Url::parse(vendor_url).ok()?.path().to_owned();
    let own = base.map(|base| format!("{}{path}", base_for_path(provider, base.trim_end_matches('/'), &path)));
    let url = own.unwrap_or_else(|| vendor_url.to_owned());
    let request = http::client(reach).ok()?.get(url).bearer_auth(token.expose()).header("accept", "application/json");
    let response = send(request).await.ok().filter(|response| response.status == 200)?;
    let about = serde_json::from_slice::<Map<String, Value>>(&response.body).ok()?;
    Some(read(&about)).filter(|identity| *identity != LoginIdentity::default())
}

impl LoginIdentity {
    /// The identity that the tokens of a login name.
    #[must_use]
    pub fn of_claims(provider: &str, claims: &LoginClaims) -> Self {
        let LoginClaims { email, person, organisation, plan, .. } = claims.clone();
        let tier = plan.map(|plan| plan_tier(provider, &plan)).filter(|tier| *tier != Tier::Unknown);
        // an API token names no workspace: its person is not the account
        let account_id = if provider == "openai" { organisation.clone() } else { person.clone() };
        Self { email, account_id, person_id: person, organization_id: organisation, organization: None, tier }
    }

    /// This identity, with the facts of another where it has none.
    fn or(self, other: Self) -> Self {
        Self {
            email: self.email.or(other.email),
            account_id: self.account_id.or(other.account_id),
            person_id: self.person_id.or(other.person_id),
            organization_id: self.organization_id.or(other.organization_id),
            organization: self.organization.or(other.organization),
            tier: self.tier.or(other.tier),
        }
    }
}

/// Reads a profile, or the fields that came with the tokens.
pub(super) fn read(about: &Map<String, Value>) -> LoginIdentity {
    let text = |map: &Map<String, Value>, name: &str| {
        let text = map.get(name)?.as_str()?;
        (!text.is_empty() && text.len() <= LONGEST && !text.chars().any(char::is_control)).then(|| text.to_owned())
    };
    let object = |name: &str| about.get(name).and_then(Value::as_object);
    // Claude's profile, and the standard claims
    let (owner, organization) = (object("account"), object("organization"));
    let of = |map: Option<&Map<String, Value>>, name: &str| text(map?, name);
    let person = of(owner, "uuid").or_else(|| text(about, "sub")).or_else(|| text(about, "id"));
    LoginIdentity {
        email: of(owner, "email_address").or_else(|| of(owner, "email")).or_else(|| text(about, "email")),
        account_id: person.clone(),
        person_id: person,
        organization_id: of(organization, "uuid").or_else(|| text(about, "hd")),
        organization: of(organization, "name"),
        tier: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_identity_is_read_from_every_shape() {
        let read = |text: &str| read(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap());
        for (text, email, id, organization) in [
            (r#"{"account":{"uuid":"u-1","email_address":"a@b.c"}}"#, some("a@b.c"), some("u-1"), None),
            (
                r#"{"account":{"uuid":"u-1","email":"a@b.c"},"organization":{"uuid":"o-1","name":"Team"}}"#,
                some("a@b.c"),
                some("u-1"),
                some("o-1"),
            ),
            (r#"{"id":"123","email":"a@b.c"}"#, some("a@b.c"), some("123"), None),
            (r#"{"sub":"s","email":"a@b.c","hd":"b.c"}"#, some("a@b.c"), some("s"), some("b.c")),
            (r#"{"sub":7,"email":"a\u0007"}"#, None, None, None),
        ] {
            let who = read(text);
            assert_eq!((who.email, who.account_id, who.organization_id), (email, id, organization), "{text}");
        }
    }

    #[test]
    fn the_account_of_openai_is_the_workspace_and_elsewhere_the_person() {
        let claims = LoginClaims {
            person: some("user-1"),
            organisation: some("ws-1"),
            plan: some("plus"),
            ..LoginClaims::default()
        };
        let openai = LoginIdentity::of_claims("openai", &claims);
        assert_eq!((openai.account_id, openai.person_id), (some("ws-1"), some("user-1")));
        assert_eq!((openai.organization_id, openai.tier), (some("ws-1"), Some(Tier::Pro)));
        assert_eq!(LoginIdentity::of_claims("google", &claims).account_id, some("user-1"));
    }
}
