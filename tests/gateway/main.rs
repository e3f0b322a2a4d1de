//! The gateway from outside: raw HTTP on one side, an upstream with scripted responses on the other.

#![cfg(unix)]

mod access;
mod account_bound;
mod admission;
mod agent_session;
mod agree;
mod attest;
mod base_urls;
mod codex_login;
mod denied;
mod early_answers;
mod failover;
mod harness;
mod history;
mod hostile_requests;
mod kind_mix;
mod lasting_keys;
mod lease_keys;
mod memory;
mod metrics;
mod moving;
mod openmetrics;
mod page;
mod passthrough;
mod proxies;
mod records;
mod secure_port;
mod sets;
mod soak;
mod streams;
mod subagents;
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../daemon/support.rs"]
mod support;
mod telemetry;
mod upstream;
mod waiting;
mod websocket;
