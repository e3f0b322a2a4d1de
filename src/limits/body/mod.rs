//! The content of a body of any shape: codes, prose, stated times.

pub(super) mod codes;
mod embedded;
mod error_body;
pub(super) mod google;
mod json;
pub(super) mod lasting;
pub(super) mod links;
pub(super) mod page;
pub(super) mod prose;
pub(super) mod prose_time;
mod read;
pub(super) mod stream;

pub(super) use error_body::{ErrorBody, Period, beginning};
pub use json::lenient as lenient_json;
