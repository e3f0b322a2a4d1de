//! What accounts have used, as their providers tell when asked: parsers of each provider's answer, a budget that keeps
//! the asking within what each provider allows, and the asking itself.
//!
//! The parsers and the [budget](Ledger) are pure. What an answer does not say stays unknown: it is never taken for zero.

mod anthropic;
mod ask;
mod budget;
mod codex;
mod google;
mod value;

pub use ask::{Asked, Failure, Question, ask};
pub use budget::{Ledger, Rhythm, Setback};

use crate::pool::{CredentialKind, Tier, Window};

/// What an answer told.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Reading {
    /// The quota windows; one that the answer is silent about is not there.
    pub windows: Vec<Window>,
    /// The plan, as the provider calls it.
    pub plan: Option<String>,
    /// The same, as lessor does.
    pub tier: Option<Tier>,
    /// The cloud project that the provider keeps for the account.
    pub project: Option<String>,
}

/// An answer that is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the answer is not what {0} sends of an account's usage")]
pub struct Unreadable(&'static str);

/// Whether the provider of this name tells what such an account has used.
///
/// Keys have no plan, and a long-lived token may not ask.
#[must_use]
pub fn can_tell(provider: &str, kind: CredentialKind) -> bool {
    kind == CredentialKind::Oauth && rhythm(provider).is_some()
}

/// How often the provider of this name may be asked about one account.
#[must_use]
pub fn rhythm(provider: &str) -> Option<Rhythm> {
    match provider {
        "anthropic" => Some(Rhythm::ANTHROPIC),
        "openai" | "google" => Some(Rhythm::OTHERS),
        _ => None,
    }
}

/// How long a window of this name is, where the name tells: `5h`, `7d`, `7d_opus`, `90m`.
#[must_use]
pub fn length_of(window: &str) -> Option<std::time::Duration> {
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

/// A window's length as its name: `5h`, `7d`, `90m`.
fn name_of(seconds: u64) -> Option<String> {
    let minutes = (seconds + 30) / 60;
    Some(match minutes {
        0 | 1_000_000.. => return None,
        m if m % 1440 == 0 => format!("{}d", m / 1440),
        m if m % 60 == 0 => format!("{}h", m / 60),
        m => format!("{m}m"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_lengths_are_each_others() {
        for (name, seconds) in [("5h", 18_000), ("7d", 604_800), ("90m", 5_400), ("1d", 86_400)] {
            assert_eq!(name_of(seconds).as_deref(), Some(name));
            assert_eq!(length_of(name).map(|length| length.as_secs()), Some(seconds));
        }
        assert_eq!(length_of("7d_opus").map(|length| length.as_secs()), Some(604_800));
        assert_eq!(length_of("5h codex-spark").map(|length| length.as_secs()), Some(18_000));
        for other in ["", "h", "5", "5x", "primary", "requests", "5hours", "99999d", "ünd"] {
            assert_eq!(length_of(other), None, "{other}");
        }
        assert_eq!((name_of(0), name_of(u64::MAX / 2)), (None, None));
    }

    #[test]
    fn only_logins_of_known_providers_are_asked_about() {
        assert!(can_tell("anthropic", CredentialKind::Oauth) && can_tell("google", CredentialKind::Oauth));
        assert!(!can_tell("anthropic", CredentialKind::Token), "it lacks the scope");
        assert!(!can_tell("anthropic", CredentialKind::ApiKey) && !can_tell("mistral", CredentialKind::Oauth));
    }
}
