//! The calls of the socket protocol, one file per group.

mod account;
mod account_set;
mod agent_session;
mod attest;
mod config;
pub(crate) mod connection;
mod dispatch;
mod explain;
mod gateway_key;
mod guest;
mod history;
pub(crate) mod lease;
mod page;
pub(crate) mod page_calls;
mod pool;
pub(crate) mod reply;
mod report;
mod secrets;
pub(crate) mod session;
pub(crate) mod session_guest;
