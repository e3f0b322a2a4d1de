//! `pool.…`: the pool that several hosts share.

use std::sync::Arc;

use super::reply::AnswerResult;
use crate::daemon::state::Daemon;
use crate::protocol::{Call, ErrorInfo, ErrorKind};

/// Serves a call about the shared pool.
pub async fn serve(_daemon: Arc<Daemon>, call: Call) -> AnswerResult {
    let message = format!("{} is not served: this host shares no pool with other hosts", call.method());
    Err(ErrorInfo::new(ErrorKind::NotInPool, message))
}
