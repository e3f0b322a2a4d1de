//! Where a path leads: provider, upstream, model.

use hyper::Uri;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};

use crate::config;
use crate::daemon::GatewayConfig;
use crate::http::Reach;
use crate::pool::CredentialKind;
use crate::provider::{self, Bases};

/// An upstream for a path.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Route {
    /// The provider's name.
    pub(super) provider: String,
    /// What follows the base, with its leading slash.
    pub(super) path: String,
    /// Which credentials are served there.
    pub(super) kinds: &'static [CredentialKind],
    /// Where keys are served.
    keys: String,
    /// Where logins are.
    logins: String,
    /// How it is reached.
    pub(super) reach: Reach,
}

/// Why a path leads nowhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Astray {
    /// There is no such provider.
    Provider,
    /// Nobody has said where it is.
    NoBase(String),
}

impl Route {
    /// Where this path of the gateway leads.
    pub(super) fn find(config: &GatewayConfig, path: &str) -> Result<Self, Astray> {
        let rest = path.strip_prefix('/').ok_or(Astray::Provider)?;
        let (provider, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let configured = config.providers.get(provider);
        let built_in = provider::bases(provider);
        if configured.is_none() && built_in.is_none() {
            return Err(Astray::Provider);
        }
        let (keys, logins) = bases(configured, built_in).ok_or_else(|| Astray::NoBase(provider.to_owned()))?;
        let below = if provider == "anthropic" { with_version(below, &keys) } else { below.to_owned() };
        let kinds = provider::served(provider, &below, keys != logins);
        let reach =
            configured.map_or_else(Reach::default, |of| Reach { proxy: of.proxy.clone(), ca_file: of.ca_file.clone() });
        Ok(Self { provider: provider.to_owned(), path: below, kinds, keys, logins, reach })
    }

    /// The upstream's URL for an account of this kind.
    ///
    /// # Errors
    /// When the base is no URL, or the path cannot be one's.
    pub(super) fn uri(&self, kind: CredentialKind, query: Option<&str>) -> Result<Uri, hyper::http::Error> {
        let base = if kind == CredentialKind::ApiKey { &self.keys } else { &self.logins };
        let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let mut path = format!("{prefix}{}", self.path);
        if path.is_empty() {
            path.push('/');
        }
        if let Some(query) = query {
            path.push('?');
            path.push_str(query);
        }
        Uri::builder()
            .scheme(Scheme::try_from(scheme)?)
            .authority(Authority::try_from(authority)?)
            .path_and_query(PathAndQuery::try_from(path)?)
            .build()
    }

    /// The model in the path, where Google has it: `…/models/NAME:method`.
    pub(super) fn model(&self) -> Option<&str> {
        let after = self.path.split_once("/models/").filter(|_| self.provider == "google")?.1;
        let name = after.split('/').next()?;
        let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
        (!name.is_empty()).then_some(name)
    }
}

/// Where keys and logins are served.
fn bases(configured: Option<&config::ProviderSection>, built_in: Option<Bases>) -> Option<(String, String)> {
    let set = |url: &Option<String>| {
        url.as_deref().map(|url| url.trim_end_matches('/').to_owned()).filter(|url| !url.is_empty())
    };
    let keys = configured.and_then(|of| set(&of.base_url));
    let logins = configured.and_then(|of| set(&of.oauth.base_url));
    // whoever sends keys elsewhere does not want logins at the old place
    let logins = logins.or_else(|| keys.clone()).or_else(|| built_in.map(|of| of.logins.to_owned()));
    let keys = keys.or_else(|| built_in.map(|of| of.keys.to_owned())).or_else(|| logins.clone());
    keys.zip(logins)
}

/// Agents read Anthropic's base URL differently: some with its `/v1`, some without.
fn with_version(path: &str, base: &str) -> String {
    let rest = path.strip_prefix("/messages").filter(|rest| rest.is_empty() || rest.starts_with('/'));
    match rest {
        Some(_) if !base.ends_with("/v1") => format!("/v1{path}"),
        _ => path.to_owned(),
    }
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
        GatewayConfig { gateway: config::GatewaySection::default(), max_attempts: 3, providers }
    }

    #[test]
    fn paths_lead_to_their_upstreams_byte_for_byte() {
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
            ("/anthropic/messagesx", Oauth, None, "https://api.anthropic.com/messagesx"),
            ("/anthropic", ApiKey, None, "https://api.anthropic.com/"),
            ("/openai/v1/./a/../b//c%2F;x", ApiKey, Some("a=%20&&b"), "http://u:1/x/v1/./a/../b//c%2F;x?a=%20&&b"),
            ("/openai/v1/responses", Oauth, None, "http://u:1/x/v1/responses"),
            ("/google/v1beta/models/m:g", ApiKey, Some(""), "http://k/v1beta/models/m:g?"),
            ("/google/v1internal:g", Oauth, None, "http://l/b/v1internal:g"),
            ("/llm/chat", ApiKey, None, "https://llm/v1/chat"),
        ] {
            let route = Route::find(&config, path).unwrap();
            assert_eq!(route.uri(kind, query).unwrap().to_string(), expected);
        }
        assert_eq!(Route::find(&config, "/nobody/v1"), Err(Astray::Provider));
        assert_eq!(Route::find(&config, "/"), Err(Astray::Provider));
    }

    #[test]
    fn keys_and_logins_that_are_apart_have_their_own_paths() {
        let route = |path| Route::find(&config(&[]), path).unwrap();
        assert_eq!(route("/openai/v1/responses").kinds, [CredentialKind::ApiKey]);
        assert!(!route("/openai/responses").kinds.contains(&CredentialKind::ApiKey));
        let uri = route("/openai/responses").uri(CredentialKind::Oauth, None).unwrap();
        assert_eq!(uri.to_string(), "https://chatgpt.com/backend-api/codex/responses");
    }

    #[test]
    fn google_has_its_model_in_the_path() {
        let model = |path| Route::find(&config(&[]), path).unwrap().model().map(str::to_owned);
        assert_eq!(model("/google/v1beta/models/gemini-3-pro:streamGenerateContent").as_deref(), Some("gemini-3-pro"));
        assert_eq!(
            model("/google/v1/models/gemini-3-flash:gemini-cli:generateContent").as_deref(),
            Some("gemini-3-flash:gemini-cli")
        );
        assert_eq!(model("/google/v1beta/models"), None);
        assert_eq!(model("/openai/v1/models/gpt-5"), None);
    }
}
