//! Documents generated from the table of keys: the file that a user starts from, and the reference.

use super::{keys::KEYS, value::quoted, value_kind::ValueKind};

/// Every section, and every key as a comment with its default. Valid, and equal to the defaults.
///
/// The headers are not comments, so that a user only removes the `#` before a key.
pub fn template() -> String {
    let mut text = String::from(
        "# The configuration of lessor. Every key is optional; the commented values are the defaults.\n\
         # Remove the # before a key to change it. A valid file takes effect when it is saved.\n",
    );
    let mut current = "";
    for key in KEYS {
        let (section, name) = key.key.rsplit_once('.').unwrap_or(("", key.key));
        if section != current {
            // Sections with a user-chosen name are only an example.
            let hidden = if section.contains('*') { "#" } else { "" };
            text.push_str(&format!("\n{hidden}[{}]\n", section.replace('*', "NAME")));
            current = section;
        }
        let value = key.default.map_or_else(|| example(&key.kind), |plain| key.literal(plain));
        comment(&mut text, "# ", key.doc);
        comment(&mut text, "#     ", &key.kind.allowed());
        text.push_str(&format!("#{name} = {value}\n"));
    }
    text
}

/// The longest line of a comment, in characters.
const COLUMNS: usize = 100;

/// Adds a comment, in as many lines as it needs.
fn comment(text: &mut String, begin: &str, words: &str) {
    let mut column = 0;
    for word in words.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length <= COLUMNS {
            text.push(' ');
            column += 1 + length;
        } else {
            text.push_str(if column > 0 { "\n" } else { "" });
            text.push_str(begin);
            column = begin.len() + length;
        }
        text.push_str(word);
    }
    text.push('\n');
}

/// An example value for a key without a default; of several words the first, which then is what applies without it.
fn example(kind: &ValueKind) -> String {
    let literal = match kind {
        ValueKind::OneOf([first, ..]) => return quoted(first),
        ValueKind::Bool => "true",
        ValueKind::Integer(0.., _) => "1",
        ValueKind::Integer(..) | ValueKind::Number(..) => "0",
        ValueKind::Texts(0, _) | ValueKind::Durations(..) | ValueKind::Protect | ValueKind::Command => "[]",
        ValueKind::Texts(..) => "[\"any\"]",
        _ => "\"\"",
    };
    literal.to_owned()
}

/// Every key with its default, meaning and range; valid TOML, and equal to the defaults.
pub fn reference() -> String {
    let mut text = String::from("# Every key of the configuration, with its default.\n");
    let mut current = "";
    for key in KEYS {
        // Every key is in a section; a test parses the result.
        let (section, name) = key.key.rsplit_once('.').unwrap_or(("", key.key));
        let default = key.default.and_then(|text| key.kind.read_plain(text).ok());
        let hidden = if default.is_none() { "# " } else { "" };
        if section != current {
            text.push_str(&format!("\n{hidden}[{}]\n", section.replace('*', "NAME")));
            current = section;
        }
        text.push_str(&format!("# {}\n#   {}\n", key.doc, key.kind.allowed()));
        let value = default.map_or_else(|| "…".to_owned(), |value| value.to_string());
        text.push_str(&format!("{hidden}{name} = {value}\n"));
    }
    text
}
