//! Logins that another tool refreshes: its files are watched, and the tokens it writes are adopted.

mod adopt;
mod decide;
mod watcher;

pub(crate) use watcher::{adopt_for_refresh, is_tool_behind, start, token_end};
