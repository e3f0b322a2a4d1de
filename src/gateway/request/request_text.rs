//! What the gateway reads from a request's body: model and session, and what belongs to one account.

use std::{ops::Range, sync::Arc};

use hyper::body::Bytes;
use hyper::header::HeaderMap;

use super::json_scan::{FoundText, JsonScan, WantedKey};
use crate::gateway::content_decoder::ContentDecoder;
use crate::provider::{self, NamedSubagent, StoredIdKey};

/// A longer session name is ignored.
pub(super) const MAX_SESSION_NAME: usize = 200;
/// A compressed body that is longer when it is decoded is not rewritten, in bytes.
const MAX_DECODED: usize = 128 << 20;
/// How much of it is decoded at once.
const DECODE_STEP: usize = 4096;

/// Which strings of a request are read.
#[derive(Clone, Debug)]
pub(crate) struct WantedText {
    provider: String,
    keys: Arc<[WantedKey]>,
    session: Range<usize>,
    projects: Range<usize>,
    stored_ids: Range<usize>,
    stored_id_in_path: Option<String>,
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct RequestText {
    pub(crate) model: Option<Arc<str>>,
    pub(crate) session: Option<Arc<str>>,
    /// The sub-agent that sends it.
    pub(crate) subagent: Option<NamedSubagent>,
    pub(crate) project: Option<ProjectInBody>,
    /// The ids of what an account stores: only that account can serve the request.
    pub(crate) stored_ids: Vec<String>,
}

/// The cloud project that a request names.
#[derive(Debug)]
pub(crate) struct ProjectInBody {
    /// Without `projects/`.
    pub(crate) name: String,
    /// Where it stands in the decoded body, with its quotes, and whether with `projects/`.
    places: Vec<(Range<usize>, bool)>,
}

impl WantedText {
    /// For requests with this path.
    pub(crate) fn of(provider: &str, path: &str) -> Self {
        let key = |nested| move |name: &&'static str| WantedKey { name, nested, kept: &[] };
        let mut keys = vec![WantedKey { name: "model", nested: false, kept: &[] }];
        let mut add = |more: &mut dyn Iterator<Item = WantedKey>| {
            let from = keys.len();
            keys.extend(more);
            from..keys.len()
        };
        let session = add(&mut provider::session_body_key(provider).iter().map(key(false)));
        let (top, nested) = provider::project_keys(provider, path);
        let projects = add(&mut top.iter().map(key(false)).chain(nested.iter().map(key(true))));
        let stored_ids = add(&mut stored_id_keys(provider));
        let stored_id_in_path = provider::stored_id_in_path(provider, path);
        Self { provider: provider.to_owned(), keys: keys.into(), session, projects, stored_ids, stored_id_in_path }
    }

    pub(super) fn scan(&self) -> JsonScan {
        JsonScan::new(self.keys.clone())
    }

    /// Sorts what was found.
    pub(super) fn read(&self, scan: JsonScan) -> RequestText {
        let found = scan.into_found();
        let of = |keys: &Range<usize>| {
            let keys = keys.clone();
            found.iter().filter(move |found| keys.contains(&found.key))
        };
        let first = |keys: &Range<usize>| of(keys).map(|found| &found.text).find(|text| !text.is_empty());
        let stored = of(&self.stored_ids);
        let stored = stored.map(|found| provider::stored_id(&self.provider, &found.text));
        RequestText {
            model: first(&(0..1)).cloned(),
            session: first(&self.session).filter(|session| session.len() <= MAX_SESSION_NAME).cloned(),
            subagent: None,
            project: ProjectInBody::of(of(&self.projects)),
            stored_ids: self.stored_id_in_path.iter().cloned().chain(stored).collect(),
        }
    }
}

/// The keys of stored ids, each name once.
fn stored_id_keys(provider: &str) -> impl Iterator<Item = WantedKey> {
    let all = provider::stored_id_keys(provider);
    let is_first = move |(at, key): &(usize, &StoredIdKey)| !all[..*at].iter().any(|before| before.key == key.key);
    let first = all.iter().enumerate().filter(is_first);
    first.map(move |(_, key)| WantedKey { name: key.key, nested: key.nested, kept: all })
}

impl ProjectInBody {
    /// The first project that is named, and every place of it.
    fn of<'a>(found: impl Iterator<Item = &'a FoundText> + Clone) -> Option<Self> {
        let bare = |found: &'a FoundText| provider::bare_project(&found.text);
        let name = found.clone().map(bare).find(|name| !name.is_empty())?;
        let places = found.filter(|found| bare(found) == name);
        let mut places: Vec<_> = places.map(|found| (found.place.clone(), *found.text != *name)).collect();
        places.sort_unstable_by_key(|(place, _)| place.start);
        Some(Self { name: name.to_owned(), places })
    }

    /// The body with another project in place of this one; all other bytes stay. `None` if it cannot be decoded, or `room`
    /// has not so many bytes.
    pub(super) fn replaced_by(
        &self,
        project: &str,
        pieces: &[Bytes],
        headers: &HeaderMap,
        mut room: impl FnMut(usize) -> bool,
    ) -> Option<Bytes> {
        let mut decoder = ContentDecoder::at_once(headers, MAX_DECODED);
        let (mut body, mut has_room) = (Vec::new(), room(self.places.len() * (project.len() + "projects/".len())));
        let mut keep = |bytes: &[u8]| {
            has_room = has_room && room(bytes.len());
            if has_room {
                body.extend_from_slice(bytes);
            }
            has_room
        };
        // in small parts: what was received at once may expand to less than a whole body
        for part in pieces.iter().flat_map(|piece| piece.chunks(DECODE_STEP)) {
            let mut goes_on = true;
            decoder.push(part, |bytes| goes_on = keep(bytes));
            if !goes_on || decoder.is_unreadable() {
                return None;
            }
        }
        decoder.finish(|bytes| _ = keep(bytes));
        if !has_room {
            return None;
        }
        for (place, has_prefix) in self.places.iter().rev() {
            let value = if *has_prefix { format!("projects/{project}") } else { project.to_owned() };
            body.get(place.clone())?;
            body.splice(place.clone(), serde_json::Value::String(value).to_string().into_bytes());
        }
        Some(body.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(provider: &str, path: &str, body: &str) -> RequestText {
        let wanted = WantedText::of(provider, path);
        let mut scan = wanted.scan();
        scan.push(body.as_bytes());
        wanted.read(scan)
    }

    #[test]
    fn a_project_is_replaced_and_every_other_byte_stays() {
        let path = "/v1internal:generateContent";
        for (body, name, expected) in [
            (r#"{ "project" : "p-a","model":"m"}"#, "p-a", r#"{ "project" : "p-é\"","model":"m"}"#),
            (
                r#"{"cloudaicompanionProject":"projects/p-a","metadata":{"duetProject":"p-a"}}"#,
                "p-a",
                r#"{"cloudaicompanionProject":"projects/p-é\"","metadata":{"duetProject":"p-é\""}}"#,
            ),
            (
                r#"{"request":{"project":"p-a","text":"p-a \"project\":\"p-a\""},"project":"p\u002da","x":"p-a"}"#,
                "p-a",
                r#"{"request":{"project":"p-a","text":"p-a \"project\":\"p-a\""},"project":"p-é\"","x":"p-a"}"#,
            ),
        ] {
            let project = read("google", path, body).project.unwrap();
            assert_eq!(project.name, name);
            let pieces: Vec<Bytes> = body.as_bytes().chunks(5).map(Bytes::copy_from_slice).collect();
            let replaced = project.replaced_by("p-é\"", &pieces, &HeaderMap::new(), |_| true).unwrap();
            assert_eq!(String::from_utf8_lossy(&replaced), expected);
            let mut left = body.len();
            let is_there = |bytes: usize| left.checked_sub(bytes).inspect(|rest| left = *rest).is_some();
            assert_eq!(project.replaced_by("p-é\"", &pieces, &HeaderMap::new(), is_there), None, "no room");
        }
        for (provider, path, body) in [
            ("google", path, r#"{"request":{"project":"p-a"}}"#),
            ("google", path, r#"{"project":""}"#),
            ("google", "/v1beta/models/m:generateContent", r#"{"project":"p-a"}"#),
            ("openai", "/v1internal:x", r#"{"project":"p-a"}"#),
        ] {
            assert!(read(provider, path, body).project.is_none(), "{provider} {path} {body}");
        }
    }

    #[test]
    fn what_an_account_stores_is_found() {
        let ids = |provider: &str, path: &str, body: &str| read(provider, path, body).stored_ids;
        let many = format!(r#"{{"input":[{}{{"type":"item_reference"}}]}}"#, r#"{"type":"message"},"#.repeat(200));
        assert_eq!(ids("openai", "/v1/responses", &many), ["item_reference"]);
        let body = r#"{"previous_response_id":null,"conversation":{"id":"conv_1"},"input":[{"file_id":"file-1"}]}"#;
        assert_eq!(ids("openai", "/v1/responses", body), ["conv_1", "file-1"]);
        assert_eq!(ids("openai", "/v1/responses/resp_1", ""), ["resp_1"]);
        let body = r#"{"request":{"cachedContent":"cachedContents/1","x":{"fileUri":"https://g/v1beta/files/2"}}}"#;
        assert_eq!(ids("google", "/v1internal:x", body), ["cachedContents/1", "files/2"]);
        assert!(ids("anthropic", "/v1/messages", r#"{"messages":[{"content":"file_id"}]}"#).is_empty());
    }
}
