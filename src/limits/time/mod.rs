//! Times as upstreams state them: durations, instants, and waits from them.

pub(super) mod duration;
pub(super) mod instant;
mod wait;

pub use wait::WaitSource;
pub(super) use wait::{StatedDelay, When};
