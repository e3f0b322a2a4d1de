//! Credentials in a request: the gateway key that the client sent is removed, the account's credential takes its place.
//! Headers that name the account of a credential are those of the leased one. Nothing else changes.

use hyper::header::{CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION};

use crate::provider::{self, CREDENTIAL_HEADERS, CompanionHeader};
use crate::{credential::Secret, pool::CredentialKind, protocol::looks_like_key};

/// What the key begins with where Codex has it as the token of a login.
const CODEX_TOKEN: &str = "at-";

/// Headers that carry a key or token.
static CREDENTIALS: [HeaderName; 3] = {
    let [authorization, anthropic, google] = CREDENTIAL_HEADERS;
    [HeaderName::from_static(authorization), HeaderName::from_static(anthropic), HeaderName::from_static(google)]
};

#[derive(Clone, Copy, Debug)]
pub(super) struct UpstreamCredential<'a> {
    pub(super) provider: &'a str,
    pub(super) kind: CredentialKind,
    pub(super) secret: &'a Secret,
    /// The vendor's own id of the account.
    pub(super) vendor_id: Option<&'a str>,
}

/// The keys in a request's head, as the client sent them.
pub(super) fn presented_keys<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> impl Iterator<Item = &'a str> {
    let values = CREDENTIALS.iter().flat_map(move |name| headers.get_all(name).iter());
    let bare = |value: &'a HeaderValue| {
        let text = value.to_str().ok()?.trim();
        let scheme = text.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer "));
        let key = scheme.map_or(text, |_| text[7..].trim_start());
        // Codex recognises its token by this beginning
        Some(key.strip_prefix(CODEX_TOKEN).filter(|key| looks_like_key(key)).unwrap_or(key))
    };
    values.filter_map(bare).chain(parameters(query).filter_map(|parameter| parameter.strip_prefix("key=")))
}

/// The key in a request's head, if there is one and no other.
pub(super) fn only_key<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Option<&'a str> {
    let mut keys = presented_keys(headers, query);
    keys.next().filter(|_| keys.next().is_none())
}

fn parameters(query: Option<&str>) -> impl Iterator<Item = &str> {
    query.into_iter().flat_map(|query| query.split('&'))
}

/// Whether a parameter of the query is a key.
pub(super) fn has_key(query: Option<&str>) -> bool {
    parameters(query).any(is_key)
}

fn is_key(parameter: &str) -> bool {
    parameter == "key" || parameter.starts_with("key=")
}

/// The query without `key=`; the rest is unchanged.
pub(super) fn without_key(query: Option<&str>) -> Option<String> {
    if !has_key(query) {
        return query.map(str::to_owned);
    }
    let kept: Vec<&str> = parameters(query).filter(|parameter| !is_key(parameter)).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// Whether a header concerns one connection only; `Trailer` does not, because trailers are forwarded.
pub(super) fn is_hop_by_hop(name: &HeaderName, named: &[HeaderName]) -> bool {
    matches!(name.as_str(), "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade")
        || named.contains(name)
}

pub(super) fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// The headers for the upstream: in the client's order, with its key replaced in place.
///
/// # Errors
/// When the secret contains bytes that no header can contain.
pub(super) fn upstream_headers(
    headers: &HeaderMap,
    host: &HeaderValue,
    credential: UpstreamCredential<'_>,
) -> Result<HeaderMap, InvalidSecret> {
    let (name, value) = credential_header(credential)?;
    let UpstreamCredential { provider, kind, secret, vendor_id } = credential;
    let companion = provider::companion_header(provider, kind, secret.expose(), vendor_id);
    let named = named_by_connection(headers);
    let is_kept =
        |known: &HeaderName| !is_dropped(known, &named) && !provider::is_identity_header(provider, known.as_str());
    // most clients send their key in the header where the account's goes, and nothing that is for the gateway
    let are_all_kept =
        headers.keys().all(|known| if CREDENTIALS.contains(known) { *known == name } else { is_kept(known) });
    let mut sent = if are_all_kept {
        let mut sent = headers.clone();
        sent.insert(name, value);
        if sent.contains_key(HOST) {
            sent.insert(HOST, host.clone());
        }
        sent
    } else {
        replaced_in_order(headers, host, (name, value), is_kept)
    };
    if let Some(companion) = companion {
        add_companion(&mut sent, companion)?;
    }
    Ok(sent)
}

/// The headers that are kept, in their order, with the account's credential in the place of the client's first one.
/// Removing some of them would change the order of the others.
fn replaced_in_order(
    headers: &HeaderMap,
    host: &HeaderValue,
    (name, value): (HeaderName, HeaderValue),
    is_kept: impl Fn(&HeaderName) -> bool,
) -> HeaderMap {
    let mut sent = HeaderMap::with_capacity(headers.len() + 2);
    for (known, old) in headers {
        if CREDENTIALS.contains(known) {
            if !sent.contains_key(&name) {
                sent.insert(name.clone(), value.clone());
            }
        } else if *known == HOST {
            sent.insert(HOST, host.clone());
        } else if is_kept(known) {
            sent.append(known.clone(), old.clone());
        }
    }
    if !sent.contains_key(&name) {
        sent.insert(name, value);
    }
    sent
}

/// Whether a header is meant for the gateway and not for the upstream.
fn is_dropped(name: &HeaderName, named: &[HeaderName]) -> bool {
    is_hop_by_hop(name, named) || *name == EXPECT || *name == PROXY_AUTHORIZATION
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the account's credential contains characters that no HTTP header can contain; add the account again")]
pub(super) struct InvalidSecret;

fn credential_header(credential: UpstreamCredential<'_>) -> Result<(HeaderName, HeaderValue), InvalidSecret> {
    let (name, scheme) = provider::credential_header(credential.provider, credential.kind);
    let secret = credential.secret.expose();
    let value = match scheme {
        Some(scheme) => HeaderValue::from_str(&format!("{scheme} {secret}")),
        None => HeaderValue::from_str(secret),
    };
    let mut value = value.map_err(|_| InvalidSecret)?;
    value.set_sensitive(true);
    Ok((HeaderName::from_static(name), value))
}

/// Sets a companion header, or adds its value to the client's list unless it is there already.
fn add_companion(headers: &mut HeaderMap, companion: CompanionHeader<'_>) -> Result<(), InvalidSecret> {
    let CompanionHeader { name, value: item, is_list } = companion;
    let contains = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.split(',').any(|of| of.trim() == item));
    if is_list && headers.get_all(name).iter().any(contains) {
        return Ok(());
    }
    let value = HeaderValue::from_str(item).map_err(|_| InvalidSecret)?;
    match headers.get_mut(name).filter(|_| is_list) {
        // the first header of that name is extended, further ones stay as they are
        Some(first) if !first.is_empty() => {
            let joined = [first.as_bytes(), b",", item.as_bytes()].concat();
            *first = HeaderValue::from_bytes(&joined).unwrap_or(value);
        }
        Some(first) => *first = value,
        None => drop(headers.insert(name, value)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    fn sent(rows: &[(&str, &str)], provider: &str, kind: CredentialKind, secret: &str) -> Vec<(String, String)> {
        let secret = Secret::new(secret.to_owned());
        let credential = UpstreamCredential { provider, kind, secret: &secret, vendor_id: Some("v1") };
        let host = HeaderValue::from_static("up.example");
        let sent = upstream_headers(&headers(rows), &host, credential).unwrap();
        sent.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_the_credential_changes() {
        use CredentialKind::{ApiKey, Oauth, Token};
        let received = [
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
        assert_eq!(sent(&received, "anthropic", ApiKey, "k"), rest(("x-api-key", "k"), "a,b"));
        let with_beta = rest(("authorization", "Bearer t"), "a,b,oauth-2025-04-20");
        assert_eq!(sent(&received, "anthropic", Oauth, "t"), with_beta);
        assert_eq!(sent(&received, "anthropic", Token, "t"), rest(("authorization", "Bearer t"), "a,b"));
        assert_eq!(sent(&received, "google", ApiKey, "k"), rest(("x-goog-api-key", "k"), "a,b"));
    }

    #[test]
    fn a_login_brings_the_header_it_requires() {
        use CredentialKind::{Oauth, Token};
        let beta = ("anthropic-beta", "oauth-2025-04-20");
        assert_eq!(sent(&[], "anthropic", Oauth, "t"), pairs(&[("authorization", "Bearer t"), beta]));
        assert_eq!(sent(&[beta], "anthropic", Oauth, "t"), pairs(&[beta, ("authorization", "Bearer t")]));
        let long = ("authorization", "Bearer sk-ant-oat01-x");
        assert_eq!(sent(&[], "anthropic", Token, "sk-ant-oat01-x"), pairs(&[long, beta]));
        let account = ("chatgpt-account-id", "v1");
        assert_eq!(
            sent(&[("chatgpt-account-id", "mine")], "openai", Oauth, "t"),
            pairs(&[("authorization", "Bearer t"), account])
        );
    }

    #[test]
    fn what_names_the_client_s_own_account_is_not_sent() {
        use CredentialKind::{ApiKey, Oauth};
        for (provider, name) in [
            ("openai", "chatgpt-account-id"),
            ("openai", "openai-organization"),
            ("openai", "openai-project"),
            ("google", "x-goog-user-project"),
            ("anthropic", "x-organization-uuid"),
        ] {
            for kind in [ApiKey, Oauth] {
                let sent = sent(&[(name, "mine"), ("x-other", "1")], provider, kind, "k");
                assert!(!sent.contains(&(name.to_owned(), "mine".to_owned())), "{provider} {name}: {sent:?}");
                assert!(sent.contains(&("x-other".to_owned(), "1".to_owned())), "{sent:?}");
            }
        }
        let other = pairs(&[("openai-project", "p"), ("authorization", "Bearer k")]);
        assert_eq!(sent(&[("openai-project", "p")], "my-llm", ApiKey, "k"), other, "another provider's headers pass");
    }

    proptest! {
        #[test]
        fn headers_are_copied_as_they_are_put_together(rows in prop::collection::vec((0usize..9, 0u8..3), 0..12)) {
            const NAMES: [&str; 9] = [
                "host", "user-agent", "x-api-key", "accept", "x-a", "x-b", "authorization", "te", "x-organization-uuid",
            ];
            let mut received = HeaderMap::new();
            for (name, value) in &rows {
                received.append(HeaderName::from_static(NAMES[*name]), HeaderValue::from(u16::from(*value)));
            }
            let secret = Secret::new("k".to_owned());
            let kind = CredentialKind::ApiKey;
            let credential = UpstreamCredential { provider: "anthropic", kind, secret: &secret, vendor_id: None };
            let host = HeaderValue::from_static("up.example");
            let sent = upstream_headers(&received, &host, credential).unwrap();
            let is_kept = |name: &HeaderName| !["te", "x-organization-uuid"].contains(&name.as_str());
            let expected =
                replaced_in_order(&received, &host, credential_header(credential).unwrap(), is_kept);
            prop_assert!(sent.iter().eq(expected.iter()), "{sent:?} is not {expected:?}");
        }
    }

    #[test]
    fn only_the_key_is_removed_from_the_query() {
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
    fn a_key_is_found_in_headers_and_query() {
        let found =
            |rows: &[(&str, &str)], query| presented_keys(&headers(rows), query).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(found(&[("authorization", "bearer  lk_1"), ("x-api-key", "lk_2")], None), ["lk_1", "lk_2"]);
        assert_eq!(found(&[("authorization", "lk_1")], Some("a=b&key=lk_3")), ["lk_1", "lk_3"]);
        assert_eq!(found(&[("x-goog-api-key", "lk_1")], Some("monkey=x")), ["lk_1"]);
        let key = "lk_0a8crebsfg97p387cdp62xb4cm56ty90";
        assert_eq!(found(&[("authorization", &format!("Bearer at-{key}"))], None), [key], "as Codex's token");
        assert_eq!(found(&[("authorization", "Bearer at-other")], None), ["at-other"]);
    }
}
