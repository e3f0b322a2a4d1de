//! What browsers and authorization servers send, for `fuzz/`.

use std::sync::LazyLock;

use serde_json::Value;
use zeroize::Zeroizing;

use super::code::{AuthorizationRequest, AuthorizationResponse, parse_pasted_code};
use super::fetch::{OauthResponse, stated_wait};
use super::server::AuthorizationServer;
use super::settings::{OauthConfig, OauthSettings};
use super::token::TokenSet;
use super::{LoginIdentity, device, identity, loopback, token};
use crate::fuzzing::message::{Message, assert_hidden};
use crate::http;

/// What stands for the state of the login in the input.
const STATE: &str = "STATE";
/// The longest error code, in bytes.
const LONGEST_CODE: usize = 48;
/// The longest sentence about an answer, in bytes.
const LONGEST_ERROR: usize = 600;

/// The request of a browser at the redirect, or what a user pastes.
pub fn oauth_callback(input: &[u8]) {
    let (server, redirect) = (&*SERVER, SERVER.redirect());
    let Ok(request) = AuthorizationRequest::new(server, &redirect.uri()) else { panic!("no request") };
    let pairs = url::Url::parse(request.url()).ok();
    let state =
        pairs.and_then(|url| url.query_pairs().find(|(name, _)| name == "state").map(|(_, value)| value.into()));
    let state: String = state.unwrap_or_default();
    let text = String::from_utf8_lossy(input).replace(STATE, &state);
    let target = loopback::target(text.as_bytes());
    let response = target.as_deref().and_then(|target| redirect.response(&request, target));
    let printed = format!("{response:?} {request:?}");
    match response {
        Some(AuthorizationResponse::Code(code)) => {
            assert!(!code.expose().is_empty() && text.contains(&state), "a code of another login: {text:?}");
            assert_hidden(code.expose(), text.as_bytes(), &printed);
        }
        Some(AuthorizationResponse::Refused(why)) => assert_is_code(&why),
        Some(AuthorizationResponse::Foreign) | None => {}
    }
    match parse_pasted_code(&request, &text) {
        Ok(code) => assert!(!code.expose().is_empty(), "{text:?}"),
        Err(error) => assert!(error.to_string().len() <= LONGEST_ERROR, "{error}"),
    }
}

/// The answer of an authorization server: `KIND STATUS`, headers, body.
pub fn oauth_answer(input: &[u8]) {
    let message = Message::of(input);
    let wait = stated_wait(&message.header_map());
    let document: Value = serde_json::from_slice(message.body).unwrap_or_default();
    match (message.word(0), &document) {
        ("device", _) => {
            if let Some(code) = device::read(&document) {
                assert!(!code.user_code.is_empty() && !code.place.contains(char::is_control));
                let secret = document.get("device_code").and_then(Value::as_str).unwrap_or_default();
                assert_hidden(secret, input, &format!("{code:?}"));
            }
        }
        ("identity", Value::Object(about)) => assert_short(&identity::read(about)),
        ("server", Value::Object(described)) => {
            let http = SERVER.http.clone();
            match AuthorizationServer::put_together(settings(), http, Some(described)) {
                Ok(server) => assert!(!server.styles.is_empty()),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        _ => {
            let body = Zeroizing::new(message.body.to_vec());
            match token::read(&OauthResponse { status: message.number(1), wait, body }, "client") {
                Ok(tokens) => assert_tokens(&tokens),
                Err(error) => {
                    let printed = format!("{error} {error:?}");
                    assert!(printed.len() <= LONGEST_ERROR && !printed.contains(char::is_control), "{printed}");
                    for name in ["access_token", "refresh_token", "id_token"] {
                        let secret = document.get(name).and_then(Value::as_str).unwrap_or_default();
                        assert_hidden(secret, input, &printed);
                    }
                }
            }
        }
    }
}

static SERVER: LazyLock<AuthorizationServer> = LazyLock::new(|| {
    let Ok(http) = http::client(&http::ConnectOptions::default()) else { panic!("no HTTP client") };
    match AuthorizationServer::put_together(settings(), http, None) {
        Ok(server) => server,
        Err(error) => panic!("{error}"),
    }
});

fn settings() -> OauthSettings {
    let url = |path: &str| Some(format!("https://login.example/{path}"));
    let given = OauthConfig {
        issuer: url(""),
        authorize_url: url("authorize"),
        token_url: url("token"),
        client_id: Some("client".to_owned()),
        ..OauthConfig::default()
    };
    match OauthSettings::of("example", given) {
        Ok(settings) => settings,
        Err(missing) => panic!("{missing}"),
    }
}

fn assert_tokens(tokens: &TokenSet) {
    let is_token = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_control() || c == ' ');
    assert!(is_token(tokens.access.expose()), "the access token is none");
    assert!(tokens.refresh.as_ref().is_none_or(|refresh| is_token(refresh.expose())), "the refresh token is none");
    assert!(tokens.life.is_none_or(|life| !life.is_zero()));
    for provider in ["anthropic", "openai", "google", "example"] {
        assert_short(&LoginIdentity::of_claims(provider, &tokens.claims));
    }
    assert_short(&identity::read(&tokens.about));
}

fn assert_short(identity: &LoginIdentity) {
    let LoginIdentity { email, account_id, person_id, organization_id, organization, tier: _ } = identity;
    for text in [email, account_id, person_id, organization_id, organization].into_iter().flatten() {
        assert!(text.len() <= 256 && !text.contains(char::is_control), "{identity:?}");
    }
}

fn assert_is_code(text: &str) {
    let is_code = text == "no reason given" || (text.len() <= LONGEST_CODE && !text.contains([' ', '"']));
    assert!(is_code && !text.contains(char::is_control), "{text:?} is no error code");
}
