//! Answers that are not passed on.

use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

pub(super) use super::body::Body;

/// A short answer in JSON.
pub(super) fn json(status: StatusCode, document: &serde_json::Value) -> Response<Body> {
    with(status, "application/json", document.to_string())
}

/// A short answer.
pub(super) fn with(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Some(Bytes::from(text))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
