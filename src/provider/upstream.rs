//! The providers' base URLs, and which credentials are accepted on which paths.

use std::borrow::Cow;

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

/// The provider whose API a vendor's host serves at this path, and the path below the provider's base URL.
#[must_use]
pub fn at_api_host<'a>(host: &str, path: &'a str) -> Option<(&'static str, &'a str)> {
    let bases = super::PROVIDERS.iter().filter_map(|provider| Some((provider.name, base_urls(provider.name)?)));
    let bases = bases.flat_map(|(name, of)| [(name, of.keys), (name, of.logins)]);
    bases.into_iter().find_map(|(name, base)| {
        let (_, rest) = base.split_once("://")?;
        let (own, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let below = path.strip_prefix(prefix).filter(|_| own.eq_ignore_ascii_case(host))?;
        (below.is_empty() || below.starts_with('/')).then_some((name, below))
    })
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
        // what Codex asks ChatGPT beside the Responses API
        "openai" if below("/backend-api") => LOGINS,
        // both serve the Responses API, below their own base
        "openai" if apart && (below("/v1/responses") || below("/responses")) => ALL,
        // the API is below /v1; other paths are those of ChatGPT's programs
        "openai" if apart && below("/v1") => KEYS,
        "openai" if apart => LOGINS,
        _ => ALL,
    }
}

/// Whether a login for the public API is accepted on a path below the base URL for API keys. OpenAI serves responses and
/// the list of models to it, and nothing else.
#[must_use]
pub fn accepts_direct_login(provider: &str, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    provider != "openai" || ["/v1/responses", "/responses", "/v1/models"].contains(&path)
}

/// The path for a kind of credential, where API keys and logins have different base URLs: OpenAI's Responses API is at
/// `/v1/responses` for keys and at `/responses` for logins, and Codex sends the path of the kind it was set up for.
#[must_use]
pub fn path_for_kind<'a>(provider: &str, path: &'a str, kind: CredentialKind) -> Cow<'a, str> {
    let is_responses =
        |path: &str| path.strip_prefix("/responses").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match (provider, kind) {
        ("openai", CredentialKind::ApiKey) if is_responses(path) => Cow::Owned(format!("/v1{path}")),
        ("openai", CredentialKind::Oauth | CredentialKind::Token) => {
            Cow::Borrowed(path.strip_prefix("/v1").filter(|rest| is_responses(rest)).unwrap_or(path))
        }
        _ => Cow::Borrowed(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_responses_api_has_a_path_for_each_kind() {
        use CredentialKind::{ApiKey, Oauth};
        for (provider, path, key, login) in [
            ("openai", "/v1/responses", "/v1/responses", "/responses"),
            ("openai", "/responses/compact", "/v1/responses/compact", "/responses/compact"),
            ("openai", "/v1/responsesx", "/v1/responsesx", "/v1/responsesx"),
            ("openai", "/models", "/models", "/models"),
            ("anthropic", "/v1/responses", "/v1/responses", "/v1/responses"),
        ] {
            assert_eq!(path_for_kind(provider, path, ApiKey), key, "{provider} {path}");
            assert_eq!(path_for_kind(provider, path, Oauth), login, "{provider} {path}");
        }
    }

    #[test]
    fn a_login_for_the_public_api_of_openai_is_for_responses_and_models() {
        for (path, is_accepted) in [
            ("/v1/responses", true),
            ("/responses/", true),
            ("/v1/models", true),
            ("/v1/responses/compact", false),
            ("/v1/chat/completions", false),
            ("/models", false),
        ] {
            assert_eq!(accepts_direct_login("openai", path), is_accepted, "{path}");
        }
    }

    #[test]
    fn each_path_accepts_its_kinds_of_credentials() {
        for (provider, path, apart, expected) in [
            ("anthropic", "/v1/messages", false, ALL),
            ("openai", "/v1/responses", true, ALL),
            ("openai", "/v1/chat/completions", true, KEYS),
            ("openai", "/v1", true, KEYS),
            ("openai", "/v10", true, LOGINS),
            ("openai", "/responses", true, ALL),
            ("openai", "/models", true, LOGINS),
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
