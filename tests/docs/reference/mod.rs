//! The references in `docs/reference/` are generated from what they describe.
//!
//! `LESSOR_UPDATE_REFERENCE=1 cargo test --test docs` rewrites them.

mod commands;
mod configuration;
mod fields;
mod protocol;

use crate::pages::root;

/// Compares a page with what was generated, or rewrites it.
fn check(page: &str, title: &str, body: &str) {
    let text = format!(
        "# {title}\n\n<!-- generated: LESSOR_UPDATE_REFERENCE=1 cargo test --test docs -->\n\n{}\n",
        body.trim_end()
    );
    let path = root().join("docs/reference").join(page);
    if std::env::var_os("LESSOR_UPDATE_REFERENCE").is_some() {
        return std::fs::write(path, text).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    let differs = text.lines().zip(stored.lines().chain(std::iter::repeat(""))).position(|(now, then)| now != then);
    assert!(
        stored == text,
        "docs/reference/{page} is not what the program says, from line {}; \
         LESSOR_UPDATE_REFERENCE=1 cargo test --test docs rewrites it",
        differs.map_or(text.lines().count(), |line| line + 1)
    );
}

/// Text in a cell of a table: on one line, and nothing in it is Markdown but code.
fn cell(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // every other part is code
    let parts = line.split('`').enumerate().map(|(number, part)| {
        let part = part.replace('|', "\\|");
        if number % 2 == 1 { part } else { part.replace('*', "\\*").replace('<', "&lt;") }
    });
    parts.collect::<Vec<_>>().join("`")
}

/// A meaning without the default that it states at its end, as in `[default: all]`; and that default.
fn without_default(meaning: &str) -> (&str, &str) {
    let stated = meaning.trim_end_matches('.').strip_suffix(']').and_then(|rest| rest.rsplit_once("[default: "));
    stated.map_or((meaning, ""), |(meaning, default)| (meaning.trim_end(), default))
}

/// A value as code in a cell; nothing if there is none.
fn code(value: &str) -> String {
    if value.is_empty() { String::new() } else { format!("`{}`", value.replace('|', "\\|")) }
}

/// A table.
fn table<const COLUMNS: usize>(head: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&head.map(str::to_owned));
    text += &format!("|{}\n", "---|".repeat(COLUMNS));
    text.extend(rows.iter().map(|row| line(row)));
    text
}
