//! Links in a body to pages where the account's owner can mend it. Only vendors' own pages are shown: others could be
//! phishing.

use serde_json::Value;

use super::error_body::ErrorBody;

/// The only host where owners verify an account.
const LOGIN: &str = "https://accounts.google.com";
/// Hosts of vendors; pages below them count as well.
const VENDORS: [&str; 9] = [
    "google.com",
    "goo.gle",
    "anthropic.com",
    "claude.ai",
    "claude.com",
    "openai.com",
    "chatgpt.com",
    "microsoft.com",
    "azure.com",
];
/// Hosts of a vendor where any user can publish pages.
const PUBLIC: [&str; 5] =
    ["sites.google.com", "docs.google.com", "script.google.com", "groups.google.com", "drive.google.com"];
/// Where Google takes appeals; any user can publish a form there, so it counts in the field for appeals only.
const APPEALS: &str = "forms.gle";
/// The number of links that are compared.
const MOST_LINKS: usize = 64;
const LONGEST_LINK: usize = 2048;
/// The depth to which documents are searched.
const DEEPEST: usize = 16;

struct PageLink {
    url: String,
    /// The field that contains it; empty for prose.
    field: String,
}

/// The best link to the page where the owner verifies the account.
pub(in crate::limits) fn verification(body: &ErrorBody) -> Option<String> {
    let links = all(body).filter(|link| is_at(&link.url, LOGIN));
    // of equal links the first
    links.rev().max_by_key(|link| worth(&link.url)).map(|link| link.url)
}

/// The best link to a page that says how to mend the account: an appeal, an API to enable, a plan to buy.
pub(in crate::limits) fn remedy(body: &ErrorBody) -> Option<String> {
    let links = all(body).filter_map(|link| Some((rank(&link)?, link.url)));
    links.rev().max_by_key(|(rank, _)| *rank).map(|(_, url)| url)
}

/// How specific a link is; `None` if it is not the vendor's.
fn rank(link: &PageLink) -> Option<u8> {
    let field = link.field.to_ascii_lowercase();
    let acts = ["appeal", "activation", "validation", "verification", "enable"].iter().any(|word| field.contains(word));
    let host = host(&link.url)?;
    if host == APPEALS {
        return field.contains("appeal").then_some(3);
    }
    let below = |vendor: &&str| host == *vendor || host.strip_suffix(*vendor).is_some_and(|rest| rest.ends_with('.'));
    if !VENDORS.iter().any(below) || PUBLIC.contains(&host) {
        return None;
    }
    Some(if acts {
        3
    } else if host.starts_with("support.") {
        // pages that explain, not pages that act
        0
    } else {
        1 + u8::from(link.url.contains('?'))
    })
}

fn host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://")?;
    let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    // no port, no user
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')).then_some(host)
}

fn is_at(url: &str, origin: &str) -> bool {
    // the next character must not extend the host name
    url.strip_prefix(origin).is_some_and(|rest| rest.starts_with(['/', '?']))
}

/// A link's rank by the parts that verification links have.
fn worth(link: &str) -> u8 {
    [("plt=", 4), ("/signin/continue", 3), ("continue=", 2), ("service=cloudcode", 1)]
        .iter()
        .filter(|(part, _)| link.contains(part))
        .map(|(_, worth)| worth)
        .sum()
}

/// All links, also those of errors that are serialised in texts.
fn all(body: &ErrorBody) -> impl DoubleEndedIterator<Item = PageLink> {
    let mut links = Vec::new();
    for document in &body.documents {
        collect("", document, &mut links, 0);
    }
    if body.documents.is_empty() {
        links_of("", body.message.as_deref().unwrap_or_default(), &mut links);
    }
    links.into_iter()
}

fn collect(field: &str, value: &Value, links: &mut Vec<PageLink>, depth: usize) {
    match value {
        Value::String(text) => links_of(field, text, links),
        Value::Array(list) if depth < DEEPEST => list.iter().for_each(|one| collect(field, one, links, depth + 1)),
        Value::Object(object) if depth < DEEPEST => {
            object.iter().for_each(|(key, one)| collect(key, one, links, depth + 1));
        }
        _ => {}
    }
}

fn links_of(field: &str, text: &str, links: &mut Vec<PageLink>) {
    for (at, _) in text.match_indices("https://").take(MOST_LINKS) {
        let rest = &text[at..];
        let ends = |letter: char| letter.is_whitespace() || letter.is_control() || "\"'<>\\`".contains(letter);
        let link = rest[..rest.find(ends).unwrap_or(rest.len())].trim_end_matches(['.', ',', ')', ';', '!']);
        if link.len() <= LONGEST_LINK && links.len() < MOST_LINKS {
            links.push(PageLink { url: link.replace("&amp;", "&"), field: field.to_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_verification_link_on_googles_login_host() {
        for (body, expected) in [
            (
                r#"{"error":{"details":[{"links":[
                    {"url":"https://accounts.google.com/x?service=cloudcode"},
                    {"url":"https://accounts.google.com/signin/continue?continue=y"},
                    {"url":"https://accounts.google.com/z?plt=1"}]}]}}"#,
                Some("https://accounts.google.com/signin/continue?continue=y"),
            ),
            ("verify at https://accounts.google.com/a?b=1&amp;c=2.", Some("https://accounts.google.com/a?b=1&c=2")),
            (
                r#"{"m":"<a href=\"https://accounts.google.com/s?plt=AK\u0026x=1\">"}"#,
                Some("https://accounts.google.com/s?plt=AK&x=1"),
            ),
            (r#"{"url":"https://evil.example/verify"}"#, None),
            (r#"{"url":"https://accounts.google.com.evil.example/verify"}"#, None),
            (r#"{"url":"https://accounts.google.com@evil.example/verify"}"#, None),
            (r#"{"url":"http://accounts.google.com/verify"}"#, None),
            ("", None),
        ] {
            assert_eq!(verification(&ErrorBody::read(body.as_bytes())).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn a_remedy_is_a_vendors_own_page() {
        for (body, expected) in [
            (
                r#"{"m":"see https://support.google.com/a?b=1","x":{"appeal_url":"https://forms.gle/x"}}"#,
                Some("https://forms.gle/x"),
            ),
            (r#"{"m":"fill in https://forms.gle/x"}"#, None),
            (
                r#"{"links":[{"url":"https://cloud.google.com/docs"}],"activationUrl":"https://console.cloud.google.com/apis?project=p"}"#,
                Some("https://console.cloud.google.com/apis?project=p"),
            ),
            (
                r#"{"m":"go to https://platform.openai.com/settings/organization/general and verify"}"#,
                Some("https://platform.openai.com/settings/organization/general"),
            ),
            (
                r#"{"error":{"message":"{\"u\":\"https://claude.ai/settings?x=1\"}"}}"#,
                Some("https://claude.ai/settings?x=1"),
            ),
            (r#"{"activationUrl":"https://evil.example/enable"}"#, None),
            (r#"{"activationUrl":"https://google.com.evil.example/enable"}"#, None),
            (r#"{"activationUrl":"https://notgoogle.com/enable"}"#, None),
            (r#"{"activationUrl":"https://x@google.com/enable"}"#, None),
            (r#"{"activationUrl":"https://sites.google.com/enable"}"#, None),
            (r#"{"activationUrl":"http://console.cloud.google.com/enable"}"#, None),
        ] {
            assert_eq!(remedy(&ErrorBody::read(body.as_bytes())).as_deref(), expected, "{body}");
        }
    }
}
