//! Live configuration: a worker reads the file whenever it may have changed, and puts it in force.

mod apply;
mod watcher;

pub(crate) use apply::settle_key;
pub(crate) use watcher::ConfigWatcher;
