//! Usage polling: asks providers how much of their quota the accounts have used.

mod account_query;
mod file;
mod poller;
mod resets;

pub(crate) use poller::start;
pub(crate) use resets::{AccountResets, PendingReset, ResetFile};
