//! The vendors' programs that can log in: where each keeps its login, and what would divert it.

use std::path::Path;

use super::{LinkMode, import::Tool};
use crate::provider::is_credential_variable;

named_enum! {
    /// A vendor's program that can log in.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
    pub enum LoginProgram {
        /// Claude Code.
        Claude = "claude",
        /// Codex.
        Codex = "codex",
        /// Gemini CLI.
        Gemini = "gemini",
        /// Antigravity CLI.
        Agy = "agy",
    }
}

impl LoginProgram {
    /// The provider of its logins.
    #[must_use]
    pub fn provider(self) -> &'static str {
        match self {
            Self::Claude => "anthropic",
            Self::Codex => "openai",
            Self::Gemini | Self::Agy => "google",
        }
    }

    /// The first program that makes logins of a provider.
    #[must_use]
    pub fn of_provider(provider: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.provider() == provider)
    }

    /// The program's name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Claude => Tool::ClaudeCode.title(),
            Self::Codex => Tool::Codex.title(),
            Self::Gemini => Tool::GeminiCli.title(),
            Self::Agy => "Antigravity CLI",
        }
    }

    /// The program of a tool whose logins can be imported, by the tool's stable name.
    #[must_use]
    pub fn of_tool(tool: &str) -> Option<Self> {
        let tool = Tool::named(tool)?;
        Self::ALL.into_iter().find(|program| program.tool() == tool)
    }

    /// The tool that it is among those whose logins can be imported.
    #[must_use]
    pub fn tool(self) -> Tool {
        match self {
            Self::Claude => Tool::ClaudeCode,
            Self::Codex => Tool::Codex,
            Self::Gemini => Tool::GeminiCli,
            Self::Agy => Tool::AntigravityCli,
        }
    }

    /// Who refreshes a login in a home of this program.
    #[must_use]
    pub fn link_mode(self) -> LinkMode {
        match self {
            Self::Claude | Self::Codex => LinkMode::Share,
            Self::Gemini | Self::Agy => LinkMode::StartTool,
        }
    }

    /// The file in its directory that contains the login.
    #[must_use]
    pub fn login_file(self) -> &'static Path {
        Path::new(match self {
            Self::Claude => ".credentials.json",
            Self::Codex => "auth.json",
            Self::Gemini => ".gemini/oauth_creds.json",
            Self::Agy => ".gemini/antigravity-cli/antigravity-oauth-token",
        })
    }

    /// The variables that name its directory.
    pub(super) fn home_variables(self) -> &'static [&'static str] {
        match self {
            Self::Claude => &["CLAUDE_CONFIG_DIR"],
            Self::Codex => &["CODEX_HOME"],
            Self::Gemini => &["GEMINI_CLI_HOME"],
            Self::Agy if cfg!(windows) => &["HOME", "USERPROFILE"],
            Self::Agy => &["HOME"],
        }
    }

    /// Whether a variable would make it use another login, another server or another directory.
    #[must_use]
    pub fn is_diverted_by(self, variable: &str) -> bool {
        let (names, beginnings): (&[&str], &[&str]) = match self {
            Self::Claude => (
                &["ANTHROPIC_CUSTOM_HEADERS", "CLAUDE_SECURESTORAGE_CONFIG_DIR", "CLAUDE_LOCAL_OAUTH_API_BASE"],
                &[
                    "CLAUDE_CODE_USE_",
                    "CLAUDE_CODE_OAUTH_",
                    "CLAUDE_CODE_CUSTOM_OAUTH_",
                    "USE_LOCAL_OAUTH",
                    "USE_STAGING_OAUTH",
                ],
            ),
            Self::Codex => (&["CODEX_REFRESH_TOKEN_URL_OVERRIDE", "CODEX_APP_SERVER_LOGIN_ISSUER"], &["OPENAI_"]),
            Self::Gemini => (
                &[
                    "GEMINI_CLI_SYSTEM_SETTINGS_PATH",
                    "GEMINI_CLI_SYSTEM_DEFAULTS_PATH",
                    "GOOGLE_APPLICATION_CREDENTIALS",
                ],
                &["GEMINI_FORCE_", "GEMINI_DEFAULT_AUTH_TYPE"],
            ),
            // with a session bus it would store the login in the keyring of the desktop
            Self::Agy => (
                &["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"],
                &["AGY_", "DBUS_SESSION_BUS_", "GNOME_KEYRING_"],
            ),
        };
        names.contains(&variable)
            || beginnings.iter().any(|beginning| variable.starts_with(beginning))
            || is_credential_variable(self.provider(), variable)
    }
}
