//! What a provider's terms say about a kind of login, and what lessor does with it, in one sentence.

use super::built_in;
use crate::pool::CredentialKind;

/// The sentence for a login, shown wherever one is added; `None` for a credential that any program may use, such as an
/// API key. `allowed_agents` are the agents that may use the account; empty stands for the vendor's own.
#[must_use]
pub fn terms(provider: &str, kind: CredentialKind, allowed_agents: &[String]) -> Option<String> {
    let provider = built_in(provider)?;
    let rule = match (provider.name, kind) {
        (_, CredentialKind::ApiKey) => return None,
        ("anthropic", _) => "Anthropic intends the login of a Claude subscription for Claude Code and Claude.ai only",
        ("google", CredentialKind::Oauth) => {
            "Google forbids the use of a personal Gemini or Antigravity login in other products and suspends accounts \
             for it"
        }
        // a login that OpenAI made for other programs is open to any
        ("openai", CredentialKind::Oauth) if !allowed_agents.iter().any(|agent| agent == "any") => {
            "OpenAI provides the ChatGPT login of Codex for Codex"
        }
        _ => return None,
    };
    let is_foreign = |agent: &&String| !provider.agents.contains(&agent.as_str());
    let foreign: Vec<&str> = allowed_agents.iter().filter(is_foreign).map(String::as_str).collect();
    let what_lessor_does = match foreign.as_slice() {
        [] => format!("lessor leases it to {} only", joined(&own_names(provider.agents))),
        foreign if foreign.contains(&"any") => "you let lessor lease it to any agent (`use`)".to_owned(),
        foreign => format!("you let lessor lease it to {}, too (`use`)", joined(foreign)),
    };
    Some(format!("{rule}; {what_lessor_does}"))
}

/// What the vendor calls its agents.
fn own_names<'a>(agents: &[&'a str]) -> Vec<&'a str> {
    let name = |agent: &'a str| match agent {
        "claude" => "Claude Code",
        "codex" => "Codex",
        "gemini" => "Gemini CLI",
        "antigravity" => "Antigravity",
        other => other,
    };
    agents.iter().copied().map(name).collect()
}

fn joined(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        names => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CredentialKind::{ApiKey, Oauth, Token};

    fn sentence(provider: &str, kind: CredentialKind, allowed: &str) -> String {
        let allowed: Vec<String> = allowed.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect();
        terms(provider, kind, &allowed).unwrap_or_default()
    }

    #[test]
    fn each_kind_of_login_has_its_sentence() {
        for (provider, kind, allowed, expected) in [
            (
                "anthropic",
                Oauth,
                "claude",
                "Anthropic intends the login of a Claude subscription for Claude Code and Claude.ai only; lessor \
                 leases it to Claude Code only",
            ),
            (
                "google",
                Oauth,
                "",
                "Google forbids the use of a personal Gemini or Antigravity login in other products and suspends \
                 accounts for it; lessor leases it to Gemini CLI and Antigravity only",
            ),
            (
                "openai",
                Oauth,
                "codex",
                "OpenAI provides the ChatGPT login of Codex for Codex; lessor leases it to Codex only",
            ),
        ] {
            assert_eq!(sentence(provider, kind, allowed), expected);
        }
        assert_eq!(sentence("anthropic", Token, "claude"), sentence("anthropic", Oauth, ""), "a setup token is one");
    }

    #[test]
    fn keys_and_other_providers_have_none() {
        for (provider, kind, allowed) in [
            ("anthropic", ApiKey, "any"),
            ("google", ApiKey, "any"),
            ("google", Token, "any"),
            ("openai", ApiKey, "any"),
            ("openai", Oauth, "any"),
            ("work", Oauth, "any"),
        ] {
            assert_eq!(sentence(provider, kind, allowed), "", "{provider} {kind:?}");
        }
    }

    #[test]
    fn the_sentence_says_what_the_user_allowed() {
        let ends = [
            ("claude,opencode", "; you let lessor lease it to opencode, too (`use`)"),
            ("claude,opencode,pi", "; you let lessor lease it to opencode and pi, too (`use`)"),
            ("any", "; you let lessor lease it to any agent (`use`)"),
        ];
        for (allowed, end) in ends {
            assert!(sentence("anthropic", Oauth, allowed).ends_with(end), "{allowed}");
        }
    }
}
