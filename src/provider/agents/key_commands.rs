//! Agents that run a command to get a key, and what they do with it.

use crate::pool::CredentialKind;

/// How an agent uses what such a command prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyCommand {
    agent: &'static str,
    provider: &'static str,
    /// The setting that names the command.
    pub setting: &'static str,
    /// What a request with a login's token needs, and the agent does not send with a key.
    pub login_needs: &'static str,
    /// How the agent is led to the gateway.
    pub to_gateway: &'static str,
}

const TABLE: &[KeyCommand] = &[
    KeyCommand {
        agent: "claude",
        provider: "anthropic",
        setting: "apiKeyHelper",
        login_needs: "the header anthropic-beta",
        to_gateway: "set ANTHROPIC_BASE_URL to {base} in the same settings",
    },
    KeyCommand {
        agent: "codex",
        provider: "openai",
        setting: "auth.command",
        login_needs: "the header chatgpt-account-id",
        to_gateway: "set base_url to {base} and add \"--gateway\" to auth.args",
    },
];

/// The variables in which programs have the address of a provider.
const ADDRESSES: &[(&str, &[&str])] = &[
    ("anthropic", &["ANTHROPIC_BASE_URL"]),
    ("openai", &["OPENAI_BASE_URL", "OPENAI_API_BASE"]),
    ("google", &["GOOGLE_GEMINI_BASE_URL", "CODE_ASSIST_ENDPOINT"]),
];

/// The agent's command for a key, if the token of such a credential does not work as one.
#[must_use]
pub fn refused_key_command(agent: Option<&str>, provider: &str, kind: CredentialKind) -> Option<KeyCommand> {
    let mut of_login = TABLE.iter().filter(|_| kind != CredentialKind::ApiKey);
    of_login.find(|row| agent == Some(row.agent) && row.provider == provider).copied()
}

/// The variables in which programs have the address of a provider.
#[must_use]
pub fn address_variables(provider: &str) -> &'static [&'static str] {
    ADDRESSES.iter().find(|(of, _)| *of == provider).map_or(&[], |(_, names)| names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_s_token_is_no_key_for_an_agent_that_sends_keys_only() {
        use CredentialKind::{ApiKey, Oauth, Token};
        for (agent, provider, kind, refused) in [
            (Some("claude"), "anthropic", Oauth, true),
            (Some("claude"), "anthropic", Token, true),
            (Some("claude"), "anthropic", ApiKey, false),
            (Some("codex"), "openai", Oauth, true),
            (Some("codex"), "openai", ApiKey, false),
            (Some("codex"), "my-llm", Oauth, false),
            (Some("python"), "anthropic", Oauth, false),
            (None, "openai", Oauth, false),
        ] {
            assert_eq!(refused_key_command(agent, provider, kind).is_some(), refused, "{agent:?} {provider} {kind:?}");
        }
    }
}
