//! The evidence of one response, and its summary: one short line without anything that could be a secret.

use super::body::{ErrorBody, beginning, codes, google, lasting};
use super::reason::Reason;
use super::response::{Dialect, Headers};
use super::time::WaitSource;
use super::windows::Window;
use crate::visible::is_hidden;

/// Longer evidence is cut.
const LONGEST: usize = 240;
const LONGEST_MESSAGE: usize = 160;
/// Longer words that contain digits may be keys.
const LONGEST_WORD: usize = 32;
/// Prefixes of vendors' keys and tokens.
const SECRETS: [&str; 10] = ["sk-", "sk_", "ya29.", "aiza", "eyj", "gho_", "ghp_", "xai-", "gsk_", "1//"];
pub(super) struct ResponseEvidence<'a> {
    pub(super) dialect: Dialect,
    /// The status, or the one that an error within a stream states.
    pub(super) status: Option<u16>,
    pub(super) headers: &'a Headers,
    pub(super) body: &'a ErrorBody,
    pub(super) windows: &'a [Window],
    pub(super) now: u64,
}

/// The summary that a verdict carries.
pub(super) fn of(case: &ResponseEvidence, source: &WaitSource, reason: Reason) -> String {
    let mut parts = Vec::new();
    if let Some(status) = case.status {
        parts.push(status.to_string());
    }
    let body = case.body;
    parts.extend(code(body).map(|code| line(code, 64)));
    // what the owner must mend, in Google's own terms
    if reason == Reason::Forbidden {
        parts.extend(google::project(body).map(|project| format!("project_id {}", line(project, 64))));
        parts.extend(google::api(body).map(|api| format!("API {}", line(api, 64))));
    }
    let room = LONGEST_MESSAGE.min(LONGEST.saturating_sub(parts.iter().map(|part| part.len() + 1).sum::<usize>() + 12));
    let message = body.message.as_deref().map(|message| line(message, room)).filter(|text| !text.is_empty());
    parts.extend(message.map(|message| format!("“{message}”")));
    if let Some(value) = case.headers.get(source.name()) {
        parts.push(format!("{}: {}", source.name(), line(value, 48)));
    } else if *source != WaitSource::NONE && *source != WaitSource::PROSE {
        parts.push(source.name().to_owned());
    }
    let mut text = parts.join(" ");
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

/// The most specific code: a conclusive one, or else the first that contains letters.
fn code(body: &ErrorBody) -> Option<&str> {
    let is_conclusive = |code: &String| lasting::is_code(code) || codes::specific(std::slice::from_ref(code)).is_some();
    let known = body.codes.iter().position(is_conclusive);
    let is_word = |code: &String| code != "error" && code.bytes().any(|byte| byte.is_ascii_alphabetic());
    let at = known.or_else(|| body.codes.iter().position(is_word))?;
    body.written.get(at).map(String::as_str)
}

/// Text in one line, shortened to about this many bytes, without control characters and possible secrets.
#[must_use]
pub fn line(text: &str, most: usize) -> String {
    let mut clean = String::new();
    let whole = beginning(text, 8 * most);
    // a truncated secret would not be recognised as one
    let is_whole = whole.len() == text.len();
    let cut = if is_whole { whole.len() } else { whole.trim_end_matches(is_inner).len() };
    for word in whole[..cut].split_whitespace() {
        if clean.len() >= most {
            break;
        }
        if !clean.is_empty() {
            clean.push(' ');
        }
        hide(word, &mut clean);
    }
    if clean.len() > most {
        clean.truncate(clean.floor_char_boundary(most));
        clean.push('…');
    }
    clean
}

fn hide(word: &str, out: &mut String) {
    let mut rest = word;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !is_inner(letter)).unwrap_or(rest.len());
        let (piece, next) = rest.split_at(end);
        out.push_str(if is_secret(piece) { "…" } else { piece });
        let mut letters = next.chars();
        if let Some(letter) = letters.next() {
            out.push(if is_hidden(letter) { '\u{fffd}' } else { letter });
        }
        rest = letters.as_str();
    }
}

/// Whether the character can be part of a secret.
fn is_inner(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-_./+".contains(letter)
}

fn is_secret(piece: &str) -> bool {
    let known = [piece].into_iter().chain(piece.split('/')).any(begins_like_a_secret);
    let longest = piece.split(['.', '/']).map(str::len).max().unwrap_or_default();
    let mixed = piece.bytes().any(|byte| byte.is_ascii_digit()) && piece.bytes().any(|byte| byte.is_ascii_alphabetic());
    known || (longest > LONGEST_WORD && mixed)
}

/// Whether a word begins as keys and tokens of vendors do.
pub fn begins_like_a_secret(word: &str) -> bool {
    let begins = |start: &&str| word.as_bytes()[..start.len()].eq_ignore_ascii_case(start.as_bytes());
    word.len() > 8 && SECRETS.iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_control_characters_are_not_shown() {
        for (text, expected) in [
            ("Incorrect API key provided: sk-proj-abcdef123456", "Incorrect API key provided: …"),
            ("key=AIzaSyD-1234567890", "key=…"),
            ("Bearer eyJhbGciOi.J9.x", "Bearer …"),
            ("token 0123456789abcdef0123456789abcdef01", "token …"),
            ("a\u{1b}[31m\nb\u{202e}c", "a\u{fffd}[31m b\u{fffd}c"),
            (
                "limit for generativelanguage.googleapis.com/generate_content_free_tier_requests",
                "limit for generativelanguage.googleapis.com/generate_content_free_tier_requests",
            ),
            ("  a   b  ", "a b"),
            ("", ""),
        ] {
            assert_eq!(line(text, 160), expected, "{text}");
        }
        assert_eq!(line(&"ä".repeat(500), 10), "äääää…");
        assert!(line(&"word ".repeat(100_000), 160).len() < 170);
    }
}
