//! The request that shows whether a credential is accepted, without cost: by provider and kind.

use crate::pool::CredentialKind;

/// A request that costs nothing and needs a valid credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckRequest {
    /// The path below the base URL of this kind of credential, with its query.
    pub path: &'static str,
    /// The vendor's own URL, where it is not below the base URL.
    pub vendor_url: Option<&'static str>,
    /// The JSON body of a POST; a GET without one.
    pub body: Option<&'static str>,
    /// A header that the endpoint needs.
    pub header: Option<(&'static str, &'static str)>,
}

const GET: CheckRequest = CheckRequest { path: "", vendor_url: None, body: None, header: None };

/// The request for a provider and a kind of credential: the list of models, or what the vendor's programs ask first.
#[must_use]
pub fn check_request(provider: &str, kind: CredentialKind) -> CheckRequest {
    match (provider, kind) {
        ("anthropic", _) => {
            CheckRequest { path: "/v1/models?limit=1", header: Some(("anthropic-version", "2023-06-01")), ..GET }
        }
        ("openai", CredentialKind::Oauth) => CheckRequest {
            path: "/api/codex/usage",
            vendor_url: Some("https://chatgpt.com/backend-api/wham/usage"),
            ..GET
        },
        ("google", CredentialKind::ApiKey) => CheckRequest { path: "/v1beta/models?pageSize=1", ..GET },
        ("google", _) => CheckRequest {
            path: "/v1internal:loadCodeAssist",
            body: Some(r#"{"metadata":{"ideType":"IDE_UNSPECIFIED","pluginType":"GEMINI"}}"#),
            ..GET
        },
        _ => CheckRequest { path: "/v1/models", ..GET },
    }
}

/// Why a secret cannot be of this kind, where the vendor's prefix shows that.
#[must_use]
pub fn wrong_kind(provider: &str, kind: CredentialKind, secret: &str) -> Option<&'static str> {
    match (provider, kind) {
        ("anthropic", CredentialKind::ApiKey) if secret.starts_with("sk-ant-oat") => {
            Some("this is a long-lived token of Anthropic, not an API key: use --token-stdin")
        }
        ("anthropic", CredentialKind::Token) if secret.starts_with("sk-ant-api") => {
            Some("this is an API key of Anthropic, not a long-lived token: use --api-key-stdin")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_credential_has_a_request_that_costs_nothing() {
        use CredentialKind::{ApiKey, Oauth, Token};
        for (provider, kind, path, is_post) in [
            ("anthropic", ApiKey, "/v1/models", false),
            ("anthropic", Token, "/v1/models", false),
            ("anthropic", Oauth, "/v1/models", false),
            ("openai", ApiKey, "/v1/models", false),
            ("openai", Oauth, "/api/codex/usage", false),
            ("google", ApiKey, "/v1beta/models", false),
            ("google", Oauth, "/v1internal:loadCodeAssist", true),
            ("my-llm", ApiKey, "/v1/models", false),
        ] {
            let request = check_request(provider, kind);
            assert_eq!(request.path.split('?').next(), Some(path), "{provider} {kind:?}");
            assert_eq!(request.body.is_some(), is_post, "{provider} {kind:?}");
        }
    }

    #[test]
    fn a_prefix_shows_the_wrong_kind() {
        use CredentialKind::{ApiKey, Token};
        assert!(wrong_kind("anthropic", ApiKey, "sk-ant-oat01-x").is_some());
        assert!(wrong_kind("anthropic", Token, "sk-ant-api03-x").is_some());
        assert!(wrong_kind("anthropic", ApiKey, "sk-ant-api03-x").is_none());
        assert!(wrong_kind("my-llm", ApiKey, "sk-ant-oat01-x").is_none());
    }
}
