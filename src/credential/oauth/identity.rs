//! The identity of the user who logged in: from the tokens, otherwise from the server's identity endpoint.

use serde_json::{Map, Value};

use super::{fetch::send, server::AuthorizationServer, token::TokenSet};
use crate::{pool::Tier, provider::plan_tier};

/// The longest text that is accepted, in bytes.
const LONGEST: usize = 256;

/// The user who logged in, as far as known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LoginIdentity {
    /// The email address.
    pub email: Option<String>,
    /// The vendor's id of the account.
    pub account_id: Option<String>,
    /// The plan.
    pub tier: Option<Tier>,
}

/// Finds the identity. A failure does not prevent the login.
pub async fn identify(server: &AuthorizationServer, tokens: &TokenSet) -> LoginIdentity {
    let known = read(&tokens.about);
    let Some(url) = server.identity_url.as_deref().filter(|_| known.email.is_none()) else { return known };
    let request = server.http.get(url).bearer_auth(tokens.access.expose()).header("accept", "application/json");
    let Ok(response) = send(request).await else { return known };
    match serde_json::from_slice(&response.body) {
        Ok(Value::Object(about)) if response.status == 200 => {
            let asked = read(&about);
            LoginIdentity {
                email: asked.email,
                account_id: known.account_id.or(asked.account_id),
                tier: known.tier.or(asked.tier),
            }
        }
        _ => known,
    }
}

/// Reads token claims, a profile, or the fields that came with the tokens.
fn read(about: &Map<String, Value>) -> LoginIdentity {
    let text = |map: &Map<String, Value>, name: &str| {
        let text = map.get(name)?.as_str()?;
        (!text.is_empty() && text.len() <= LONGEST && !text.chars().any(char::is_control)).then(|| text.to_owned())
    };
    let object = |name: &str| about.get(name).and_then(Value::as_object);
    // Claude's profile, ChatGPT's claims, and the standard claims
    let (owner, chatgpt) = (object("account"), object("https://api.openai.com/auth"));
    let of = |map: Option<&Map<String, Value>>, name: &str| text(map?, name);
    LoginIdentity {
        email: of(owner, "email_address").or_else(|| of(owner, "email")).or_else(|| text(about, "email")),
        account_id: of(owner, "uuid")
            .or_else(|| of(chatgpt, "chatgpt_account_id"))
            .or_else(|| text(about, "sub"))
            .or_else(|| text(about, "id")),
        tier: of(chatgpt, "chatgpt_plan_type")
            .map(|plan| plan_tier("openai", &plan))
            .filter(|tier| *tier != Tier::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_read_from_every_shape() {
        let read = |text: &str| read(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap());
        let named = |email: &str, id: &str| (Some(email.to_owned()), Some(id.to_owned()));
        for (text, expected) in [
            (r#"{"account":{"uuid":"u-1","email_address":"a@b.c"}}"#, named("a@b.c", "u-1")),
            (r#"{"account":{"uuid":"u-1","email":"a@b.c"},"organization":{}}"#, named("a@b.c", "u-1")),
            (
                r#"{"sub":"s","email":"a@b.c","https://api.openai.com/auth":{"chatgpt_account_id":"acc"}}"#,
                named("a@b.c", "acc"),
            ),
            (r#"{"id":"123","email":"a@b.c"}"#, named("a@b.c", "123")),
            (r#"{"sub":"s","email":"a@b.c"}"#, named("a@b.c", "s")),
            (r#"{"sub":7,"email":"a\u0007"}"#, (None, None)),
        ] {
            let who = read(text);
            assert_eq!((who.email, who.account_id), expected, "{text}");
        }
        let plus = read(r#"{"https://api.openai.com/auth":{"chatgpt_plan_type":"plus"}}"#);
        assert_eq!(plus.tier, Some(Tier::Pro));
    }
}
