//! The calls of the socket, one file per group.

pub(crate) mod account;
pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod dispatch;
pub(crate) mod explain;
pub(crate) mod gateway_key;
pub(crate) mod lease;
pub(crate) mod reply;
pub(crate) mod report;
pub(crate) mod secrets;
pub(crate) mod session;
