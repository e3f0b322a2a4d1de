//! Google's error details, and its verification links for blocked accounts.

use serde_json::{Map, Value};

use super::error_body::{ErrorBody, Period};

/// Elements of a list that are looked at.
pub(in crate::limits) const MOST_ELEMENTS: usize = 16;
/// The only host whose links are shown: other links could be phishing.
const LOGIN: &str = "https://accounts.google.com";
/// The number of links that are compared.
const MOST_LINKS: usize = 64;
const LONGEST_LINK: usize = 2048;
/// The depth to which documents are searched.
const DEEPEST: usize = 16;

/// Reads what is specific to Google in one of `error.details`; codes and times are read as for other providers.
pub(in crate::limits) fn detail(body: &mut ErrorBody, detail: &Map<String, Value>) {
    if let Some(Value::Array(violations)) = detail.get("violations") {
        violations.iter().take(MOST_ELEMENTS).filter_map(Value::as_object).for_each(|one| violation(body, one));
    }
    if let Some(Value::Object(metadata)) = detail.get("metadata") {
        for key in ["quota_limit", "quota_unit", "quotaId", "quota_id"] {
            if let Some(Value::String(text)) = metadata.get(key) {
                limit(body, text);
            }
        }
        // Claude models share one quota at Google
        let model = metadata.get("model").or_else(|| metadata.get("modelName")).and_then(Value::as_str);
        body.of_model |= model.is_some_and(|model| !model.is_empty() && !model.contains("claude"));
    }
}

fn violation(body: &mut ErrorBody, violation: &Map<String, Value>) {
    for key in ["quotaId", "quotaMetric", "subject", "description"] {
        if let Some(Value::String(text)) = violation.get(key) {
            limit(body, text);
        }
    }
    let dimensions = violation.get("quotaDimensions").and_then(Value::as_object);
    body.of_model |= dimensions.is_some_and(|dimensions| dimensions.contains_key("model"));
}

/// Reads from a limit's name the window's length and whether the limit is per model.
fn limit(body: &mut ErrorBody, name: &str) {
    let plain: String = name.chars().take(256).filter(|letter| !matches!(letter, ' ' | '_' | '-')).collect();
    let plain = plain.to_ascii_lowercase();
    let is = |words: &[&str]| words.iter().any(|word| plain.contains(word));
    if is(&["perday", "daily", "perweek", "weekly", "permonth", "monthly", "/d/", "/day"]) {
        body.add_period(Period::Long);
    } else if is(&["perminute", "persecond", "/min", "/s/"]) {
        body.add_period(Period::Short);
    }
    body.of_model |= is(&["permodel", "perbasemodel"]);
}

/// The best link to the page where the owner verifies the account.
pub(in crate::limits) fn verification_link(body: &ErrorBody) -> Option<String> {
    let mut links = Vec::new();
    match &body.document {
        Some(document) => collect(document, &mut links, 0),
        None => links_of(body.message.as_deref().unwrap_or_default(), &mut links),
    }
    // of equal links the first
    links.into_iter().rev().max_by_key(|link| worth(link))
}

fn collect(value: &Value, links: &mut Vec<String>, depth: usize) {
    match value {
        Value::String(text) => links_of(text, links),
        Value::Array(list) if depth < DEEPEST => list.iter().for_each(|one| collect(one, links, depth + 1)),
        Value::Object(object) if depth < DEEPEST => object.values().for_each(|one| collect(one, links, depth + 1)),
        _ => {}
    }
}

fn links_of(text: &str, links: &mut Vec<String>) {
    for (at, _) in text.match_indices(LOGIN).take(MOST_LINKS) {
        let rest = &text[at..];
        let ends = |letter: char| letter.is_whitespace() || letter.is_control() || "\"'<>\\`".contains(letter);
        let link = rest[..rest.find(ends).unwrap_or(rest.len())].trim_end_matches(['.', ',', ')', ';', '!']);
        // the next character must not extend the host name
        let is_host = link[LOGIN.len()..].starts_with(['/', '?']);
        if is_host && link.len() <= LONGEST_LINK && links.len() < MOST_LINKS {
            links.push(link.replace("&amp;", "&"));
        }
    }
}

/// A link's rank by the parts that verification links have.
fn worth(link: &str) -> u8 {
    [("plt=", 4), ("/signin/continue", 3), ("continue=", 2), ("service=cloudcode", 1)]
        .iter()
        .filter(|(part, _)| link.contains(part))
        .map(|(_, worth)| worth)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(body: &str) -> Option<String> {
        verification_link(&ErrorBody::read(body.as_bytes()))
    }

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
            assert_eq!(link(body).as_deref(), expected, "{body}");
        }
    }
}
