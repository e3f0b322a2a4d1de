//! Logging in by code: where the user is sent, and what comes back.

use crate::credential::Secret;

use super::pkce;
use super::server::{Server, ServerError};
use super::token::{Grant, TokenError, Tokens};

/// One login that is under way.
#[derive(Debug)]
pub struct Request {
    url: String,
    redirect: String,
    state: String,
    verifier: Secret,
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A code.
    Code(Secret),
    /// The server, or the user, has refused; its word.
    Refused(String),
    /// It answers another question than ours.
    Foreign,
}

/// What was pasted is no use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadPaste {
    /// It is neither a code nor the address of one.
    #[error("this is neither a code nor an address with one in it")]
    NoCode,
    /// It belongs to another login.
    #[error("this belongs to another login: its `state` is not the one of this one")]
    Foreign,
    /// The login was refused.
    #[error("the login was refused: {0}")]
    Refused(String),
}

impl Request {
    /// Begins a login that comes back to `redirect`.
    ///
    /// # Errors
    /// When the server has no place for it, or there is no chance to be had.
    pub fn new(server: &Server, redirect: &str) -> Result<Self, ServerError> {
        let settings = &server.settings;
        let no_chance = |error| ServerError::Wrong(format!("the system gives no random bits: {error}"));
        let verifier = Secret::new(pkce::random::<32>().map_err(no_chance)?);
        let state = pkce::random::<24>().map_err(no_chance)?;
        let place = server.authorize_url.as_deref().ok_or_else(|| {
            let provider = &settings.provider;
            ServerError::Wrong(format!("{provider} has no `authorize_url`: set it in [providers.{provider}.oauth]"))
        })?;
        let mut url = url::Url::parse(place).map_err(|_| ServerError::Wrong(format!("{place:?} is no URL")))?;
        let mut pairs = url.query_pairs_mut();
        if let Some(built_in) = settings.built_in {
            pairs.extend_pairs(built_in.extra);
        }
        pairs
            .append_pair("client_id", &settings.client_id)
            .append_pair("response_type", "code")
            .append_pair("redirect_uri", redirect)
            .append_pair("scope", &settings.scopes().join(" "))
            .append_pair("code_challenge", &pkce::challenge(&verifier))
            .append_pair("code_challenge_method", "S256")
            .append_pair("state", &state);
        if settings.built_in.is_none() && settings.scopes().iter().any(|scope| scope == "offline_access") {
            // OpenID Connect: without consent there is no refresh token
            pairs.append_pair("prompt", "consent");
        }
        drop(pairs);
        Ok(Self { url: url.into(), redirect: redirect.to_owned(), state, verifier })
    }

    /// Where the user logs in.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What a query at the redirect means; nothing when it carries no answer.
    #[must_use]
    pub fn read(&self, query: &str) -> Option<Arrival> {
        let (mut code, mut state, mut error) = (None, None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "code" => code = Some(Secret::new(value.into_owned())),
                "state" => state = Some(value.into_owned()),
                "error" => error = Some(value.into_owned()),
                _ => {}
            }
        }
        if code.is_none() && error.is_none() {
            return None;
        }
        if state.as_deref() != Some(&self.state) {
            return Some(Arrival::Foreign);
        }
        if let Some(error) = error {
            return Some(Arrival::Refused(super::code_of(&error).unwrap_or_else(|| "no reason given".to_owned())));
        }
        code.filter(|code| !code.expose().is_empty()).map(Arrival::Code)
    }

    /// Exchanges the code.
    ///
    /// # Errors
    /// As the token endpoint says.
    pub async fn redeem(&self, server: &Server, code: &Secret) -> Result<Tokens, TokenError> {
        let (redirect, state) = (self.redirect.as_str(), self.state.as_str());
        server.tokens(&Grant::Code { code, redirect, verifier: &self.verifier, state }).await
    }
}

/// Reads what a user has pasted: the address that the browser was sent to, `code#state`, or the code alone.
///
/// # Errors
/// When there is no code in it, or it is not of this login.
pub fn read_pasted(request: &Request, text: &str) -> Result<Secret, BadPaste> {
    let text = text.trim();
    let query = match text.split_once('?') {
        Some((_, query)) => Some(query.split_once('#').map_or(query, |(query, _)| query)),
        None if text.contains("code=") || text.contains("error=") => Some(text),
        None => None,
    };
    if let Some(query) = query {
        return match request.read(query) {
            Some(Arrival::Code(code)) => Ok(code),
            Some(Arrival::Refused(why)) => Err(BadPaste::Refused(why)),
            Some(Arrival::Foreign) => Err(BadPaste::Foreign),
            None => Err(BadPaste::NoCode),
        };
    }
    let (code, state) = text.split_once('#').map_or((text, None), |(code, state)| (code, Some(state)));
    if state.is_some_and(|state| state != request.state) {
        return Err(BadPaste::Foreign);
    }
    let fits = !code.is_empty() && !code.chars().any(|c| c.is_whitespace() || c.is_control()) && !code.contains("://");
    if fits { Ok(Secret::new(code.to_owned())) } else { Err(BadPaste::NoCode) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            url: String::new(),
            redirect: "http://127.0.0.1:1/callback".into(),
            state: "STATE".into(),
            verifier: Secret::new("v".into()),
        }
    }

    #[test]
    fn an_answer_is_one_only_with_our_state() {
        let code = |text: &str| Some(Arrival::Code(Secret::new(text.into())));
        for (query, expected) in [
            ("code=a%2Fb&state=STATE", code("a/b")),
            ("state=STATE&code=a", code("a")),
            ("code=a&state=OTHER", Some(Arrival::Foreign)),
            ("code=a", Some(Arrival::Foreign)),
            ("error=access_denied&state=STATE", Some(Arrival::Refused("access_denied".into()))),
            ("error=<script>&state=STATE", Some(Arrival::Refused("no reason given".into()))),
            ("error=access_denied", Some(Arrival::Foreign)),
            ("code=&state=STATE", None),
            ("x=y", None),
            ("", None),
        ] {
            assert_eq!(request().read(query), expected, "{query}");
        }
    }

    #[test]
    fn what_is_pasted_may_be_an_address_or_a_code() {
        for (text, expected) in [
            ("http://127.0.0.1:1/callback?code=abc&state=STATE\n", Ok("abc")),
            ("  https://vendor/callback?state=STATE&code=abc#frag ", Ok("abc")),
            ("code=abc&state=STATE", Ok("abc")),
            ("abc#STATE", Ok("abc")),
            ("abc", Ok("abc")),
            ("4/0A-b_c", Ok("4/0A-b_c")),
            ("abc#OTHER", Err(BadPaste::Foreign)),
            ("http://127.0.0.1:1/callback?code=abc&state=OTHER", Err(BadPaste::Foreign)),
            (
                "http://127.0.0.1:1/callback?error=access_denied&state=STATE",
                Err(BadPaste::Refused("access_denied".into())),
            ),
            ("http://127.0.0.1:1/callback", Err(BadPaste::NoCode)),
            ("", Err(BadPaste::NoCode)),
            ("two words", Err(BadPaste::NoCode)),
        ] {
            let read = read_pasted(&request(), text);
            assert_eq!(read.as_ref().map(Secret::expose), expected.as_ref().copied(), "{text}");
        }
    }
}
