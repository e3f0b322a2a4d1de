//! The ids of what a response has created on its account, such as a response, a file or a cache.

use hyper::body::Bytes;
use hyper::header::HeaderMap;

use super::first_bytes::decoded_start;
use crate::provider::created_id_starts;

/// How much of a response is read: ids stand at its beginning.
const MAX_READ: usize = 16 * 1024;
/// A longer id is ignored.
const MAX_ID: usize = 256;
/// The most ids of one response.
const MAX_IDS: usize = 8;

/// The ids in the first bytes of a response: strings that begin as such ids do.
pub(crate) fn created_ids(provider: &str, headers: &HeaderMap, first: &[Bytes]) -> Vec<String> {
    let text = decoded_start(headers, first, MAX_READ);
    let (starts, mut ids) = (created_id_starts(provider), Vec::new());
    for quote in memchr::memchr_iter(b'"', &text) {
        // an escaped quote is a part of a text
        let (rest, is_text) = (&text[quote + 1..], text[..quote].ends_with(b"\\"));
        let Some(start) = starts.iter().find(|start| rest.starts_with(start.as_bytes()) && !is_text) else { continue };
        let end = rest.iter().take(MAX_ID).position(|byte| *byte == b'"');
        let id = end.and_then(|end| std::str::from_utf8(&rest[..end]).ok());
        if let Some(id) = id.filter(|id| id.len() > start.len() && !id.contains(['\\', ' ']))
            && ids.len() < MAX_IDS
        {
            ids.push(id.to_owned());
        }
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_created_things_are_found() {
        let ids = |provider: &str, text: &'static str| {
            created_ids(provider, &HeaderMap::new(), &[Bytes::from_static(text.as_bytes())])
        };
        let stream = "data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n";
        assert_eq!(ids("openai", stream), ["resp_1"]);
        assert_eq!(ids("openai", r#"{"text":"say \"resp_1\" and \"resp_","id":"file-2","x":"resp_ is"}"#), ["file-2"]);
        assert_eq!(ids("google", r#"{"name": "cachedContents/1"}"#), ["cachedContents/1"]);
        assert_eq!(ids("anthropic", r#"{"id":"msg_1","container":{"id":"container_1"}}"#), ["container_1"]);
        assert!(ids("anthropic", r#"{"id":"file_"#).is_empty());
    }
}
