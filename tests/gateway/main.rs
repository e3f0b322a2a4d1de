//! The gateway from outside: HTTP by hand on one side, an upstream that says what it is told to on the other.

#![cfg(unix)]

mod doors;
mod exact;
mod failover;
mod runs;
mod scene;
mod streams;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../daemon/support.rs"]
mod support;
mod upstream;
