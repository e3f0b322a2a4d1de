//! One request, bounded in time and size. If the result is not known, the error says so.

use std::time::Duration;

use reqwest::header::HeaderMap;
use zeroize::Zeroizing;

use crate::{http::failure_cause, limits};

/// The maximum time of a request, from its connection to the last byte of its answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum length of a response.
const LONGEST: usize = 256 * 1024;
pub(super) struct OauthResponse {
    pub(super) status: u16,
    /// How long the server asked to wait.
    pub(super) wait: Option<Duration>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Why there is no response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SendError {
    /// The request did not reach the server.
    NotSent(String),
    /// The request may have reached the server; its effect is not known.
    Lost(String),
}

pub(super) async fn send(request: reqwest::RequestBuilder) -> Result<OauthResponse, SendError> {
    let sent = request.timeout(REQUEST_TIMEOUT).send().await.map_err(|error| {
        let not_sent = error.is_connect() || error.is_builder();
        let why = failure_cause(&error.without_url());
        if not_sent { SendError::NotSent(why) } else { SendError::Lost(why) }
    });
    let mut response = sent?;
    let status = response.status().as_u16();
    let wait = stated_wait(response.headers());
    let mut body = Zeroizing::new(Vec::with_capacity(LONGEST.min(16 * 1024)));
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= LONGEST => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(SendError::Lost(format!("the answer is over {} KiB long", LONGEST / 1024))),
            Ok(None) => return Ok(OauthResponse { status, wait, body }),
            // a refusal is a refusal, even without its body
            Err(_) if status >= 400 => return Ok(OauthResponse { status, wait, body }),
            Err(error) => return Err(SendError::Lost(failure_cause(&error.without_url()))),
        }
    }
}

/// `Retry-After`, in seconds or as a date by the server's clock.
pub(super) fn stated_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let stated = text("retry-after")?.trim();
    if let Ok(seconds) = stated.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    }
    let server_now = limits::epoch_ms(text("date")?)?;
    let until = limits::epoch_ms(stated)?;
    Some(Duration::from_millis(until.saturating_sub(server_now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_parsed_in_all_forms_and_invalid_ones_are_none() {
        for (stated, seconds) in [
            ("30", Some(30.0)),
            ("0", Some(0.0)),
            ("-5", Some(0.0)),
            ("1.5", Some(1.5)),
            ("1e300", None),
            ("Mon, 21 Sep 2026 14:13:30 GMT", Some(10.0)),
            ("Mon, 21 Sep 2026 14:13:10 GMT", Some(0.0)),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("date", "Mon, 21 Sep 2026 14:13:20 GMT".parse().unwrap());
            headers.insert("retry-after", stated.parse().unwrap());
            assert_eq!(stated_wait(&headers), seconds.map(Duration::from_secs_f64), "{stated}");
        }
    }
}
