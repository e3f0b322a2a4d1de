//! The authorization code flow: the URL where the user logs in, and the code that comes back.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::server::{AuthorizationServer, ServerError};
use super::token::{TokenError, TokenGrant, TokenSet};
use crate::credential::Secret;

/// The waits before a code is sent again, if the server states none.
const RETRY_WAITS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];
/// The shortest wait: a server that states 0 means "not now".
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// No try begins later than this after the first one: codes are short-lived.
const RETRY_TIME: Duration = Duration::from_secs(60);

/// A login in progress.
#[derive(Debug)]
pub struct AuthorizationRequest {
    url: String,
    redirect: String,
    state: String,
    verifier: Secret,
    /// What the identity token must repeat; for a login for the public API.
    nonce: Option<String>,
}

/// An authorization code, and the client that it is for, if the server has registered one.
#[derive(Debug, PartialEq, Eq)]
pub struct AuthorizationCode {
    code: Secret,
    client_id: Option<String>,
}

/// The response at the redirect.
#[derive(Debug, PartialEq, Eq)]
pub enum AuthorizationResponse {
    /// An authorization code.
    Code(AuthorizationCode),
    /// The server or the user refused; the error code.
    Refused(String),
    /// The response belongs to another login.
    Foreign,
}

/// Why the pasted text is not usable.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PasteError {
    /// It contains no code.
    #[error("this is neither a code nor a URL that contains one")]
    NoCode,
    /// It belongs to another login.
    #[error("this belongs to another login: its `state` is different")]
    Foreign,
    /// The login was refused.
    #[error("the login was refused: {0}")]
    Refused(String),
}

impl AuthorizationRequest {
    /// Starts a login that returns to `redirect`.
    ///
    /// # Errors
    /// When the server has no authorization URL, or the system's random source fails.
    pub fn new(server: &AuthorizationServer, redirect: &str) -> Result<Self, ServerError> {
        let settings = &server.settings;
        let no_chance = |error| ServerError::Wrong(format!("the system's random source failed: {error}"));
        let verifier = Secret::new(random::<32>().map_err(no_chance)?);
        let state = random::<24>().map_err(no_chance)?;
        let place = server.authorize_url.as_deref().ok_or_else(|| {
            let provider = &settings.provider;
            ServerError::Wrong(format!("{provider} has no `authorize_url`: set it in [providers.{provider}.oauth]"))
        })?;
        let mut url = url::Url::parse(place).map_err(|_| ServerError::Wrong(format!("{place:?} is not a URL")))?;
        let mut pairs = url.query_pairs_mut();
        if let Some(built_in) = settings.built_in {
            pairs.extend_pairs(built_in.extra);
        }
        pairs
            .append_pair("client_id", &settings.client_id)
            .append_pair("response_type", "code")
            .append_pair("redirect_uri", redirect)
            .append_pair("scope", &settings.scopes().join(" "))
            .append_pair("code_challenge", &challenge(&verifier))
            .append_pair("code_challenge_method", "S256")
            .append_pair("state", &state);
        let nonce = settings.resource.is_some().then(random::<24>).transpose().map_err(no_chance)?;
        let own = [("resource", settings.resource.as_ref()), ("nonce", nonce.as_ref())];
        pairs.extend_pairs(own.into_iter().filter_map(|(name, value)| Some((name, value?))));
        pairs.extend_pairs(&settings.parameters);
        if settings.built_in.is_none() && settings.scopes().iter().any(|scope| scope == "offline_access") {
            // OpenID Connect: without consent there is no refresh token
            pairs.append_pair("prompt", "consent");
        }
        drop(pairs);
        Ok(Self { url: url.into(), redirect: redirect.to_owned(), state, verifier, nonce })
    }

    /// The URL where the user logs in.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Parses the query of a request to the redirect; `None` if it contains neither a code nor an error.
    #[must_use]
    pub fn read(&self, query: &str) -> Option<AuthorizationResponse> {
        let (mut code, mut state, mut error, mut client_id) = (None, None, None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "code" => code = Some(Secret::new(value.into_owned())),
                "state" => state = Some(value.into_owned()),
                "error" => error = Some(value.into_owned()),
                "client_id" => client_id = Some(value.into_owned()).filter(|id| is_client_id(id)),
                _ => {}
            }
        }
        if code.is_none() && error.is_none() {
            return None;
        }
        if state.as_deref() != Some(&self.state) {
            return Some(AuthorizationResponse::Foreign);
        }
        if let Some(error) = error {
            return Some(AuthorizationResponse::Refused(
                super::error_codes::code_of(&error).unwrap_or_else(|| "no reason given".to_owned()),
            ));
        }
        let code = code.filter(|code| !code.expose().is_empty())?;
        Some(AuthorizationResponse::Code(AuthorizationCode { code, client_id }))
    }

    /// The client that the code is exchanged with: after a registration the one that was issued.
    ///
    /// # Errors
    /// When the answer names no client, or another one than the login was started with.
    pub fn client<'c>(
        &self,
        server: &'c AuthorizationServer,
        code: &'c AuthorizationCode,
    ) -> Result<&'c str, TokenError> {
        let settings = &server.settings;
        let own = settings.client_id.as_str();
        match code.client_id.as_deref() {
            Some(issued) if settings.registers && issued != own => Ok(issued),
            _ if settings.registers => Err(TokenError::Unusable(
                "it names no client that was registered (paste the whole address of the last page)".to_owned(),
            )),
            Some(other) if settings.resource.is_some() && other != own => {
                Err(TokenError::Unusable(format!("it is for the client {other}, not for {own}")))
            }
            _ => Ok(own),
        }
    }

    /// Refuses tokens of another login: the identity token must be for this client and repeat the nonce. It came
    /// directly from the token endpoint, so that its signature says nothing more (OpenID Connect Core, 3.1.3.7).
    fn check_identity(&self, server: &AuthorizationServer, tokens: &TokenSet) -> Result<(), TokenError> {
        let Some(nonce) = &self.nonce else { return Ok(()) };
        let text = |name: &str| tokens.identity.get(name).and_then(Value::as_str);
        let is_for_client = match tokens.identity.get("aud") {
            Some(Value::Array(list)) => list.iter().any(|one| one.as_str() == Some(&server.settings.client_id)),
            audience => audience.and_then(Value::as_str) == Some(&server.settings.client_id),
        };
        let unusable = |why: &str| Err(TokenError::Unusable(format!("its `id_token` {why}")));
        match text("nonce") {
            _ if tokens.identity.is_empty() => unusable("is missing"),
            _ if !is_for_client => unusable("is for another client"),
            Some(named) if named == nonce => Ok(()),
            _ => unusable("is of another login"),
        }
    }

    /// Exchanges the code. While the server is busy or unreachable, it tries again; `before_retry` gets the error and
    /// the wait.
    ///
    /// # Errors
    /// Those of the token endpoint.
    pub async fn redeem(
        &self,
        server: &AuthorizationServer,
        code: &AuthorizationCode,
        before_retry: impl Fn(&TokenError, Duration),
    ) -> Result<TokenSet, TokenError> {
        let server = &server.with_client(self.client(server, code)?);
        let code = &code.code;
        let (redirect, state) = (self.redirect.as_str(), self.state.as_str());
        let deadline = Instant::now() + RETRY_TIME;
        let mut waits = RETRY_WAITS.into_iter();
        loop {
            let answered = server.tokens(&TokenGrant::Code { code, redirect, verifier: &self.verifier, state }).await;
            let error = match answered {
                Ok(tokens) => return self.check_identity(server, &tokens).map(|()| tokens),
                Err(error) => error,
            };
            let wait = waits.next().and_then(|usual| retry_wait(&error, usual));
            match wait.filter(|wait| Instant::now() + *wait < deadline) {
                None => return Err(error),
                Some(wait) => {
                    before_retry(&error, wait);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }
}

/// How long to wait before the code is sent again; `None` if the server has answered it.
fn retry_wait(error: &TokenError, usual: Duration) -> Option<Duration> {
    match error {
        TokenError::TooMany(stated) | TokenError::Unwell { wait: stated, .. } => {
            Some(stated.map_or(usual, |stated| stated.max(SHORTEST_WAIT)))
        }
        TokenError::Unreachable(_) | TokenError::Lost(_) => Some(usual),
        TokenError::Ended { .. }
        | TokenError::Client(_)
        | TokenError::ClientRefused { .. }
        | TokenError::ClientUnknown { .. }
        | TokenError::Unusable(_)
        | TokenError::Refused { .. } => None,
    }
}

/// Parses pasted text: the URL that the browser was sent to, `code#state`, or the code alone.
///
/// # Errors
/// When it contains no code, or belongs to another login.
pub fn parse_pasted_code(request: &AuthorizationRequest, text: &str) -> Result<AuthorizationCode, PasteError> {
    let text = text.trim();
    let query = match text.split_once('?') {
        Some((_, query)) => Some(query.split_once('#').map_or(query, |(query, _)| query)),
        None if text.contains("code=") || text.contains("error=") => Some(text),
        None => None,
    };
    if let Some(query) = query {
        return match request.read(query) {
            Some(AuthorizationResponse::Code(code)) => Ok(code),
            Some(AuthorizationResponse::Refused(why)) => Err(PasteError::Refused(why)),
            Some(AuthorizationResponse::Foreign) => Err(PasteError::Foreign),
            None => Err(PasteError::NoCode),
        };
    }
    let (code, state) = text.split_once('#').map_or((text, None), |(code, state)| (code, Some(state)));
    if state.is_some_and(|state| state != request.state) {
        return Err(PasteError::Foreign);
    }
    let fits = !code.is_empty() && !code.chars().any(|c| c.is_whitespace() || c.is_control()) && !code.contains("://");
    if fits { Ok(Secret::new(code.to_owned()).into()) } else { Err(PasteError::NoCode) }
}

impl From<Secret> for AuthorizationCode {
    fn from(code: Secret) -> Self {
        Self { code, client_id: None }
    }
}

impl AuthorizationCode {
    /// The code itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.code.expose()
    }
}

/// Whether a text can be the id of a client.
fn is_client_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.chars().all(|c| c.is_ascii_graphic())
}

/// Random text in the base64 alphabet for URLs, made of this many random bytes.
fn random<const N: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    let text = BASE64_URL_SAFE_NO_PAD.encode(bytes);
    zeroize::Zeroize::zeroize(&mut bytes);
    Ok(text)
}

/// The PKCE challenge of a verifier (RFC 7636).
fn challenge(verifier: &Secret) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.expose().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636, appendix B.
    #[test]
    fn the_challenge_is_the_one_of_the_standard() {
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into());
        assert_eq!(challenge(&verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn random_texts_are_long_enough_and_differ() {
        let (one, other) = (random::<32>().unwrap(), random::<32>().unwrap());
        assert_eq!((one.len(), one == other), (43, false));
    }

    #[test]
    fn a_code_is_sent_again_only_if_the_server_has_not_answered_it() {
        let (s, usual) = (Duration::from_secs, Duration::from_secs(2));
        let (status, code) = (400, None);
        for (error, wait) in [
            (TokenError::TooMany(Some(s(20))), Some(s(20))),
            (TokenError::TooMany(Some(s(0))), Some(s(1))),
            (TokenError::TooMany(None), Some(usual)),
            (TokenError::Unwell { status: 503, wait: Some(s(5)) }, Some(s(5))),
            (TokenError::Unreachable(String::new()), Some(usual)),
            (TokenError::Lost(String::new()), Some(usual)),
            (TokenError::Unusable(String::new()), None),
            (TokenError::Ended { code: "invalid_grant".into() }, None),
            (TokenError::Client(String::new()), None),
            (TokenError::ClientRefused { code: String::new(), client: String::new() }, None),
            (TokenError::Refused { status, code }, None),
        ] {
            assert_eq!(retry_wait(&error, usual), wait, "{error:?}");
        }
    }

    fn request() -> AuthorizationRequest {
        AuthorizationRequest {
            url: String::new(),
            redirect: "http://127.0.0.1:1/callback".into(),
            state: "STATE".into(),
            verifier: Secret::new("v".into()),
            nonce: None,
        }
    }

    #[test]
    fn a_response_counts_only_with_the_state_of_this_login() {
        let code = |text: &str| Some(AuthorizationResponse::Code(Secret::new(text.into()).into()));
        for (query, expected) in [
            ("code=a%2Fb&state=STATE", code("a/b")),
            ("state=STATE&code=a", code("a")),
            ("code=a&state=OTHER", Some(AuthorizationResponse::Foreign)),
            ("code=a", Some(AuthorizationResponse::Foreign)),
            ("error=access_denied&state=STATE", Some(AuthorizationResponse::Refused("access_denied".into()))),
            ("error=<script>&state=STATE", Some(AuthorizationResponse::Refused("no reason given".into()))),
            ("error=access_denied", Some(AuthorizationResponse::Foreign)),
            ("code=&state=STATE", None),
            ("x=y", None),
            ("", None),
        ] {
            assert_eq!(request().read(query), expected, "{query}");
        }
    }

    #[test]
    fn pasted_text_may_be_a_url_or_a_code() {
        for (text, expected) in [
            ("http://127.0.0.1:1/callback?code=abc&state=STATE\n", Ok("abc")),
            ("  https://vendor/callback?state=STATE&code=abc#frag ", Ok("abc")),
            ("code=abc&state=STATE", Ok("abc")),
            ("abc#STATE", Ok("abc")),
            ("abc", Ok("abc")),
            ("4/0A-b_c", Ok("4/0A-b_c")),
            ("abc#OTHER", Err(PasteError::Foreign)),
            ("http://127.0.0.1:1/callback?code=abc&state=OTHER", Err(PasteError::Foreign)),
            (
                "http://127.0.0.1:1/callback?error=access_denied&state=STATE",
                Err(PasteError::Refused("access_denied".into())),
            ),
            ("http://127.0.0.1:1/callback", Err(PasteError::NoCode)),
            ("", Err(PasteError::NoCode)),
            ("two words", Err(PasteError::NoCode)),
        ] {
            let read = parse_pasted_code(&request(), text);
            assert_eq!(read.as_ref().map(AuthorizationCode::expose), expected.as_ref().copied(), "{text}");
        }
    }
}
