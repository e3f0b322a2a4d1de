//! What the providers' terms say of the logins that an import adds.

use crate::credential::import::{DiscoveredAccount, Tool};
use crate::protocol::ImportedEntry;
use crate::provider::{built_in, terms};

/// A sentence for each provider whose login is added. It names the tools in which a login was found, and which may not
/// use it.
pub(super) fn of_added<'a>(entries: impl Iterator<Item = (&'a DiscoveredAccount, &'a ImportedEntry)>) -> Vec<String> {
    let mut sentences: Vec<(String, Vec<&str>)> = Vec::new();
    for (entry, _) in entries.filter(|(_, answer)| ["added", "linked"].contains(&answer.outcome.as_str())) {
        let allowed = entry.allowed_agents.as_deref().unwrap_or_default();
        let Some(sentence) = terms(&entry.provider, entry.credential.kind, allowed) else { continue };
        let place = sentences.iter().position(|(known, _)| *known == sentence).unwrap_or_else(|| {
            sentences.push((sentence, Vec::new()));
            sentences.len() - 1
        });
        let agent = agent_of(entry.tool).filter(|agent| !may_use(entry, agent));
        let closed_to = &mut sentences[place].1;
        closed_to.extend(agent.filter(|agent| !closed_to.contains(agent)));
    }
    let whole = |(sentence, closed_to): (String, Vec<&str>)| match closed_to.as_slice() {
        [] => sentence,
        agents => format!("{sentence}, so the login of {} stays closed to it", agents.join(" and ")),
    };
    sentences.into_iter().map(whole).collect()
}

/// The agent that used the logins of a tool, if it is not the vendor's.
fn agent_of(tool: Tool) -> Option<&'static str> {
    match tool {
        Tool::Opencode | Tool::AntigravityAuth | Tool::AnthropicMultiAuth => Some("opencode"),
        _ => None,
    }
}

fn may_use(entry: &DiscoveredAccount, agent: &str) -> bool {
    match &entry.allowed_agents {
        Some(allowed) => allowed.iter().any(|one| one == agent || one == "any"),
        None => built_in(&entry.provider).is_none_or(|provider| provider.agents.contains(&agent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{Credential, Secret};
    use crate::pool::CredentialKind;

    fn sentences(entries: &[(Tool, &str, CredentialKind, &str)]) -> Vec<String> {
        let pairs: Vec<(DiscoveredAccount, ImportedEntry)> = entries
            .iter()
            .map(|(tool, provider, kind, outcome)| {
                let credential = Credential::new(*kind, Secret::new("s".to_owned()));
                let answer = ImportedEntry { outcome: (*outcome).to_owned(), account: None, message: String::new() };
                (DiscoveredAccount::new(*tool, "x".to_owned(), provider, credential), answer)
            })
            .collect();
        of_added(pairs.iter().map(|(entry, answer)| (entry, answer)))
    }

    #[test]
    fn each_provider_has_one_sentence_and_it_says_to_whom_a_login_stays_closed() {
        use CredentialKind::{ApiKey, Oauth};
        let both = sentences(&[
            (Tool::ClaudeCode, "anthropic", Oauth, "linked"),
            (Tool::Opencode, "anthropic", Oauth, "linked"),
            (Tool::AnthropicMultiAuth, "anthropic", Oauth, "added"),
            (Tool::Opencode, "openai", ApiKey, "added"),
            (Tool::GeminiCli, "google", Oauth, "added"),
        ]);
        let [claude, google] = both.as_slice() else { panic!("{both:?}") };
        let end = "lessor leases it to Claude Code only, so the login of opencode stays closed to it";
        assert!(claude.starts_with("Anthropic intends") && claude.ends_with(end), "{claude}");
        assert!(google.starts_with("Google forbids") && google.ends_with("Antigravity only"), "{google}");
        // what was known already is not said again
        assert_eq!(sentences(&[(Tool::ClaudeCode, "anthropic", Oauth, "same")]), Vec::<String>::new());
    }
}
