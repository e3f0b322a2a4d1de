//! An account's quota windows in headers: how much is used, and when each resets.

mod anthropic;
mod codex;
mod event;
mod rates;
mod window;

use super::reason::Scope;
use super::response::Headers;

pub(super) use anthropic::{is_fast_mode_spent, is_unpaid, is_windowless, overage, refused};
pub(super) use codex::credits_depleted;
pub use codex::window_name;
pub use event::limit_headers_of_event;
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

/// Whether a success was paid beyond the plan, as its headers say.
pub(super) fn is_paid_overage(headers: &Headers, windows: &[Window]) -> bool {
    let is_spent =
        |window: &Window| window.kind == WindowFamily::Codex && window.scope == Scope::Account && window.spent;
    anthropic::is_paid_overage(headers) || (windows.iter().any(is_spent) && codex::pays_with_credits(headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_says_whether_it_was_paid_beyond_the_plan() {
        let spent = "x-codex-primary-used-percent=100 x-codex-primary-window-minutes=300";
        for (headers, expected) in [
            ("unified-status=rejected unified-7d-status=rejected unified-overage-in-use=true", true),
            ("unified-status=allowed unified-representative-claim=overage unified-overage-in-use=True", true),
            ("unified-status=rejected unified-overage-status=allowed_warning", true),
            ("unified-status=rejected unified-overage-status=allowed unified-overage-in-use=false", false),
            ("unified-status=allowed unified-overage-status=allowed", false),
            ("unified-status=rejected unified-overage-status=rejected", false),
            ("unified-status=allowed", false),
            (&format!("{spent} x-codex-credits-has-credits=True x-codex-credits-unlimited=False"), true),
            (&format!("{spent} x-codex-credits-has-credits=True x-codex-credits-unlimited=True"), false),
            (&format!("{spent} x-codex-credits-has-credits=False"), false),
            ("x-codex-primary-used-percent=99 x-codex-credits-has-credits=True", false),
            ("x-codex-spark-primary-used-percent=100 x-codex-credits-has-credits=True", false),
            ("", false),
        ] {
            let named = headers.split_whitespace().map(|header| header.split_once('=').unwrap());
            let named = named.map(|(name, value)| match name.starts_with("unified") {
                true => (format!("anthropic-ratelimit-{name}"), value),
                false => (name.to_owned(), value),
            });
            let headers = Headers::telling(named);
            assert_eq!(is_paid_overage(&headers, &read(&headers, 1_789_997_600_000)), expected, "{headers:?}");
        }
    }
}
