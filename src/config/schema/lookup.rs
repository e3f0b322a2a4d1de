//! Looks up keys in the table, and suggests a key for an unknown name.

use super::keys::{KEYS, KeySpec};
use super::value::quoted;

/// What a path means.
pub(in crate::config) enum PathMatch {
    /// A key.
    Key(&'static KeySpec),
    /// A section with keys below it.
    Section,
    /// Nothing.
    Nothing,
}

pub(in crate::config) fn find(path: &[&str]) -> PathMatch {
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

/// Parses a path as a user types it; names with dots or `@` are quoted, as in `accounts."a@b.c".use`.
pub(in crate::config) fn parse_key(key: &str) -> Result<Vec<String>, String> {
    let parsed = toml_edit::Key::parse(key.trim())
        .map_err(|_| format!("{key:?} is not a key; names with other characters are quoted: accounts.\"a@b.c\".use"))?;
    Ok(parsed.iter().map(|part| part.get().to_owned()).collect())
}

/// The key that a user named, and its path.
pub(in crate::config) fn find_key(key: &str) -> Result<(Vec<String>, &'static KeySpec), String> {
    let path = parse_key(key)?;
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    match find(&parts) {
        PathMatch::Key(row) => Ok((path, row)),
        PathMatch::Section => Err(is_section(&parts)),
        PathMatch::Nothing => Err(unknown(&parts, false)),
    }
}

/// The error for a section where a key is expected.
fn is_section(path: &[&str]) -> String {
    let names = below(path);
    let names = if names.is_empty() { "NAME".to_owned() } else { names.join(", ") };
    format!("`{}` is a section; its keys: {names}", format_key(path))
}

/// The names of keys and sections below a path, without `*`.
pub(in crate::config) fn below(path: &[&str]) -> Vec<&'static str> {
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

/// The error for an unknown key or section.
pub(in crate::config) fn unknown(parts: &[&str], section: bool) -> String {
    // Callers pass at least one name.
    let Some((name, above)) = parts.split_last() else { return String::new() };
    let full = |name: &str| format_key(&above.iter().copied().chain([name]).collect::<Vec<_>>());
    let known = below(above);
    let shown = if section { format!("unknown section `[{}]`", full(name)) } else { format!("unknown key `{name}`") };
    if let Some(near) = nearest(name, known.iter().copied()) {
        let meant = if section { format!("[{}]", full(near)) } else { near.to_owned() };
        return format!("{shown}; did you mean `{meant}`?");
    }
    if let Some(other) = elsewhere(name) {
        return format!("{shown}; did you mean `{other}`?");
    }
    let place = if above.is_empty() { "sections".to_owned() } else { format!("keys of [{}]", format_key(above)) };
    format!("{shown}; {place}: {}", known.join(", "))
}

/// A key of another section with this last name.
fn elsewhere(name: &str) -> Option<&'static str> {
    KEYS.iter().map(|key| key.key).find(|key| key.rsplit('.').next() == Some(name) && !key.contains('*'))
}

/// Writes a path as TOML does: names with other characters in quotes.
pub fn format_key(path: &[impl AsRef<str>]) -> String {
    let plain =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let part = |part: &str| if plain(part) { part.to_owned() } else { quoted(part) };
    path.iter().map(|name| part(name.as_ref())).collect::<Vec<_>>().join(".")
}

/// The candidate nearest to a name, if one is near.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // The distance is quadratic.
    if name.len() > 64 {
        return None;
    }
    let typed = normal(name);
    let near = candidates.into_iter().map(|candidate| (distance(&typed, &normal(candidate)), candidate));
    let best = near.min_by_key(|(distance, _)| *distance)?;
    // At most a third of the letters may differ.
    (best.0 <= (typed.len() / 3).max(1)).then_some(best.1)
}

/// Ignores case and the difference between `-` and `_`.
fn normal(name: &str) -> Vec<char> {
    name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// The edit distance of two names; swapped neighbours are one edit.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name() {
        let names = ["per_account", "overflow", "ttl", "grace"];
        for (typed, meant) in [
            ("per_acount", Some("per_account")),
            ("per-account", Some("per_account")),
            ("Overflow", Some("overflow")),
            ("tll", Some("ttl")),
            ("grcae", Some("grace")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names), meant, "{typed}");
        }
    }
}
