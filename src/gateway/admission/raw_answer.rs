//! Answers to what is no request yet, written to the connection directly: there is no head that hyper could answer.

use hyper::StatusCode;

use crate::provider::error_body;

/// The head of a request did not come in time.
pub(in crate::gateway) fn too_late(seconds: u64) -> Vec<u8> {
    answer(StatusCode::REQUEST_TIMEOUT, &format!("the head of the request was not complete within {seconds} s"))
}

/// The head of a request is too large.
pub(in crate::gateway) fn too_large(most: usize) -> Vec<u8> {
    let message = format!("the head of the request is larger than {} KiB", most / 1024);
    answer(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &message)
}

/// Too many connections are open.
pub(in crate::gateway) fn no_place() -> Vec<u8> {
    let message = "overloaded: the gateway has too many connections; see `lessor status`, and close some, or try again";
    answer(StatusCode::SERVICE_UNAVAILABLE, message)
}

fn answer(status: StatusCode, message: &str) -> Vec<u8> {
    // it is not known which provider was meant
    let body = error_body("", status.as_u16(), &format!("lessor: {message}")).to_string();
    let retry = if status == StatusCode::SERVICE_UNAVAILABLE { "retry-after: 1\r\n" } else { "" };
    format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\n{retry}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len()
    )
    .into_bytes()
}
