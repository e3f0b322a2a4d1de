//! The token endpoint: what is asked, and what each answer means.

use std::time::Duration;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::credential::Secret;
use crate::credential::import::{jwt, wipe};

use super::code_of;
use super::fetch::{NoAnswer, Response, send};
use super::server::{Server, Style};

/// The longest token that is believed.
const LONGEST_TOKEN: usize = 64 * 1024;
/// What servers say of a refresh token, or a code, that is no good any more.
const ENDED: [&str; 5] = [
    "invalid_grant",
    "refresh_token_expired",
    "refresh_token_reused",
    "refresh_token_invalidated",
    "refresh_token_revoked",
];
/// What they say of a client they do not want.
const CLIENT: [&str; 3] = ["invalid_client", "unauthorized_client", "unsupported_grant_type"];

/// What tokens are asked for with.
#[derive(Debug)]
pub enum Grant<'a> {
    /// A code, where it was sent to, the secret behind its challenge, and its state.
    Code {
        /// The code.
        code: &'a Secret,
        /// Where it was sent.
        redirect: &'a str,
        /// What only we know.
        verifier: &'a Secret,
        /// What came back with it.
        state: &'a str,
    },
    /// A refresh token.
    Refresh(&'a Secret),
    /// A device code.
    Device(&'a Secret),
}

/// What a server gives.
pub struct Tokens {
    /// What goes upstream.
    pub access: Secret,
    /// What renews it; none where the one before stays.
    pub refresh: Option<Secret>,
    /// How long `access` lives.
    pub life: Option<Duration>,
    /// Who has logged in, as far as the answer says it.
    pub(super) about: Map<String, Value>,
}

/// Why there are no tokens.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// What was presented is no good any more.
    #[error("the server says {code}")]
    Ended {
        /// The server's word.
        code: String,
    },
    /// The client is not wanted, or not configured: nobody's login is to blame.
    #[error("{0}")]
    Client(String),
    /// Fewer requests are wanted.
    #[error("the server wants fewer requests (429)")]
    TooMany(Option<Duration>),
    /// The server is not well.
    #[error("the server answers {status}")]
    Unwell {
        /// Its status.
        status: u16,
        /// How long it wants to be left alone.
        wait: Option<Duration>,
    },
    /// The request has not reached it.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// Nobody knows what it has done.
    #[error("its answer is lost: {0}")]
    Lost(String),
    /// It refuses, and that may pass.
    #[error("the server refuses with {status}{}", code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Refused {
        /// Its status.
        status: u16,
        /// Its word, if it looks like one.
        code: Option<String>,
    },
}

impl Server {
    /// Asks for tokens.
    ///
    /// # Errors
    /// Told apart by who is to blame, and whether the server may have done something.
    pub async fn tokens(&self, grant: &Grant<'_>) -> Result<Tokens, TokenError> {
        let secret = self.settings.secret().map_err(TokenError::Client)?;
        let mut last = None;
        // a style that is not understood has changed nothing
        for style in &self.styles {
            let request = self.request(grant, *style, secret.as_ref());
            match send(request).await {
                Err(NoAnswer::NotSent(why)) => return Err(TokenError::Unreachable(why)),
                Err(NoAnswer::Lost(why)) => return Err(TokenError::Lost(why)),
                Ok(response) => match read(&response) {
                    Err(error) if is_about_style(&error) => last = last.or(Some(error)),
                    answered => return answered,
                },
            }
        }
        Err(last.unwrap_or_else(|| TokenError::Client("there is no way to ask".to_owned())))
    }

    fn request(&self, grant: &Grant<'_>, style: Style, secret: Option<&Zeroizing<String>>) -> reqwest::RequestBuilder {
        let id = self.settings.client_id.as_str();
        let mut fields: Vec<(&str, &str)> = match grant {
            Grant::Code { code, redirect, verifier, state } => {
                let mut fields = vec![
                    ("grant_type", "authorization_code"),
                    ("code", code.expose()),
                    ("redirect_uri", redirect),
                    ("code_verifier", verifier.expose()),
                ];
                if style.json {
                    fields.push(("state", state));
                }
                fields
            }
            Grant::Refresh(token) => vec![("grant_type", "refresh_token"), ("refresh_token", token.expose())],
            Grant::Device(code) => {
                vec![("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", code.expose())]
            }
        };
        let basic = secret.filter(|_| style.basic);
        if basic.is_none() {
            fields.push(("client_id", id));
            fields.extend(secret.map(|secret| ("client_secret", secret.as_str())));
        }
        let request = self.http.post(&self.token_url).header("accept", "application/json");
        let request = match basic {
            Some(secret) => {
                let encoded =
                    |text: &str| -> String { url::form_urlencoded::byte_serialize(text.as_bytes()).collect() };
                request.basic_auth(encoded(id), Some(encoded(secret)))
            }
            None => request,
        };
        if style.json {
            let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
            let mut body = Value::Object(fields.collect());
            let text = body.to_string();
            wipe(&mut body);
            return request.header("content-type", "application/json").body(text);
        }
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        request.header("content-type", "application/x-www-form-urlencoded").body(body)
    }
}

/// Whether the server has not understood how it was asked, or does not know the client that way.
fn is_about_style(error: &TokenError) -> bool {
    match error {
        TokenError::Client(_) => true,
        TokenError::Refused { status: 415, .. } => true,
        TokenError::Refused { code, .. } => code.as_deref() == Some("invalid_request"),
        _ => false,
    }
}

/// What an answer means.
pub(super) fn read(response: &Response) -> Result<Tokens, TokenError> {
    let status = response.status;
    let parsed = serde_json::from_slice::<Value>(&response.body);
    if (200..300).contains(&status) {
        let mut document = parsed.map_err(|_| TokenError::Lost("what came is no JSON".to_owned()))?;
        let tokens = tokens(&mut document);
        wipe(&mut document);
        return tokens;
    }
    let code = parsed.ok().and_then(|document| error_code(&document));
    let is = |known: &[&str]| code.as_deref().is_some_and(|code| known.contains(&code));
    Err(match status {
        429 => TokenError::TooMany(response.wait),
        500.. => TokenError::Unwell { status, wait: response.wait },
        _ if is(&ENDED) => TokenError::Ended { code: code.unwrap_or_default() },
        _ if is(&CLIENT) => {
            let code = code.unwrap_or_default();
            TokenError::Client(format!("the token endpoint refuses the client ({code})"))
        }
        _ => TokenError::Refused { status, code },
    })
}

/// `{"error":"…"}`, or `{"error":{"code":"…"}}`.
pub(super) fn error_code(document: &Value) -> Option<String> {
    let error = document.get("error")?;
    let named = [error.as_str(), error.get("code").and_then(Value::as_str), error.get("type").and_then(Value::as_str)];
    named.into_iter().flatten().find_map(code_of)
}

fn tokens(document: &mut Value) -> Result<Tokens, TokenError> {
    let lost = |why: &str| TokenError::Lost(why.to_owned());
    let Value::Object(fields) = document else { return Err(lost("what came is no JSON object")) };
    let mut secret = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) if is_token(&text) => Ok(Some(Secret::new(text))),
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(mut other) => {
            wipe(&mut other);
            Err(TokenError::Lost(format!("`{name}` is no token")))
        }
    };
    let (access, refresh, identity) = (secret("access_token")?, secret("refresh_token")?, secret("id_token")?);
    let access = access.ok_or_else(|| lost("there is no `access_token` in it"))?;
    let stated = fields.get("expires_in").and_then(seconds);
    let claimed = || {
        let claims = jwt::claims(access.expose())?;
        let (end, start) = (claims.get("exp").and_then(seconds)?, claims.get("iat").and_then(seconds)?);
        end.checked_sub(start)
    };
    let life = stated.or_else(claimed);
    let mut about = identity.and_then(|token| jwt::claims(token.expose())).unwrap_or_default();
    for name in ["account", "organization"] {
        about.extend(fields.remove(name).map(|value| (name.to_owned(), value)));
    }
    Ok(Tokens { access, refresh, life, about })
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_TOKEN && !text.chars().any(|c| c.is_control() || c == ' ')
}

/// Seconds, as a number or as digits in a text.
fn seconds(value: &Value) -> Option<Duration> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    Duration::try_from_secs_f64(number).ok().filter(|life| !life.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<Tokens, TokenError> {
        read(&Response { status, wait: Some(Duration::from_secs(7)), body: Zeroizing::new(body.as_bytes().to_vec()) })
    }

    #[test]
    fn each_answer_has_its_meaning() {
        let wait = Some(Duration::from_secs(7));
        let ended = |code: &str| TokenError::Ended { code: code.to_owned() };
        for (status, body, expected) in [
            (400, r#"{"error":"invalid_grant"}"#, ended("invalid_grant")),
            (401, r#"{"error":{"code":"refresh_token_reused","message":"…"}}"#, ended("refresh_token_reused")),
            (403, r#"{"error":"invalid_grant","error_description":"canary"}"#, ended("invalid_grant")),
            (429, "{}", TokenError::TooMany(wait)),
            (500, r#"{"error":"invalid_grant"}"#, TokenError::Unwell { status: 500, wait }),
            (503, "", TokenError::Unwell { status: 503, wait }),
            (302, "", TokenError::Refused { status: 302, code: None }),
            (403, "<html>canary", TokenError::Refused { status: 403, code: None }),
            (400, r#"{"error":"at-CANARY0123"}"#, TokenError::Refused { status: 400, code: None }),
        ] {
            assert_eq!(answer(status, body).err(), Some(expected), "{status} {body}");
        }
        for code in CLIENT {
            let said = answer(401, &format!(r#"{{"error":"{code}"}}"#)).err().unwrap();
            assert!(matches!(&said, TokenError::Client(why) if why.contains(code)), "{said:?}");
        }
    }

    #[test]
    fn a_success_without_tokens_is_an_answer_that_is_lost() {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":["canary"]}"#,
            r#"{"access_token":"a b"}"#,
        ] {
            let said = answer(200, body).err().unwrap();
            assert!(matches!(said, TokenError::Lost(_)), "{body}");
            assert!(!said.to_string().contains("canary"));
        }
    }

    #[test]
    fn tokens_come_with_their_life() {
        let life = |body: &str| answer(200, body).ok().unwrap().life.map(|life| life.as_secs());
        assert_eq!(life(r#"{"access_token":"a","expires_in":3600}"#), Some(3600));
        assert_eq!(life(r#"{"access_token":"a","expires_in":"60"}"#), Some(60));
        assert_eq!(life(r#"{"access_token":"a"}"#), None);
        assert_eq!(life(r#"{"access_token":"a","expires_in":-1}"#), None);
        // {"exp":1000,"iat":400}
        assert_eq!(life(r#"{"access_token":"x.eyJleHAiOjEwMDAsImlhdCI6NDAwfQ.y"}"#), Some(600));
        let whole = answer(200, r#"{"access_token":"a","refresh_token":"r"}"#).ok().unwrap();
        assert_eq!(whole.refresh.unwrap().expose(), "r");
    }
}
