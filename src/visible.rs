//! Text from outside as text that shows all its characters: those that are invisible, move the cursor or change the
//! direction of others are escaped, as in `wo\u{202e}rk`. Names of accounts, agents and files come from elsewhere, and
//! two of them must not look the same.

use std::borrow::Cow;

/// Whether a character is not shown, or changes how others are shown.
#[must_use]
pub fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            // soft hyphen, combining grapheme joiner, Arabic letter mark
            '\u{ad}' | '\u{34f}' | '\u{61c}'
            // Hangul fillers, Khmer inherent vowels, Mongolian selectors and vowel separator
            | '\u{115f}'..='\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            // zero-width characters, line separators and bidirectional controls
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // variation selectors, byte order mark, annotations, format characters of music
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
            // tags and further variation selectors
            | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The text in one line, with all hidden characters escaped.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_if(text, is_hidden)
}

/// As [`escape`], but line breaks stay.
#[must_use]
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    escape_if(text, |letter| is_hidden(letter) && letter != '\n')
}

/// As [`escape_lines`], for text that lessor has coloured already; what is from outside in it must be escaped before.
#[must_use]
pub fn escape_coloured(text: &str) -> Cow<'_, str> {
    escape_if(text, |letter| is_hidden(letter) && !matches!(letter, '\n' | '\u{1b}'))
}

/// A JSON document with its hidden characters escaped, as `\u202e`: it has the same meaning.
#[must_use]
pub fn escape_json(document: &str) -> Cow<'_, str> {
    // JSON has escaped the others, and separates with line breaks
    let is_raw = |letter: char| !letter.is_ascii() && is_hidden(letter) || letter == '\u{7f}';
    if !document.contains(is_raw) {
        return document.into();
    }
    let mut escaped = String::with_capacity(2 * document.len());
    for letter in document.chars() {
        if is_raw(letter) {
            let mut units = [0; 2];
            letter.encode_utf16(&mut units).iter().for_each(|unit| escaped += &format!("\\u{unit:04x}"));
        } else {
            escaped.push(letter);
        }
    }
    escaped.into()
}

/// A name as one word of a shell, in quotes if it has other characters than plain ones; `None` for a name that a
/// terminal does not show as it is, or that a program takes for an option.
#[must_use]
pub fn shell_word(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with('-') || name.contains(is_hidden) {
        return None;
    }
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_.@+/:%,=".contains(letter);
    Some(if name.chars().all(is_plain) { name.to_owned() } else { format!("'{}'", name.replace('\'', r"'\''")) })
}

fn escape_if(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return text.into();
    }
    let mut escaped = String::with_capacity(2 * text.len());
    for letter in text.chars() {
        if is_escaped(letter) { escaped.extend(letter.escape_default()) } else { escaped.push(letter) }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthChar;

    use super::*;

    #[test]
    fn tricks_are_shown() {
        for (text, shown) in [
            ("wo\u{202e}rk", r"wo\u{202e}rk"),
            ("a\u{200b}\u{200d}\u{feff}b", r"a\u{200b}\u{200d}\u{feff}b"),
            ("a\u{2028}\u{2029}b", r"a\u{2028}\u{2029}b"),
            ("\u{e0041}\u{e007f}", r"\u{e0041}\u{e007f}"),
            ("\u{9b}31m\u{1b}[0m\r\n\t\0", r"\u{9b}31m\u{1b}[0m\r\n\t\u{0}"),
        ] {
            assert_eq!(escape(text), shown);
        }
        for plain in ["ünï 漢字", "e\u{301}", "नमस्ते", "ไทย", "עברית", "العربية", "👩💻 ✓ …", r"C:\dir"]
        {
            assert!(matches!(escape(plain), Cow::Borrowed(_)), "{plain}");
        }
        assert_eq!(escape_lines("a\n\tb\u{202e}"), "a\n\\tb\\u{202e}");
        assert_eq!(escape_coloured("\u{1b}[1ma\u{202e}\n"), "\u{1b}[1ma\\u{202e}\n");
    }

    #[test]
    fn a_name_in_a_command_is_one_word_or_is_not_used() {
        for (name, word) in [
            ("work", Some("work")),
            ("ann@example.com", Some("ann@example.com")),
            ("my work", Some("'my work'")),
            ("it's", Some(r"'it'\''s'")),
            ("$(rm -rf /)", Some("'$(rm -rf /)'")),
            (r#"by "config""#, Some(r#"'by "config"'"#)),
            ("--all", None),
            ("", None),
            ("a\u{202e}b", None),
            ("a\nb", None),
        ] {
            assert_eq!(shell_word(name).as_deref(), word, "{name}");
        }
    }

    proptest! {
        #[test]
        fn escaped_text_has_no_hidden_character(text in any::<String>(), tricks in "[\u{0}-\u{1f}\u{7f}-\u{9f}\u{200b}-\u{206f}\u{e0000}-\u{e00ff}]{0,9}") {
            let text = tricks + &text;
            prop_assert!(!escape(&text).contains(is_hidden));
            prop_assert!(escape_lines(&text).chars().all(|letter| letter == '\n' || !is_hidden(letter)));
            let again = escape(&text).into_owned();
            prop_assert_eq!(escape(&again), again.as_str(), "escaping twice changes nothing");
        }

        #[test]
        fn every_character_without_width_is_a_mark_or_hidden(letter in any::<char>()) {
            // formatting characters have no width; neither do combining marks, which change the letter before them
            if letter.width().is_none() {
                prop_assert!(is_hidden(letter));
            }
        }

        #[test]
        fn an_escaped_document_has_the_same_meaning(text in any::<String>(), tag in "[\u{7f}-\u{9f}\u{200b}-\u{206f}\u{e0000}-\u{e00ff}]{0,9}") {
            let value = serde_json::json!({ "name": [text + &tag, tag] });
            for document in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                let escaped = escape_json(&document);
                prop_assert!(escaped.chars().all(|letter| letter == '\n' || !is_hidden(letter)));
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), &value);
            }
        }
    }
}
