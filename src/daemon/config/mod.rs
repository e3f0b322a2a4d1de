//! Live configuration: a worker reads the file whenever it may have changed, and applies it.

mod apply;
mod watcher;

pub(crate) use apply::move_key;
pub(crate) use watcher::{ConfigWatcher, LOG_VARIABLE};
