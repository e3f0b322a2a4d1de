//! The tools whose logins can be taken in.

/// A tool, and what is known of how it treats its logins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tool {
    /// The plugin of opencode for several Google logins.
    AntigravityAuth,
    /// The plugin of opencode for several Anthropic logins.
    AnthropicMultiAuth,
    /// Anthropic's own agent.
    ClaudeCode,
    /// OpenAI's own agent.
    Codex,
    /// Google's own agent.
    GeminiCli,
    /// opencode itself.
    Opencode,
    /// The desktop manager of Google logins.
    AntigravityManager,
    /// The proxy.
    CliProxyApi,
    /// Variables of the environment.
    Environment,
    /// lessor's own export.
    Lessor,
}

impl Tool {
    /// Every tool.
    pub const ALL: [Self; 10] = [
        Self::AntigravityAuth,
        Self::AnthropicMultiAuth,
        Self::ClaudeCode,
        Self::Codex,
        Self::GeminiCli,
        Self::Opencode,
        Self::AntigravityManager,
        Self::CliProxyApi,
        Self::Environment,
        Self::Lessor,
    ];

    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AntigravityAuth => "opencode-antigravity-auth",
            Self::AnthropicMultiAuth => "opencode-anthropic-multi-auth",
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::GeminiCli => "gemini-cli",
            Self::Opencode => "opencode",
            Self::AntigravityManager => "antigravity-manager",
            Self::CliProxyApi => "cliproxyapi",
            Self::Environment => "env",
            Self::Lessor => "lessor",
        }
    }

    /// As a sentence calls it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::ClaudeCode => "Claude Code",
            Self::Codex => "Codex",
            Self::GeminiCli => "Gemini CLI",
            Self::AntigravityManager => "Antigravity Manager",
            Self::CliProxyApi => "CLIProxyAPI",
            Self::Environment => "the environment",
            other => other.name(),
        }
    }

    /// The tool of this name, or of another one people use for it.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        let aliases: &[(&str, Self)] = &[
            ("antigravity-auth", Self::AntigravityAuth),
            ("antigravity", Self::AntigravityAuth),
            ("anthropic-multi-auth", Self::AnthropicMultiAuth),
            ("claude", Self::ClaudeCode),
            ("gemini", Self::GeminiCli),
            ("antigravity-tools", Self::AntigravityManager),
            ("cli-proxy-api", Self::CliProxyApi),
            ("environment", Self::Environment),
        ];
        let word = word.to_ascii_lowercase();
        let known = Self::ALL.into_iter().find(|tool| tool.name() == word);
        known.or_else(|| aliases.iter().find(|(alias, _)| *alias == word).map(|(_, tool)| *tool))
    }

    /// Whether `lessor run` can start it on a login of its vendor's.
    #[must_use]
    pub fn is_agent(self) -> bool {
        matches!(self, Self::ClaudeCode | Self::Codex | Self::GeminiCli)
    }

    /// Whether it takes locks around its own refresh that others can take too: only then both can refresh one login.
    #[must_use]
    pub fn has_locks(self) -> bool {
        self == Self::ClaudeCode
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_found_by_its_name() {
        for tool in Tool::ALL {
            assert_eq!(Tool::named(tool.name()), Some(tool));
        }
        assert_eq!(Tool::named("Claude"), Some(Tool::ClaudeCode));
        assert_eq!(Tool::named("nosuch"), None);
    }
}
