//! Labels for accounts that are added without one: of the agent and the beginning of the address, as `claude-me`. They
//! are one word of a shell. The address itself is not in them: labels are in headers, metrics and the history.

use super::import::Tool;
use crate::pool::CredentialKind;
use crate::provider::built_in;

/// The longest part of a label, in characters.
const LONGEST_PART: usize = 40;

/// What a label is made of.
#[derive(Clone, Copy, Debug)]
pub struct LabelSource<'a> {
    /// The provider.
    pub provider: &'a str,
    /// The tool that it comes from, if any.
    pub tool: Option<Tool>,
    /// How it authenticates.
    pub kind: CredentialKind,
    /// The email address.
    pub email: Option<&'a str>,
    /// The name of the organisation.
    pub organization: Option<&'a str>,
}

impl LabelSource<'_> {
    /// A label that is not taken.
    #[must_use]
    pub fn label(&self, is_taken: impl Fn(&str) -> bool) -> String {
        let (local, domain) = self.email.map_or((None, None), |email| match email.rsplit_once('@') {
            Some((local, domain)) => (part(local), part(domain.split('.').next().unwrap_or_default())),
            None => (part(email), None),
        });
        let organization = self.organization.and_then(part);
        let first = match (self.kind, local.as_ref().or(organization.as_ref())) {
            (CredentialKind::ApiKey, None) => format!("{}-key", self.provider_word()),
            (CredentialKind::ApiKey, Some(owner)) => format!("{}-key-{owner}", self.provider_word()),
            (CredentialKind::Token, None) => format!("{}-token", self.word()),
            (CredentialKind::Token, Some(owner)) => format!("{}-token-{owner}", self.word()),
            (CredentialKind::Oauth, None) => self.word(),
            (CredentialKind::Oauth, Some(owner)) => format!("{}-{owner}", self.word()),
        };
        if local.is_none() && organization.is_none() {
            return numbered(&first, 1, is_taken);
        }
        let longer = [organization, domain].into_iter().flatten().filter(|_| local.is_some());
        let mut candidates = std::iter::once(first.clone()).chain(longer.map(|more| format!("{first}-{more}")));
        candidates.find(|label| !is_taken(label)).unwrap_or_else(|| numbered(&first, 2, is_taken))
    }

    /// What the user calls the program of such a login.
    fn word(&self) -> String {
        let of_tool = match self.tool {
            Some(Tool::ClaudeCode) => Some("claude"),
            Some(Tool::AntigravityManager | Tool::AntigravityAuth) => Some("antigravity"),
            // other tools have logins of several vendors
            _ => None,
        };
        let of_vendor = || built_in(self.provider).and_then(|provider| provider.agents.first().copied());
        of_tool.or_else(of_vendor).map_or_else(|| self.provider_word(), str::to_owned)
    }

    fn provider_word(&self) -> String {
        part(self.provider).unwrap_or_else(|| "account".to_owned())
    }
}

/// The first of `NAME-1`, `NAME-2`, … that is not taken, where the numbers have no gap: there may be thousands.
pub fn numbered(name: &str, from: u32, is_taken: impl Fn(&str) -> bool) -> String {
    let label = |number: u32| format!("{name}-{number}");
    let (mut taken, mut free) = (from.saturating_sub(1), from);
    while is_taken(&label(free)) {
        (taken, free) = (free, free.saturating_mul(2).max(2));
    }
    while free - taken > 1 {
        let middle = taken + (free - taken) / 2;
        if is_taken(&label(middle)) { taken = middle } else { free = middle }
    }
    label(free)
}

/// Letters and digits in lower case, with `-` for what is between them.
fn part(text: &str) -> Option<String> {
    let mut part = String::new();
    for letter in text.chars().take(LONGEST_PART).flat_map(char::to_lowercase) {
        if letter.is_alphanumeric() || "._".contains(letter) {
            part.push(letter);
        } else if !part.ends_with('-') {
            part.push('-');
        }
    }
    let part = part.trim_matches(['-', '.', '_']);
    (!part.is_empty()).then(|| part.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use CredentialKind::{ApiKey, Oauth, Token};

    #[test]
    fn the_next_number_is_found_among_thousands() {
        for last in [0, 1, 2, 3, 7, 8, 4095] {
            let asked = std::cell::Cell::new(0);
            let label = numbered("x", 1, |label| {
                asked.set(asked.get() + 1);
                label.trim_start_matches("x-").parse::<u32>().unwrap() <= last
            });
            assert_eq!(label, format!("x-{}", last + 1));
            assert!(asked.get() < 30, "{last}: {}", asked.get());
        }
    }

    #[test]
    fn a_label_is_made_of_the_agent_and_the_owner() {
        let source =
            |provider, tool, kind, email, organization| LabelSource { provider, tool, kind, email, organization };
        for (source, taken, expected) in [
            (source("anthropic", Some(Tool::ClaudeCode), Oauth, Some("me@example.org"), None), "", "claude-me"),
            (source("openai", Some(Tool::Codex), Oauth, Some("me@example.org"), None), "claude-me", "codex-me"),
            (source("google", Some(Tool::AntigravityManager), Oauth, Some("me@x.org"), None), "", "antigravity-me"),
            (source("anthropic", Some(Tool::Opencode), Oauth, Some("Jo.Doe+ai@x.org"), None), "", "claude-jo.doe-ai"),
            (source("anthropic", None, Oauth, Some("me@home.org"), None), "claude-me", "claude-me-home"),
            (source("anthropic", None, Oauth, Some("me@x.org"), Some("My Team!")), "claude-me", "claude-me-my-team"),
            (source("anthropic", None, Oauth, Some("me@x.org"), None), "claude-me claude-me-x", "claude-me-2"),
            (source("anthropic", None, Oauth, None, Some("Team")), "", "claude-team"),
            (source("anthropic", None, Oauth, None, None), "claude-1", "claude-2"),
            (source("anthropic", None, ApiKey, None, None), "", "anthropic-key-1"),
            (source("openai", None, ApiKey, Some("me@x.org"), None), "", "openai-key-me"),
            (source("anthropic", None, Token, None, None), "claude-token-1", "claude-token-2"),
            (source("My Server", None, ApiKey, None, None), "", "my-server-key-1"),
            (source("work", None, Oauth, Some("me@x.org"), None), "", "work-me"),
            (source("work", None, Oauth, Some("\u{202e}@x.org"), None), "", "work-1"),
            (source("work", None, Oauth, Some("-- '\"@x.org"), None), "", "work-1"),
        ] {
            let label = source.label(|label| taken.split(' ').any(|one| one == label));
            assert_eq!(label, expected, "{source:?}");
        }
    }
}
