//! Recognises the agent that a command runs, and the provider whose account it needs.

use std::{ffi::OsStr, path::Path};

use super::caller_process::{is_launcher, is_shell};
use crate::provider;

/// Agents that work with any provider.
const NEUTRAL: [&str; 6] = ["opencode", "aider", "goose", "crush", "cline", "pi"];
/// Agents that cannot use an account of lessor's, and why.
const UNABLE: [(&str, &str); 1] = [(
    "agy",
    "agy cannot use an account of lessor's yet: it speaks to a gateway by https only, and lessor's speaks http; \
     Gemini CLI can: lessor run gemini",
)];
/// File name endings that are not part of a program's name.
const EXTENSIONS: [&str; 6] = [".exe", ".cmd", ".bat", ".ps1", ".js", ".mjs"];

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LeasePurpose {
    pub(crate) provider: String,
    /// The agent's name, for the accounts' `use` setting and the environment.
    pub(crate) agent: Option<String>,
    /// The command is not the agent but a launcher, which starts it, and perhaps other programs.
    pub(crate) is_launcher: bool,
}

/// The provider and agent of a command: from the given provider or word, else from the program's name.
pub(crate) fn purpose(provider: Option<&str>, word: Option<&str>, program: &OsStr) -> Result<LeasePurpose, String> {
    let name = program_name(program);
    check_able(&name)?;
    word.map_or(Ok(()), check_able)?;
    // the program is the agent, unless it is a launcher (npx, env): then only the word can name the agent
    let is_launcher = is_launcher(&name);
    let agent = match word.filter(|_| is_launcher) {
        Some(word) => is_agent(word).then(|| word.to_owned()),
        None => Some(name.clone()),
    };
    let provider = match provider.or(word) {
        Some(word) => provider_name(word),
        None => match provider::by_alias(&name) {
            Some(provider) => provider.name.to_owned(),
            None if NEUTRAL.contains(&name.as_str()) => {
                return Err(format!("{name} works with any provider: choose one with -p, as in -p anthropic"));
            }
            None => return Err(format!("{name:?} is not a known agent: choose the provider with -p")),
        },
    };
    Ok(LeasePurpose { provider, agent: agent.filter(|agent| !agent.is_empty()), is_launcher })
}

fn check_able(agent: &str) -> Result<(), String> {
    let unable = UNABLE.iter().find(|(name, _)| *name == agent);
    unable.map_or(Ok(()), |(_, why)| Err((*why).to_owned()))
}

/// The provider that a word names; an unknown word is returned as it is, for the daemon to judge.
pub(crate) fn provider_name(word: &str) -> String {
    provider::by_alias(word).map_or(word, |provider| provider.name).to_owned()
}

pub(crate) fn is_agent(word: &str) -> bool {
    provider::PROVIDERS.iter().any(|provider| provider.agents.contains(&word)) || NEUTRAL.contains(&word)
}

/// The provider and agent that a word names, without a program.
pub(crate) fn purpose_of_word(provider: Option<&str>, word: &str) -> Result<LeasePurpose, String> {
    check_able(word)?;
    if is_agent(word) {
        return purpose(provider, None, OsStr::new(word));
    }
    let provider = provider_name(provider.unwrap_or(word));
    Ok(LeasePurpose { provider, agent: None, is_launcher: false })
}

/// Whether the program is a shell: added arguments would be those of its script.
pub(crate) fn runs_scripts(program: &OsStr) -> bool {
    is_shell(&program_name(program))
}

/// The program's name from its path: `claude` from `/usr/bin/claude` and from `Claude.exe`.
fn program_name(program: &OsStr) -> String {
    let file = Path::new(program).file_name().unwrap_or(program);
    let name = file.to_string_lossy().to_lowercase();
    let stem = EXTENSIONS.iter().find_map(|extension| name.strip_suffix(extension));
    stem.unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_or_a_word_determines_provider_and_agent() {
        for (provider, word, program, expected) in [
            (None, None, "claude", Ok(("anthropic", Some("claude")))),
            (None, None, "/opt/bin/codex", Ok(("openai", Some("codex")))),
            (None, None, "Gemini.EXE", Ok(("google", Some("gemini")))),
            (None, Some("claude"), "claude", Ok(("anthropic", Some("claude")))),
            (Some("openai"), None, "opencode", Ok(("openai", Some("opencode")))),
            (Some("openai"), None, "python", Ok(("openai", Some("python")))),
            (None, Some("claude"), "npx", Ok(("anthropic", Some("claude")))),
            // the word names the provider, not the program
            (None, Some("claude"), "python", Ok(("anthropic", Some("python")))),
            (None, Some("anthropic"), "npx", Ok(("anthropic", None))),
            (None, Some("my-llm"), "x", Ok(("my-llm", Some("x")))),
            (None, None, "opencode", Err("-p anthropic")),
            (None, None, "python", Err("choose the provider")),
            (None, None, "/home/u/.local/bin/agy", Err("by https only")),
            (None, Some("agy"), "npx", Err("by https only")),
            (Some("google"), None, "agy", Err("by https only")),
        ] {
            let found = purpose(provider, word, OsStr::new(program));
            match (&found, expected) {
                (Ok(found), Ok(expected)) => {
                    assert_eq!((found.provider.as_str(), found.agent.as_deref()), expected, "{program}");
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                _ => panic!("{program}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_vendors_name_becomes_the_providers() {
        assert_eq!(provider_name("claude"), "anthropic");
        assert_eq!(provider_name("my-llm"), "my-llm");
        assert!(purpose_of_word(None, "agy").unwrap_err().contains("lessor run gemini"));
    }
}
