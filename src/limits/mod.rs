//! Pure: what an upstream's response means. [`classify()`] turns status, headers and body into the reason of a refusal,
//! how far the refusal reaches, how long it lasts and the evidence, and reads the account's quota from the response.
//!
//! | part | job |
//! |---|---|
//! | `time/` | durations, instants and waits in the forms that upstreams write them |
//! | `windows/` | quota windows from headers: Claude's, Codex's, and request and token rates |
//! | `body/` | the content of a body of any shape: codes, prose, stated times, links |
//! | `evidence.rs`, `stated.rs`, `classify.rs` | all of that for one response, the wait it states, and the decision |
//!
//! The work is linear in a bounded part of the input, and no input panics.

mod backoff;
mod body;
mod classify;
mod evidence;
mod reason;
mod response;
mod stated;
mod time;
mod verdict;
mod windows;

pub use backoff::{Backoff, LONGEST_BELIEVED, SHORTEST_HINT};
pub use body::lenient_json;
pub use body::stream::is_error_event;
pub use classify::{classify, classify_event};
pub use evidence::{begins_like_a_secret, line as line_without_secrets};
pub use reason::{Reason, Scope};
pub use response::{Dialect, Headers, MAX_BODY, UpstreamResponse};
pub use time::WaitSource;
pub use time::duration::parse as parse_duration;
pub use time::instant::{epoch_ms, rfc3339};
pub use verdict::{Classification, Confidence, Verdict};
pub use windows::{Window, limit_headers_of_event, window_name};
