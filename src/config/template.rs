//! The file that a user starts from.

use super::keys::KEYS;
use super::kind::ValueKind;

/// Every section, and every key as a comment with its default: valid, and it changes nothing.
///
/// The headers are no comments, so that taking the `#` from a key is all there is to do.
pub fn template() -> String {
    let mut text = String::from(
        "# lessor's configuration. Every key is optional; what stands here behind a # is the default.\n\
         # Take away the # before a key to change it. A valid file takes effect when it is saved.\n",
    );
    let mut current = "";
    for key in KEYS {
        let (section, name) = key.key.rsplit_once('.').unwrap_or(("", key.key));
        if section != current {
            // Of sections with a name of the user's choice there is only an example.
            let hidden = if section.contains('*') { "#" } else { "" };
            text.push_str(&format!("\n{hidden}[{}]\n", section.replace('*', "NAME")));
            current = section;
        }
        let note = if key.active { "" } else { " (not active yet)" };
        let value = key.default.map_or_else(|| example(&key.kind).to_owned(), |plain| key.literal(plain));
        text.push_str(&format!("# {}{note}\n#     {}\n#{name} = {value}\n", key.doc, key.kind.allowed()));
    }
    text
}

/// A value where there is no default.
fn example(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Bool => "true",
        ValueKind::Integer(0.., _) => "1",
        ValueKind::Integer(..) | ValueKind::Number(..) => "0",
        ValueKind::Texts(0, _) | ValueKind::Durations(..) | ValueKind::Protect => "[]",
        ValueKind::Texts(..) => "[\"any\"]",
        _ => "\"\"",
    }
}
