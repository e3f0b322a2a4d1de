//! Keys and long-lived tokens in variables of the environment.

use crate::credential::Secret;
use crate::pool::CredentialKind;

use super::entry::{Entry, key};
use super::fields::is_secret;
use super::tool::Tool;
use super::{Problem, Reading};

/// The variables that hold a credential; their providers; a variable that, when set, sends it elsewhere.
const VARIABLES: [(&str, &str, CredentialKind, &str); 6] = [
    ("ANTHROPIC_API_KEY", "anthropic", CredentialKind::ApiKey, "ANTHROPIC_BASE_URL"),
    ("CLAUDE_CODE_OAUTH_TOKEN", "anthropic", CredentialKind::Token, "ANTHROPIC_BASE_URL"),
    ("OPENAI_API_KEY", "openai", CredentialKind::ApiKey, "OPENAI_BASE_URL"),
    ("CODEX_API_KEY", "openai", CredentialKind::ApiKey, "OPENAI_BASE_URL"),
    ("GEMINI_API_KEY", "google", CredentialKind::ApiKey, "GOOGLE_GEMINI_BASE_URL"),
    ("GOOGLE_API_KEY", "google", CredentialKind::ApiKey, "GOOGLE_GEMINI_BASE_URL"),
];

/// Reads the variables that `variable` answers for.
pub fn read(variable: impl Fn(&str) -> Option<String>) -> Reading {
    let mut reading = Reading::default();
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    for (name, provider, kind, elsewhere) in VARIABLES {
        let Some(value) = set(name) else { continue };
        let mut refuse = |broken, message: String| {
            reading.problems.push(Problem { place: name.to_owned(), message, broken });
        };
        if set(elsewhere).is_some() {
            refuse(false, format!("is left out: {elsewhere} is set, so it is for another address"));
        } else if !is_secret(&value) {
            refuse(true, "is no key: it holds blanks or control characters, or is over 64 KiB".to_owned());
        } else {
            let mut credential = key(Secret::new(value));
            credential.kind = kind;
            let mut entry = Entry::new(Tool::Environment, name.to_owned(), provider, credential);
            entry.label = Some(name.to_owned());
            reading.entries.push(entry);
        }
    }
    reading
}
