//! What stands in a request and belongs to the account that an earlier request was served by: its project, and the ids
//! of what it stores, such as responses, files and caches. No other account can serve such a request.

use super::built_in;

/// A key of a JSON body whose value names something that one account stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredIdKey {
    /// The key.
    pub key: &'static str,
    /// It may stand in any object, and its value may be a list; else it stands at the top level.
    pub nested: bool,
    /// What such a value contains; any value if empty.
    mark: &'static str,
}

const fn top(key: &'static str) -> StoredIdKey {
    StoredIdKey { key, nested: false, mark: "" }
}

const fn nested(key: &'static str, mark: &'static str) -> StoredIdKey {
    StoredIdKey { key, nested: true, mark }
}

/// What belongs to an account, at one provider.
struct AccountBound {
    /// In bodies.
    keys: &'static [StoredIdKey],
    /// Collections in paths: what follows one is the id of something in it.
    collections: &'static [&'static str],
    /// How ids begin in the responses that create what they name.
    created: &'static [&'static str],
}

static ANTHROPIC: AccountBound = AccountBound {
    keys: &[
        nested("file_id", "file_"),
        nested("container", "container_"),
        nested("id", "container_"),
        nested("skill_id", "skill_"),
    ],
    collections: &["files", "batches", "skills"],
    created: &["file_", "container_", "msgbatch_", "skill_"],
};

/// Also of providers that the configuration adds: most of them speak this API.
static OPENAI: AccountBound = AccountBound {
    keys: &[
        top("previous_response_id"),
        top("conversation"),
        nested("id", "conv_"),
        nested("id", "pmpt_"),
        nested("file_id", "file"),
        nested("file_ids", "file"),
        nested("input_file_id", "file"),
        nested("container", "cntr_"),
        nested("container_id", "cntr_"),
        nested("vector_store_ids", "vs_"),
        // its `id` names an item of an earlier response
        nested("type", "item_reference"),
    ],
    collections: &[
        "responses",
        "conversations",
        "files",
        "uploads",
        "batches",
        "containers",
        "vector_stores",
        "threads",
        "assistants",
        "jobs",
        "completions",
    ],
    created: &["resp_", "conv_", "file-", "file_", "cntr_", "vs_", "batch_", "upload_", "thread_", "asst_"],
};

static GOOGLE: AccountBound = AccountBound {
    keys: &[
        nested("cachedContent", ""),
        nested("cached_content", ""),
        nested("fileUri", "files/"),
        nested("file_uri", "files/"),
        top("previous_interaction_id"),
        top("previousInteractionId"),
    ],
    collections: &["cachedContents", "files", "batches", "operations", "interactions", "fileSearchStores"],
    created: &["cachedContents/", "files/", "batches/", "fileSearchStores/"],
};

fn account_bound(provider: &str) -> &'static AccountBound {
    match provider {
        "anthropic" => &ANTHROPIC,
        "google" => &GOOGLE,
        _ => &OPENAI,
    }
}

/// The keys of a request's body that may name something that one account stores.
#[must_use]
pub fn stored_id_keys(provider: &str) -> &'static [StoredIdKey] {
    account_bound(provider).keys
}

impl StoredIdKey {
    /// Whether a value of the key names something that one account stores.
    #[must_use]
    pub fn names_stored(&self, value: &str) -> bool {
        match self.mark {
            "" => !value.is_empty(),
            mark if mark.ends_with('/') => value.contains(mark),
            mark => value.starts_with(mark),
        }
    }
}

/// The id of something stored, as requests and responses agree on it: of a URL, what follows the API's version.
#[must_use]
pub fn stored_id(provider: &str, value: &str) -> String {
    let created = account_bound(provider).created;
    let place = created.iter().filter(|start| start.ends_with('/')).find_map(|start| value.find(start));
    value[place.unwrap_or(0)..].to_owned()
}

/// The id that a path names, as in `/v1/responses/ID`.
#[must_use]
pub fn stored_id_in_path(provider: &str, path: &str) -> Option<String> {
    let AccountBound { collections, created, .. } = account_bound(provider);
    let mut segments = path.split('/');
    let collection = segments.find(|segment| collections.contains(segment))?;
    let id = segments.next()?.split(':').next().filter(|id| !id.is_empty())?;
    // of Google's ids the collection is a part; elsewhere other words can follow, as in /v1/responses/compact
    let full = format!("{collection}/{id}");
    if provider == "google" {
        return Some(full);
    }
    created.iter().any(|start| id.starts_with(start)).then(|| id.to_owned()).or_else(|| {
        let has_number = id.contains(['_', '-']) && id.chars().any(|digit| digit.is_ascii_digit());
        (built_in(provider).is_some() && has_number).then(|| id.to_owned())
    })
}

/// How the ids of what a response has created begin.
#[must_use]
pub fn created_id_starts(provider: &str) -> &'static [&'static str] {
    account_bound(provider).created
}

/// The keys of a body that name the account's cloud project: those at the top level, and those in any object.
#[must_use]
pub fn project_keys(provider: &str, path: &str) -> (&'static [&'static str], &'static [&'static str]) {
    if provider == "google" && path.starts_with("/v1internal") {
        (&["project", "cloudaicompanionProject"], &["duetProject"])
    } else {
        (&[], &[])
    }
}

/// A project's name as it stands in a request: without `projects/`.
#[must_use]
pub fn bare_project(name: &str) -> &str {
    name.strip_prefix("projects/").unwrap_or(name)
}

/// Whether an error names a project that is not the account's `own`: it says nothing about the account. `others` are
/// the projects of other accounts. A project's number says nothing, because it may be the own one's.
#[must_use]
pub fn names_foreign_project(body: &[u8], own: Option<&str>, others: &[&str]) -> bool {
    let text = String::from_utf8_lossy(body).replace("\\/", "/");
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_.:".contains(letter);
    let mut words = text.split(|letter| !is_part(letter)).map(|word| word.trim_end_matches(['.', ':']));
    if own.is_some_and(|own| words.clone().any(|word| word == own)) {
        return false;
    }
    if words.any(|word| !word.is_empty() && others.contains(&word)) {
        return true;
    }
    let mut named = text.split("projects/").skip(1).map(|rest| rest.split(|letter| !is_part(letter)).next());
    own.is_some() && named.any(|name| name.is_some_and(|name| name.chars().any(|letter| letter.is_ascii_alphabetic())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_name_something_stored_are_recognised() {
        for (provider, key, value, expected) in [
            ("openai", "previous_response_id", "resp_1", true),
            ("openai", "previous_response_id", "", false),
            ("openai", "conversation", "conv_1", true),
            ("openai", "id", "conv_1", true),
            ("openai", "id", "msg_1", false),
            ("openai", "file_id", "file-1", true),
            ("openai", "container", "auto", false),
            ("openai", "type", "item_reference", true),
            ("openai", "type", "message", false),
            ("my-llm", "previous_response_id", "x", true),
            ("anthropic", "file_id", "file_011", true),
            ("anthropic", "file_id", "an argument of a tool", false),
            ("anthropic", "container", "container_1", true),
            ("anthropic", "skill_id", "pptx", false),
            ("google", "cachedContent", "cachedContents/1", true),
            ("google", "fileUri", "https://generativelanguage.googleapis.com/v1beta/files/1", true),
            ("google", "fileUri", "https://www.youtube.com/watch?v=1", false),
        ] {
            let keys = stored_id_keys(provider).iter().filter(|of| of.key == key);
            assert_eq!(keys.clone().any(|of| of.names_stored(value)), expected, "{provider} {key} {value}");
            assert!(keys.count() > 0, "{provider} {key}");
        }
    }

    #[test]
    fn paths_and_urls_name_the_same_ids_as_responses() {
        let in_path = |provider, path| stored_id_in_path(provider, path);
        assert_eq!(in_path("openai", "/v1/responses/resp_1/input_items").as_deref(), Some("resp_1"));
        assert_eq!(in_path("openai", "/v1/responses/compact"), None);
        assert_eq!(in_path("openai", "/v1/responses"), None);
        assert_eq!(in_path("openai", "/v1/chat/completions"), None);
        assert_eq!(in_path("openai", "/v1/chat/completions/chatcmpl-1").as_deref(), Some("chatcmpl-1"));
        assert_eq!(in_path("anthropic", "/v1/messages/batches/msgbatch_1/results").as_deref(), Some("msgbatch_1"));
        assert_eq!(in_path("anthropic", "/v1/messages"), None);
        assert_eq!(in_path("google", "/v1beta/files/a:x").as_deref(), Some("files/a"));
        assert_eq!(in_path("google", "/v1beta/models/gemini-3-pro:generateContent"), None);
        assert_eq!(stored_id("google", "https://x/v1beta/files/a"), "files/a");
        assert_eq!(stored_id("google", "cachedContents/1"), "cachedContents/1");
        assert_eq!(stored_id("openai", "resp_1"), "resp_1");
    }

    #[test]
    fn an_error_that_names_another_s_project_is_recognised() {
        let denied = "Permission denied on resource '//x.googleapis.com/projects/p-a/locations/global'.";
        for (body, own, others, expected) in [
            (denied, Some("p-b"), &["p-a"][..], true),
            (denied, Some("p-b"), &[], true),
            (denied, Some("p-a"), &["p-b"], false),
            (denied, None, &["p-a"], true),
            (denied, None, &[], false),
            ("Project p-a is gone.", Some("p-b"), &["p-a"], true),
            ("Project p-a is gone.", Some("p-b"), &[], false),
            ("Project p-ab is gone.", Some("p-b"), &["p-a"], false),
            ("{\"consumer\":\"projects\\/123456\"}", Some("p-b"), &["p-a"], false),
            ("projects\\/p-a", Some("p-b"), &["p-a"], true),
            ("", Some("p-b"), &["p-a"], false),
        ] {
            assert_eq!(names_foreign_project(body.as_bytes(), own, others), expected, "{body} {own:?} {others:?}");
        }
    }
}
