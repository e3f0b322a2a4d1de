//! Which agent a command is, and whose account it wants.

use std::ffi::OsStr;
use std::path::Path;

use crate::provider;

use super::ancestor::{is_launcher, is_shell};

/// Agents without a vendor of their own; they work with any provider.
const NEUTRAL: [&str; 6] = ["opencode", "aider", "goose", "crush", "cline", "pi"];
/// What a file name may end with, beside the program's name.
const ENDINGS: [&str; 6] = [".exe", ".cmd", ".bat", ".ps1", ".js", ".mjs"];

/// What a command is leased for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Purpose {
    pub(super) provider: String,
    /// The agent's name, for the `use` policy and the environment.
    pub(super) agent: Option<String>,
    /// The command is not the agent itself, but will start it, and perhaps others.
    pub(super) within: bool,
}

/// The provider and agent of a command: what was said, else what the program's name tells.
pub(super) fn purpose(said: Option<&str>, word: Option<&str>, program: &OsStr) -> Result<Purpose, String> {
    let name = program_name(program);
    // behind a launcher (npx, env) only the word can tell; else the program says itself what it is
    let within = is_launcher(&name);
    let agent = match word.filter(|_| within) {
        Some(word) => is_agent(word).then(|| word.to_owned()),
        None => Some(name.clone()),
    };
    let provider = match said.or(word) {
        Some(word) => provider::by_alias(word).map_or(word, |provider| provider.name).to_owned(),
        None => match provider::by_alias(&name) {
            Some(provider) => provider.name.to_owned(),
            None if NEUTRAL.contains(&name.as_str()) => {
                return Err(format!("{name} works with any provider: say which with -p, as in -p anthropic"));
            }
            None => return Err(format!("{name:?} is no agent that is known: say which provider with -p")),
        },
    };
    Ok(Purpose { provider, agent: agent.filter(|agent| !agent.is_empty()), within })
}

/// Whether the word is the name of an agent.
pub(super) fn is_agent(word: &str) -> bool {
    provider::PROVIDERS.iter().any(|provider| provider.agents.contains(&word)) || NEUTRAL.contains(&word)
}

/// The provider and agent that a word stands for, without a program that could tell more.
pub(super) fn purpose_of_word(said: Option<&str>, word: &str) -> Result<Purpose, String> {
    if is_agent(word) {
        return purpose(said, None, OsStr::new(word));
    }
    let provider = provider::by_alias(said.unwrap_or(word)).map_or(said.unwrap_or(word), |provider| provider.name);
    Ok(Purpose { provider: provider.to_owned(), agent: None, within: false })
}

/// Whether the program is a shell: arguments that are added are its script's.
pub(super) fn runs_scripts(program: &OsStr) -> bool {
    is_shell(&program_name(program))
}

/// The program's name from its path: `claude` of `/usr/bin/claude` and of `Claude.exe`.
fn program_name(program: &OsStr) -> String {
    let file = Path::new(program).file_name().unwrap_or(program);
    let name = file.to_string_lossy().to_lowercase();
    let ending = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending));
    ending.unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_or_a_word_tells_provider_and_agent() {
        for (said, word, program, expected) in [
            (None, None, "claude", Ok(("anthropic", Some("claude")))),
            (None, None, "/opt/bin/codex", Ok(("openai", Some("codex")))),
            (None, None, "Gemini.EXE", Ok(("google", Some("gemini")))),
            (None, Some("claude"), "claude", Ok(("anthropic", Some("claude")))),
            (Some("openai"), None, "opencode", Ok(("openai", Some("opencode")))),
            (Some("openai"), None, "python", Ok(("openai", Some("python")))),
            (None, Some("claude"), "npx", Ok(("anthropic", Some("claude")))),
            // a program that is no agent does not become one by a word
            (None, Some("claude"), "python", Ok(("anthropic", Some("python")))),
            (None, Some("anthropic"), "npx", Ok(("anthropic", None))),
            (None, Some("my-llm"), "x", Ok(("my-llm", Some("x")))),
            (None, None, "opencode", Err("-p anthropic")),
            (None, None, "python", Err("say which provider")),
        ] {
            let found = purpose(said, word, OsStr::new(program));
            match (&found, expected) {
                (Ok(found), Ok(expected)) => {
                    assert_eq!((found.provider.as_str(), found.agent.as_deref()), expected, "{program}");
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                _ => panic!("{program}: {found:?}"),
            }
        }
    }
}
