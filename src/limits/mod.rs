//! Pure: what an upstream's refusal means.

mod reason;

pub use reason::{Reason, Scope};
