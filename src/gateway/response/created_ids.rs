//! The ids of what a response has created on its account, such as a response, a file or a cache.

use std::sync::LazyLock;

use hyper::body::Bytes;
use hyper::header::HeaderMap;
use memchr::memmem::Finder;
use rustc_hash::FxHashMap;

use crate::gateway::content_decoder::ContentDecoder;
use crate::provider::created_id_starts;

/// How much of a response is read: ids stand at its beginning.
const MAX_READ: usize = 16 * 1024;
/// A longer id is ignored.
const MAX_ID: usize = 256;
/// The most ids of one response.
const MAX_IDS: usize = 8;

/// Finds how ids begin: making a finder takes longer than reading a short response with it.
static FINDERS: LazyLock<FxHashMap<&'static str, Finder<'static>>> = LazyLock::new(|| {
    let starts = ["anthropic", "google", "openai"].into_iter().flat_map(created_id_starts);
    starts.map(|start| (*start, Finder::new(start))).collect()
});

/// The ids in the first bytes of a response: strings that begin as such ids do.
pub(crate) fn created_ids(provider: &str, headers: &HeaderMap, first: &[Bytes]) -> Vec<String> {
    let (mut decoder, mut text) = (ContentDecoder::at_once(headers, MAX_READ), Vec::new());
    for piece in first {
        decoder.push(piece, |bytes| text.extend_from_slice(&bytes[..bytes.len().min(MAX_READ - text.len())]));
    }
    let mut ids = Vec::new();
    for start in created_id_starts(provider) {
        let Some(finder) = FINDERS.get(start) else { continue };
        for at in finder.find_iter(&text) {
            // a quote stands before it, and an escaped one is a part of a text
            let is_text = !text[..at].ends_with(b"\"") || text[..at].ends_with(b"\\\"");
            let rest = &text[at..];
            let end = rest.iter().take(MAX_ID).position(|byte| *byte == b'"');
            let id = end.and_then(|end| std::str::from_utf8(&rest[..end]).ok());
            if let Some(id) = id.filter(|id| !is_text && id.len() > start.len() && !id.contains(['\\', ' ']))
                && ids.len() < MAX_IDS
            {
                ids.push(id.to_owned());
            }
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
