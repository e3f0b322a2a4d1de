//! The table of keys as a text that is itself a configuration.

use super::keys::KEYS;

/// Every key with its default, meaning and range; valid TOML that changes nothing.
pub fn reference() -> String {
    let mut text = String::from("# Every key of lessor's configuration, with its default.\n");
    let mut current = "";
    for key in KEYS {
        // Every key of the table is in a section; a test reads the result.
        let (section, name) = key.key.rsplit_once('.').unwrap_or(("", key.key));
        let default = key.default.and_then(|text| key.kind.read_plain(text).ok());
        let hidden = if default.is_none() { "# " } else { "" };
        if section != current {
            text.push_str(&format!("\n{hidden}[{}]\n", section.replace('*', "NAME")));
            current = section;
        }
        let note = if key.active { "" } else { "; not active yet" };
        text.push_str(&format!("# {}{note}\n#   {}\n", key.doc, key.kind.allowed()));
        let value = default.map_or_else(|| "…".to_owned(), |value| value.to_string());
        text.push_str(&format!("{hidden}{name} = {value}\n"));
    }
    text
}
