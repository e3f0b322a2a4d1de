//! lessor: one background daemon per user that owns the user's LLM accounts and leases them to parallel agents.
//!
//! # The map
//!
//! A **pure core** decides, a thin **shell** acts. The core, [`pool`], receives the time and a command, and returns a reply
//! and a list of effects. It knows no socket, file, clock, thread or random source, so the same code runs in the daemon, in
//! tests under a virtual clock, in the simulation and in the benchmarks.
//!
//! ```text
//!   agents ── socket ───┐                      ┌── store: one SQLite file, sealed credentials, its own thread
//!   commands ─ socket ──┤   ┌──────────────┐   │
//!   agents ── gateway ──┼──▶│ pool (pure)  │──▶├── answers and events, to the clients
//!   signals, timers ────┘   └──────────────┘   └── one timer, for the next deadline
//!                  time, command  →  reply, effects
//! ```
//!
//! | folder | one job |
//! |---|---|
//! | [`cli`] | the commands: parses, calls the client, prints for people or as JSON; the demo |
//! | [`gateway`] | loopback HTTP for unmodified agents: leases, forwards, retries with another account before the first byte |
//! | [`daemon`] | sockets, connections, watched processes, signals; carries out what the pool decides |
//! | [`client`] | finds or starts the daemon; typed calls; a lease that ends when it is dropped |
//! | [`guest`] | links over ssh, by which other machines use this one's accounts; which calls they may make |
//! | [`service`] | installs the daemon as a service of systemd, launchd or Windows |
//! | [`config`] | where the files are; `config.toml`: one table of keys, strict parsing, all errors in one report |
//! | [`store`] | what survives the daemon: accounts, limits, sessions, leases that are not bound to a connection |
//! | [`history`] | what happened: requests, leases and events of the past, within a budget of bytes and age |
//! | [`protocol`] | calls and answers, JSON lines and binary frames, without I/O; lease ids |
//! | [`provider`] | the upstreams as data: families, quotas, headers, environment variables |
//! | [`credential`] | secrets that cannot be printed; OAuth; logins of other tools; **pure** in `refresh`: when to refresh a login |
//! | [`shared_pool`] | the pool of several machines: accounts, seats and limits in PostgreSQL, as typed calls |
//! | [`usage`] | queries providers for the usage of accounts, within a budget |
//! | [`watch`] | detects that a file has changed, for every way in which editors write |
//! | [`ownership`] | whether other users could change a file, or a directory or link on the way to it |
//! | [`measure`] | loads that measure lessor, for `lessor bench` and the benchmarks |
//! | [`simulate`] | **pure**: the pool, and rules to compare it with, in virtual time against a model of a provider |
//! | [`pool`] | **pure**: accounts, leases, queue, sessions, strategies, health, limits, decisions |
//! | [`visible`] | **pure**: escapes invisible and misleading characters of names and messages from outside |
//! | [`limits`] | **pure**: why an upstream refused a request, and how far the refusal reaches |
//!
//! A folder imports only from folders below it; `tests/layering.rs` checks that. `docs/architecture.md` explains the rules.
//!
//! # Where to begin
//!
//! - How an account is chosen: `pool/select/choose.rs`, then `pool/select/strategy.rs`.
//! - How an upstream response is handled: `limits/classify.rs`, then `daemon/state/requests/report.rs`, then `pool/report/mod.rs`.
//! - What ends a lease: `pool/lease/grant.rs`; who reports the end: `daemon/state/processes.rs`, `daemon/api/connection/mod.rs`.
//! - When a login is refreshed: `credential/refresh/`; who refreshes it: `daemon/refresh/`.
//! - How a call changes the state: `daemon/api/dispatch.rs`, then `daemon/state/apply.rs`.
//! - What must be on disk before an answer is sent: `daemon/state/commit.rs`, then `daemon/api/reply.rs`.
//! - What must always hold: `pool/check.rs`, which `tests/pool_model` calls after every step.
//!
//! # Time
//!
//! There are two clocks, and only `daemon/os/clock.rs` reads them: the time since boot, including suspend, for leases and
//! waits; and the time of day, for times that others state. Changing the system's clock affects only the latter.

// two calls to the C library's allocator, which no crate offers as safe functions: `daemon/os/allocator.rs`
#![deny(unsafe_code)]
#![warn(clippy::expect_used, clippy::unwrap_used)]

#[macro_use]
mod named_enum;

pub mod cli;
pub mod client;
pub mod config;
pub mod credential;
#[deny(clippy::disallowed_methods)]
pub mod daemon;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod gateway;
pub mod guest;
pub mod history;
pub mod http;
#[deny(clippy::disallowed_methods)]
pub mod limits;
pub mod measure;
#[deny(clippy::disallowed_methods)]
pub mod ownership;
pub mod pool;
#[deny(clippy::disallowed_methods)]
pub mod protocol;
#[deny(clippy::disallowed_methods)]
pub mod provider;
pub mod service;
#[deny(clippy::disallowed_methods)]
pub mod shared_pool;
#[deny(clippy::disallowed_methods)]
pub mod simulate;
pub mod store;
#[deny(clippy::disallowed_methods)]
pub mod usage;
pub mod visible;
pub mod watch;
