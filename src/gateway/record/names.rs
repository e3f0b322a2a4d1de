//! Names and paths of a request as they are recorded: short, and without anything that could be a key.

use std::borrow::Cow;

use crate::limits::begins_like_a_secret;

/// What the gateway's keys begin with.
const OWN_KEYS: &str = "lk_";
/// A longer part of a path that mixes letters and digits may be a key.
const LONGEST_PART: usize = 64;

/// The text, cut after `most` bytes.
pub(super) fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text.into();
    }
    let end = text.floor_char_boundary(most.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end]).into()
}

/// A path or a name, shortened, in which each part that may be a key is left out.
pub(super) fn without_secrets(path: &str, most: usize) -> Cow<'_, str> {
    let is_end = |letter: char| matches!(letter, '/' | ':' | ';' | '=' | '&' | '?' | ',' | '@' | '%');
    if !path.split(is_end).any(may_be_secret) {
        return shortened(path, most);
    }
    let mut text = String::with_capacity(path.len());
    for part in path.split_inclusive(is_end) {
        let end = part.strip_suffix(is_end).map_or(part.len(), str::len);
        text.push_str(if may_be_secret(&part[..end]) { "…" } else { &part[..end] });
        text.push_str(&part[end..]);
    }
    shortened(&text, most).into_owned().into()
}

fn may_be_secret(part: &str) -> bool {
    let mixed =
        || part.bytes().any(|byte| byte.is_ascii_digit()) && part.bytes().any(|byte| byte.is_ascii_alphabetic());
    part.starts_with(OWN_KEYS) || begins_like_a_secret(part) || part.len() > LONGEST_PART && mixed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_recorded_without_keys_and_not_longer_than_allowed() {
        let long = "x".repeat(300);
        for (path, expected) in [
            ("/v1/messages", "/v1/messages"),
            ("/v1beta/models/gemini-2.5-flash-preview-native-audio-dialog:generateContent", ""),
            ("/v1/responses/resp_68e0c1f2d3b4a5968e0c1f2d3b4a5968e0c1f2d3b4a5", ""),
            ("/v1/messages/lk_abc", "/v1/messages/…"),
            ("/v1/key=lk_abc&x=1", "/v1/key=…&x=1"),
            ("/bot/sk-ant-api03-abcdef/x", "/bot/…/x"),
            ("/v1beta/models/AIzaSyD-1234567890:generateContent", "/v1beta/models/…:generateContent"),
            ("/x/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0", "/x/…"),
        ] {
            let expected = if expected.is_empty() { path } else { expected };
            assert_eq!(without_secrets(path, 200), expected);
        }
        assert_eq!(without_secrets(&long, 200).len(), 200);
        assert_eq!(shortened(&"ä".repeat(20), 10), "äää…");
    }
}
