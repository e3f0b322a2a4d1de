//! How an account authenticates, which plan it has, and whether its login works.

use super::time::Wall;
use serde::{Deserialize, Serialize};

/// How an account authenticates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// Access and refresh token of a login.
    Oauth,
    /// A key that does not expire.
    ApiKey,
    /// A long-lived token without refresh.
    Token,
}

/// The plan of an account, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// The largest plan; `max` in Claude's own words.
    Ultra,
    /// A paid plan.
    Pro,
    /// A free plan.
    Free,
    /// Not known yet.
    #[default]
    Unknown,
}

stable_names!(Tier: Ultra = "ultra", Pro = "pro", Free = "free", Unknown = "unknown");

/// A plan where it is its number: in the binary codec.
#[derive(Deserialize)]
enum TierNumber {
    Ultra,
    Pro,
    Free,
    Unknown,
}

impl From<TierNumber> for Tier {
    fn from(number: TierNumber) -> Self {
        match number {
            TierNumber::Ultra => Self::Ultra,
            TierNumber::Pro => Self::Pro,
            TierNumber::Free => Self::Free,
            TierNumber::Unknown => Self::Unknown,
        }
    }
}

impl<'de> Deserialize<'de> for Tier {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return TierNumber::deserialize(deserializer).map(Self::from);
        }
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| serde::de::Error::unknown_variant(&name, &["ultra", "pro", "free", "unknown"]))
    }
}

impl Tier {
    /// The plan of this name, in letters of either case; `max` is `ultra`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.trim();
        let tiers = [Self::Ultra, Self::Pro, Self::Free, Self::Unknown];
        let is_max = name.eq_ignore_ascii_case("max");
        tiers.into_iter().find(|tier| tier.name().eq_ignore_ascii_case(name) || is_max && *tier == Self::Ultra)
    }
}

/// Whether the login itself works, regardless of limits.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginState {
    /// The account can be leased.
    #[default]
    Ready,
    /// The user must log in again.
    NeedsLogin(LoginProblem),
    /// The user must confirm something with the provider.
    NeedsVerification(Verification),
}

/// Why the user must log in again. Whether an ended access token can be refreshed is not part of it: that depends on
/// the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginProblem {
    /// The access token has ended.
    AccessTokenEnded,
    /// The token endpoint rejected the refresh token.
    RefreshRejected {
        /// The OAuth error code, such as `invalid_grant`.
        code: String,
        /// When an earlier refresh was sent whose answer was lost: the server may have replaced the token then.
        answer_lost_at: Option<Wall>,
    },
    /// The provider's API rejected the credential.
    RejectedByProvider {
        /// A page of the provider where the user can act.
        link: Option<String>,
    },
    /// In the words of the tool that the account was imported from, or of an earlier version of lessor.
    Described(String),
}

/// What the user must confirm with the provider.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Verification {
    /// The words of the tool that the account was imported from, or of an earlier version of lessor.
    pub text: Option<String>,
    /// The page where the user confirms it.
    pub link: Option<String>,
}

impl Verification {
    /// A confirmation on this page of the provider.
    #[must_use]
    pub fn at(link: Option<&str>) -> Self {
        Self { text: None, link: link.map(str::to_owned) }
    }

    /// A confirmation described in words, which may contain the link.
    #[must_use]
    pub fn described(text: String) -> Self {
        Self { link: link_in(&text), text: Some(text) }
    }
}

impl LoginState {
    /// The page where the user can act, if it is known.
    pub fn link(&self) -> Option<String> {
        match self {
            Self::Ready => None,
            Self::NeedsLogin(LoginProblem::AccessTokenEnded | LoginProblem::RefreshRejected { .. }) => None,
            Self::NeedsLogin(LoginProblem::RejectedByProvider { link }) => link.clone(),
            Self::NeedsLogin(LoginProblem::Described(text)) => link_in(text),
            Self::NeedsVerification(verification) => verification.link.clone(),
        }
    }
}

/// The first `https` link in a text.
fn link_in(text: &str) -> Option<String> {
    let start = text.find("https://")?;
    let link = text[start..].split_whitespace().next()?;
    Some(link.trim_end_matches(['.', ',', ')', ';']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_in_letters_of_either_case() {
        for (text, tier) in [
            ("ultra", Some(Tier::Ultra)),
            ("mAx", Some(Tier::Ultra)),
            ("PRO", Some(Tier::Pro)),
            ("fReE", Some(Tier::Free)),
            ("gold", None),
        ] {
            assert_eq!(serde_json::from_value::<Tier>(text.into()).ok(), tier, "{text}");
        }
        for tier in [Tier::Ultra, Tier::Pro, Tier::Free, Tier::Unknown] {
            let bytes = bincode::serde::encode_to_vec(tier, bincode::config::standard()).unwrap();
            let (read, _) = bincode::serde::decode_from_slice(&bytes, bincode::config::standard()).unwrap();
            assert_eq!(tier, read);
        }
    }
}
