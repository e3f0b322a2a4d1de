//! `join`, `leave` and `share`: other machines and containers use this machine's accounts, or this one uses theirs.

mod join;
mod share;

pub(super) use join::{JoinArgs, JoinResult, LeaveResult, join, leave};
pub(super) use share::{ShareArgs, ShareChange, SharedSocket, execute};

/// A list as a value of the configuration: JSON strings are TOML strings.
fn list(values: &[String]) -> String {
    serde_json::Value::from(values.to_vec()).to_string()
}
