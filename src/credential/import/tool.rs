//! The tools whose logins can be imported.

/// A tool, and how it handles its logins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tool {
    /// The opencode plugin for several Google logins.
    AntigravityAuth,
    /// The opencode plugin for several Anthropic logins.
    AnthropicMultiAuth,
    /// Anthropic's agent.
    ClaudeCode,
    /// OpenAI's agent.
    Codex,
    /// Google's agent.
    GeminiCli,
    /// opencode itself.
    Opencode,
    /// The desktop manager of Google logins.
    AntigravityManager,
    /// The proxy for several vendors' logins.
    CliProxyApi,
    /// Environment variables.
    Environment,
    /// lessor's own export.
    Lessor,
}

impl Tool {
    /// All tools.
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

    /// The name in messages.
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

    /// The tool with this name or alias.
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

    /// Whether `lessor run` can start it with a login of its vendor.
    #[must_use]
    pub fn is_agent(self) -> bool {
        matches!(self, Self::ClaudeCode | Self::Codex | Self::GeminiCli)
    }

    /// Whether it takes locks around its refresh that lessor can take as well; only then both can refresh one login.
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
