//! The providers' base URLs, and which credentials are accepted on which paths.

use crate::pool::CredentialKind;

/// The base URLs for API keys and for logins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BaseUrls {
    /// For API keys.
    pub keys: &'static str,
    /// For logins.
    pub logins: &'static str,
}

const ALL: &[CredentialKind] = &[CredentialKind::ApiKey, CredentialKind::Oauth, CredentialKind::Token];
const KEYS: &[CredentialKind] = &[CredentialKind::ApiKey];
const LOGINS: &[CredentialKind] = &[CredentialKind::Oauth, CredentialKind::Token];

/// The base URLs of a built-in provider.
#[must_use]
pub fn base_urls(provider: &str) -> Option<BaseUrls> {
    let (keys, logins) = match provider {
        "anthropic" => ("https://api.anthropic.com", "https://api.anthropic.com"),
        "openai" => ("https://api.openai.com", "https://chatgpt.com/backend-api/codex"),
        "google" => ("https://generativelanguage.googleapis.com", "https://cloudcode-pa.googleapis.com"),
        _ => return None,
    };
    Some(BaseUrls { keys, logins })
}

/// The kinds of credentials that are accepted on a path below a provider's base URL; `apart` says that API keys and
/// logins have different base URLs.
#[must_use]
pub fn accepted_kinds(provider: &str, path: &str, apart: bool) -> &'static [CredentialKind] {
    let below = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match provider {
        // Code Assist accepts logins only
        "google" if path.starts_with("/v1internal") => LOGINS,
        "google" if apart => KEYS,
        // the API is below /v1; other paths are those of ChatGPT's programs
        "openai" if apart && below("/v1") => KEYS,
        "openai" if apart => LOGINS,
        _ => ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_accepts_its_kinds_of_credentials() {
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
            assert_eq!(accepted_kinds(provider, path, apart), expected, "{provider} {path}");
        }
    }
}
