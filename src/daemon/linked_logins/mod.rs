//! Logins that another tool refreshes: its files are watched, and the tokens it writes are adopted.

pub(crate) mod adopt;
pub(crate) mod watcher;
