//! Recognises the agent that a command runs, and the provider whose account it needs.

use std::{ffi::OsStr, ffi::OsString, path::Path};

use super::caller_process::{is_launcher, is_shell};
use crate::provider;

/// Agents that work with any provider.
const NEUTRAL: [&str; 6] = ["opencode", "aider", "goose", "crush", "cline", "pi"];
/// Agents that use a gateway by https only, and the API keys of their vendor only.
const BY_HTTPS_WITH_KEYS: [&str; 1] = ["agy"];
/// Agents that cannot use an account of lessor's on this system, and why.
const UNABLE: &[(&str, &str)] = if cfg!(windows) {
    &[(
        "agy",
        "agy cannot use an account of lessor's on Windows: it uses a gateway by https only, and takes no certificate \
         here; Gemini CLI can: lessor run gemini",
    )]
} else {
    &[]
};
/// First arguments with which an agent sends no request: it is asked about itself, or set up. `claude daemon` and the
/// others of Claude Code's own start its sessions, each of which gets a lease.
const WITHOUT_ACCOUNT: [(&str, &str); 5] = [
    (
        "claude",
        "-v --version -h --help update upgrade install doctor auth login logout setup-token mcp plugin plugins config \
         migrate-installer daemon attach logs stop kill respawn rm --bg-pty-host --chrome-native-host",
    ),
    ("codex", "-V --version -h --help login logout completion mcp update upgrade features"),
    ("gemini", "-v --version -h --help mcp extensions extension skills hooks"),
    ("opencode", "-v --version -h --help auth upgrade uninstall models mcp completion stats export import session db"),
    ("agy", "-v --version -h --help update"),
];
/// File name endings that are not part of a program's name.
const EXTENSIONS: [&str; 6] = [".exe", ".cmd", ".bat", ".ps1", ".js", ".mjs"];

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LeasePurpose {
    /// The providers, in the order of their names; none if the command does not say which.
    pub(crate) providers: Vec<String>,
    /// The agent's name, for the accounts' `use` setting and the environment.
    pub(crate) agent: Option<String>,
    /// The command is not the agent but a launcher, which starts it, and perhaps other programs.
    pub(crate) is_launcher: bool,
}

/// The providers and agent of a command: from the given providers or word, else from the program's name.
pub(crate) fn purpose(providers: &[String], word: Option<&str>, program: &OsStr) -> Result<LeasePurpose, String> {
    let name = program_name(program);
    check_able(&name)?;
    word.map_or(Ok(()), check_able)?;
    // the program is the agent, unless it is a launcher (npx, env): then only the word can name the agent
    let is_launcher = is_launcher(&name);
    let agent = match word.filter(|_| is_launcher) {
        Some(word) => is_agent(word).then(|| word.to_owned()),
        None => Some(name.clone()),
    };
    let agent = agent.filter(|agent| !agent.is_empty());
    let providers = match word {
        _ if !providers.is_empty() => provider_names(providers),
        Some(word) if NEUTRAL.contains(&word) => Vec::new(),
        Some(word) => provider_names(&word.split(',').map(str::to_owned).collect::<Vec<_>>()),
        None => provider::by_alias(&name).map(|provider| provider.name.to_owned()).into_iter().collect(),
    };
    Ok(LeasePurpose { providers, agent, is_launcher })
}

/// The providers that words name, once each, in the order of their names.
fn provider_names(words: &[String]) -> Vec<String> {
    let mut names: Vec<String> = words.iter().map(|word| provider_name(word)).collect();
    names.sort();
    names.dedup();
    names
}

impl LeasePurpose {
    /// For a command that does not say which provider: the only one of which there are accounts.
    pub(crate) fn or_only_of(mut self, known: &[String]) -> Result<Self, String> {
        if !self.providers.is_empty() {
            return Ok(self);
        }
        let name = self.agent.clone().unwrap_or_default();
        let choose = match known {
            [only] => {
                self.providers.push(only.clone());
                return Ok(self);
            }
            [] => "choose the provider with -p, as in -p anthropic".to_owned(),
            several => format!("choose the provider with -p: {}", several.join(", ")),
        };
        Err(match NEUTRAL.contains(&name.as_str()) {
            true => format!("{name} works with any provider: {choose}"),
            false => format!("{name:?} is not a known agent: {choose}"),
        })
    }

    /// Whether the command is an agent that lessor knows, and no launcher or script that may start some.
    pub(crate) fn is_agent(&self) -> bool {
        !self.is_launcher && self.agent.as_deref().is_some_and(is_agent)
    }
}

/// Whether an agent works with any provider.
pub(crate) fn is_neutral(agent: &str) -> bool {
    NEUTRAL.contains(&agent)
}

/// Refuses an agent that cannot use an account of lessor's.
pub(crate) fn check_able(agent: &str) -> Result<(), String> {
    let unable = UNABLE.iter().find(|(name, _)| *name == agent);
    unable.map_or(Ok(()), |(_, why)| Err((*why).to_owned()))
}

/// The provider that a word names; an unknown word is returned as it is, for the daemon to judge.
pub(crate) fn provider_name(word: &str) -> String {
    provider::by_alias(word).map_or(word, |provider| provider.name).to_owned()
}

pub(crate) fn is_agent(word: &str) -> bool {
    let by_name = [&NEUTRAL[..], &BY_HTTPS_WITH_KEYS].into_iter().flatten().any(|agent| *agent == word);
    by_name || provider::PROVIDERS.iter().any(|provider| provider.agents.contains(&word))
}

/// Whether an agent uses a gateway by https only, and with API keys only.
pub(super) fn needs_https_and_a_key(agent: &str) -> bool {
    BY_HTTPS_WITH_KEYS.contains(&agent)
}

/// The providers and agent that a word names, without a program.
pub(crate) fn purpose_of_word(providers: &[String], word: Option<&str>) -> Result<LeasePurpose, String> {
    let Some(word) = word else {
        return Ok(LeasePurpose { providers: provider_names(providers), agent: None, is_launcher: false });
    };
    check_able(word)?;
    if is_agent(word) {
        return purpose(providers, None, OsStr::new(word));
    }
    let words: Vec<String> = match providers.is_empty() {
        true => word.split(',').map(str::to_owned).collect(),
        false => providers.to_vec(),
    };
    Ok(LeasePurpose { providers: provider_names(&words), agent: None, is_launcher: false })
}

/// Whether an agent that is started with these arguments sends no request to its provider.
pub(crate) fn uses_no_account(agent: &str, arguments: &[OsString]) -> bool {
    let words = WITHOUT_ACCOUNT.iter().find(|(name, _)| *name == agent).map_or("", |(_, words)| *words);
    let first = arguments.first().map(|first| first.to_string_lossy()).unwrap_or_default();
    words.split_whitespace().any(|word| word == first)
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
            (None::<&str>, None, "claude", Ok(("anthropic", Some("claude")))),
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
            (Some("openai,claude"), None, "x", Ok(("anthropic+openai", Some("x")))),
            (None, Some("openai,anthropic,openai"), "x", Ok(("anthropic+openai", Some("x")))),
            (None, None, "opencode", Ok(("", Some("opencode")))),
            (None, Some("opencode"), "npx", Ok(("", Some("opencode")))),
            (None, None, "python", Ok(("", Some("python")))),
            #[cfg(not(windows))]
            (None, None, "/home/u/.local/bin/agy", Ok(("google", Some("agy")))),
            #[cfg(not(windows))]
            (None, Some("agy"), "npx", Ok(("google", Some("agy")))),
            #[cfg(windows)]
            (Some("google"), None, "agy.exe", Err("on Windows")),
        ] {
            let expected: Result<_, &str> = expected;
            let given: Vec<String> =
                provider.into_iter().flat_map(|given| given.split(',')).map(str::to_owned).collect();
            let found = purpose(&given, word, OsStr::new(program));
            match (&found, expected) {
                (Ok(found), Ok(expected)) => {
                    let providers = found.providers.join("+");
                    assert_eq!((providers.as_str(), found.agent.as_deref()), expected, "{program}");
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                _ => panic!("{program}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_command_that_names_no_provider_takes_the_only_one() {
        let known = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let found = |program: &str, names: &[&str]| {
            purpose(&[], None, OsStr::new(program)).unwrap().or_only_of(&known(names)).map(|found| found.providers)
        };
        assert_eq!(found("python", &["openai"]), Ok(known(&["openai"])));
        assert_eq!(found("claude", &["openai"]), Ok(known(&["anthropic"])), "it says which");
        let several = found("opencode", &["anthropic", "openai"]).unwrap_err();
        assert_eq!(several, "opencode works with any provider: choose the provider with -p: anthropic, openai");
        assert!(found("python", &[]).unwrap_err().contains("is not a known agent"));
    }

    #[test]
    fn a_vendors_name_becomes_the_providers() {
        assert_eq!(provider_name("claude"), "anthropic");
        assert_eq!(provider_name("my-llm"), "my-llm");
        assert_eq!(purpose_of_word(&[], Some("agy")).is_ok(), cfg!(not(windows)));
    }
}
