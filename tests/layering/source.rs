//! Reads Rust source as text: code without comments and strings, and without code that only tests compile.

use std::path::{Path, PathBuf};

/// One file of a source tree.
pub struct SourceFile {
    /// Its path below the tree's root, with `/`.
    pub path: String,
    /// Its text as it is.
    pub text: String,
    /// Its code: comments are removed, strings and characters are empty.
    pub code: String,
}

impl SourceFile {
    /// A file with this text.
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: code_of(text) }
    }

    /// The path of its module, without the crate: `pool/limit/mod.rs` is `pool::limit`.
    pub fn module(&self) -> Vec<&str> {
        let mut parts: Vec<&str> = self.path.trim_end_matches(".rs").split('/').collect();
        if matches!(parts.last(), Some(&("mod" | "lib" | "main"))) {
            parts.pop();
        }
        parts
    }

    /// The folder of `src` that it belongs to; a file in `src` itself is a folder of its own.
    pub fn layer(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Whether only tests compile it.
    pub fn is_test(&self) -> bool {
        let parts = self.path.split('/');
        parts.into_iter().any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"))
    }

    /// Its code without the items that only tests compile.
    pub fn shipped_code(&self) -> String {
        if self.is_test() { String::new() } else { without_tests(&self.code) }
    }
}

/// All `.rs` files below `root`, sorted by path.
pub fn read_tree(root: &Path) -> Vec<SourceFile> {
    let mut paths = Vec::new();
    collect(root, &mut paths);
    paths.sort();
    let file = |path: &PathBuf| {
        let inside = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        SourceFile::new(&inside, &std::fs::read_to_string(path).unwrap())
    };
    paths.iter().map(file).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The text without comments and without the contents of strings. Line breaks stay.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let (skipped, shown) = match letter {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), ""),
            '/' if rest.starts_with("/*") => (block_comment(rest), " "),
            'r' | 'b' | 'c' if !ends_in_name(&code) && literal_prefix(rest).is_some() => {
                let (prefix, hashes) = literal_prefix(rest).unwrap();
                (prefix + string(&rest[prefix..], hashes), "\"\"")
            }
            '"' => (string(rest, None), "\"\""),
            '\'' if char_literal(rest).is_some() => (char_literal(rest).unwrap(), "''"),
            _ => {
                code.push(letter);
                rest = &rest[letter.len_utf8()..];
                continue;
            }
        };
        code.extend(rest[..skipped].chars().filter(|letter| *letter == '\n'));
        code.push_str(shown);
        rest = &rest[skipped..];
    }
    code
}

pub fn is_name_letter(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn ends_in_name(code: &str) -> bool {
    code.ends_with(is_name_letter)
}

/// The length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let step = if rest.starts_with("/*") {
            depth += 1;
            2
        } else if rest.starts_with("*/") {
            depth -= 1;
            2
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of `r`, `b`, `br##` … before a string's quote, and the number of `#` of a raw string.
fn literal_prefix(text: &str) -> Option<(usize, Option<usize>)> {
    let letters = text.find(|letter| !matches!(letter, 'r' | 'b' | 'c')).filter(|length| *length <= 2)?;
    let hashes = text[letters..].find(|letter| letter != '#')?;
    let is_raw = text[..letters].contains('r');
    let opens = text[letters + hashes..].starts_with('"') && (is_raw || hashes == 0);
    opens.then_some((letters + hashes, is_raw.then_some(hashes)))
}

/// The length of a string from its opening quote; `hashes` if it is raw.
fn string(text: &str, hashes: Option<usize>) -> usize {
    if let Some(hashes) = hashes {
        let end = format!("\"{}", "#".repeat(hashes));
        return text[1..].find(&end).map_or(text.len(), |at| 1 + at + end.len());
    }
    let mut is_escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal; `None` for a lifetime.
fn char_literal(text: &str) -> Option<usize> {
    let inside = &text[1..];
    if inside.starts_with('\\') {
        // the escaped letter itself may be a quote
        return inside.get(2..)?.find('\'').map(|at| 1 + 2 + at + 1);
    }
    let letter = inside.chars().next()?;
    inside[letter.len_utf8()..].starts_with('\'').then_some(letter.len_utf8() + 2)
}

/// The code without items below `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = ["#[cfg(test)]", "#[cfg(all(test"].iter().filter_map(|mark| rest.find(mark)).min() {
        kept.push_str(&rest[..at]);
        rest = &rest[at + item_length(&rest[at..])..];
    }
    kept.push_str(rest);
    kept
}

/// What an item begins with; a variant, a field or an arm begins with another word.
const ITEMS: &[&str] = &[
    "async",
    "const",
    "enum",
    "extern",
    "fn",
    "impl",
    "let",
    "macro_rules",
    "mod",
    "static",
    "struct",
    "trait",
    "type",
    "unsafe",
    "use",
];

/// The length of an item with its attributes: to its `;`, or to the end of its braces. A variant, a field or an arm ends
/// with its comma, or with the braces around it.
fn item_length(code: &str) -> usize {
    let head = attributes_length(code);
    let first =
        code[head..].split(|letter| !is_name_letter(letter)).find(|word| !matches!(*word, "" | "pub" | "crate"));
    let is_item = first.is_some_and(|word| ITEMS.contains(&word)) || code[head..].starts_with('{');
    let mut depth = 0_i32;
    for (at, letter) in code[head..].char_indices().map(|(at, letter)| (head + at, letter)) {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' => depth -= 1,
            '}' => {
                depth -= 1;
                if depth < 0 {
                    return at;
                }
                if depth == 0 {
                    // an imported group ends with `;`
                    return at + 1 + usize::from(code[at + 1..].starts_with(';'));
                }
            }
            ',' if depth == 0 && !is_item => return at + 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// The length of the attributes at the beginning of `code`, and of the space after them.
fn attributes_length(code: &str) -> usize {
    let mut at = 0;
    while code[at..].starts_with("#[") {
        let mut depth = 0_i32;
        let end = code[at..].find(|letter| {
            depth += i32::from(letter == '[') - i32::from(letter == ']');
            letter == ']' && depth == 0
        });
        at += end.map_or(code.len() - at, |end| end + 1);
        at += code[at..].len() - code[at..].trim_start().len();
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_not_code() {
        for (text, code) in [
            ("a // b\nc", "a \nc"),
            ("a /* b /* c */ d */ e", "a   e"),
            (r#"f("a \" b", 'c')"#, r#"f("", '')"#),
            (r##"f(r#"a " b"#, b"c", br"d")"##, r#"f("", "", "")"#),
            ("let q = '\"'; use x;", "let q = ''; use x;"),
            (r"['\'', '\\', '\u{1b}', 'ü']", "['', '', '', '']"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("\"a\nb\" c", "\n\"\" c"),
            ("for_b\"x\"", "for_b\"\""),
        ] {
            assert_eq!(code_of(text), code, "{text}");
        }
    }

    #[test]
    fn items_of_tests_are_left_out() {
        for (text, code) in [
            ("a; #[cfg(test)] mod tests { fn f() { {} } } b;", "a;  b;"),
            ("a; #[cfg(test)]\nmod tests;\nb;", "a; \nb;"),
            ("#[cfg(all(test, unix))] #[path = \"x.rs\"] mod t; b;", " b;"),
            ("#[cfg(test)] use a::{b, c}; b;", " b;"),
            ("#[cfg(any(unix, test))] mod t; b;", "#[cfg(any(unix, test))] mod t; b;"),
            ("enum A { B, #[cfg(test)] C(u8, u8), D }", "enum A { B,  D }"),
            ("enum A { B, #[cfg(test)] C(u8) } b;", "enum A { B, } b;"),
            ("#[cfg(test)] #[derive(A)] fn f<T, U>(a: [T; 2]) { a; } b;", " b;"),
            ("struct A { #[cfg(test)] pub(super) b: u8, c: u8 }", "struct A {  c: u8 }"),
        ] {
            assert_eq!(SourceFile::new("a.rs", text).shipped_code(), code, "{text}");
        }
        assert_eq!(SourceFile::new("a/tests/b.rs", "fn f() {}").shipped_code(), "");
    }

    #[test]
    fn a_file_knows_its_module_and_layer() {
        for (path, module, layer) in [
            ("pool/limit/mod.rs", "pool::limit", "pool"),
            ("pool/time.rs", "pool::time", "pool"),
            ("http.rs", "http", "http"),
            ("main.rs", "", "main"),
        ] {
            let file = SourceFile::new(path, "");
            assert_eq!((file.module().join("::").as_str(), file.layer()), (module, layer));
        }
    }
}
