//! The used quota of accounts, as their providers report it: a parser per provider, a budget that keeps polling within
//! the provider's limits, and the requests.
//!
//! The parsers and the [budget](PollHistory) are pure. What a response does not contain stays unknown; it is never
//! taken for zero.

mod agent_windows;
mod anthropic;
mod budget;
mod codex;
mod google;
mod query;
mod request;
mod resets;
mod value;

pub use agent_windows::{can_be, newer_windows, stated_window};
pub use budget::{PollFailure, PollHistory, PollLimits};
pub use query::{UsageResult, query};
pub use request::{UsageError, UsageQuery};
pub use resets::{BankedResets, ResetCredit, ResetOutcome, ResetRequest, has_resets, query_resets, use_reset};

use crate::pool::{CredentialKind, Tier, Window};
use crate::provider::plan_tier;

/// The content of a usage response.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct UsageReading {
    /// The quota windows that the response contains.
    pub windows: Vec<Window>,
    /// The provider's name of the plan.
    pub plan: Option<String>,
    /// The tier of the plan.
    pub tier: Option<Tier>,
    /// The account's cloud project.
    pub project: Option<String>,
    /// The limit resets that the account has banked, if the provider says so.
    pub resets: Option<BankedResets>,
    /// Why the provider serves this login nothing, if it says so.
    pub not_served: Option<String>,
}

/// The response has an unexpected format.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the answer is not a usage report of {0}")]
pub struct UnexpectedAnswer(&'static str);

/// Whether this provider reports the usage of accounts of this kind.
///
/// API keys have no plan, and long-lived tokens lack the permission.
#[must_use]
pub fn is_reported(provider: &str, kind: CredentialKind) -> bool {
    kind == CredentialKind::Oauth && poll_limits(provider).is_some()
}

/// How often this provider may be polled for one account.
#[must_use]
pub fn poll_limits(provider: &str) -> Option<PollLimits> {
    match provider {
        "anthropic" => Some(PollLimits::ANTHROPIC),
        "openai" | "google" => Some(PollLimits::OTHERS),
        _ => None,
    }
}

/// The length of a window, if its name states it: `5h`, `7d`, `7d_opus`, `90m`.
#[must_use]
pub fn window_length(window: &str) -> Option<std::time::Duration> {
    let end = window.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, rest) = window.split_at(end);
    let number: u64 = number.parse().ok()?;
    let unit = match rest.chars().next()? {
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let ends = rest[1..].chars().next().is_none_or(|letter| matches!(letter, '_' | ' '));
    (ends && (1..=10_000).contains(&number)).then(|| std::time::Duration::from_secs(number * unit))
}

/// The tier of a plan, if its name tells.
fn known_tier(provider: &str, plan: &str) -> Option<Tier> {
    Some(plan_tier(provider, plan)).filter(|tier| *tier != Tier::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{limits::window_name, pool::Wall};

    /// Each window's name, key, used fraction, and the time to its reset.
    pub(super) fn rows(reading: &UsageReading, now: Wall) -> Vec<(&str, &str, f64, Option<u64>)> {
        let reset = |window: &Window| window.resets_at.map(|at| at.0 - now.0);
        reading.windows.iter().map(|w| (w.name.as_str(), w.key.as_str(), w.utilization, reset(w))).collect()
    }

    #[test]
    fn names_and_lengths_convert_both_ways() {
        for (name, seconds) in [("5h", 18_000), ("7d", 604_800), ("90m", 5_400), ("1d", 86_400)] {
            assert_eq!(window_name(seconds as f64 / 60.0).as_deref(), Some(name));
            assert_eq!(window_length(name).map(|length| length.as_secs()), Some(seconds));
        }
        assert_eq!(window_length("7d_opus").map(|length| length.as_secs()), Some(604_800));
        assert_eq!(window_length("5h codex-spark").map(|length| length.as_secs()), Some(18_000));
        for other in ["", "h", "5", "5x", "primary", "requests", "5hours", "99999d", "ünd"] {
            assert_eq!(window_length(other), None, "{other}");
        }
        assert_eq!((window_name(0.0), window_name(1e18)), (None, None));
    }

    #[test]
    fn only_logins_of_known_providers_are_polled() {
        assert!(is_reported("anthropic", CredentialKind::Oauth) && is_reported("google", CredentialKind::Oauth));
        assert!(!is_reported("anthropic", CredentialKind::Token), "it lacks the scope");
        assert!(!is_reported("anthropic", CredentialKind::ApiKey) && !is_reported("mistral", CredentialKind::Oauth));
    }
}
