//! JSON with unpaired surrogates in it, which comes from texts that were cut within a character.

use serde::de::DeserializeOwned;

/// Parses a document; an unpaired surrogate is read as U+FFFD.
///
/// # Errors
/// When the text does not parse as `T`.
pub fn lenient<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| match mended(text) {
        Some(text) => serde_json::from_str(&text),
        None => Err(error),
    })
}

/// The text with every escaped unpaired surrogate replaced; `None` when there is none.
fn mended(text: &str) -> Option<String> {
    let mut mended: Option<String> = None;
    let (mut kept, mut at) = (0, 0);
    while let Some(found) = text[at..].find('\\') {
        let from = at + found;
        let escape = &text.as_bytes()[from..];
        at = from + 2;
        match unit(escape) {
            Some(0xd800..=0xdbff) if matches!(unit(&escape[6..]), Some(0xdc00..=0xdfff)) => at = from + 12,
            Some(0xd800..=0xdfff) => {
                let out = mended.get_or_insert_default();
                out.push_str(&text[kept..from]);
                out.push_str("\\ufffd");
                at = from + 6;
                kept = at;
            }
            _ => {}
        }
        // an escaped letter may be more than a byte long
        at = text.ceil_char_boundary(at.min(text.len()));
    }
    mended.map(|out| out + &text[kept..])
}

/// The code unit of a `\uXXXX` escape at the beginning.
fn unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpaired_surrogates_are_replaced() {
        for (text, expected) in [
            (r#""a\ud83db""#, Some("a\u{fffd}b")),
            (r#""\udc00""#, Some("\u{fffd}")),
            (r#""\ud83d\ud83d\ude00""#, Some("\u{fffd}😀")),
            (r#""\ud83d\ude00""#, Some("😀")),
            (r#""\\ud83d""#, Some("\\ud83d")),
            (r#""\ud8""#, None),
            (r#""\"#, None),
            (r#""\ä""#, None),
        ] {
            assert_eq!(lenient::<String>(text).ok().as_deref(), expected, "{text}");
        }
    }
}
