//! The calls of the socket protocol, one file per group.

mod account;
mod attest;
mod config;
pub(crate) mod connection;
mod dispatch;
mod explain;
mod gateway_key;
mod history;
pub(crate) mod lease;
pub(crate) mod page;
pub(crate) mod reply;
mod report;
mod secrets;
pub(crate) mod session;
