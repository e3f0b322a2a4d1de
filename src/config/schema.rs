//! Finding keys in the table.

use super::keys::KEYS;
use super::kind::ValueKind;
use super::settings::Config;
use super::suggest;
use super::value::{ConfigValue, quoted};

/// One key of the configuration.
pub struct KeySpec {
    /// Its path; `*` stands for a name the user chooses.
    pub key: &'static str,
    /// What values it may have.
    pub kind: ValueKind,
    /// Its default as people type it; none where unset means something of its own.
    pub default: Option<&'static str>,
    /// What it is for, in one line.
    pub doc: &'static str,
    /// Whether this version already acts on it.
    pub active: bool,
    /// Stores a value, given the name for `*`; false if the kinds do not fit.
    pub(super) set: fn(&mut Config, &str, &ConfigValue) -> bool,
}

impl KeySpec {
    /// A value as people type it, as TOML says it.
    pub(super) fn literal(&self, plain: &str) -> String {
        if self.kind.is_text() { quoted(plain) } else { plain.trim().to_owned() }
    }
}

impl std::fmt::Debug for KeySpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySpec").field("key", &self.key).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What a path means.
pub(super) enum PathMatch {
    /// A key.
    Key(&'static KeySpec),
    /// A section with keys below it.
    Section,
    /// Nothing.
    Nothing,
}

/// What a path means.
pub(super) fn find(path: &[&str]) -> PathMatch {
    let mut found = PathMatch::Nothing;
    for key in KEYS {
        let pattern = key.key.split('.');
        let depth = pattern.clone().count();
        if depth >= path.len() && pattern.zip(path).all(|(part, name)| part == "*" || part == *name) {
            if depth == path.len() {
                return PathMatch::Key(key);
            }
            found = PathMatch::Section;
        }
    }
    found
}

/// The name that stands for `*` in a key.
pub(super) fn name_in<'p>(key: &KeySpec, path: &[&'p str]) -> &'p str {
    key.key.split('.').zip(path).find(|(part, _)| *part == "*").map_or("", |(_, name)| name)
}

/// A path as people type it; names with dots or `@` are quoted, as in `accounts."a@b.c".use`.
pub(super) fn parse_key(key: &str) -> Result<Vec<String>, String> {
    let parsed = toml_edit::Key::parse(key.trim())
        .map_err(|_| format!("{key:?} is not a key; names with other characters are quoted: accounts.\"a@b.c\".use"))?;
    Ok(parsed.iter().map(|part| part.get().to_owned()).collect())
}

/// What to say of a section where a key is wanted.
pub(super) fn is_section(path: &[&str]) -> String {
    let names = below(path);
    let names = if names.is_empty() { "NAME".to_owned() } else { names.join(", ") };
    format!("`{}` is a section; its keys: {names}", format_key(path))
}

/// What may follow a path: names of keys and sections, without `*`.
pub(super) fn below(path: &[&str]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in KEYS {
        let parts: Vec<_> = key.key.split('.').collect();
        let inside =
            parts.len() > path.len() && parts.iter().zip(path).all(|(part, name)| *part == "*" || part == name);
        if inside && parts[path.len()] != "*" && !names.contains(&parts[path.len()]) {
            names.push(parts[path.len()]);
        }
    }
    names
}

/// What to say of a key or section nobody knows.
pub(super) fn unknown(parts: &[&str], section: bool) -> String {
    // Callers push a name before they ask, so there is a last one.
    let Some((name, above)) = parts.split_last() else { return String::new() };
    let full = |name: &str| format_key(&above.iter().copied().chain([name]).collect::<Vec<_>>());
    let known = below(above);
    let shown = if section { format!("unknown section `[{}]`", full(name)) } else { format!("unknown key `{name}`") };
    if let Some(near) = suggest::nearest(name, known.iter().copied()) {
        let meant = if section { format!("[{}]", full(near)) } else { near.to_owned() };
        return format!("{shown}; did you mean `{meant}`?");
    }
    if let Some(other) = suggest::elsewhere(name) {
        return format!("{shown}; did you mean `{other}`?");
    }
    let place = if above.is_empty() { "sections".to_owned() } else { format!("keys of [{}]", format_key(above)) };
    format!("{shown}; {place}: {}", known.join(", "))
}

/// Writes a path as TOML does: names with other characters in quotes.
pub fn format_key(path: &[&str]) -> String {
    let plain =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let part = |part: &&str| if plain(part) { (*part).to_owned() } else { quoted(part) };
    path.iter().map(part).collect::<Vec<_>>().join(".")
}
