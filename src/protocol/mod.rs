//! The wire: messages and their two encodings, without any I/O.
//!
//! The first byte of a connection chooses: `{` begins JSON-RPC 2.0, a message a line; the magic `LSR` and a version
//! byte begin binary frames. Both carry the same calls with the same meaning.

mod answer;
mod call;
mod decoder;
mod error;
mod explanation;
mod frame;
mod heard;
mod json;
mod lease_id;
mod letters;
mod pass;

pub use answer::{
    AccountInfo, AccountLabel, AccountName, AccountTotals, Answer, ConfigState, CredentialInfo, DaemonStatus,
    DecisionInfo, Empty, EventInfo, ExportInfo, ExportedAccount, ExportedCredential, ExportedLink, ExportedWindow,
    GatewayAccess, GatewayInfo, HelloInfo, HolderInfo, ImportInfo, ImportedEntry, LeaseInfo, LeaseRow, LimitInfo,
    LinkInfo, QueueRow, RekeyInfo, ReloadInfo, SecretText, UsageInfo,
};
pub use call::{
    AccountRef, AcquireParams, AddAccountParams, BindTo, Call, CredentialParams, DisableAccountParams, ExplainParams,
    ExportAccountsParams, ForecastParams, GatewayKeyParams, HelloParams, ImportAccountsParams, ImportEntry,
    ImportLimit, ImportWindow, LeaseRef, ListAccountsParams, NoParams, ReportParams, SetAccountParams, SubscribeParams,
    VerifyAccountParams,
};
pub use decoder::{Decoder, Fatal, Incoming, RequestId};
pub use error::{ErrorAccount, ErrorData, ErrorInfo, kind_name};
pub use explanation::{CandidateInfo, DecidedInfo, ExplainInfo, ForecastInfo, OutlookInfo, RequestInfo, VerdictInfo};
pub use frame::{ENCODING, FromServer, MAGIC, ServerFrames, encode_call};
pub use heard::{BodyText, HeaderList, ObjectText};
pub use lease_id::{LeaseKey, LeaseToken};
pub use pass::{GatewayKey, GatewayKeySealer};

/// The protocol this build speaks; integers, so that "at least" has a meaning.
pub const PROTOCOL: u32 = 1;
/// The largest message, either way of counting: a line, or the body of a frame.
pub const MAX_MESSAGE: usize = 256 * 1024;

/// How a connection encodes its messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// JSON-RPC 2.0, a message a line.
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
