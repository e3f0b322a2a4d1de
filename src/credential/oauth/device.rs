//! Logging in by device code (RFC 8628): the user types a code elsewhere, and we ask now and then.

use std::time::Duration;

use serde_json::Value;

use crate::credential::Secret;
use crate::credential::import::wipe;

use super::fetch::{NoAnswer, send};
use super::server::{Server, ServerError, check};
use super::token::{Grant, TokenError, Tokens, error_code};

/// Between two questions, unless the server says otherwise.
const USUAL: Duration = Duration::from_secs(5);
/// What `slow_down` adds.
const SLOWER: Duration = Duration::from_secs(5);
/// No server is asked more often, whatever it says.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest time between two questions.
const LONGEST: Duration = Duration::from_secs(60);
/// A code that says nothing of its end lives so long.
const LIFE: Duration = Duration::from_secs(600);

/// A code that waits for the user.
#[derive(Debug)]
pub struct Device {
    /// What the user types.
    pub user_code: String,
    /// Where.
    pub place: String,
    /// The same with the code in it, if the server has it.
    pub whole_place: Option<String>,
    /// How long it waits.
    pub life: Duration,
    code: Secret,
    interval: Duration,
}

/// What an answer comes to.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Ask again after this time.
    After(Duration),
    /// It is over, and why.
    Over(String),
}

/// Asks for a code.
///
/// # Errors
/// When the server has no such thing, or refuses.
pub async fn begin(server: &Server) -> Result<Device, ServerError> {
    let settings = &server.settings;
    let provider = &settings.provider;
    let url = server.device_url.as_deref().ok_or_else(|| {
        ServerError::Wrong(format!(
            "{provider} has no login by device code that is known: use --paste, or set `device_url` of \
             [providers.{provider}.oauth]"
        ))
    })?;
    let secret = settings.secret().map_err(ServerError::Wrong)?;
    let scopes = settings.scopes().join(" ");
    let mut request = server.http.post(url).header("accept", "application/json");
    let mut fields = vec![("scope", scopes.as_str())];
    match &secret {
        Some(secret) if server.styles.first().is_some_and(|style| style.basic) => {
            let encoded = |text: &str| -> String { url::form_urlencoded::byte_serialize(text.as_bytes()).collect() };
            request = request.basic_auth(encoded(&settings.client_id), Some(encoded(secret)));
        }
        secret => {
            fields.push(("client_id", &settings.client_id));
            fields.extend(secret.as_ref().map(|secret| ("client_secret", secret.as_str())));
        }
    }
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
    let unreachable = |why| ServerError::Unreachable { url: url.to_owned(), why };
    let response = match send(request).await {
        Ok(response) => response,
        Err(NoAnswer::NotSent(why) | NoAnswer::Lost(why)) => return Err(unreachable(why)),
    };
    let mut document: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    if response.status != 200 {
        let code = error_code(&document).map(|code| format!(" ({code})")).unwrap_or_default();
        let message = format!("{url} gives no device code: it answers {}{code}", response.status);
        return Err(ServerError::Wrong(message));
    }
    let device = read(&document).ok_or_else(|| ServerError::Wrong(format!("{url} answers no device code")));
    wipe(&mut document);
    let device = device?;
    for place in [Some(&device.place), device.whole_place.as_ref()].into_iter().flatten() {
        check(place)?;
    }
    Ok(device)
}

fn read(document: &Value) -> Option<Device> {
    let text = |name: &str| {
        let text = document.get(name)?.as_str()?;
        (!text.is_empty() && text.len() <= 4096 && !text.chars().any(char::is_control)).then(|| text.to_owned())
    };
    let seconds = |name: &str| Duration::try_from_secs_f64(document.get(name)?.as_f64()?).ok();
    Some(Device {
        code: Secret::new(text("device_code")?),
        user_code: text("user_code")?,
        place: text("verification_uri").or_else(|| text("verification_url"))?,
        whole_place: text("verification_uri_complete"),
        life: seconds("expires_in").unwrap_or(LIFE),
        interval: seconds("interval").unwrap_or(USUAL).clamp(SHORTEST, LONGEST),
    })
}

/// Asks until the user is done, or the code is over.
///
/// # Errors
/// Why it is over.
pub async fn poll(server: &Server, device: &Device) -> Result<Tokens, String> {
    let mut interval = device.interval;
    let all = async {
        loop {
            tokio::time::sleep(interval).await;
            match server.tokens(&Grant::Device(&device.code)).await {
                Ok(tokens) => return Ok(tokens),
                Err(error) => match step(&error, interval) {
                    Step::After(next) => interval = next,
                    Step::Over(why) => return Err(why),
                },
            }
        }
    };
    match tokio::time::timeout(device.life, all).await {
        Ok(ended) => ended,
        Err(_) => Err("the code was not used in time".to_owned()),
    }
}

/// What an answer that is none comes to.
fn step(error: &TokenError, interval: Duration) -> Step {
    let slower = |by: Duration| Step::After(interval.saturating_add(by).min(LONGEST));
    match error {
        TokenError::Refused { code: Some(code), .. } => match code.as_str() {
            "authorization_pending" => Step::After(interval),
            "slow_down" => slower(SLOWER),
            "access_denied" => Step::Over("the login was refused".to_owned()),
            "expired_token" => Step::Over("the code was not used in time".to_owned()),
            _ => Step::Over(error.to_string()),
        },
        TokenError::TooMany(wait) => slower(wait.unwrap_or(SLOWER)),
        // as RFC 8628 wants it: less often, but on
        TokenError::Unwell { .. } | TokenError::Unreachable(_) | TokenError::Lost(_) => slower(interval),
        TokenError::Refused { code: None, .. } | TokenError::Ended { .. } | TokenError::Client(_) => {
            Step::Over(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_sets_the_pace() {
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
            assert_eq!(matches!(step, Step::Over(_)), next.is_none(), "{error:?}");
            assert!(next.is_none_or(|next| step == Step::After(s(next))), "{error:?} {step:?}");
        }
    }

    #[test]
    fn a_device_code_is_read_with_its_pace() {
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
