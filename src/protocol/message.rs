//! One message of a client, in either encoding.

use super::{call::Call, call::LeaseCall, error::ErrorInfo};

/// One message from a client.
#[derive(Debug, PartialEq)]
pub struct Incoming {
    /// The id that the answer repeats; `None` for a notification, which gets no answer.
    pub id: Option<RequestId>,
    /// The call, or why it is malformed.
    pub call: Result<Call, ErrorInfo>,
}

/// One message that was read without `serde`.
#[derive(Debug, PartialEq)]
pub struct PlainMessage<'a> {
    /// The same as in [`Incoming`].
    pub id: Option<RequestId>,
    /// The call.
    pub call: LeaseCall<'a>,
}

impl PlainMessage<'_> {
    /// Whether it is a notification, whose sender would not know what lease it got.
    pub(crate) fn is_pointless(&self) -> bool {
        self.id.is_none() && matches!(self.call, LeaseCall::Acquire(_) | LeaseCall::Token(_))
    }
}

/// The id of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestId {
    /// A number, in both codecs.
    Number(u64),
    /// Any other JSON value, unchanged.
    Json(Box<str>),
}
