//! How each provider's HTTP API differs from the others, as far as the gateway must know.

use super::{built_in, models};
use crate::{limits::Dialect, pool::CredentialKind};

/// Headers in which the vendors' agents name their session.
pub const SESSION_HEADERS: [&str; 5] =
    ["x-claude-code-session-id", "session-id", "session_id", "x-session-id", "x-session-affinity"];

/// How an agent marks the requests of the agents that it starts within its own run.
struct SubagentMarks {
    /// A request with this header is one of them,
    mark: &'static str,
    /// unless its value is one of these: such a request continues the conversation of the run.
    except: &'static [&'static str],
    /// The headers that name the sub-agent, the best first.
    id: &'static [&'static str],
    /// The header that names the agent which has started it; where it is missing, that is the agent of the run.
    parent: Option<&'static str>,
}

/// Claude Code 2.1.329, Codex 0.169, opencode 1.18. Gemini CLI 0.61 does not mark them.
const SUBAGENT_MARKS: [SubagentMarks; 4] = [
    SubagentMarks {
        mark: "x-claude-code-agent-id",
        except: &[],
        id: &["x-claude-code-agent-id"],
        parent: Some("x-claude-code-parent-agent-id"),
    },
    SubagentMarks {
        mark: "x-codex-parent-thread-id",
        except: &[],
        id: &["thread-id", "session-id", "session_id"],
        parent: Some("x-codex-parent-thread-id"),
    },
    SubagentMarks {
        mark: "x-openai-subagent",
        except: &["compact"],
        id: &["thread-id", "session-id", "session_id", "x-openai-subagent"],
        parent: None,
    },
    SubagentMarks {
        mark: "x-parent-session-id",
        except: &[],
        id: &["x-session-id", "x-session-affinity"],
        parent: Some("x-parent-session-id"),
    },
];
/// A longer name of a sub-agent is ignored.
const LONGEST_SUBAGENT: usize = 200;

/// A sub-agent, as the headers of its requests name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedSubagent {
    /// Its id within the run.
    pub id: Box<str>,
    /// The id of the agent that has started it; the agent of the run may have one, too.
    pub parent: Option<Box<str>>,
}

/// Whether a header marks a request of a sub-agent.
#[must_use]
pub fn marks_subagent(header: &str) -> bool {
    SUBAGENT_MARKS.iter().any(|marks| marks.mark == header)
}

/// The sub-agent that sends a request with these headers.
pub fn subagent_of<'a>(header: impl Fn(&'static str) -> Option<&'a str>) -> Option<NamedSubagent> {
    let named = |name| header(name).filter(|value| !value.is_empty() && value.len() <= LONGEST_SUBAGENT);
    SUBAGENT_MARKS.iter().find_map(|marks| {
        named(marks.mark).filter(|value| !marks.except.contains(value))?;
        let id = marks.id.iter().find_map(|name| named(name))?.into();
        Some(NamedSubagent { id, parent: marks.parent.and_then(named).map(Into::into) })
    })
}

/// Headers that carry a key or token.
pub const CREDENTIAL_HEADERS: [&str; 3] = ["authorization", "x-api-key", "x-goog-api-key"];

/// Headers that name the account, organisation or project of a credential. What a client sends in them belongs to a
/// credential of its own, so it does not reach the upstream with another one.
const IDENTITY_HEADERS: &[(&str, &[&str])] = &[
    ("anthropic", &["x-organization-uuid"]),
    ("openai", &["chatgpt-account-id", "openai-organization", "openai-project"]),
    ("google", &["x-goog-user-project"]),
];

/// Whether a header names the account, organisation or project of a credential.
#[must_use]
pub fn is_identity_header(provider: &str, header: &str) -> bool {
    IDENTITY_HEADERS.iter().any(|(of, names)| *of == provider && names.contains(&header))
}

/// A header that a credential needs beside itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompanionHeader<'a> {
    /// The header's name.
    pub name: &'static str,
    /// Its value, or one item of it.
    pub value: &'a str,
    /// The header is a list that must contain `value`; otherwise `value` replaces what the client sent.
    pub is_list: bool,
}

/// The header that a credential needs beside itself; `vendor_id` is the vendor's id of the account.
#[must_use]
pub fn companion_header<'a>(
    provider: &str,
    kind: CredentialKind,
    secret: &str,
    vendor_id: Option<&'a str>,
) -> Option<CompanionHeader<'a>> {
    let prefix = built_in(provider).and_then(|provider| provider.login_token_prefix);
    let is_login_token = kind == CredentialKind::Oauth
        || kind == CredentialKind::Token && prefix.is_some_and(|prefix| secret.starts_with(prefix));
    match provider {
        "anthropic" if is_login_token => {
            Some(CompanionHeader { name: "anthropic-beta", value: "oauth-2025-04-20", is_list: true })
        }
        "openai" if kind == CredentialKind::Oauth => {
            Some(CompanionHeader { name: "chatgpt-account-id", value: vendor_id?, is_list: false })
        }
        _ => None,
    }
}

/// The key of a JSON body that names the session.
#[must_use]
pub fn session_body_key(provider: &str) -> Option<&'static str> {
    (provider == "openai").then_some("prompt_cache_key")
}

/// The path below the base: with the version that some of Anthropic's clients omit, and with it once where a client was
/// given a base with `/v1` and adds its own.
#[must_use]
pub fn versioned_path(provider: &str, path: &str) -> String {
    let is_messages = path.strip_prefix("/messages").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if provider == "anthropic" && is_messages {
        return format!("/v1{path}");
    }
    let is_doubled = built_in(provider).is_some() && path.starts_with("/v1/v1/");
    path[if is_doubled { "/v1".len() } else { 0 }..].to_owned()
}

/// The end of the base URL for ChatGPT logins.
const CODEX_BACKEND: &str = "/backend-api/codex";
/// What Codex uses of ChatGPT, below `/backend-api`. The rest, such as the conversations of the browser, is not reached
/// with a key of the gateway.
const PARTS_FOR_CODEX: [&str; 5] = ["codex", "wham", "ps", "plugins", "connectors"];

/// Whether a path is one of ChatGPT's own that Codex uses, from the root of its host.
#[must_use]
pub fn is_of_codex(path: &str) -> bool {
    let part = path.strip_prefix("/backend-api/").map(|below| below.split('/').next().unwrap_or_default());
    part.is_some_and(|part| PARTS_FOR_CODEX.contains(&part))
}

/// Whether a request is not for a model: what it is refused for says nothing of the account's use of models.
#[must_use]
pub fn is_beside_the_api(provider: &str, path: &str) -> bool {
    provider == "openai" && path.starts_with("/backend-api/") && !uses_quota(provider, path)
}

/// The base URL to put before a path: a version at its end, such as `/v1`, is left out where the path brings its own.
///
/// The built-in providers' APIs are all below the root, so there any version in the path replaces that of the base;
/// of another provider's only the same one does.
#[must_use]
pub fn base_for_path<'a>(provider: &str, base: &'a str, path: &str) -> &'a str {
    if provider == "openai" && is_of_codex(path) {
        return base.strip_suffix(CODEX_BACKEND).unwrap_or(base);
    }
    let Some((root, last)) = base.rsplit_once('/').filter(|(root, last)| is_version(last) && !root.ends_with('/'))
    else {
        return base;
    };
    let first = path.trim_start_matches('/').split(['/', ':']).next().unwrap_or_default();
    let replaces = match built_in(provider) {
        Some(_) => is_version(first) || first == "api",
        None => first == last,
    };
    if replaces { root } else { base }
}

/// Whether a segment of a path is a version, such as `v1`, `v1beta` or Code Assist's `v1internal`.
fn is_version(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix('v') else { return false };
    let suffix = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    suffix.len() < rest.len() && suffix.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit())
}

/// The model that the path names: Google's paths are `…/models/NAME:method`.
#[must_use]
pub fn model_in_path<'a>(provider: &str, path: &'a str) -> Option<&'a str> {
    let after = Some(path).filter(|_| provider == "google")?.split_once("/models/")?.1;
    let name = after.split('/').next()?;
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    (!name.is_empty()).then_some(name)
}

/// Whether a model's name selects a quota of lessor's and is unknown to the provider.
#[must_use]
pub fn names_a_quota(provider: &str, model: &str) -> bool {
    provider == "google" && models::gemini(Some(model)).name != Some(model)
}

/// Whether a request takes from a quota of the account; others are served while every quota is used up. A path that is
/// not known does.
#[must_use]
pub fn uses_quota(provider: &str, path: &str) -> bool {
    let of_version = |version: &str, part: &str| {
        path.strip_prefix(version)
            .and_then(|rest| rest.strip_prefix(part))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match provider {
        "anthropic" => {
            !(of_version("/v1", "/models") || of_version("/v1/messages", "/count_tokens") || path.starts_with("/api/"))
        }
        "google" => match (path.starts_with("/v1internal"), path.rsplit_once(':')) {
            (true, Some((_, method))) => method.to_ascii_lowercase().contains("generate"),
            // the list of models, and one of them
            (_, None) => !path.contains("/models"),
            (_, Some((_, method))) => method != "countTokens",
        },
        "openai" if path.starts_with("/backend-api/") => of_version(CODEX_BACKEND, "/responses"),
        _ => !(of_version("/v1", "/models") || of_version("", "/models")),
    }
}

/// Whether a path is the Responses API's, which is also spoken over WebSockets.
#[must_use]
pub fn has_responses_socket(provider: &str, path: &str) -> bool {
    match Dialect::of(provider) {
        Dialect::Openai => matches!(versioned_path(provider, path).as_str(), "/v1/responses" | "/responses"),
        // other services speak OpenAI's API, below a base of their own
        Dialect::Other => path.ends_with("/responses"),
        Dialect::Google | Dialect::Anthropic => false,
    }
}

/// The quota that a Code Assist request is counted against: it depends on the program. Claude models have one only.
#[must_use]
pub fn quota_of_agent(provider: &str, path: &str, model: Option<&str>, user_agent: &str) -> Option<&'static str> {
    let is_claude = model.is_some_and(|model| model.contains("claude"));
    if provider != "google" || !path.starts_with("/v1internal") || is_claude {
        return None;
    }
    if user_agent.starts_with("GeminiCLI") {
        return Some("gemini-cli");
    }
    user_agent.to_ascii_lowercase().contains("antigravity").then_some("antigravity")
}

/// Whether an event of a stream says only that the stream has begun: an error may still follow it.
#[must_use]
pub fn is_preamble_event(provider: &str, name: Option<&str>, data: &[u8]) -> bool {
    const RESPONSES_API: [&str; 3] = ["\"response.created\"", "\"response.in_progress\"", "\"response.queued\""];
    let start = &data[..data.len().min(64)];
    let contains = |part: &str| start.windows(part.len()).any(|window| window == part.as_bytes());
    name == Some("ping") || Dialect::of(provider) != Dialect::Anthropic && RESPONSES_API.into_iter().any(contains)
}

/// Whether an event of a stream is the last one that a client waits for.
#[must_use]
pub fn is_final_event(name: Option<&str>, data: &[u8]) -> bool {
    const NAMES: [&str; 4] = ["message_stop", "response.completed", "response.incomplete", "response.done"];
    let data = data.trim_ascii();
    if data == b"[DONE]" || name.is_some_and(|name| NAMES.contains(&name)) {
        return true;
    }
    // the type comes first
    let mut dense = data.iter().take(64).copied().filter(|byte| !byte.is_ascii_whitespace());
    let has_type = b"{\"type\":\"".iter().all(|byte| dense.next() == Some(*byte));
    let goes_on = |name: &&str| name.bytes().chain([b'"']).eq(dense.clone().take(name.len() + 1));
    has_type && NAMES.iter().any(goes_on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_agents_are_recognised_by_the_headers_of_their_agents() {
        let long = "x".repeat(201);
        for (headers, expected) in [
            (&[("x-claude-code-session-id", "s")][..], None),
            (&[("x-claude-code-agent-id", "a1")], Some(("a1", None))),
            (&[("x-claude-code-agent-id", "a2"), ("x-claude-code-parent-agent-id", "a1")], Some(("a2", Some("a1")))),
            (&[("x-claude-code-agent-id", &long)], None),
            (&[("x-claude-code-agent-id", "")], None),
            (&[("session-id", "root")], None),
            (&[("session-id", "child"), ("x-codex-parent-thread-id", "root")], Some(("child", Some("root")))),
            (
                &[("session-id", "root"), ("thread-id", "child"), ("x-codex-parent-thread-id", "root")],
                Some(("child", Some("root"))),
            ),
            (&[("session-id", "root"), ("x-openai-subagent", "compact")], None),
            (&[("session-id", "other"), ("x-openai-subagent", "review")], Some(("other", None))),
            (&[("x-openai-subagent", "review")], Some(("review", None))),
            (&[("x-session-id", "root"), ("x-session-affinity", "root")], None),
            (&[("x-session-id", "child"), ("x-parent-session-id", "root")], Some(("child", Some("root")))),
        ] {
            let value = |wanted: &str| headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
            let found = subagent_of(value);
            let found = found.as_ref().map(|found| (&*found.id, found.parent.as_deref()));
            assert_eq!(found, expected, "{headers:?}");
        }
    }

    #[test]
    fn only_google_names_the_model_in_the_path() {
        for (provider, path, expected) in [
            ("google", "/v1beta/models/gemini-3-pro:streamGenerateContent", Some("gemini-3-pro")),
            ("google", "/v1/models/gemini-3-flash:gemini-cli:generateContent", Some("gemini-3-flash:gemini-cli")),
            ("google", "/v1beta/models", None),
            ("openai", "/v1/models/gpt-5", None),
        ] {
            assert_eq!(model_in_path(provider, path), expected, "{path}");
        }
    }

    #[test]
    fn only_the_responses_api_has_sockets_that_are_relayed() {
        for (provider, path, expected) in [
            ("openai", "/v1/responses", true),
            ("openai", "/responses", true),
            ("openai", "/v1/v1/responses", true),
            ("openai", "/v1/realtime", false),
            ("openai", "/v1/responses/resp_1", false),
            ("openai", "", false),
            ("my-llm", "/api/v1/responses", true),
            ("my-llm", "/v1/realtime", false),
            ("google", "/v1/responses", false),
            ("anthropic", "/responses", false),
        ] {
            assert_eq!(has_responses_socket(provider, path), expected, "{provider} {path}");
        }
    }

    #[test]
    fn a_version_is_not_doubled() {
        for (provider, base, path, expected) in [
            ("anthropic", "http://u/v1", "/v1/messages", "http://u"),
            ("anthropic", "http://u/x/v1", "/v1/messages", "http://u/x"),
            ("anthropic", "http://u/v1", "/api/oauth/usage", "http://u"),
            ("anthropic", "http://u/v1", "/models", "http://u/v1"),
            ("anthropic", "http://u", "/v1/messages", "http://u"),
            ("openai", "http://u/v1", "/v1/responses", "http://u"),
            ("openai", "http://u/v1", "/responses", "http://u/v1"),
            ("openai", "http://u/v1", "/v10", "http://u"),
            ("google", "http://u/v1beta", "/v1beta/models", "http://u"),
            ("google", "http://u/v1beta", "/v1internal:generateContent", "http://u"),
            ("google", "http://u/v1beta", "/v1/models", "http://u"),
            ("llm", "http://u/v1", "/v1/chat/completions", "http://u"),
            ("llm", "http://u/v1", "/chat/completions", "http://u/v1"),
            ("llm", "http://u/api/v3", "/v1/chat/completions", "http://u/api/v3"),
            ("llm", "http://v1", "/v1/chat", "http://v1"),
            ("llm", "http://u/vision", "/v1/chat", "http://u/vision"),
        ] {
            assert_eq!(base_for_path(provider, base, path), expected, "{provider} {base} {path}");
        }
    }

    #[test]
    fn only_requests_for_an_answer_of_a_model_take_from_a_quota() {
        for (provider, path, expected) in [
            ("anthropic", "/v1/messages", true),
            ("anthropic", "/v1/messages/batches", true),
            ("anthropic", "/v1/messages/count_tokens", false),
            ("anthropic", "/v1/models/claude-opus-4", false),
            ("anthropic", "/v1/modelsx", true),
            ("anthropic", "/api/hello", false),
            ("google", "/v1internal:streamGenerateContent", true),
            ("google", "/v1internal:loadCodeAssist", false),
            ("google", "/v1beta/models/gemini-3-pro:generateContent", true),
            ("google", "/v1beta/models/gemini-3-pro:embedContent", true),
            ("google", "/v1beta/models/gemini-3-pro:countTokens", false),
            ("google", "/v1beta/models", false),
            ("google", "/upload/v1beta/files", true),
            ("openai", "/v1/models", false),
            ("openai", "/models", false),
            ("openai", "/v1/responses", true),
            ("my-llm", "/v1/chat/completions", true),
        ] {
            assert_eq!(uses_quota(provider, path), expected, "{provider} {path}");
        }
    }

    #[test]
    fn names_that_select_a_quota_are_recognised() {
        for name in ["antigravity-gemini-3-flash", "gemini-3-flash:antigravity", "gemini-3-flash:gemini-cli"] {
            assert!(names_a_quota("google", name) && !names_a_quota("openai", name), "{name}");
        }
        assert!(!names_a_quota("google", "gemini-3-pro") && !names_a_quota("google", "gemini-3-pro:free"));
    }

    #[test]
    fn code_assist_counts_requests_by_program() {
        let quota = |path, model, agent| quota_of_agent("google", path, model, agent);
        assert_eq!(quota("/v1internal:x", None, "GeminiCLI/1"), Some("gemini-cli"));
        assert_eq!(quota("/v1internal:x", None, "AntiGravity/1"), Some("antigravity"));
        assert_eq!(quota("/v1internal:x", Some("claude-opus-4"), "antigravity/1"), None);
        assert_eq!(quota("/v1beta/x", None, "GeminiCLI/1"), None);
        assert_eq!(quota("/v1internal:x", None, "curl"), None);
    }

    #[test]
    fn the_last_event_of_a_stream_is_recognised() {
        let is_final = |name, data: &str| is_final_event(name, data.as_bytes());
        assert!(is_final(Some("message_stop"), r#"{"type":"message_stop"}"#));
        assert!(is_final(None, "[DONE]") && is_final(None, r#"{ "type": "response.completed", "response": {} }"#));
        assert!(is_final(Some("response.incomplete"), "{}"));
        for data in ["{}", r#"{"type":"message_delta"}"#, r#"{"text":"{\"type\":\"message_stop\"}"}"#, r#"["DONE"]"#] {
            assert!(!is_final(None, data), "{data}");
        }
    }

    #[test]
    fn a_preamble_is_distinguished_from_content() {
        let created = b"{\"type\":\"response.created\",\"response\":{}}";
        assert!(is_preamble_event("openai", None, created) && is_preamble_event("my-llm", None, created));
        assert!(!is_preamble_event("anthropic", None, created));
        assert!(!is_preamble_event("openai", None, b"{\"type\":\"response.output_text.delta\"}"));
        assert!(is_preamble_event("anthropic", Some("ping"), b"{\"type\":\"ping\"}"));
        assert!(!is_preamble_event("anthropic", Some("message_start"), b"{\"type\":\"message_start\"}"));
    }
}
