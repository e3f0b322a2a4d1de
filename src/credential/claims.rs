//! What the tokens of a login say about it: the claims of JSON web tokens. Signatures are not verified: the claims name
//! an account and its OAuth client, but authorise nothing.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use crate::pool::Wall;

/// The alphabet for URLs, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The claims that contain OpenAI's fields.
const OPENAI: [&str; 2] = ["https://api.openai.com/auth", "https://api.openai.com/profile"];
/// The longest text that is accepted, in bytes.
const LONGEST: usize = 256;
/// The last second of the year 9999.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// What the tokens of a login say about it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LoginClaims {
    /// The email address of the person.
    pub email: Option<String>,
    /// The provider's id of the person: `chatgpt_user_id` or `sub`.
    pub person: Option<String>,
    /// The workspace or organisation: `chatgpt_account_id`, or the domain of a Google Workspace (`hd`).
    pub organisation: Option<String>,
    /// The plan, as the provider names it.
    pub plan: Option<String>,
    /// The OAuth client that made the login.
    pub client_id: Option<String>,
    /// When the access token expires.
    pub expires_at: Option<Wall>,
}

impl LoginClaims {
    /// Reads the claims of an access token, and of an identity token if there is one.
    #[must_use]
    pub fn of(access: &str, identity: Option<&str>) -> Self {
        let access = claims(access).unwrap_or_default();
        let identity = identity.and_then(claims).unwrap_or_default();
        // the identity token is made for the client and describes the person
        let both = [&identity, &access];
        let find = |name: &str| both.into_iter().find_map(|claims| text(claims.get(name)));
        let openai = |name: &str| {
            let groups = both.into_iter().flat_map(|claims| OPENAI.map(|group| claims.get(group)));
            groups.flatten().find_map(|group| text(group.get(name)))
        };
        Self {
            email: find("email").or_else(|| openai("email")),
            person: openai("chatgpt_user_id").or_else(|| openai("user_id")).or_else(|| find("sub")),
            organisation: openai("chatgpt_account_id").or_else(|| find("hd")),
            plan: openai("chatgpt_plan_type"),
            client_id: client_of(&access, &identity),
            expires_at: access.get("exp").and_then(instant),
        }
    }
}

/// The client that tokens were issued to. The audience of an identity token is its client; the audience of an access
/// token is not.
fn client_of(access: &Map<String, Value>, identity: &Map<String, Value>) -> Option<String> {
    let audience = || match identity.get("aud")? {
        Value::Array(list) if list.len() == 1 => text(list.first()),
        audience => text(Some(audience)),
    };
    text(access.get("client_id"))
        .or_else(|| text(identity.get("azp")))
        .or_else(|| text(access.get("azp")))
        .or_else(audience)
}

fn text(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?;
    (!text.is_empty() && text.len() <= LONGEST && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

fn instant(value: &Value) -> Option<Wall> {
    let seconds = value.as_f64().filter(|seconds| (1.0..=LAST_SECOND).contains(seconds))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
    Some(Wall((seconds * 1000.0) as u64))
}

/// The claims of a JSON web token; `None` if it is not one.
pub(in crate::credential) fn claims(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    match serde_json::from_slice(&BASE64.decode(payload).ok()?) {
        Ok(Value::Object(claims)) => Some(claims),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_and_invalid_tokens_have_none() {
        // {"email":"a@b.c","exp":1790000000}
        let token = "eyJhbGciOiJub25lIn0.eyJlbWFpbCI6ImFAYi5jIiwiZXhwIjoxNzkwMDAwMDAwfQ.FAKE";
        let claims = claims(token).unwrap();
        assert_eq!((claims["email"].as_str(), claims["exp"].as_u64()), (Some("a@b.c"), Some(1_790_000_000)));
        for text in ["", "a.b", "a.!.c", "a..c", "a.bnVsbA.c", "sk-FAKE"] {
            assert_eq!(super::claims(text), None, "{text}");
            assert_eq!(LoginClaims::of(text, Some(text)), LoginClaims::default(), "{text}");
        }
    }

    fn token(claims: &Value) -> String {
        format!("e30.{}.FAKE", BASE64.encode(claims.to_string()))
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_tokens_of_codex_name_person_workspace_plan_and_client() {
        let access = token(&serde_json::json!({ "client_id": "app_1", "exp": 1_790_000_000, "sub": "auth0|1",
            "aud": ["https://api.openai.com/v1"], "https://api.openai.com/profile": { "email": "a@b.c" },
            "https://api.openai.com/auth": { "chatgpt_account_id": "ws-1", "chatgpt_user_id": "user-1",
                "chatgpt_plan_type": "plus" } }));
        let expected = LoginClaims {
            email: some("a@b.c"),
            person: some("user-1"),
            organisation: some("ws-1"),
            plan: some("plus"),
            client_id: some("app_1"),
            expires_at: Some(Wall(1_790_000_000_000)),
        };
        assert_eq!(LoginClaims::of(&access, None), expected);
        let identity = token(&serde_json::json!({ "aud": ["app_1"], "email": "a@b.c", "sub": "auth0|1",
            "https://api.openai.com/auth": { "chatgpt_account_id": "ws-1" } }));
        assert_eq!(LoginClaims::of(&access, Some(&identity)), expected);
        assert_eq!(LoginClaims::of("opaque", Some(&identity)).client_id, some("app_1"));
    }

    #[test]
    fn the_identity_token_of_google_names_person_domain_and_client() {
        let identity = token(&serde_json::json!({ "azp": "client-1", "aud": "client-2", "email": "a@b.c",
            "sub": "1234", "hd": "b.c" }));
        let claims = LoginClaims::of("ya29.opaque", Some(&identity));
        assert_eq!((claims.email, claims.person), (some("a@b.c"), some("1234")));
        assert_eq!((claims.organisation, claims.client_id), (some("b.c"), some("client-1")));
    }

    #[test]
    fn the_audience_of_an_access_token_is_not_its_client() {
        let access = token(&serde_json::json!({ "aud": "https://api", "exp": "soon", "email": "a\u{7}" }));
        assert_eq!(LoginClaims::of(&access, None), LoginClaims::default());
        let several = token(&serde_json::json!({ "aud": ["one", "two"] }));
        assert_eq!(LoginClaims::of("opaque", Some(&several)).client_id, None);
    }
}
