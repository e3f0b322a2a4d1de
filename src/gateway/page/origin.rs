//! Which other pages may send a request to the page: none. A browser may only be led to it, as by the file of `lessor ui`.

use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};

/// Whether a request comes from the page itself, from no page, or leads a browser's window to it.
///
/// # Errors
/// Why not, for people.
pub(super) fn check(headers: &HeaderMap, is_document: bool) -> Result<(), &'static str> {
    let host = headers.get(HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_own = |origin: &HeaderValue| {
        // a port serves one of the two schemes, and is part of the host
        let schemes = [&b"http://"[..], b"https://"];
        let mut hosts = schemes.iter().filter_map(|scheme| origin.as_bytes().strip_prefix(*scheme));
        hosts.any(|origin| origin.eq_ignore_ascii_case(host))
    };
    if !headers.get_all(ORIGIN).iter().all(is_own) {
        return Err("requests from other pages are rejected");
    }
    let all = |name: &str, allowed: &[&str]| {
        let mut values = headers.get_all(name).iter();
        values.all(|value| value.to_str().is_ok_and(|value| allowed.contains(&value)))
    };
    let is_from_here = all("sec-fetch-site", &["same-origin", "none"]);
    let is = |name: &str, expected: &str| headers.contains_key(name) && all(name, &[expected]);
    let opens_a_window = is_document && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document");
    if is_from_here || opens_a_window { Ok(()) } else { Err("requests from other pages are rejected") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderName;

    #[test]
    fn only_the_page_itself_sends_requests() {
        let own = ("origin", "http://127.0.0.1:7000");
        let site = |site| ("sec-fetch-site", site);
        let window = [site("cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let frame = [site("cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
        for (headers, for_document, for_others) in [
            (&[][..], true, true),
            (&[own], true, true),
            // the port decides on the scheme: another origin has another port
            (&[("origin", "https://127.0.0.1:7000")], true, true),
            (&[own, site("same-origin")], true, true),
            (&[site("same-origin")], true, true),
            (&[site("none")], true, true),
            (&[("origin", "http://127.0.0.1:7001")], false, false),
            (&[("origin", "https://127.0.0.1:7001")], false, false),
            (&[("origin", "wss://127.0.0.1:7000")], false, false),
            (&[("origin", "http://localhost:7000")], false, false),
            (&[("origin", "http://evil.example")], false, false),
            (&[("origin", "null")], false, false),
            (&[("origin", "")], false, false),
            (&[own, ("origin", "http://evil.example")], false, false),
            (&[site("same-site")], false, false),
            (&[site("cross-site"), own], false, false),
            (&[site("cross-site"), site("same-origin")], false, false),
            (&window, true, false),
            (&frame, false, false),
        ] {
            let mut map = HeaderMap::new();
            map.append(HOST, HeaderValue::from_static("127.0.0.1:7000"));
            for (name, value) in headers {
                map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(check(&map, true).is_ok(), for_document, "{headers:?}");
            assert_eq!(check(&map, false).is_ok(), for_others, "{headers:?}");
        }
    }
}
