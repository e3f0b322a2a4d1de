//! The wire protocol: messages and their two encodings, without I/O.
//!
//! The first byte of a connection selects the encoding: `{` begins JSON-RPC 2.0, one message per line; the magic `LSR`
//! and a version byte begin binary frames. Both encode the same calls with the same meaning.

mod answer;
mod base32;
mod call;
mod decoder;
mod error;
mod frame;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod gateway_key;
mod json;
mod lease_id;
mod message;
mod relay;
mod upstream_response;

pub use answer::*;
pub(crate) use base32::AccountIdText;
pub use call::{
    AccountRef, AcquireParams, AddAccountParams, AgentSessionParams, AgentWindow, BindTo, Call, CredentialParams,
    DisableAccountParams, EvictHostParams, ExplainParams, ExportAccountsParams, ForecastParams, GUEST_MAGIC,
    GatewayKeyParams, GuestAddresses, GuestGreeting, GuestHolder, GuestHoldersParams, GuestRole, HelloParams,
    HistoryParams, ImportAccountsParams, ImportEntry, ImportLimit, ImportWindow, InitPoolParams, JoinPoolParams,
    JoinTokenParams, LONGEST_GUEST_GREETING, LeaseCall, LeaseRef, LeavePoolParams, ListAccountsParams,
    ListSecretsParams, MethodInfo, MigrateParams, MoveLeaseParams, NoParams, OpenPageParams, RemoveSecretParams,
    ReportParams, RestartParams, RevokeKeyParams, SetAccountParams, SetPoolParams, SetSecretParams, SubscribeParams,
    VerifyAccountParams,
};
pub use decoder::{Fatal, GuestStart, MessageDecoder, RawMessage};
pub use error::{ErrorAccount, ErrorData, ErrorInfo, ErrorKind};
pub use frame::{ENCODING, FromServer, MAGIC, ServerFrames, encode_call};
pub use gateway_key::{
    GatewayKey, GatewayKeySealer, KEY_ID_PREFIX, LASTING_KEY_BYTES, key_hash, key_id, lasting_key, looks_like_key,
};
pub use lease_id::{LeaseKey, LeaseToken};
pub use message::{Incoming, PlainMessage, RequestId};
pub use relay::{AnswerSplitter, RelayedAnswer, encode_call_as};
pub use upstream_response::{BodyText, HeaderList, ObjectText};

/// The protocol version of this build; an integer, so that versions can be compared.
pub const PROTOCOL: u32 = 1;
/// The largest message in bytes: a line, or the body of a frame.
pub const MAX_MESSAGE: usize = 256 * 1024;

/// How a connection encodes its messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// JSON-RPC 2.0, one message per line.
    Json,
    /// Frames of `u32` length and bincode.
    Binary,
}

impl Codec {
    /// Appends the answer to `id`.
    pub fn answer(self, id: &RequestId, answer: &Answer<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Json => json::answer(id, answer, out),
            Self::Binary => frame::answer(id, answer, out),
        }
    }

    /// Appends a lease as the answer to `id`.
    pub(crate) fn lease(self, id: &RequestId, lease: &LeaseInfo<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Json => json::lease(id, lease, out),
            Self::Binary => frame::lease(id, lease, out),
        }
    }

    /// Appends the refusal of `id`.
    pub fn refusal(self, id: &RequestId, error: &ErrorInfo, out: &mut Vec<u8>) {
        match self {
            Self::Json => json::refusal(id, error, out),
            Self::Binary => frame::refusal(id, error, out),
        }
    }

    /// Appends an event.
    pub fn event(self, event: &EventInfo, out: &mut Vec<u8>) {
        match self {
            Self::Json => json::event(event, out),
            Self::Binary => frame::event(event, out),
        }
    }
}
