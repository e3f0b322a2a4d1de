//! A client's request: who may send one, its buffered body, and what is read from it.

pub(super) mod access;
mod buffered;
mod dot_segment;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod json_scan;
mod request_text;
mod upstream_body;

pub(super) use access::ConnectionOrigin;
pub(super) use buffered::{BufferLimits, BufferedRequest, CannotSend, RequestReadError};
pub(super) use request_text::WantedText;
pub(super) use upstream_body::{BodyTooLarge, BufferBudget, UpstreamBody};

use std::sync::Arc;

use super::metrics::InFlightGuard;
use super::record::RequestRecord;
use super::route::UpstreamRoute;
use crate::daemon::GatewayPeer;
use crate::pool::ConnectionId;

pub(super) struct RequestParts {
    pub(super) connection: ConnectionId,
    /// The other end of that connection.
    pub(super) peer: Arc<GatewayPeer>,
    pub(super) route: Arc<UpstreamRoute>,
    pub(super) buffered: BufferedRequest,
    pub(super) model: Option<Arc<str>>,
    /// The quota, where the client's program determines it.
    pub(super) pool: Option<&'static str>,
    pub(super) record: RequestRecord,
    /// It is in flight: until it has to wait for an account.
    pub(super) in_flight: Option<InFlightGuard>,
}
