//! The tools whose logins can be imported.

named_enum! {
    /// A tool, and how it handles its logins.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
    pub enum Tool {
        /// The opencode plugin for several Google logins.
        AntigravityAuth = "opencode-antigravity-auth" | "antigravity-auth" | "antigravity",
        /// The opencode plugin for several Anthropic logins.
        AnthropicMultiAuth = "opencode-anthropic-multi-auth" | "anthropic-multi-auth",
        /// Anthropic's agent.
        ClaudeCode = "claude-code" | "claude",
        /// OpenAI's agent.
        Codex = "codex",
        /// Google's agent.
        GeminiCli = "gemini-cli" | "gemini",
        /// Google's agent for Antigravity.
        AntigravityCli = "antigravity-cli" | "agy",
        /// opencode itself.
        Opencode = "opencode",
        /// The desktop manager of Google logins.
        AntigravityManager = "antigravity-manager" | "antigravity-tools",
        /// The proxy for several vendors' logins.
        CliProxyApi = "cliproxyapi" | "cli-proxy-api",
        /// Environment variables.
        Environment = "env" | "environment",
        /// lessor's own export.
        Lessor = "lessor",
    }
}

impl Tool {
    /// The name in messages.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::ClaudeCode => "Claude Code",
            Self::Codex => "Codex",
            Self::GeminiCli => "Gemini CLI",
            Self::AntigravityCli => "Antigravity CLI",
            Self::AntigravityManager => "Antigravity Manager",
            Self::CliProxyApi => "CLIProxyAPI",
            Self::Environment => "the environment",
            other => other.name(),
        }
    }

    /// The tool with this name or alias, in any case.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::from_name(&word.to_ascii_lowercase())
    }

    /// Whether `lessor run` can start it with a login of its vendor.
    #[must_use]
    pub fn is_agent(self) -> bool {
        matches!(self, Self::ClaudeCode | Self::Codex | Self::GeminiCli)
    }

    /// Whether it names the owner of its login in another file, which it writes up to seconds after the login.
    #[must_use]
    pub fn names_owner_later(self) -> bool {
        self == Self::ClaudeCode
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
