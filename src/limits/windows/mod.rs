//! An account's quota windows in headers: how much is used, and when each resets.

mod anthropic;
mod codex;
mod rates;
mod window;

use super::response::Headers;

pub(super) use anthropic::{is_unpaid, is_windowless, overage};
pub(super) use codex::credits_depleted;
pub use codex::window_name;
pub use window::Window;
pub(super) use window::{WindowFamily, blocking};

/// All windows in the headers.
pub(super) fn read(headers: &Headers, now: u64) -> Vec<Window> {
    let mut windows = anthropic::windows(headers);
    windows.extend(codex::windows(headers, now));
    windows.extend(rates::rates(headers, now));
    windows.truncate(rates::MOST);
    windows
}
