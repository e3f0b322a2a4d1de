//! Whose words to expect.

/// A vendor's way of refusing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dialect {
    /// Gemini, Code Assist, Antigravity.
    Google,
    /// Claude.
    Anthropic,
    /// The OpenAI API and Codex.
    Openai,
    /// Everybody else: mostly compatible with one of the others, and read as any of them.
    Other,
}

impl Dialect {
    /// The dialect of a provider, by its name.
    #[must_use]
    pub fn of(provider: &str) -> Self {
        let is = |names: &[&str]| names.iter().any(|name| provider.eq_ignore_ascii_case(name));
        if is(&["google", "gemini", "gemini-cli", "antigravity", "vertex"]) {
            Self::Google
        } else if is(&["anthropic", "claude"]) {
            Self::Anthropic
        } else if is(&["openai", "codex", "chatgpt"]) {
            Self::Openai
        } else {
            Self::Other
        }
    }
}
