//! The configuration file: strict reading, problems with their positions, edits that keep every other byte.

pub(super) mod atomic_replace;
mod check;
pub mod edit;
pub(super) mod load;
mod position;
pub(super) mod problem;
mod read;
mod syntax;
