//! Where each upstream is, and which credentials are served there on which paths.

use crate::pool::CredentialKind;

/// Where keys are served, and where logins are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bases {
    /// Of keys.
    pub keys: &'static str,
    /// Of logins.
    pub logins: &'static str,
}

const ALL: &[CredentialKind] = &[CredentialKind::ApiKey, CredentialKind::Oauth, CredentialKind::Token];
const KEYS: &[CredentialKind] = &[CredentialKind::ApiKey];
const LOGINS: &[CredentialKind] = &[CredentialKind::Oauth, CredentialKind::Token];

/// Where a built-in provider is.
#[must_use]
pub fn bases(provider: &str) -> Option<Bases> {
    let (keys, logins) = match provider {
        "anthropic" => ("https://api.anthropic.com", "https://api.anthropic.com"),
        "openai" => ("https://api.openai.com", "https://chatgpt.com/backend-api/codex"),
        "google" => ("https://generativelanguage.googleapis.com", "https://cloudcode-pa.googleapis.com"),
        _ => return None,
    };
    Some(Bases { keys, logins })
}

/// Which credentials are served on a path below a provider's base; `apart` says that keys and logins have bases of their
/// own.
#[must_use]
pub fn served(provider: &str, path: &str, apart: bool) -> &'static [CredentialKind] {
    let below = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match provider {
        // Code Assist, which takes logins only
        "google" if path.starts_with("/v1internal") => LOGINS,
        "google" if apart => KEYS,
        // the API is below /v1; what ChatGPT's own programs ask for is not
        "openai" if apart && below("/v1") => KEYS,
        "openai" if apart => LOGINS,
        _ => ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_credentials() {
        for (provider, path, apart, expected) in [
            ("anthropic", "/v1/messages", false, ALL),
            ("openai", "/v1/responses", true, KEYS),
            ("openai", "/v1", true, KEYS),
            ("openai", "/v10", true, LOGINS),
            ("openai", "/responses", true, LOGINS),
            ("openai", "/responses", false, ALL),
            ("google", "/v1beta/models/gemini-3-pro:generateContent", true, KEYS),
            ("google", "/v1internal:generateContent", true, LOGINS),
            ("google", "/v1internal:generateContent", false, LOGINS),
            ("google", "/v1beta/models", false, ALL),
            ("my-llm", "/chat/completions", false, ALL),
        ] {
            assert_eq!(served(provider, path, apart), expected, "{provider} {path}");
        }
    }
}
