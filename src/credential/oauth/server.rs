//! The authorization server: its configured, discovered or built-in URLs, and the request formats of its token
//! endpoint.

use serde_json::{Map, Value};

use super::fetch::{SendError, send};
use super::settings::OauthSettings;
use crate::http;

/// An authorization server that requests can be sent to.
#[derive(Clone, Debug)]
pub struct AuthorizationServer {
    pub(super) settings: OauthSettings,
    pub(super) http: reqwest::Client,
    pub(super) authorize_url: Option<String>,
    pub(super) token_url: String,
    pub(super) device_url: Option<String>,
    pub(super) identity_url: Option<String>,
    /// The request styles that the token endpoint may accept, the most likely first.
    pub(super) styles: Vec<RequestStyle>,
}

/// The format of a token request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RequestStyle {
    /// JSON instead of a form.
    pub(super) json: bool,
    /// The client's secret in a header instead of the body.
    pub(super) basic: bool,
}

/// Why no request can be sent to a server.
#[expect(missing_docs, reason = "the names of the fields say what they are")]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ServerError {
    /// Its metadata cannot be read now.
    #[error("{url} cannot be read: {why}")]
    Unreachable { url: String, why: String },
    /// Its metadata or the configuration is invalid.
    #[error("{0}")]
    Wrong(String),
}

impl AuthorizationServer {
    /// Collects the server's URLs; reads the issuer's metadata, if an issuer is configured.
    ///
    /// # Errors
    /// When the issuer's metadata cannot be read or is invalid.
    pub async fn find(settings: OauthSettings) -> Result<Self, ServerError> {
        let http = http::client(&settings.given.reach).map_err(|error| ServerError::Wrong(error.to_string()))?;
        let described = match settings.given.issuer.as_deref().filter(|issuer| !issuer.is_empty()) {
            Some(issuer) => Some(discover(&http, issuer).await?),
            None => None,
        };
        Self::put_together(settings, http, described.as_ref())
    }

    pub(super) fn put_together(
        settings: OauthSettings,
        http: reqwest::Client,
        described: Option<&Map<String, Value>>,
    ) -> Result<Self, ServerError> {
        let discovered = |name: &str| Some(described?.get(name)?.as_str()?.to_owned());
        // of a configured server only the configured URLs are used
        let own = described.is_some() || settings.given.token_url.is_some();
        let built_in = settings.built_in.filter(|_| described.is_none());
        let known = |url: Option<&'static str>| url.map(str::to_owned);
        let given = &settings.given;
        let first = |given: &Option<String>, name: &str, known: Option<String>| {
            given.clone().filter(|url| !url.is_empty()).or_else(|| discovered(name)).or(known)
        };
        let authorize_url =
            first(&given.authorize_url, "authorization_endpoint", known(built_in.map(|server| server.authorize_url)));
        let token_url = first(&given.token_url, "token_endpoint", known(built_in.map(|server| server.token_url)));
        let token_url = token_url.ok_or_else(|| wrong(&settings, "token_url"))?;
        let device_url = first(&given.device_url, "device_authorization_endpoint", None);
        let identity_url = discovered("userinfo_endpoint")
            .or_else(|| known(built_in.filter(|_| !own).and_then(|server| server.identity_url)));
        for url in [authorize_url.as_ref(), Some(&token_url), device_url.as_ref(), identity_url.as_ref()] {
            url.map_or(Ok(()), |url| check(url))?;
        }
        let methods = described.and_then(|described| described.get("token_endpoint_auth_methods_supported"));
        let methods: Option<Vec<&str>> =
            methods.and_then(Value::as_array).map(|methods| methods.iter().filter_map(Value::as_str).collect());
        let json_first = settings.built_in.is_some_and(|server| server.json) && !own;
        let styles =
            styles(json_first, settings.built_in.is_some_and(|server| server.json), methods.as_deref(), &settings);
        Ok(Self { settings, http, authorize_url, token_url, device_url, identity_url, styles })
    }

    /// The same server with the client that a registration has issued.
    #[must_use]
    pub(super) fn with_client(&self, client_id: &str) -> Self {
        let mut server = self.clone();
        (server.settings.client_id, server.settings.registers) = (client_id.to_owned(), false);
        server
    }

    /// The settings it was created from.
    #[must_use]
    pub fn settings(&self) -> &OauthSettings {
        &self.settings
    }
}

/// All request styles that are possible, the most likely first.
fn styles(
    json_first: bool,
    may_be_json: bool,
    methods: Option<&[&str]>,
    settings: &OauthSettings,
) -> Vec<RequestStyle> {
    let has_secret = settings.has_secret();
    let basics: &[bool] = match methods {
        _ if !has_secret => &[false],
        Some(methods) => match (methods.contains(&"client_secret_basic"), methods.contains(&"client_secret_post")) {
            (true, true) => &[true, false],
            (true, false) => &[true],
            (false, _) => &[false],
        },
        // without metadata, basic is the standard; most servers accept both
        None if settings.built_in.is_none() => &[false, true],
        None => &[false],
    };
    let jsons: &[bool] = match (json_first, may_be_json) {
        (true, _) => &[true, false],
        (false, true) => &[false, true],
        (false, false) => &[false],
    };
    jsons.iter().flat_map(|json| basics.iter().map(|basic| RequestStyle { json: *json, basic: *basic })).collect()
}

async fn discover(http: &reqwest::Client, issuer: &str) -> Result<Map<String, Value>, ServerError> {
    check(issuer)?;
    let base = issuer.trim_end_matches('/');
    let mut last = None;
    for place in ["openid-configuration", "oauth-authorization-server"] {
        let url = format!("{base}/.well-known/{place}");
        match send(http.get(&url).header("accept", "application/json")).await {
            Ok(response) if response.status == 200 => {
                let Ok(Value::Object(described)) = serde_json::from_slice(&response.body) else {
                    return Err(ServerError::Wrong(format!("{url} is not a JSON object")));
                };
                let named = described.get("issuer").and_then(Value::as_str).unwrap_or_default();
                if named.trim_end_matches('/') != base {
                    return Err(ServerError::Wrong(format!("{url} describes {named:?}, not the `issuer` {issuer:?}")));
                }
                return Ok(described);
            }
            Ok(response) => last = Some((url, format!("it answers {}", response.status), response.status >= 500)),
            Err(SendError::NotSent(why) | SendError::Lost(why)) => {
                return Err(ServerError::Unreachable { url, why });
            }
        }
        if last.as_ref().is_some_and(|(_, _, passes)| *passes) {
            break;
        }
    }
    let (url, why, passes) = last.unwrap_or_else(|| (base.to_owned(), "it was not found".to_owned(), false));
    if passes { Err(ServerError::Unreachable { url, why }) } else { Err(ServerError::Wrong(format!("{url}: {why}"))) }
}

/// Requires https, except for addresses of this machine.
pub(super) fn check(url: &str) -> Result<(), ServerError> {
    let bad = |why: &str| Err(ServerError::Wrong(format!("{url:?} {why}")));
    let Ok(parsed) = url::Url::parse(url) else { return bad("is not a URL") };
    match (parsed.scheme(), parsed.host()) {
        ("https", Some(_)) => Ok(()),
        ("http", Some(host)) if is_loopback(&host) => Ok(()),
        ("http", Some(_)) => bad("is not encrypted: https is needed, except on this machine"),
        _ => bad("is not the URL of a server: https://… is needed"),
    }
}

fn is_loopback(host: &url::Host<&str>) -> bool {
    match host {
        url::Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    }
}

fn wrong(settings: &OauthSettings, key: &str) -> ServerError {
    ServerError::Wrong(format!(
        "the issuer of {} has no such endpoint: set `{key}` of [providers.{}.oauth]",
        settings.provider, settings.provider
    ))
}

#[cfg(test)]
mod tests {
    use super::super::settings::OauthConfig;
    use super::*;

    #[test]
    fn unencrypted_urls_are_accepted_for_this_machine_only() {
        for (url, fine) in [
            ("https://id.example/token", true),
            ("http://127.0.0.1:1234/token", true),
            ("http://[::1]:1/t", true),
            ("http://localhost/t", true),
            ("http://id.example/token", false),
            ("http://localhost.example/t", false),
            ("ftp://id.example", false),
            ("nonsense", false),
        ] {
            assert_eq!(check(url).is_ok(), fine, "{url}");
        }
    }

    fn server(provider: &str, given: OauthConfig, described: Option<Value>) -> AuthorizationServer {
        let given = OauthConfig { client_id: Some("c".into()), ..given };
        let settings = OauthSettings::of(provider, given).unwrap();
        let described = described.map(|value| value.as_object().unwrap().clone());
        let http = http::client(&http::ConnectOptions::default()).unwrap();
        AuthorizationServer::put_together(settings, http, described.as_ref()).unwrap()
    }

    #[test]
    fn configured_urls_precede_discovered_ones_and_those_precede_built_in_ones() {
        let known = server("anthropic", OauthConfig::default(), None);
        assert_eq!(known.token_url, "https://platform.claude.com/v1/oauth/token");
        assert_eq!(
            known.styles,
            [RequestStyle { json: true, basic: false }, RequestStyle { json: false, basic: false }]
        );
        let own = OauthConfig { token_url: Some("http://127.0.0.1:1/token".into()), ..OauthConfig::default() };
        let own = server("anthropic", own, None);
        assert_eq!((own.token_url.as_str(), own.identity_url), ("http://127.0.0.1:1/token", None));
        assert_eq!(own.styles[0], RequestStyle { json: false, basic: false });
        let described = serde_json::json!({ "token_endpoint": "https://id/t", "authorization_endpoint": "https://id/a",
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"] });
        let given = OauthConfig {
            issuer: Some("https://id".into()),
            authorize_url: Some("https://mine/a".into()),
            client_secret_env: Some("S".into()),
            ..OauthConfig::default()
        };
        let found = server("mine", given, Some(described));
        assert_eq!(
            (found.token_url.as_str(), found.authorize_url.as_deref()),
            ("https://id/t", Some("https://mine/a"))
        );
        assert_eq!(found.styles.iter().map(|style| style.basic).collect::<Vec<_>>(), [true, false]);
    }
}
