//! Which upstream a path of the gateway leads to.

use std::sync::{Arc, OnceLock};

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};

use crate::daemon::{GatewayConfig, connect_options};
use crate::provider::{self, BaseUrls};
use crate::{config, http::ConnectOptions, pool::CredentialKind};

#[derive(Clone, PartialEq, Debug)]
pub(super) struct UpstreamRoute {
    pub(super) provider: Arc<str>,
    /// The path below the base, with its leading slash.
    pub(super) path: String,
    /// The query, without the gateway's key.
    query: Option<String>,
    /// Which credentials are accepted on this path.
    pub(super) kinds: &'static [CredentialKind],
    key_base: String,
    login_base: String,
    /// Proxy and certificates.
    pub(super) reach: ConnectOptions,
    /// Those that were asked for: for a direct login, an API key, any other login.
    addresses: [OnceLock<UpstreamAddress>; 3],
}

/// Where an account's requests go.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct UpstreamAddress {
    pub(super) uri: Uri,
    /// The host, as in a header.
    pub(super) host: HeaderValue,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum RouteError {
    #[error("unknown provider {0:?}; a path begins with a provider, as in /anthropic/v1/messages")]
    UnknownProvider(String),
    #[error("the base URL of {0} is not configured; set providers.{0}.base_url")]
    NoBase(String),
}

impl UpstreamRoute {
    pub(super) fn find(config: &GatewayConfig, path: &str, query: Option<String>) -> Result<Self, RouteError> {
        let rest = path.strip_prefix('/').unwrap_or_default();
        let (provider, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let configured = config.providers.get(provider);
        let built_in = provider::base_urls(provider);
        if configured.is_none() && built_in.is_none() {
            return Err(RouteError::UnknownProvider(provider.to_owned()));
        }
        let (key_base, login_base) =
            bases(configured, built_in).ok_or_else(|| RouteError::NoBase(provider.to_owned()))?;
        let path = provider::versioned_path(provider, below);
        let kinds = provider::accepted_kinds(provider, &path, key_base != login_base);
        let reach = connect_options(configured);
        let (provider, addresses) = (provider.into(), Default::default());
        Ok(Self { provider, path, query, kinds, key_base, login_base, reach, addresses })
    }

    /// Where requests go with an account of this kind; `is_direct` says that it is a login for the provider's public API.
    ///
    /// # Errors
    /// When the base is not a URL, or the path cannot be part of one.
    pub(super) fn address(
        &self,
        kind: CredentialKind,
        is_direct: bool,
    ) -> Result<&UpstreamAddress, hyper::http::Error> {
        let known = &self.addresses[if is_direct { 0 } else { 1 + usize::from(kind != CredentialKind::ApiKey) }];
        if let Some(known) = known.get() {
            return Ok(known);
        }
        let uri = if is_direct { self.direct_uri()? } else { self.uri(kind)? };
        let host = HeaderValue::from_str(uri.authority().map_or("", |authority| authority.as_str()))?;
        Ok(known.get_or_init(|| UpstreamAddress { uri, host }))
    }

    /// The upstream's URL for an account of this kind.
    fn uri(&self, kind: CredentialKind) -> Result<Uri, hyper::http::Error> {
        let base = if kind == CredentialKind::ApiKey { &self.key_base } else { &self.login_base };
        let is_apart = self.key_base != self.login_base;
        let own = is_apart.then(|| provider::path_for_kind(&self.provider, &self.path, kind));
        self.below(base, own.as_deref().unwrap_or(&self.path))
    }

    /// The URL for a login for the provider's public API, which has one path, whatever program sends the request.
    fn direct_uri(&self) -> Result<Uri, hyper::http::Error> {
        let path = provider::path_for_kind(&self.provider, &self.path, CredentialKind::ApiKey);
        self.below(&self.key_base, &path)
    }

    fn below(&self, base: &str, below: &str) -> Result<Uri, hyper::http::Error> {
        let base = provider::base_for_path(&self.provider, base, below);
        let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let mut path = format!("{prefix}{below}");
        if path.is_empty() {
            path.push('/');
        }
        if let Some(query) = &self.query {
            path.push('?');
            path.push_str(query);
        }
        Uri::builder()
            .scheme(Scheme::try_from(scheme)?)
            .authority(Authority::try_from(authority)?)
            .path_and_query(PathAndQuery::try_from(path)?)
            .build()
    }

    /// The same request with the provider at the beginning of its path, if it is one for a vendor's own host: a program
    /// that connects to the Unix socket in place of that host names no provider.
    pub(super) fn of_vendor(config: &GatewayConfig, uri: &Uri, host: Option<&str>) -> Option<Uri> {
        let (path, query) = (uri.path(), uri.query());
        let first = path.split('/').nth(1).unwrap_or_default();
        if config.providers.contains_key(first) || provider::base_urls(first).is_some() {
            return None;
        }
        let host = uri.host().or(host)?;
        let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let (provider, below) = provider::at_api_host(host, path)?;
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        Uri::builder().path_and_query(format!("/{provider}{below}{query}")).build().ok()
    }

    pub(super) fn model(&self) -> Option<&str> {
        provider::model_in_path(&self.provider, &self.path)
    }
}

fn bases(configured: Option<&config::ProviderSection>, built_in: Option<BaseUrls>) -> Option<(String, String)> {
    let set = |url: &Option<String>| {
        url.as_deref().map(|url| url.trim_end_matches('/').to_owned()).filter(|url| !url.is_empty())
    };
    let keys = configured.and_then(|of| set(&of.base_url));
    let logins = configured.and_then(|of| set(&of.oauth.base_url));
    // a configured base for keys replaces the built-in one for logins too
    let logins = logins.or_else(|| keys.clone()).or_else(|| built_in.map(|of| of.logins.to_owned()));
    let keys = keys.or_else(|| built_in.map(|of| of.keys.to_owned())).or_else(|| logins.clone());
    keys.zip(logins)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn config(providers: &[(&str, &str, &str)]) -> GatewayConfig {
        let url = |url: &str| (!url.is_empty()).then(|| url.to_owned());
        let provider = |(name, keys, logins): &(&str, &str, &str)| {
            let mut of = config::ProviderSection { base_url: url(keys), ..config::ProviderSection::default() };
            of.oauth.base_url = url(logins);
            ((*name).to_owned(), of)
        };
        let providers: BTreeMap<_, _> = providers.iter().map(provider).collect();
        let max_rate_limit_wait = std::time::Duration::from_secs(300);
        GatewayConfig {
            gateway: config::GatewaySection::default(),
            max_attempts: 3,
            max_rate_limit_wait,
            telemetry: config::TelemetrySection::default(),
            providers,
        }
    }

    #[test]
    fn paths_are_forwarded_byte_for_byte() {
        use CredentialKind::{ApiKey, Oauth};
        let config = config(&[
            ("openai", "http://u:1/x/", ""),
            ("google", "http://k", "http://l/b"),
            ("llm", "https://llm/v1", ""),
        ]);
        for (path, kind, query, expected) in [
            ("/anthropic/v1/messages", ApiKey, Some("beta=true"), "https://api.anthropic.com/v1/messages?beta=true"),
            ("/anthropic/messages", Oauth, None, "https://api.anthropic.com/v1/messages"),
            ("/anthropic/messages/count_tokens", Oauth, None, "https://api.anthropic.com/v1/messages/count_tokens"),
            ("/anthropic/v1/v1/messages", ApiKey, None, "https://api.anthropic.com/v1/messages"),
            ("/anthropic/messagesx", Oauth, None, "https://api.anthropic.com/messagesx"),
            ("/anthropic", ApiKey, None, "https://api.anthropic.com/"),
            ("/openai/v1/a..b//c%2F;x", ApiKey, Some("a=%20&&b"), "http://u:1/x/v1/a..b//c%2F;x?a=%20&&b"),
            ("/openai/v1/responses", Oauth, None, "http://u:1/x/v1/responses"),
            ("/google/v1beta/models/m:g", ApiKey, Some(""), "http://k/v1beta/models/m:g?"),
            ("/google/v1internal:g", Oauth, None, "http://l/b/v1internal:g"),
            ("/llm/chat", ApiKey, None, "https://llm/v1/chat"),
            ("/llm/v1/chat", ApiKey, None, "https://llm/v1/chat"),
        ] {
            let route = UpstreamRoute::find(&config, path, query.map(str::to_owned)).unwrap();
            for _ in 0..2 {
                assert_eq!(route.address(kind, false).unwrap().uri.to_string(), expected);
            }
        }
        let with_version = self::config(&[("anthropic", "http://k/v1", "http://l/v1/")]);
        for (path, kind, expected) in [
            ("/anthropic/v1/messages", ApiKey, "http://k/v1/messages"),
            ("/anthropic/messages", Oauth, "http://l/v1/messages"),
            ("/anthropic/api/hello", Oauth, "http://l/api/hello"),
            ("/anthropic/models", ApiKey, "http://k/v1/models"),
        ] {
            let route = UpstreamRoute::find(&with_version, path, None).unwrap();
            assert_eq!(route.address(kind, false).unwrap().uri.to_string(), expected);
        }
        assert_eq!(
            UpstreamRoute::find(&config, "/unknown/v1", None),
            Err(RouteError::UnknownProvider("unknown".into()))
        );
        assert_eq!(UpstreamRoute::find(&config, "/", None), Err(RouteError::UnknownProvider(String::new())));
    }

    #[test]
    fn a_vendor_s_host_stands_for_its_provider() {
        let config = config(&[("my-llm", "http://u", "")]);
        for (uri, host, expected) in [
            ("/v1/messages?beta=true", "api.anthropic.com", Some("/anthropic/v1/messages?beta=true")),
            ("/api/oauth/usage", "API.anthropic.com:80", Some("/anthropic/api/oauth/usage")),
            ("/v1/responses", "api.openai.com", Some("/openai/v1/responses")),
            ("/backend-api/codex/responses", "chatgpt.com", Some("/openai/responses")),
            ("/backend-api/wham/usage", "chatgpt.com", None),
            (
                "/v1beta/models/m:g?alt=sse",
                "generativelanguage.googleapis.com",
                Some("/google/v1beta/models/m:g?alt=sse"),
            ),
            ("/v1internal:g", "cloudcode-pa.googleapis.com", Some("/google/v1internal:g")),
            ("http://api.anthropic.com/v1/messages", "x", Some("/anthropic/v1/messages")),
            // it names its provider
            ("/anthropic/v1/messages", "api.anthropic.com", None),
            ("/my-llm/chat", "api.anthropic.com", None),
            ("/v1/messages", "x", None),
            ("/v1/messages", "api.anthropic.com.evil.example", None),
        ] {
            let found = UpstreamRoute::of_vendor(&config, &uri.parse().unwrap(), Some(host));
            assert_eq!(found.map(|uri| uri.to_string()).as_deref(), expected, "{host} {uri}");
        }
        assert_eq!(UpstreamRoute::of_vendor(&config, &"/v1/messages".parse().unwrap(), None), None);
    }

    #[test]
    fn separate_bases_for_keys_and_logins_have_their_own_paths() {
        use CredentialKind::{ApiKey, Oauth};
        let route = |path| UpstreamRoute::find(&config(&[]), path, None).unwrap();
        assert_eq!(route("/openai/v1/chat/completions").kinds, [ApiKey]);
        assert!(!route("/openai/models").kinds.contains(&ApiKey));
        for path in ["/openai/responses", "/openai/v1/responses"] {
            let uri = |kind| route(path).address(kind, false).unwrap().uri.to_string();
            assert_eq!(uri(Oauth), "https://chatgpt.com/backend-api/codex/responses");
            assert_eq!(uri(ApiKey), "https://api.openai.com/v1/responses");
            let route = route(path);
            let all = [(Oauth, true), (ApiKey, false), (Oauth, false)].map(|(kind, is_direct)| {
                let address = route.address(kind, is_direct).unwrap();
                (address.uri.to_string(), address.host.to_str().unwrap().to_owned())
            });
            let expected = [
                ("https://api.openai.com/v1/responses", "api.openai.com"),
                ("https://api.openai.com/v1/responses", "api.openai.com"),
                ("https://chatgpt.com/backend-api/codex/responses", "chatgpt.com"),
            ];
            assert_eq!(all, expected.map(|(uri, host)| (uri.to_owned(), host.to_owned())));
        }
    }
}
