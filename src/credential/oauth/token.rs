//! The token endpoint: the requests, and what each response means.

use std::time::Duration;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::error_codes::{self, ErrorMeaning, error_code};
use super::fetch::{OauthResponse, SendError, send};
use super::server::{AuthorizationServer, RequestStyle};
use crate::credential::claims::{LoginClaims, claims};
use crate::credential::{Secret, import::wipe};
use crate::limits;
use crate::pool::{Wall, millis};

/// The longest token that is accepted, in bytes.
const LONGEST_TOKEN: usize = 64 * 1024;
/// How long before its end a login for the public API is refreshed, if the server does not say from when it may be.
const USUAL_WINDOW: Duration = Duration::from_secs(5 * 60);
/// A refresh is never put off longer than until this time before the end.
const LEAST_WINDOW: Duration = Duration::from_secs(90);
/// What tokens are requested with.
#[expect(missing_docs, reason = "the names of the fields say what they are")]
#[derive(Debug)]
pub enum TokenGrant<'a> {
    /// An authorization code with its redirect URI, PKCE verifier and state.
    Code { code: &'a Secret, redirect: &'a str, verifier: &'a Secret, state: &'a str },
    /// A refresh token.
    Refresh(&'a Secret),
    /// A device code.
    Device(&'a Secret),
}

/// The server's successful response.
pub struct TokenSet {
    /// The access token, which is sent upstream.
    pub access: Secret,
    /// The new refresh token; `None` if the old one stays.
    pub refresh: Option<Secret>,
    /// The lifetime of `access`.
    pub life: Option<Duration>,
    /// The scopes that were granted, if the server states them.
    pub scopes: Option<String>,
    /// The server rejects an earlier refresh, if it states that.
    pub earliest_refresh: Option<Wall>,
    /// What the tokens say about the login.
    pub(super) claims: LoginClaims,
    /// The claims of the identity token.
    pub(super) identity: Map<String, Value>,
    /// What the response says about the user besides.
    pub(super) about: Map<String, Value>,
}

/// Why there are no tokens.
#[expect(missing_docs, reason = "the names of the fields say what they are")]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// The refresh token or code is no longer valid.
    #[error("the server answered {code}")]
    Ended { code: String },
    /// The client's configuration is incomplete; no login is at fault.
    #[error("{0}")]
    Client(String),
    /// The server does not accept this client for this login.
    #[error("the token endpoint rejected the OAuth client {client} ({code})")]
    ClientRefused { code: String, client: String },
    /// The server does not accept this client.
    #[error("the token endpoint rejected the OAuth client {client} ({code})")]
    ClientUnknown { code: String, client: String },
    /// The server's rate limit.
    #[error("the server limits the rate of requests (429)")]
    TooMany(Option<Duration>),
    /// The server failed.
    #[error("the server answered {status}")]
    Unwell { status: u16, wait: Option<Duration> },
    /// The request did not reach the server.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// The response was lost; the effect of the request is not known.
    #[error("the server's answer was lost: {0}")]
    Lost(String),
    /// The server reported a success, but its response contains no usable tokens.
    #[error("the server's answer cannot be used: {0}")]
    Unusable(String),
    /// The server refused for another reason, which may be temporary.
    #[error("the server refused with {status}{}", code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Refused { status: u16, code: Option<String> },
}

impl AuthorizationServer {
    /// Requests tokens.
    ///
    /// # Errors
    /// The error tells what failed and whether the request may have had an effect.
    pub async fn tokens(&self, grant: &TokenGrant<'_>) -> Result<TokenSet, TokenError> {
        let secret = self.settings.secret().map_err(TokenError::Client)?;
        let mut last = None;
        // the body format in which the server has read that the client is wrong
        let mut understood = None;
        // a style that the server does not understand has changed nothing
        for style in &self.styles {
            if understood.is_some_and(|json| json != style.json) {
                continue;
            }
            let mut fields = grant.fields(style.json);
            fields.extend(self.settings.resource.as_deref().map(|resource| ("resource", resource)));
            let request = self.post(&self.token_url, fields, *style, secret.as_ref());
            match send(request).await {
                Err(SendError::NotSent(why)) => return Err(TokenError::Unreachable(why)),
                Err(SendError::Lost(why)) => return Err(TokenError::Lost(why)),
                Ok(response) => match read(&response, &self.settings.client_words()) {
                    Err(error) if is_about_style(&error) => {
                        understood = understood.or(error.is_refusal_of_client().then_some(style.json));
                        last = last.or(Some(error));
                    }
                    answered => return answered,
                },
            }
        }
        Err(last.unwrap_or_else(|| TokenError::Client("there is no request style".to_owned())))
    }

    /// A request that authenticates the client in this style.
    pub(super) fn post<'a>(
        &'a self,
        url: &str,
        mut fields: Vec<(&'a str, &'a str)>,
        style: RequestStyle,
        secret: Option<&'a Zeroizing<String>>,
    ) -> reqwest::RequestBuilder {
        let id = self.settings.client_id.as_str();
        let mut request = self.http.post(url).header("accept", "application/json");
        if let Some(secret) = secret.filter(|_| style.basic) {
            let encoded = |text: &str| -> String { url::form_urlencoded::byte_serialize(text.as_bytes()).collect() };
            request = request.basic_auth(encoded(id), Some(encoded(secret)));
        } else {
            fields.push(("client_id", id));
            fields.extend(secret.map(|secret| ("client_secret", secret.as_str())));
        }
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

impl TokenGrant<'_> {
    fn fields(&self, json: bool) -> Vec<(&str, &str)> {
        match self {
            Self::Code { code, redirect, verifier, state } => {
                let fields = [
                    ("grant_type", "authorization_code"),
                    ("code", code.expose()),
                    ("redirect_uri", redirect),
                    ("code_verifier", verifier.expose()),
                ];
                // not part of the standard: servers that take JSON expect it
                fields.into_iter().chain(json.then_some(("state", *state))).collect()
            }
            Self::Refresh(token) => vec![("grant_type", "refresh_token"), ("refresh_token", token.expose())],
            Self::Device(code) => {
                vec![("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", code.expose())]
            }
        }
    }
}

impl TokenSet {
    /// When the access token expires, if it was requested at `now`: the server counts from a later time.
    #[must_use]
    pub fn expires_at(&self, now: Wall) -> Option<Wall> {
        self.life.map(|life| now.after(life))
    }

    /// When a login for the public API may be refreshed: when the server says so, else shortly before its end. There is
    /// time for a refresh in any case.
    #[must_use]
    pub fn refresh_from(&self, now: Wall) -> Option<Wall> {
        let end = self.expires_at(now)?;
        let life = self.life.unwrap_or_default();
        let before = |span: Duration, most: Duration| Wall(end.0.saturating_sub(millis(span.min(most))));
        let stated = self.earliest_refresh.unwrap_or_else(|| before(USUAL_WINDOW, life / 2));
        Some(stated.min(before(LEAST_WINDOW, life / 10)))
    }
}

impl TokenError {
    /// Whether the server refused the OAuth client.
    fn is_refusal_of_client(&self) -> bool {
        matches!(self, Self::ClientRefused { .. } | Self::ClientUnknown { .. })
    }
}

/// Whether the server did not understand the request style, or does not know the client in that style.
fn is_about_style(error: &TokenError) -> bool {
    match error {
        _ if error.is_refusal_of_client() => true,
        TokenError::Refused { status: 415, .. } => true,
        TokenError::Refused { code, .. } => code.as_deref() == Some("invalid_request"),
        _ => false,
    }
}

pub(super) fn read(response: &OauthResponse, client: &str) -> Result<TokenSet, TokenError> {
    let status = response.status;
    let parsed = serde_json::from_slice::<Value>(&response.body);
    if (200..300).contains(&status) {
        let mut document = parsed.map_err(|_| TokenError::Unusable("it is not JSON".to_owned()))?;
        let tokens = tokens(&mut document);
        wipe(&mut document);
        return tokens;
    }
    let code = parsed.ok().and_then(|document| error_code(&document));
    Err(match (status, error_codes::meaning(code.as_deref())) {
        (429, _) => TokenError::TooMany(response.wait),
        (500.., _) => TokenError::Unwell { status, wait: response.wait },
        (_, ErrorMeaning::LoginEnded) => TokenError::Ended { code: code.unwrap_or_default() },
        (_, ErrorMeaning::ClientRefused) => {
            TokenError::ClientRefused { code: code.unwrap_or_default(), client: client.to_owned() }
        }
        (_, ErrorMeaning::ClientUnknown) => {
            TokenError::ClientUnknown { code: code.unwrap_or_default(), client: client.to_owned() }
        }
        (_, ErrorMeaning::Other) => TokenError::Refused { status, code },
    })
}

fn tokens(document: &mut Value) -> Result<TokenSet, TokenError> {
    let unusable = |why: &str| TokenError::Unusable(why.to_owned());
    let Value::Object(fields) = document else { return Err(unusable("it is not a JSON object")) };
    let mut secret = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) if is_token(&text) => Ok(Some(Secret::new(text))),
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(mut other) => {
            wipe(&mut other);
            Err(TokenError::Unusable(format!("`{name}` is not a token")))
        }
    };
    let (access, refresh, identity) = (secret("access_token")?, secret("refresh_token")?, secret("id_token")?);
    let access = access.ok_or_else(|| unusable("it contains no `access_token`"))?;
    let stated = fields.get("expires_in").and_then(seconds);
    let claimed = || {
        let claims = claims(access.expose())?;
        let (end, start) = (claims.get("exp").and_then(seconds)?, claims.get("iat").and_then(seconds)?);
        end.checked_sub(start)
    };
    let life = stated.or_else(claimed);
    let about_login = LoginClaims::of(access.expose(), identity.as_ref().map(Secret::expose));
    let mut about = Map::new();
    for name in ["account", "organization"] {
        about.extend(fields.remove(name).map(|value| (name.to_owned(), value)));
    }
    let identity = identity.and_then(|identity| claims(identity.expose())).unwrap_or_default();
    let scopes = fields.get("scope").and_then(Value::as_str).map(str::to_owned);
    let earliest_refresh = fields.get("earliest_refresh_at").and_then(instant);
    Ok(TokenSet { access, refresh, life, scopes, earliest_refresh, claims: about_login, identity, about })
}

/// A time as seconds or milliseconds since the epoch, or as a date.
fn instant(value: &Value) -> Option<Wall> {
    /// Seconds until the year 5138; a larger number counts milliseconds.
    const MOST_SECONDS: u64 = 100_000_000_000;
    match value.as_u64() {
        Some(seconds) if seconds < MOST_SECONDS => Some(Wall(seconds * 1000)),
        Some(milliseconds) => Some(Wall(milliseconds)),
        None => limits::epoch_ms(value.as_str()?).map(Wall),
    }
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
    use std::io::{Read, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::settings::{OauthConfig, OauthSettings};
    use super::*;

    #[test]
    fn a_login_for_the_public_api_is_refreshed_when_the_server_allows_it_and_in_time() {
        let now = Wall(1_800_000_000_000);
        let end = now.0 + 3_600_000;
        for (stated, expected) in [
            (r#"1800003240"#, end - 360_000),
            (r#"1800003240000"#, end - 360_000),
            (r#""2027-01-15T08:54:00Z""#, end - 360_000),
            ("null", end - 300_000),
            (r#""soon""#, end - 300_000),
            // an error of the server, or of its clock
            ("1900000000", end - 90_000),
        ] {
            let body = format!(r#"{{"access_token":"at","expires_in":3600,"earliest_refresh_at":{stated}}}"#);
            let tokens = answer(200, &body).unwrap();
            assert_eq!(tokens.refresh_from(now), Some(Wall(expected)), "{stated}");
        }
        let short = answer(200, r#"{"access_token":"at","expires_in":10}"#).unwrap();
        assert_eq!(short.refresh_from(now), Some(Wall(now.0 + 5_000)));
    }

    fn answer(status: u16, body: &str) -> Result<TokenSet, TokenError> {
        read(
            &OauthResponse {
                status,
                wait: Some(Duration::from_secs(7)),
                body: Zeroizing::new(body.as_bytes().to_vec()),
            },
            "c",
        )
    }

    #[test]
    fn each_error_response_has_its_meaning() {
        let wait = Some(Duration::from_secs(7));
        let ended = |code: &str| TokenError::Ended { code: code.to_owned() };
        for (status, body, expected) in [
            (400, r#"{"error":"invalid_grant"}"#, ended("invalid_grant")),
            (401, r#"{"error":{"code":"refresh_token_reused","message":"…"}}"#, ended("refresh_token_reused")),
            (400, r#"{"type":"error","error":{"type":"invalid_grant"}}"#, ended("invalid_grant")),
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
        for code in ["invalid_client", "unauthorized_client"] {
            let said = answer(401, &format!(r#"{{"error":"{code}"}}"#)).err().unwrap();
            assert!(said.is_refusal_of_client() && said.to_string().contains(code), "{said:?}");
            assert_eq!(matches!(said, TokenError::ClientUnknown { .. }), code == "invalid_client");
        }
    }

    /// The number of requests until the server's answer is taken as its last word.
    async fn requests_until(status: u16, body: &'static str) -> usize {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let given = OauthConfig {
            client_id: Some("c".into()),
            token_url: Some(format!("http://{}/token", listener.local_addr().unwrap())),
            ..OauthConfig::default()
        };
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                // the body arrives after the headers
                let mut read = Vec::new();
                while !String::from_utf8_lossy(&read).contains("r-1") {
                    let mut part = [0; 4096];
                    match (&stream).read(&mut part) {
                        Ok(0) | Err(_) => break,
                        Ok(length) => read.extend_from_slice(&part[..length]),
                    }
                }
                let length = body.len();
                let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
                let _closed = (&stream).write_all([head.as_bytes(), body.as_bytes()].concat().as_slice());
            }
        });
        let server = AuthorizationServer::find(OauthSettings::of("anthropic", given).unwrap()).await.unwrap();
        let answer = server.tokens(&TokenGrant::Refresh(&Secret::new("r-1".into()))).await;
        assert!(answer.is_err());
        requests.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn another_body_format_is_tried_only_when_the_first_was_not_understood() {
        assert_eq!(requests_until(400, r#"{"error":"invalid_request"}"#).await, 2);
        assert_eq!(requests_until(415, "").await, 2);
        for code in ["invalid_client", "unauthorized_client", "deleted_client", "invalid_grant", "slow_down"] {
            let body: &'static str = format!(r#"{{"error":"{code}"}}"#).leak();
            assert_eq!(requests_until(401, body).await, 1, "{code}");
        }
    }

    #[test]
    fn a_success_without_tokens_is_unusable() {
        let bodies = r#" |<html>|[]|{}|{"access_token":""}|{"access_token":["canary"]}|{"access_token":"a b"}"#;
        for body in bodies.split('|') {
            let said = answer(200, body).err().unwrap();
            assert!(matches!(said, TokenError::Unusable(_)), "{body}");
            assert!(!said.to_string().contains("canary"));
        }
    }

    #[test]
    fn the_lifetime_comes_from_the_response_or_the_token() {
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
