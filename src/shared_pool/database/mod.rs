//! The connections with the pool's database: where it is, how it is trusted, what it says when it fails.

pub(super) mod address;
pub(super) mod client;
pub(super) mod connect;
pub(super) mod error;
pub(super) mod notices;
pub(super) mod password;
