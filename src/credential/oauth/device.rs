//! The device code flow (RFC 8628): the user enters a code elsewhere while lessor polls the token endpoint.

use std::time::Duration;

use serde_json::Value;

use super::error_codes::error_code;
use super::fetch::{SendError, send};
use super::server::{AuthorizationServer, RequestStyle, ServerError, check};
use super::token::{TokenError, TokenGrant, TokenSet};
use crate::{credential::Secret, credential::import::wipe};

/// The polling interval, unless the server states another.
const USUAL: Duration = Duration::from_secs(5);
/// What `slow_down` adds to the interval.
const SLOWER: Duration = Duration::from_secs(5);
/// The shortest interval, whatever the server states.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest interval.
const LONGEST: Duration = Duration::from_secs(60);
/// The lifetime of a code for which the server states none.
const LIFE: Duration = Duration::from_secs(600);

/// A device code that waits for the user.
#[derive(Debug)]
pub struct DeviceCode {
    /// The code that the user enters.
    pub user_code: String,
    /// The page where the user enters it.
    pub place: String,
    /// The page with the code in its URL, if the server has one.
    pub whole_place: Option<String>,
    /// How long the code is valid.
    pub life: Duration,
    code: Secret,
    interval: Duration,
}

/// What to do after a response without tokens.
#[derive(Debug, PartialEq, Eq)]
enum PollStep {
    /// Poll again after this time.
    After(Duration),
    /// Stop, for this reason.
    Over(String),
}

/// Requests a device code.
///
/// # Errors
/// When the server does not support device codes, or refuses.
pub async fn request_device_code(server: &AuthorizationServer) -> Result<DeviceCode, ServerError> {
    let settings = &server.settings;
    let provider = &settings.provider;
    let url = server.device_url.as_deref().ok_or_else(|| {
        ServerError::Wrong(format!(
            "{provider} has no known login by device code: use --paste, or set `device_url` of \
             [providers.{provider}.oauth]"
        ))
    })?;
    let secret = settings.secret().map_err(ServerError::Wrong)?;
    let scopes = settings.scopes().join(" ");
    let basic = server.styles.first().is_some_and(|style| style.basic);
    let style = RequestStyle { json: false, basic };
    let request = server.post(url, vec![("scope", scopes.as_str())], style, secret.as_ref());
    let unreachable = |why| ServerError::Unreachable { url: url.to_owned(), why };
    let response = match send(request).await {
        Ok(response) => response,
        Err(SendError::NotSent(why) | SendError::Lost(why)) => return Err(unreachable(why)),
    };
    let mut document: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    if response.status != 200 {
        let code = error_code(&document).map(|code| format!(" ({code})")).unwrap_or_default();
        let message = format!("{url} returned no device code but status {}{code}", response.status);
        return Err(ServerError::Wrong(message));
    }
    let device = read(&document).ok_or_else(|| ServerError::Wrong(format!("{url} returned no device code")));
    wipe(&mut document);
    let device = device?;
    for place in [Some(&device.place), device.whole_place.as_ref()].into_iter().flatten() {
        check(place)?;
    }
    Ok(device)
}

pub(super) fn read(document: &Value) -> Option<DeviceCode> {
    let text = |name: &str| {
        let text = document.get(name)?.as_str()?;
        (!text.is_empty() && text.len() <= 4096 && !text.chars().any(char::is_control)).then(|| text.to_owned())
    };
    let seconds = |name: &str| Duration::try_from_secs_f64(document.get(name)?.as_f64()?).ok();
    Some(DeviceCode {
        code: Secret::new(text("device_code")?),
        user_code: text("user_code")?,
        place: text("verification_uri").or_else(|| text("verification_url"))?,
        whole_place: text("verification_uri_complete"),
        life: seconds("expires_in").unwrap_or(LIFE),
        interval: seconds("interval").unwrap_or(USUAL).clamp(SHORTEST, LONGEST),
    })
}

/// Polls until the user has confirmed the login, or the code is no longer valid.
///
/// # Errors
/// Why the login failed.
pub async fn poll(server: &AuthorizationServer, device: &DeviceCode) -> Result<TokenSet, String> {
    let mut interval = device.interval;
    let all = async {
        loop {
            tokio::time::sleep(interval).await;
            match server.tokens(&TokenGrant::Device(&device.code)).await {
                Ok(tokens) => return Ok(tokens),
                Err(error) => match step(&error, interval) {
                    PollStep::After(next) => interval = next,
                    PollStep::Over(why) => return Err(why),
                },
            }
        }
    };
    match tokio::time::timeout(device.life, all).await {
        Ok(ended) => ended,
        Err(_) => Err("the code was not used in time".to_owned()),
    }
}

/// Interprets a response without tokens.
fn step(error: &TokenError, interval: Duration) -> PollStep {
    let slower = |by: Duration| PollStep::After(interval.saturating_add(by).min(LONGEST));
    match error {
        TokenError::Refused { code: Some(code), .. } => match code.as_str() {
            "authorization_pending" => PollStep::After(interval),
            "slow_down" => slower(SLOWER),
            "access_denied" => PollStep::Over("the login was refused".to_owned()),
            "expired_token" => PollStep::Over("the code was not used in time".to_owned()),
            _ => PollStep::Over(error.to_string()),
        },
        TokenError::TooMany(wait) => slower(wait.unwrap_or(SLOWER)),
        // as RFC 8628 requires: continue at a longer interval
        TokenError::Unwell { .. } | TokenError::Unreachable(_) | TokenError::Lost(_) | TokenError::Unusable(_) => {
            slower(interval)
        }
        TokenError::Refused { code: None, .. }
        | TokenError::Ended { .. }
        | TokenError::Client(_)
        | TokenError::ClientRefused { .. }
        | TokenError::ClientUnknown { .. } => PollStep::Over(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_sets_the_polling_interval() {
        let s = Duration::from_secs;
        let refused = |code: &str| TokenError::Refused { status: 400, code: Some(code.to_owned()) };
        for (error, interval, next) in [
            (refused("authorization_pending"), 5, Some(5)),
            (refused("slow_down"), 5, Some(10)),
            (refused("slow_down"), 58, Some(60)),
            (TokenError::Unreachable(String::new()), 5, Some(10)),
            (TokenError::Unwell { status: 503, wait: None }, 40, Some(60)),
            (TokenError::TooMany(Some(s(20))), 5, Some(25)),
            (refused("access_denied"), 5, None),
            (refused("expired_token"), 5, None),
            (TokenError::Client(String::new()), 5, None),
        ] {
            let step = step(&error, s(interval));
            assert_eq!(matches!(step, PollStep::Over(_)), next.is_none(), "{error:?}");
            assert!(next.is_none_or(|next| step == PollStep::After(s(next))), "{error:?} {step:?}");
        }
    }

    #[test]
    fn a_device_code_is_read_with_its_interval() {
        let read = |text: &str| read(&serde_json::from_str(text).unwrap());
        let whole = read(
            r#"{"device_code":"d","user_code":"WDJB-MJHT","verification_uri":"https://v","expires_in":900,"interval":0}"#,
        )
        .unwrap();
        assert_eq!((whole.interval, whole.life), (SHORTEST, Duration::from_secs(900)));
        assert_eq!(read(r#"{"device_code":"d","user_code":"u","verification_uri":"v"}"#).unwrap().interval, USUAL);
        assert!(read(r#"{"device_code":"d","user_code":"a\u001b[2J","verification_uri":"v"}"#).is_none());
        assert!(read("{}").is_none());
    }
}
