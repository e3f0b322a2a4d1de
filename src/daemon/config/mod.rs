//! Live configuration: a worker reads the file, the result is applied to the state.

pub(crate) mod apply;
pub(crate) mod watcher;
