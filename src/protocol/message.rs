//! One message of a client, in either encoding.

use super::{call::Call, error::ErrorInfo};

/// One message from a client.
#[derive(Debug, PartialEq)]
pub struct Incoming {
    /// The id that the answer repeats; `None` for a notification, which gets no answer.
    pub id: Option<RequestId>,
    /// The call, or why it is malformed.
    pub call: Result<Call, ErrorInfo>,
}

/// The id of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestId {
    /// A number, in both codecs.
    Number(u64),
    /// Any other JSON value, unchanged.
    Json(Box<str>),
}
