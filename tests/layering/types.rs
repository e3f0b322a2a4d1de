//! Type names that are defined more than once.

use std::collections::BTreeMap;

use crate::source::{SourceFile, is_name_letter};

/// Files of which one per system is compiled: they define the same names on purpose.
const TWINS: &[&str] = &["unix", "windows", "linux", "macos", "kqueue", "secret_service"];

/// Names defined in more than one file, with these files. Twin files of different systems count as one.
pub fn defined_twice(files: &[SourceFile]) -> BTreeMap<String, Vec<String>> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files.iter().filter(|file| !is_twin(&file.path)) {
        for name in types_in(&file.shipped_code()) {
            let files = places.entry(name).or_default();
            if !files.contains(&file.path) {
                files.push(file.path.clone());
            }
        }
    }
    places.retain(|_, files| files.len() > 1);
    places
}

fn is_twin(path: &str) -> bool {
    path.trim_end_matches(".rs").split('/').any(|part| TWINS.contains(&part))
}

/// Names after `struct`, `enum`, `union`, `trait`, and after `type` outside of `impl` and `trait`, where it names an
/// associated type.
fn types_in(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut bodies, mut in_head) = (0_usize, Vec::new(), false);
    let mut words = Words(code);
    while let Some(word) = words.next() {
        match word {
            "{" => {
                depth += 1;
                if std::mem::take(&mut in_head) {
                    bodies.push(depth);
                }
            }
            "}" => {
                if bodies.last() == Some(&depth) {
                    bodies.pop();
                }
                depth = depth.saturating_sub(1);
            }
            ";" => in_head = false,
            // `impl` as a type is never at the beginning of an item
            "impl" if words.previous_ends_item(code) => in_head = true,
            "struct" | "enum" | "union" | "trait" | "type" => {
                let is_associated = word == "type" && !bodies.is_empty();
                in_head |= word == "trait";
                if let Some(name) = words.peek().filter(|name| name.starts_with(char::is_uppercase) && !is_associated) {
                    names.push(name.to_owned());
                }
            }
            _ => {}
        }
    }
    names
}

/// Names, `{`, `}` and `;` of the code that is left.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let start = self.0.find(|letter| is_name_letter(letter) || matches!(letter, '{' | '}' | ';'))?;
        let rest = &self.0[start..];
        let length = if rest.starts_with(is_name_letter) {
            rest.find(|letter| !is_name_letter(letter)).unwrap_or(rest.len())
        } else {
            1
        };
        self.0 = &rest[length..];
        Some(&rest[..length])
    }

    fn peek(&self) -> Option<&'a str> {
        Words(self.0).next()
    }

    /// Whether the word that was just read stands where an item can begin.
    fn previous_ends_item(&self, code: &str) -> bool {
        let before = code[..code.len() - self.0.len()].trim_end();
        let before = before[..before.len() - "impl".len()].trim_end();
        let before = before.strip_suffix("unsafe").map_or(before, str::trim_end);
        before.is_empty() || before.ends_with(['}', ';', '{', ']'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_found_and_associated_types_are_not() {
        for (code, expected) in [
            (
                "pub struct A; pub(super) enum B<T> { X } trait C {} type D = u8; union E { a: u8 }",
                vec!["A", "B", "C", "D", "E"],
            ),
            ("impl Iterator for A { type Item = u8; fn f() { struct Local; } } struct B;", vec!["Local", "B"]),
            ("trait C { type Item; } type D = u8;", vec!["C", "D"]),
            ("fn f() -> impl Fn() { g } type D = u8;", vec!["D"]),
            ("mod inner { type D = u8; }", vec!["D"]),
            ("let r#type = 1; let structure = 2;", vec![]),
        ] {
            assert_eq!(types_in(code), expected, "{code}");
        }
    }

    #[test]
    fn a_name_defined_twice_is_seen() {
        let file = |path: &str, text: &str| SourceFile::new(path, text);
        let files = [
            file("a.rs", "struct Same; struct Own;"),
            file("b/c.rs", "enum Same {}"),
            file("b/unix.rs", "struct Own;"),
            file("b/tests.rs", "struct Own;"),
            file("b/d.rs", "#[cfg(test)] mod tests { struct Own; }"),
        ];
        let twice = defined_twice(&files);
        assert_eq!(
            twice.into_iter().collect::<Vec<_>>(),
            [("Same".to_owned(), vec!["a.rs".to_owned(), "b/c.rs".to_owned()])]
        );
    }
}
