//! The head of a request, for `fuzz/`.

use std::sync::LazyLock;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HOST, HeaderMap, HeaderValue};

use super::auth::{self, UpstreamCredential};
use super::request::{ConnectionOrigin, access};
use super::route::UpstreamRoute;
use crate::config::{Config, GatewaySection, TelemetrySection};
use crate::credential::Secret;
use crate::daemon::GatewayConfig;
use crate::fuzzing::message::Message;
use crate::pool::CredentialKind;
use crate::provider::{self, CREDENTIAL_HEADERS};

const KINDS: [CredentialKind; 3] = [CredentialKind::ApiKey, CredentialKind::Oauth, CredentialKind::Token];
/// The credential of the account, which no input contains.
const SECRET: &str = "the-secret-of-the-account";
/// Of which letters the addresses of this machine consist, with their ports.
const ADDRESS_LETTERS: &str = "0123456789abcdef.:[]";

/// The head of a request to the gateway: `METHOD TARGET`, headers.
pub fn gateway_head(input: &[u8]) {
    let message = Message::of(input);
    let Ok(uri) = message.word(1).parse::<Uri>() else { return };
    let headers = message.header_map();
    // the fuzzer learns the text from the comparisons below
    if input.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()) {
        return;
    }
    if access::check(ConnectionOrigin::Tcp, &uri, &headers, false).is_ok() {
        assert_local(&uri, &headers);
    }
    let is_let_in = access::check(ConnectionOrigin::Local, &uri, &headers, false).is_ok();
    let path = uri.path().to_ascii_lowercase().replace("%2e", ".");
    assert!(!is_let_in || path.split('/').all(|segment| segment != "." && segment != ".."), "{path} is let in");
    let _is_wanted = access::wants_websocket(&headers);
    let query = auth::without_key(uri.query());
    let has_key = |query: &str| query.split('&').any(|parameter| parameter == "key" || parameter.starts_with("key="));
    assert!(!query.as_deref().is_some_and(has_key), "a key is left: {query:?}");
    let Ok(route) = UpstreamRoute::find(&CONFIG, uri.path(), query) else { return };
    let _model = route.model();
    for kind in KINDS {
        let Ok(upstream) = route.address(kind, false) else { continue };
        assert_stays(&route.provider, &upstream.uri);
        let host = HeaderValue::from_static("up.example");
        let secret = Secret::new(SECRET.to_owned());
        let credential = UpstreamCredential { provider: &route.provider, kind, secret: &secret, vendor_id: Some("v1") };
        let Ok(sent) = auth::upstream_headers(&headers, &host, credential) else {
            panic!("a usable secret is refused")
        };
        assert_only_ours(&headers, uri.query(), &sent);
        let _quota = provider::quota_of_agent(&route.provider, &route.path, route.model(), "agent/1");
    }
}

static CONFIG: LazyLock<GatewayConfig> = LazyLock::new(|| {
    let text = "[providers.llm]\nbase_url = \"http://127.0.0.1:9/base\"\n";
    let Ok(config) = Config::parse_bytes(text.into(), "config.toml".as_ref()) else { panic!("not valid") };
    let (gateway, providers) = (GatewaySection::default(), config.providers);
    let telemetry = TelemetrySection::default();
    GatewayConfig { gateway, max_attempts: 3, max_rate_limit_wait: Duration::from_secs(300), telemetry, providers }
});

/// Checks that every host of a request can only mean this machine.
fn assert_local(uri: &Uri, headers: &HeaderMap) {
    let hosts = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or("?"));
    for host in hosts.chain(uri.authority().map(|authority| authority.as_str())) {
        let name = host.to_ascii_lowercase();
        let is_address = name.chars().all(|letter| ADDRESS_LETTERS.contains(letter));
        let name = name.split(':').next().unwrap_or_default().trim_end_matches('.');
        assert!(is_address || name.ends_with("localhost"), "{host:?} is let in");
    }
}

/// Checks that a request goes to its provider's own server.
fn assert_stays(provider: &str, upstream: &Uri) {
    let hosts: &[&str] = match provider {
        "anthropic" => &["api.anthropic.com"],
        "openai" => &["api.openai.com", "chatgpt.com"],
        "google" => &["generativelanguage.googleapis.com", "cloudcode-pa.googleapis.com"],
        _ => &["127.0.0.1"],
    };
    assert!(upstream.host().is_some_and(|host| hosts.contains(&host)), "{provider} leads to {upstream}");
    assert!(provider != "llm" || upstream.path().starts_with("/base"), "{upstream} is above the base");
}

/// Checks that the upstream gets the account's credential and none of the client's.
fn assert_only_ours(headers: &HeaderMap, query: Option<&str>, sent: &HeaderMap) {
    let ours = sent.values().filter(|value| value.to_str().is_ok_and(|value| value.contains(SECRET))).count();
    assert_eq!(ours, 1, "{sent:?}");
    for name in CREDENTIAL_HEADERS {
        assert!(sent.get_all(name).iter().all(|value| value.to_str().is_ok_and(|value| value.contains(SECRET))));
    }
    assert!(!format!("{sent:?}").contains(SECRET), "the credential is printed");
    let hosts: Vec<_> = sent.get_all(HOST).iter().collect();
    assert!(hosts.iter().all(|host| *host == "up.example"), "{hosts:?}");
    for name in ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"] {
        assert!(!sent.contains_key(name), "{name} is forwarded");
    }
    let _keys = auth::presented_keys(headers, query).count();
}
