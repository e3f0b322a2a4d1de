//! Each command, and the Rust client, against a real daemon in a fresh home: text, JSON, exit code.
#![cfg(unix)]

mod account;
mod client;
mod config;
mod daemon;
mod import;
mod lease;
mod logs;
mod run;
mod small;
mod support;
