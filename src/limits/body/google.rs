//! Google's error details: the quota that was violated, and the project and API that an account lacks.

use serde_json::{Map, Value};

use super::error_body::{ErrorBody, Period};

/// Elements of a list that are looked at.
pub(in crate::limits) const MOST_ELEMENTS: usize = 16;
/// Longer names are not project ids.
const LONGEST_PROJECT: usize = 64;

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
        let word = |key: &str| metadata.get(key).and_then(Value::as_str).filter(|word| !word.is_empty());
        let project = ["consumer", "containerInfo", "resource", "projectId", "project_id", "project"];
        body.project = body.project.take().or_else(|| project.into_iter().find_map(|key| project_id(word(key)?)));
        body.api = body.api.take().or_else(|| word("service").map(str::to_owned));
    }
    let resource = detail.get("resourceName").and_then(Value::as_str);
    body.project = body.project.take().or_else(|| project_id(resource?));
}

/// The project that a refusal names: in a field, or in the words and links of its message.
pub(in crate::limits) fn project(body: &ErrorBody) -> Option<&str> {
    let words = ["?project=", "&project=", "in project ", "resource project ", "projects/"];
    body.project.as_deref().or_else(|| words.into_iter().find_map(|words| word_after(&body.text, words)))
}

/// The API that a refusal names: in a field, or in the link to the page where it is enabled.
pub(in crate::limits) fn api(body: &ErrorBody) -> Option<&str> {
    let words = ["/apis/api/", "/apis/library/"];
    body.api.as_deref().or_else(|| words.into_iter().find_map(|words| word_after(&body.text, words)))
}

/// The name that follows these words.
fn word_after<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let rest = &text[text.find(words)? + words.len()..];
    let name = rest[..rest.find(|letter| !is_name_letter(letter)).unwrap_or(rest.len())].trim_end_matches('.');
    (1..=LONGEST_PROJECT).contains(&name.len()).then_some(name)
}

fn is_name_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | ':' | '.')
}

/// The project of a resource: of `projects/p/locations/global`, or the word itself.
fn project_id(resource: &str) -> Option<String> {
    let id = match resource.split_once("projects/") {
        Some((_, rest)) => rest.split('/').next()?,
        None => resource,
    };
    let is_id = |id: &str| id.chars().all(is_name_letter);
    (!id.is_empty() && id.len() <= LONGEST_PROJECT && is_id(id)).then(|| id.to_owned())
}

fn violation(body: &mut ErrorBody, violation: &Map<String, Value>) {
    for key in ["quotaId", "quotaMetric", "subject", "description"] {
        if let Some(Value::String(text)) = violation.get(key) {
            limit(body, text);
        }
    }
    // a quota of nothing: the plan lacks it
    body.is_never_granted |= violation.get("quotaValue").is_some_and(|value| value == "0" || value == 0);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_and_the_api_in_words() {
        let body = ErrorBody::read(
            b"Generative Language API has not been used in project 12345 before or it is disabled. Enable it by visiting \
              https://console.developers.google.com/apis/api/generativelanguage.googleapis.com/overview?project=12345 then retry.",
        );
        assert_eq!((project(&body), api(&body)), (Some("12345"), Some("generativelanguage.googleapis.com")));
        let body = ErrorBody::read(b"The caller does not have permission");
        assert_eq!((project(&body), api(&body)), (None, None));
    }

    #[test]
    fn the_project_of_a_resource() {
        for (resource, expected) in [
            ("projects/p-1/locations/global", Some("p-1")),
            ("//cloudaicompanion.googleapis.com/projects/p-1", Some("p-1")),
            ("p-1", Some("p-1")),
            ("projects/", None),
            ("two words", None),
            ("", None),
        ] {
            assert_eq!(project_id(resource).as_deref(), expected, "{resource}");
        }
    }
}
