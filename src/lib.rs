//! lessor: one background daemon per user that owns the user's LLM accounts and leases them to parallel agents.
//!
//! # A map for newcomers
//!
//! A **pure core** decides, a thin **shell** acts. The core, [`pool`], is handed the time and a command, and answers a
//! reply and a list of effects; it knows no socket, file, clock, thread or random source. So the same code runs in the
//! daemon, in the tests under a virtual clock, in the simulation and in the benchmarks.
//!
//! ```text
//!   agents ── socket ──┐                      ┌── store: one SQLite file, sealed credentials, its own thread
//!   commands ─ socket ─┤   ┌──────────────┐   │
//!                      ├──▶│ pool (pure)  │──▶├── events: whoever subscribed
//!   signals, timers ───┘   └──────────────┘   └── timer: one deadline, the next that matters
//!                 time, command  →  reply, effects
//! ```
//!
//! | folder | one job |
//! |---|---|
//! | `cli` | commands: parse, call the client, print for people or as JSON; the demo |
//! | [`gateway`] | loopback HTTP for unmodified agents: lease, forward, next account before the first byte |
//! | [`daemon`] | sockets, connections, watched processes, signals; carries out what the pool decides |
//! | [`client`] | finds the daemon or starts one, typed calls, a lease that ends when dropped |
//! | [`service`] | what systemd, launchd and Windows must be told to keep the daemon there, and what they answer |
//! | [`config`] | where everything lives; `config.toml`: one table of keys, strict reading, every error at once |
//! | [`store`] | what survives the daemon: accounts, limits, sessions, leases that are not bound to a connection |
//! | [`protocol`] | calls and answers, JSON lines and binary frames, without I/O; lease ids |
//! | [`provider`] | what each upstream is: families, quotas, headers, environment variables |
//! | [`credential`] | secrets that cannot be printed; OAuth; **pure** in `refresh`: when a login is renewed; other tools' logins |
//! | [`usage`] | what accounts have used, as their providers tell when asked, within a budget |
//! | [`watch`] | notices that a file has changed, however its editor writes it |
//! | [`simulate`] | **pure**: the pool and the rules of others at work in virtual time, against a modelled provider |
//! | [`pool`] | **pure**: accounts, leases, queue, sessions, strategies, health, limits, decisions |
//! | [`limits`] | **pure**: why an upstream refused, and how far the refusal reaches |
//!
//! A folder imports only from folders below it; `tests/layering.rs` reads the imports and says so.
//!
//! # Where to begin
//!
//! - How an account is chosen: `pool/select.rs`, then `pool/strategy.rs`.
//! - What an upstream's answer comes to: `limits/judge.rs`, then `daemon/learning.rs`, then `pool/report.rs`.
//! - What ends a lease: `pool/grant.rs`; who tells the pool: `daemon/watchers.rs`, `daemon/connection.rs`.
//! - When a login is refreshed: `credential/refresh/`; who carries it out: `daemon/refreshing/`.
//! - What must be on disk before an answer goes out: `daemon/core.rs` (`deliver`), `daemon/adding.rs`.
//! - What must always hold: `pool/check.rs`, called after every step by `tests/pool_model.rs`.
//!
//! # Time
//!
//! Two clocks, read in `daemon/clock.rs` only: one that counts from boot and never goes back, suspend included, for
//! leases and waits; and the time of day, for what others state as one. Setting the clock moves only the latter.

#![forbid(unsafe_code)]
#![warn(clippy::expect_used, clippy::unwrap_used)]

pub mod cli;
pub mod client;
pub mod config;
pub mod credential;
#[deny(clippy::disallowed_methods)]
pub mod daemon;
pub mod gateway;
pub mod http;
#[deny(clippy::disallowed_methods)]
pub mod limits;
#[deny(clippy::disallowed_methods)]
pub mod pool;
#[deny(clippy::disallowed_methods)]
pub mod protocol;
#[deny(clippy::disallowed_methods)]
pub mod provider;
pub mod service;
#[deny(clippy::disallowed_methods)]
pub mod simulate;
pub mod store;
#[deny(clippy::disallowed_methods)]
pub mod usage;
pub mod watch;
