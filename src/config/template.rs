//! The file that a user starts from.

use super::keys::KEYS;

/// Every section, and every key as a comment with its default: valid, and it changes nothing.
///
/// The headers are no comments, so that taking the `#` from a key is all there is to do.
pub fn template() -> String {
    let mut text = String::from(
        "# lessor's configuration. Every key is optional; what is here as a comment is the default.\n\
         # Take away the # before a key to change it. A valid file takes effect when it is saved.\n",
    );
    let mut current = "";
    for key in KEYS {
        let (section, name) = key.key.rsplit_once('.').unwrap_or(("", key.key));
        if section != current {
            // Of sections with a name of the user's choice there is only an example.
            let hidden = if section.contains('*') { "# " } else { "" };
            text.push_str(&format!("\n{hidden}[{}]\n", section.replace('*', "NAME")));
            current = section;
        }
        let note = if key.active { "" } else { " (not active yet)" };
        let default = key.default.and_then(|text| key.kind.read_plain(text).ok());
        let value = default.map_or_else(|| "…".to_owned(), |value| value.to_string());
        text.push_str(&format!("# {name} = {value}\n#     {}{note}; {}\n", key.doc, key.kind.allowed()));
    }
    text
}
