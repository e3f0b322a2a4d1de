//! Usage polling: asks providers how much of their quota the accounts have used.

mod file;
mod poller;

pub(crate) use poller::start;
