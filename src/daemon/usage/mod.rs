//! Usage polling: asks providers how much of their quota the accounts have used.

pub(crate) mod file;
pub(crate) mod poller;
