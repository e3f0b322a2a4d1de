//! The server: its URLs, given, discovered or built in, and how its token endpoint wants to be asked.

use serde_json::{Map, Value};

use crate::http;

use super::fetch::{NoAnswer, send};
use super::settings::Settings;

/// A server that can be asked.
#[derive(Clone, Debug)]
pub struct Server {
    pub(super) settings: Settings,
    pub(super) http: reqwest::Client,
    pub(super) authorize_url: Option<String>,
    pub(super) token_url: String,
    pub(super) device_url: Option<String>,
    pub(super) identity_url: Option<String>,
    /// How the token endpoint may want to be asked, the likeliest first.
    pub(super) styles: Vec<Style>,
}

/// How a token endpoint wants to be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Style {
    /// JSON instead of a form.
    pub(super) json: bool,
    /// The client's secret in a header instead of the body.
    pub(super) basic: bool,
}

/// Why a server cannot be asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ServerError {
    /// Its description cannot be had now.
    #[error("{url} cannot be read: {why}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What happened.
        why: String,
    },
    /// Its description, or the configuration, makes no sense.
    #[error("{0}")]
    Wrong(String),
}

impl Server {
    /// Finds out all there is to know; asks the issuer, if there is one.
    ///
    /// # Errors
    /// When the issuer cannot be asked, or answers nonsense.
    pub async fn find(settings: Settings) -> Result<Self, ServerError> {
        let http = http::client(&settings.given.reach).map_err(|error| ServerError::Wrong(error.to_string()))?;
        let described = match settings.given.issuer.as_deref().filter(|issuer| !issuer.is_empty()) {
            Some(issuer) => Some(discover(&http, issuer).await?),
            None => None,
        };
        Self::put_together(settings, http, described.as_ref())
    }

    fn put_together(
        settings: Settings,
        http: reqwest::Client,
        described: Option<&Map<String, Value>>,
    ) -> Result<Self, ServerError> {
        let discovered = |name: &str| Some(described?.get(name)?.as_str()?.to_owned());
        // of a server of one's own nothing is known but what is said
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

    /// What it is configured by.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// All the ways that make sense, the likeliest first.
fn styles(json_first: bool, may_be_json: bool, methods: Option<&[&str]>, settings: &Settings) -> Vec<Style> {
    let has_secret = settings.given.client_secret_env.is_some();
    let basics: &[bool] = match methods {
        _ if !has_secret => &[false],
        Some(methods) => match (methods.contains(&"client_secret_basic"), methods.contains(&"client_secret_post")) {
            (true, true) => &[true, false],
            (true, false) => &[true],
            (false, _) => &[false],
        },
        // what is not said is basic by the standard, and mostly both
        None if settings.built_in.is_none() => &[false, true],
        None => &[false],
    };
    let jsons: &[bool] = match (json_first, may_be_json) {
        (true, _) => &[true, false],
        (false, true) => &[false, true],
        (false, false) => &[false],
    };
    jsons.iter().flat_map(|json| basics.iter().map(|basic| Style { json: *json, basic: *basic })).collect()
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
                    return Err(ServerError::Wrong(format!("{url} is no JSON object")));
                };
                let named = described.get("issuer").and_then(Value::as_str).unwrap_or_default();
                if named.trim_end_matches('/') != base {
                    return Err(ServerError::Wrong(format!("{url} describes {named:?}, not the `issuer` {issuer:?}")));
                }
                return Ok(described);
            }
            Ok(response) => last = Some((url, format!("it answers {}", response.status), response.status >= 500)),
            Err(NoAnswer::NotSent(why) | NoAnswer::Lost(why)) => {
                return Err(ServerError::Unreachable { url, why });
            }
        }
        if last.as_ref().is_some_and(|(_, _, passes)| *passes) {
            break;
        }
    }
    let (url, why, passes) = last.unwrap_or_else(|| (base.to_owned(), "nothing is there".to_owned(), false));
    if passes { Err(ServerError::Unreachable { url, why }) } else { Err(ServerError::Wrong(format!("{url}: {why}"))) }
}

/// Secrets go through the network in the open only when they stay on this machine.
pub(super) fn check(url: &str) -> Result<(), ServerError> {
    let bad = |why: &str| Err(ServerError::Wrong(format!("{url:?} {why}")));
    let Ok(parsed) = url::Url::parse(url) else { return bad("is no URL") };
    match (parsed.scheme(), parsed.host()) {
        ("https", Some(_)) => Ok(()),
        ("http", Some(host)) if is_loopback(&host) => Ok(()),
        ("http", Some(_)) => bad("is not encrypted: https is needed, except on this machine"),
        _ => bad("is no address of a server: https://… is needed"),
    }
}

fn is_loopback(host: &url::Host<&str>) -> bool {
    match host {
        url::Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    }
}

fn wrong(settings: &Settings, key: &str) -> ServerError {
    ServerError::Wrong(format!(
        "the issuer of {} names no such endpoint: set `{key}` of [providers.{}.oauth]",
        settings.provider, settings.provider
    ))
}

#[cfg(test)]
mod tests {
    use super::super::settings::Given;
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_in_the_open() {
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

    fn server(provider: &str, given: Given, described: Option<Value>) -> Server {
        let given = Given { client_id: Some("c".into()), ..given };
        let settings = Settings::of(provider, given).unwrap();
        let described = described.map(|value| value.as_object().unwrap().clone());
        let http = http::client(&http::Reach::default()).unwrap();
        Server::put_together(settings, http, described.as_ref()).unwrap()
    }

    #[test]
    fn what_is_given_goes_before_what_is_discovered_and_that_before_what_is_known() {
        let known = server("anthropic", Given::default(), None);
        assert_eq!(known.token_url, "https://platform.claude.com/v1/oauth/token");
        assert_eq!(known.styles, [Style { json: true, basic: false }, Style { json: false, basic: false }]);
        let own = Given { token_url: Some("http://127.0.0.1:1/token".into()), ..Given::default() };
        let own = server("anthropic", own, None);
        assert_eq!((own.token_url.as_str(), own.identity_url), ("http://127.0.0.1:1/token", None));
        assert_eq!(own.styles[0], Style { json: false, basic: false });
        let described = serde_json::json!({ "token_endpoint": "https://id/t", "authorization_endpoint": "https://id/a",
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"] });
        let given = Given {
            issuer: Some("https://id".into()),
            authorize_url: Some("https://mine/a".into()),
            client_secret_env: Some("S".into()),
            ..Given::default()
        };
        let found = server("mine", given, Some(described));
        assert_eq!(
            (found.token_url.as_str(), found.authorize_url.as_deref()),
            ("https://id/t", Some("https://mine/a"))
        );
        assert_eq!(found.styles.iter().map(|style| style.basic).collect::<Vec<_>>(), [true, false]);
    }
}
