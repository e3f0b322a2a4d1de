//! How long each program waits for a response, and how it takes a refusal: measured with the programs themselves (the
//! table in docs/gateway.md).

use std::time::Duration;

/// How a program behaves while no account can serve it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// The agent's name.
    agent: &'static str,
    /// How its `user-agent` header begins.
    user_agents: &'static [&'static str],
    /// The silence before the first byte that it bears.
    pub bears: Duration,
    /// Whether it sends its request again after a 429 that has a short `retry-after`.
    pub comes_back: bool,
    /// How it is brought to stop.
    pub stops: StopSignal,
}

/// What, beside the provider's own error, makes a program stop asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopSignal {
    /// The error alone does.
    Error,
    /// It ignores what the error says and stops after a few refusals: this delay in milliseconds makes them quick.
    QuickRefusals(u64),
    /// It shows a text of its own, to which it adds the message in this header.
    MessageHeader(&'static str),
}

/// How a program is treated of which nothing is known.
const UNKNOWN: Patience = Patience {
    agent: "",
    user_agents: &[],
    bears: Duration::from_secs(50),
    comes_back: true,
    stops: StopSignal::Error,
};

const TABLE: &[Patience] = &[
    Patience { agent: "claude", user_agents: &["claude-cli/"], bears: Duration::from_secs(180), ..UNKNOWN },
    Patience {
        agent: "codex",
        user_agents: &["codex_", "codex-", "codex/"],
        bears: Duration::from_secs(180),
        stops: StopSignal::MessageHeader("x-codex-promo-message"),
        ..UNKNOWN
    },
    // gives up after 60 s
    Patience { agent: "gemini", user_agents: &["GeminiCLI"], ..UNKNOWN },
    Patience {
        agent: "opencode",
        user_agents: &["opencode/"],
        // the longest silence that was tried with it is 120 s
        bears: Duration::from_secs(110),
        stops: StopSignal::QuickRefusals(200),
        ..UNKNOWN
    },
    // never sends a request again
    Patience {
        agent: "google-genai",
        user_agents: &["google-genai-sdk/"],
        bears: Duration::from_secs(280),
        comes_back: false,
        ..UNKNOWN
    },
    Patience {
        agent: "anthropic-sdk",
        user_agents: &["Anthropic/", "AsyncAnthropic/"],
        bears: Duration::from_secs(180),
        ..UNKNOWN
    },
    Patience {
        agent: "openai-sdk",
        user_agents: &["OpenAI/", "AsyncOpenAI/"],
        bears: Duration::from_secs(180),
        ..UNKNOWN
    },
];

impl Patience {
    /// The patience of the program that sends a request: the header names it exactly, the lease only the program that
    /// started it.
    #[must_use]
    pub fn of(user_agent: &str, agent: Option<&str>) -> Self {
        let sends = |row: &&Self| row.user_agents.iter().any(|prefix| user_agent.starts_with(prefix));
        let named = |row: &&Self| agent == Some(row.agent);
        TABLE.iter().find(sends).or_else(|| TABLE.iter().find(named)).copied().unwrap_or(UNKNOWN)
    }

    /// The same for a client that states its own timeout: an answer must come before it.
    #[must_use]
    pub fn within(self, timeout: Option<Duration>) -> Self {
        let limit = timeout.map_or(Duration::MAX, |timeout| timeout - timeout / 6);
        Self { bears: self.bears.min(limit), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_the_program_before_the_lease_does() {
        for (user_agent, agent, expected) in [
            ("claude-cli/2.1.329 (external, sdk-cli)", None, "claude"),
            ("codex_exec/0.169.0 (Debian 12.0.0; x86_64)", Some("bash"), "codex"),
            ("GeminiCLI-tui/0.61.0/gemini-3.1-pro-preview (linux)", None, "gemini"),
            ("opencode/1.18.33 ai-sdk/provider-utils/4.0.46", Some("claude"), "opencode"),
            ("google-genai-sdk/3.4.0 gl-python/3.11.2", Some("gemini"), "google-genai"),
            ("Bun/1.3", Some("claude"), "claude"),
            ("", Some("gemini"), "gemini"),
            ("curl/8.1", None, ""),
            ("", Some("aider"), ""),
        ] {
            assert_eq!(Patience::of(user_agent, agent).agent, expected, "{user_agent} {agent:?}");
        }
    }

    #[test]
    fn a_client_s_own_timeout_and_an_unknown_program_shorten_the_wait() {
        let seconds = |patience: Patience| patience.bears.as_secs();
        assert_eq!(seconds(Patience::of("", None)), 50);
        assert!(seconds(Patience::of("GeminiCLI/1", None)) < 60);
        let claude = Patience::of("claude-cli/2", None);
        assert_eq!(seconds(claude.within(Some(Duration::from_secs(600)))), seconds(claude));
        assert_eq!(seconds(claude.within(Some(Duration::from_secs(30)))), 25);
        assert_eq!(claude.within(None), claude);
        assert_eq!(claude.within(Some(Duration::from_secs(u64::MAX))), claude);
    }
}
