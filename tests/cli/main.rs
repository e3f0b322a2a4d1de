//! Each command, and the Rust client, against a real daemon in a fresh home: text, JSON, exit code.

mod account;
#[cfg(unix)]
mod alias;
#[cfg(unix)]
mod backup;
#[cfg(unix)]
mod bench;
#[cfg(unix)]
mod children;
mod client;
#[cfg(unix)]
mod completions;
#[cfg(unix)]
mod config;
mod daemon;
#[cfg(unix)]
mod env;
#[cfg(unix)]
mod import;
#[cfg(target_os = "linux")]
mod killed_at_start;
mod lease;
mod limit_resets;
#[cfg(unix)]
mod logs;
mod mcp;
#[cfg(unix)]
mod no_effect;
#[cfg(unix)]
mod queue;
mod report;
#[cfg(unix)]
mod restart;
#[cfg(unix)]
mod run;
#[cfg(unix)]
mod sets;
mod setup_token;
mod small;
mod status;
mod statusline;
mod support;
#[cfg(unix)]
mod token;
#[cfg(unix)]
mod ui;
#[cfg(unix)]
mod version;
#[cfg(windows)]
mod windows;
