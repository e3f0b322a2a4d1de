//! API keys and long-lived tokens in environment variables.

use super::account::{DiscoveredAccount, key};
use super::{ImportProblem, ParsedFile};
use super::{fields::is_secret, tool::Tool};
use crate::{credential::Secret, pool::CredentialKind};

/// The variables that contain a credential, their providers, and the variable that redirects them to another server
/// when set.
const VARIABLES: [(&str, &str, CredentialKind, &str); 6] = [
    ("ANTHROPIC_API_KEY", "anthropic", CredentialKind::ApiKey, "ANTHROPIC_BASE_URL"),
    ("CLAUDE_CODE_OAUTH_TOKEN", "anthropic", CredentialKind::Token, "ANTHROPIC_BASE_URL"),
    ("OPENAI_API_KEY", "openai", CredentialKind::ApiKey, "OPENAI_BASE_URL"),
    ("CODEX_API_KEY", "openai", CredentialKind::ApiKey, "OPENAI_BASE_URL"),
    ("GEMINI_API_KEY", "google", CredentialKind::ApiKey, "GOOGLE_GEMINI_BASE_URL"),
    ("GOOGLE_API_KEY", "google", CredentialKind::ApiKey, "GOOGLE_GEMINI_BASE_URL"),
];

/// Reads the variables with `variable`.
pub fn read(variable: impl Fn(&str) -> Option<String>) -> ParsedFile {
    let mut reading = ParsedFile::default();
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    for (name, provider, kind, elsewhere) in VARIABLES {
        let Some(value) = set(name) else { continue };
        let mut refuse = |broken, message: String| {
            reading.problems.push(ImportProblem { place: name.to_owned(), message, broken });
        };
        if set(elsewhere).is_some() {
            refuse(false, format!("is left out: {elsewhere} is set, so the key is for another server"));
        } else if !is_secret(&value) {
            refuse(true, "is not a key: it contains spaces or control characters, or is over 64 KiB".to_owned());
        } else {
            let mut credential = key(Secret::new(value));
            credential.kind = kind;
            let mut entry = DiscoveredAccount::new(Tool::Environment, name.to_owned(), provider, credential);
            entry.label = Some(name.to_owned());
            reading.entries.push(entry);
        }
    }
    reading
}
