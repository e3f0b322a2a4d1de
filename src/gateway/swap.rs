//! The one thing that is changed in a request: what the client authenticated with goes, what the account needs comes.

use hyper::header::{
    AUTHORIZATION, CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};

use crate::credential::Secret;
use crate::pool::CredentialKind;
use crate::provider;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");
const CHATGPT_ACCOUNT: HeaderName = HeaderName::from_static("chatgpt-account-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What an Anthropic login's token must be announced with.
const OAUTH_BETA: &str = "oauth-2025-04-20";

/// Headers that a client may authenticate with.
pub(super) const CREDENTIALS: [HeaderName; 3] = [AUTHORIZATION, X_API_KEY, X_GOOG_API_KEY];

/// What an account authenticates with.
#[derive(Clone, Copy, Debug)]
pub(super) struct With<'a> {
    pub(super) provider: &'a str,
    pub(super) kind: CredentialKind,
    pub(super) secret: &'a Secret,
    /// The vendor's own id of the account.
    pub(super) vendor_id: Option<&'a str>,
}

/// The credentials in a request's head, as the client wrote them.
pub(super) fn presented<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> impl Iterator<Item = &'a str> {
    let values = CREDENTIALS.into_iter().flat_map(move |name| headers.get_all(name).iter());
    let bare = |value: &'a HeaderValue| {
        let text = value.to_str().ok()?.trim();
        let scheme = text.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer "));
        Some(scheme.map_or(text, |_| text[7..].trim_start()))
    };
    values.filter_map(bare).chain(parameters(query).filter_map(|parameter| parameter.strip_prefix("key=")))
}

fn parameters(query: Option<&str>) -> impl Iterator<Item = &str> {
    query.into_iter().flat_map(|query| query.split('&'))
}

/// The query without `key=`; all else as it was.
pub(super) fn without_key(query: Option<&str>) -> Option<String> {
    let is_key = |parameter: &&str| *parameter == "key" || parameter.starts_with("key=");
    if !parameters(query).any(|parameter| is_key(&parameter)) {
        return query.map(str::to_owned);
    }
    let kept: Vec<&str> = parameters(query).filter(|parameter| !is_key(parameter)).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// Headers that are one connection's own; the trailer's announcement is not, for trailers are passed on.
pub(super) fn is_of_connection(name: &HeaderName, named: &[HeaderName]) -> bool {
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE].contains(name) || named.contains(name)
}

/// What `connection` names.
pub(super) fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// The headers for the upstream: in the client's order, its credentials replaced in their place.
///
/// # Errors
/// When the secret is nothing that a header can hold.
pub(super) fn swapped(headers: &HeaderMap, host: &HeaderValue, with: With<'_>) -> Result<HeaderMap, NotAHeader> {
    let (name, value) = credential(with)?;
    let named = named_by_connection(headers);
    let beta = needs_beta(with);
    let account = of_account(with)?;
    let mut swapped = HeaderMap::with_capacity(headers.len() + 2);
    for (known, old) in headers {
        if CREDENTIALS.contains(known) {
            if !swapped.contains_key(&name) {
                swapped.insert(name.clone(), value.clone());
            }
        } else if *known == HOST {
            swapped.insert(HOST, host.clone());
        } else if !is_left_out(known, &named, account.is_some()) {
            swapped.append(known.clone(), old.clone());
        }
    }
    if !swapped.contains_key(&name) {
        swapped.insert(name, value);
    }
    if beta {
        announce(&mut swapped);
    }
    if let Some(account) = account {
        swapped.insert(CHATGPT_ACCOUNT, account);
    }
    Ok(swapped)
}

/// What the upstream does not get: it was for us, or the account has its own.
fn is_left_out(name: &HeaderName, named: &[HeaderName], has_account: bool) -> bool {
    is_of_connection(name, named)
        || [EXPECT, PROXY_AUTHORIZATION].contains(name)
        || has_account && *name == CHATGPT_ACCOUNT
}

/// A secret with bytes in it that no header can hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the account's credential holds characters that no header can; add the account again")]
pub(super) struct NotAHeader;

fn credential(with: With<'_>) -> Result<(HeaderName, HeaderValue), NotAHeader> {
    let (name, scheme) = provider::header(with.provider, with.kind);
    let secret = with.secret.expose();
    let value = match scheme {
        Some(scheme) => HeaderValue::from_str(&format!("{scheme} {secret}")),
        None => HeaderValue::from_str(secret),
    };
    let mut value = value.map_err(|_| NotAHeader)?;
    value.set_sensitive(true);
    Ok((HeaderName::from_static(name), value))
}

/// Whether it is an Anthropic login's token, handed out as such or for long.
fn needs_beta(with: With<'_>) -> bool {
    let prefix = provider::built_in(with.provider).and_then(|provider| provider.login_token_prefix);
    with.provider == "anthropic"
        && match with.kind {
            CredentialKind::Oauth => true,
            CredentialKind::Token => prefix.is_some_and(|prefix| with.secret.expose().starts_with(prefix)),
            CredentialKind::ApiKey => false,
        }
}

/// A ChatGPT login says which of its accounts it means.
fn of_account(with: With<'_>) -> Result<Option<HeaderValue>, NotAHeader> {
    let id = with.vendor_id.filter(|_| with.provider == "openai" && with.kind == CredentialKind::Oauth);
    id.map(|id| HeaderValue::from_str(id).map_err(|_| NotAHeader)).transpose()
}

/// Adds to `anthropic-beta`, unless it is there.
fn announce(headers: &mut HeaderMap) {
    let has =
        |value: &HeaderValue| value.to_str().is_ok_and(|value| value.split(',').any(|beta| beta.trim() == OAUTH_BETA));
    if headers.get_all(ANTHROPIC_BETA).iter().any(has) {
        return;
    }
    let before = headers.get(ANTHROPIC_BETA).filter(|value| !value.is_empty());
    let joined = before.map(|before| [before.as_bytes(), b",", OAUTH_BETA.as_bytes()].concat());
    let value = joined.and_then(|joined| HeaderValue::from_bytes(&joined).ok());
    let value = value.unwrap_or_else(|| HeaderValue::from_static(OAUTH_BETA));
    match headers.get_mut(ANTHROPIC_BETA) {
        // of several, the others stay as they are
        Some(first) => *first = value,
        None => drop(headers.insert(ANTHROPIC_BETA, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(&str, &str)]) -> HeaderMap {
        let row =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in rows.iter().map(row) {
            headers.append(name, value);
        }
        headers
    }

    fn swap(rows: &[(&str, &str)], provider: &str, kind: CredentialKind, secret: &str) -> Vec<(String, String)> {
        let secret = Secret::new(secret.to_owned());
        let with = With { provider, kind, secret: &secret, vendor_id: Some("v1") };
        let host = HeaderValue::from_static("up.example");
        let swapped = swapped(&headers(rows), &host, with).unwrap();
        swapped.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_the_credential_is_changed() {
        use CredentialKind::{ApiKey, Oauth, Token};
        let sent = [
            ("host", "127.0.0.1:1"),
            ("user-agent", "x"),
            ("x-api-key", "lk_1"),
            ("authorization", "Bearer lk_1"),
            ("accept", "a"),
            ("accept", "b"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("anthropic-beta", "a,b"),
        ];
        let rest = |credential: (&'static str, &'static str), beta: &'static str| {
            pairs(&[
                ("host", "up.example"),
                ("user-agent", "x"),
                credential,
                ("accept", "a"),
                ("accept", "b"),
                ("anthropic-beta", beta),
            ])
        };
        assert_eq!(swap(&sent, "anthropic", ApiKey, "k"), rest(("x-api-key", "k"), "a,b"));
        let with_beta = rest(("authorization", "Bearer t"), "a,b,oauth-2025-04-20");
        assert_eq!(swap(&sent, "anthropic", Oauth, "t"), with_beta);
        assert_eq!(swap(&sent, "anthropic", Token, "t"), rest(("authorization", "Bearer t"), "a,b"));
        assert_eq!(swap(&sent, "google", ApiKey, "k"), rest(("x-goog-api-key", "k"), "a,b"));
    }

    #[test]
    fn what_a_kind_requires_comes_with_it() {
        use CredentialKind::{ApiKey, Oauth, Token};
        let beta = ("anthropic-beta", "oauth-2025-04-20");
        assert_eq!(swap(&[], "anthropic", Oauth, "t"), pairs(&[("authorization", "Bearer t"), beta]));
        assert_eq!(swap(&[beta], "anthropic", Oauth, "t"), pairs(&[beta, ("authorization", "Bearer t")]));
        let long = ("authorization", "Bearer sk-ant-oat01-x");
        assert_eq!(swap(&[], "anthropic", Token, "sk-ant-oat01-x"), pairs(&[long, beta]));
        let account = ("chatgpt-account-id", "v1");
        assert_eq!(
            swap(&[("chatgpt-account-id", "mine")], "openai", Oauth, "t"),
            pairs(&[("authorization", "Bearer t"), account])
        );
        let mine = ("chatgpt-account-id", "mine");
        assert_eq!(swap(&[mine], "openai", ApiKey, "k"), pairs(&[mine, ("authorization", "Bearer k")]));
    }

    #[test]
    fn the_key_leaves_the_query_and_nothing_else_does() {
        for (query, expected) in [
            (None, None),
            (Some("alt=sse"), Some("alt=sse")),
            (Some("key=lk_1"), None),
            (Some("alt=sse&key=lk_1"), Some("alt=sse")),
            (Some("key=lk_1&alt=sse&&x=%20+"), Some("alt=sse&&x=%20+")),
            (Some("monkey=1&keys=2"), Some("monkey=1&keys=2")),
            (Some(""), Some("")),
        ] {
            assert_eq!(without_key(query).as_deref(), expected, "{query:?}");
        }
    }

    #[test]
    fn a_key_is_found_in_any_of_its_places() {
        let found =
            |rows: &[(&str, &str)], query| presented(&headers(rows), query).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(found(&[("authorization", "bearer  lk_1"), ("x-api-key", "lk_2")], None), ["lk_1", "lk_2"]);
        assert_eq!(found(&[("authorization", "lk_1")], Some("a=b&key=lk_3")), ["lk_1", "lk_3"]);
        assert_eq!(found(&[("x-goog-api-key", "lk_1")], Some("monkey=x")), ["lk_1"]);
    }
}
