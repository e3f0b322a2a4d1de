//! What the page asks: a session for its code, calls as on the socket, and the stream of events.

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{BODY_TIMEOUT, PageConnection, PageRefusal, PageResult, PageService, event_stream};
use crate::daemon::{CodeRefused, PageSession};
use crate::gateway::response;

/// The header with the key of the session.
const SESSION: &str = "x-lessor-session";
/// The longest body of a call, in bytes.
const LONGEST_BODY: usize = 16 * 1024;

/// What opens a session.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeBody {
    code: String,
}

impl PageService {
    pub(super) async fn call(
        &self,
        connection: &PageConnection<'_>,
        head: &Parts,
        body: Incoming,
        name: &str,
    ) -> PageResult {
        let allowed = match name {
            "session" | "call" => Method::POST,
            "events" => Method::GET,
            _ => return Err(PageRefusal::new(StatusCode::NOT_FOUND, "there is no such call")),
        };
        if head.method != allowed {
            return Err(PageRefusal::method(if allowed == Method::GET { "GET" } else { "POST" }));
        }
        if name == "session" {
            return self.open_session(connection, &head.headers, body).await;
        }
        let (key, session) = self.session(&head.headers)?;
        // its connection is the user's, and is not closed for those that have shown nothing
        if !connection.watch.has_key() {
            connection.watch.show_key();
        }
        if name == "events" {
            let streams = self.streams.clone().try_acquire_owned();
            let place = streams.map_err(|_| PageRefusal::too_many("too many pages are open; close some", 10))?;
            return Ok(event_stream::start(self.handle.clone(), connection.id, session, place));
        }
        if !self.handle.count_page_call(key) {
            return Err(PageRefusal::too_many("this page makes too many calls", 1));
        }
        let message = read(&head.headers, body).await?;
        let answer = self.handle.page_call(connection.id, session, &message).await;
        let answer = String::from_utf8(answer).unwrap_or_default();
        Ok(response::text(StatusCode::OK, "application/json", answer))
    }

    /// Exchanges a code for the key of a session.
    async fn open_session(&self, connection: &PageConnection<'_>, headers: &HeaderMap, body: Incoming) -> PageResult {
        let body = read(headers, body).await?;
        let bad = |_| PageRefusal::new(StatusCode::BAD_REQUEST, "a code was expected: {\"code\": \"...\"}");
        let CodeBody { code } = serde_json::from_slice(&body).map_err(bad)?;
        let opened = self.handle.open_page(&code, connection.peer.may_be_of_this_user());
        let opened = opened.map_err(|why| match why {
            CodeRefused::Wrong => {
                PageRefusal::new(StatusCode::FORBIDDEN, "this code was used already, or has ended; run: lessor ui")
            }
            CodeRefused::TooMany(seconds) => PageRefusal::too_many("too many wrong codes have come", seconds),
            CodeRefused::NoRandom => {
                PageRefusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the system has no random number")
            }
        })?;
        let session = json!({ "session": *opened.key, "actions": opened.may_act, "expires_at": opened.ends_at.0 });
        Ok(response::json(StatusCode::OK, &session))
    }

    fn session<'a>(&self, headers: &'a HeaderMap) -> Result<(&'a str, PageSession), PageRefusal> {
        let mut keys = headers.get_all(SESSION).iter();
        let key = keys.next().filter(|_| keys.next().is_none()).and_then(|key| key.to_str().ok());
        let session = key.and_then(|key| Some((key, self.handle.page_session(key)?)));
        session.ok_or_else(|| PageRefusal::new(StatusCode::UNAUTHORIZED, "the session has ended; run: lessor ui"))
    }
}

/// Reads a body of JSON.
async fn read(headers: &HeaderMap, body: Incoming) -> Result<Zeroizing<Vec<u8>>, PageRefusal> {
    // a form of another page can send no JSON
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(PageRefusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type must be application/json"));
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, LONGEST_BODY).collect()).await {
        Ok(Ok(body)) => Ok(Zeroizing::new(body.to_bytes().to_vec())),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("the body is larger than {} KiB", LONGEST_BODY / 1024);
            Err(PageRefusal::new(StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Ok(Err(_)) | Err(_) => Err(PageRefusal::new(StatusCode::REQUEST_TIMEOUT, "the body is incomplete")),
    }
}
