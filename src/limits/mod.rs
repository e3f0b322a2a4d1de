//! Pure: what an upstream's answer means. From status, headers and body to the reason of a refusal, how far it reaches,
//! how long it lasts and why we think so; and to what the answer says of the account's quota.
//!
//! [`classify`] is the one entry; `body.rs` gathers what a body says whatever its shape, `headers.rs` and `windows.rs`
//! what the headers say, `judge.rs` decides. Whatever arrives, the work is linear in a bounded part of it, and nothing
//! panics.

mod anthropic;
mod backoff;
mod body;
mod codes;
mod dialect;
mod duration;
mod evidence;
mod google;
mod headers;
mod http_date;
mod instant;
mod json;
mod judge;
mod openai;
mod prose;
mod prose_time;
mod reason;
mod response;
mod stated;
mod stream;
mod verdict;
mod windows;

pub use backoff::{Backoff, LONGEST_BELIEVED, SHORTEST_HINT};
pub use dialect::Dialect;
pub use duration::parse as parse_duration;
pub use headers::Headers;
pub use instant::{epoch_ms, rfc3339};
pub use json::lenient as lenient_json;
pub use judge::{classify, classify_event};
pub use reason::{Reason, Scope};
pub use response::{MAX_BODY, UpstreamResponse};
pub use stream::is_error_event;
pub use verdict::{Classification, Confidence, Verdict, WaitSource};
pub use windows::Window;
