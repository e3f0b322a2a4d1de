//! What happened: requests of the gateway, leases that ended, and events, kept in a file of their own.

#[allow(dead_code, reason = "the thread that takes the records is the next step")]
mod queue;

pub use queue::{HistoryQueue, HistoryRecord};
