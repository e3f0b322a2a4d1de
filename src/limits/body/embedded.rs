//! Documents within a text: `All 2 attempts failed. Last error: HTTP 403: {"error": …}`.

use serde_json::{Deserializer, Value};

/// The number of places in a text where a document is tried to be read; each costs time linear in the text.
const MOST_TRIES: usize = 4;

/// The document that a text contains, and the words before and after it.
pub(super) fn document(text: &str) -> Option<([&str; 2], Value)> {
    let mut from = 0;
    for _ in 0..MOST_TRIES {
        let at = from + text.get(from..)?.find(['{', '['])?;
        let mut documents = Deserializer::from_str(&text[at..]).into_iter::<Value>();
        if let Some(Ok(found)) = documents.next()
            && is_error_like(&found)
        {
            let rest = text.get(at + documents.byte_offset()..).unwrap_or_default();
            return Some(([text[..at].trim_end(), rest.trim_start()], found));
        }
        from = at + 1;
    }
    None
}

/// Objects, and lists of them; not a placeholder such as `{}` or a list of numbers.
fn is_error_like(found: &Value) -> bool {
    match found {
        Value::Object(object) => !object.is_empty(),
        Value::Array(list) => list.first().is_some_and(Value::is_object),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_in_a_text() {
        let found = |text| document(text).map(|(words, found)| (words.join("|"), found.to_string()));
        let is = |words: &str, document: &str| Some((words.to_owned(), document.to_owned()));
        for (text, expected) in [
            (r#"HTTP 403: {"a":1} and more"#, is("HTTP 403:|and more", r#"{"a":1}"#)),
            (r#"[x] failed: [{"a":1}]"#, is("[x] failed:|", r#"[{"a":1}]"#)),
            (r#"of {project}: {"a":{"b":2}}"#, is("of {project}:|", r#"{"a":{"b":2}}"#)),
            ("cooldown_list=[] {}", None),
            (r#"{{{{{"a":1}"#, None),
            ("no document", None),
            (r#"cut {"a":1"#, None),
            ("", None),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }
}
