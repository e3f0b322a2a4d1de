//! Which file imports which: paths in the code, resolved to files, and circles among them.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{SourceFile, is_name_letter};

/// A path in the code, from the root of the crate: `["pool", "Pool"]`.
pub type ItemPath = Vec<String>;

/// All paths of `code`, in the module `module`, that begin with `crate`, `lessor`, `super` or `self`.
pub fn paths_of(code: &str, module: &[&str]) -> Vec<ItemPath> {
    let mut paths = Vec::new();
    let mut modules = Modules::new(module);
    let mut at = 0;
    while let Some(letter) = code[at..].chars().next() {
        let rest = &code[at..];
        if !is_name_letter(letter) {
            modules.on_letter(letter);
            at += letter.len_utf8();
            continue;
        }
        let word = &rest[..rest.find(|letter| !is_name_letter(letter)).unwrap_or(rest.len())];
        let is_start = matches!(word, "crate" | "lessor" | "super" | "self") && !code[..at].ends_with("::");
        if is_start && rest[word.len()..].trim_start().starts_with("::") {
            let tree = tree_at(rest);
            let base = modules.path();
            paths.extend(expand(tree).iter().filter_map(|path| absolute(path, &base)));
            // braces of a group are balanced: they open no module
            at += tree.len();
        } else {
            modules.on_word(word, &rest[word.len()..]);
            at += word.len();
        }
    }
    paths
}

/// The module that a place in the code is in: that of the file, and the inline modules around the place.
struct Modules {
    file: Vec<String>,
    inline: Vec<(String, usize)>,
    depth: usize,
    opening: Option<String>,
}

impl Modules {
    fn new(file: &[&str]) -> Self {
        let file = file.iter().map(|part| (*part).to_owned()).collect();
        Self { file, inline: Vec::new(), depth: 0, opening: None }
    }

    fn path(&self) -> ItemPath {
        let inline = self.inline.iter().map(|(name, _)| name.clone());
        self.file.iter().cloned().chain(inline).collect()
    }

    fn on_word(&mut self, word: &str, after: &str) {
        if word == "mod" {
            let name: String = after.trim_start().chars().take_while(|letter| is_name_letter(*letter)).collect();
            self.opening = Some(name);
        }
    }

    fn on_letter(&mut self, letter: char) {
        match letter {
            '{' => {
                self.depth += 1;
                self.inline.extend(self.opening.take().map(|name| (name, self.depth)));
            }
            '}' => {
                if self.inline.last().is_some_and(|(_, depth)| *depth == self.depth) {
                    self.inline.pop();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            ';' => self.opening = None,
            _ => {}
        }
    }
}

/// The path at the beginning of `code`, with its group if it ends with one.
fn tree_at(code: &str) -> &str {
    let mut at = 0;
    loop {
        let rest = &code[at..];
        let name = rest.find(|letter| !is_name_letter(letter)).unwrap_or(rest.len());
        at += name;
        let rest = &code[at..];
        let spaces = rest.len() - rest.trim_start().len();
        if name == 0 || !rest[spaces..].starts_with("::") {
            return &code[..at];
        }
        at += spaces + 2;
        let rest = &code[at..];
        let spaces = rest.len() - rest.trim_start().len();
        at += spaces;
        if code[at..].starts_with('{') {
            return &code[..at + group_length(&code[at..])];
        }
    }
}

fn group_length(code: &str) -> usize {
    let mut depth = 0;
    for (at, letter) in code.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// The paths of an import tree: `a::{b, c::{d}}` is `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<String> {
    let tree: String = tree.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((stem, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.replace(' ', "")];
    };
    let group = group.strip_suffix('}').unwrap_or(group);
    let mut paths = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in group.char_indices().chain([(group.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = group[start..at].trim();
                paths.extend(
                    expand(part).into_iter().filter(|path| !path.is_empty()).map(|path| format!("{stem}{path}")),
                );
                start = at + 1;
            }
            _ => {}
        }
    }
    paths
}

/// The path from the root of the crate, where it is written in `module`.
fn absolute(path: &str, module: &[String]) -> Option<ItemPath> {
    let mut parts = path.split("::").map(|part| part.trim().to_owned()).peekable();
    let mut full = match parts.next()?.as_str() {
        "crate" | "lessor" => Vec::new(),
        "self" => module.to_vec(),
        _ => module.split_last()?.1.to_vec(),
    };
    while parts.next_if(|part| part == "super").is_some() {
        full.pop();
    }
    full.extend(parts.filter(|part| !part.is_empty() && part != "self" && part != "*"));
    Some(full)
}

/// Which file imports which other files.
pub fn graph_of(files: &[SourceFile]) -> BTreeMap<&str, BTreeSet<&str>> {
    let shipped = files.iter().filter(|file| !file.is_test() && !file.module().is_empty());
    let by_module: BTreeMap<Vec<&str>, &str> =
        shipped.clone().map(|file| (file.module(), file.path.as_str())).collect();
    let resolve = |path: &ItemPath| {
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        (1..=parts.len()).rev().find_map(|length| by_module.get(&parts[..length]).copied())
    };
    let imports = |file: &SourceFile| {
        let paths = paths_of(&file.shipped_code(), &file.module());
        paths.iter().filter_map(resolve).filter(|to| *to != file.path).collect()
    };
    shipped.map(|file| (file.path.as_str(), imports(file))).collect()
}

/// Groups of files that import each other in a circle. A module and its own child module may import each other.
pub fn circles(files: &[SourceFile]) -> Vec<Vec<String>> {
    let mut graph = graph_of(files);
    let modules: BTreeMap<&str, Vec<&str>> = files.iter().map(|file| (file.path.as_str(), file.module())).collect();
    let is_family = |a: &str, b: &str| modules[a].starts_with(&modules[b]) || modules[b].starts_with(&modules[a]);
    for (from, to) in &mut graph {
        to.retain(|to| !is_family(from, to));
    }
    let reachable: BTreeMap<&str, BTreeSet<&str>> = graph.keys().map(|from| (*from, reached(&graph, from))).collect();
    let mut left: BTreeSet<&str> = graph.keys().copied().collect();
    let mut found = Vec::new();
    while let Some(start) = left.pop_first() {
        let is_in_circle = |other: &&&str| reachable[start].contains(**other) && reachable[**other].contains(start);
        let circle: Vec<&str> = left.iter().filter(is_in_circle).copied().collect();
        left.retain(|file| !circle.contains(file));
        if !circle.is_empty() {
            found.push([start].into_iter().chain(circle).map(str::to_owned).collect());
        }
    }
    found
}

fn reached<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = graph[from].iter().copied().collect();
    while let Some(file) = open.pop() {
        if reached.insert(file) {
            open.extend(&graph[file]);
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(rows: &[(&str, &str)]) -> Vec<SourceFile> {
        rows.iter().map(|(path, text)| SourceFile::new(path, text)).collect()
    }

    #[test]
    fn paths_are_found_wherever_they_are_written() {
        for (code, expected) in [
            ("use crate::limits::Reason;", vec!["limits::Reason"]),
            (
                "use crate::{\n    pool::{Now, Wall},\n    daemon::Handle,\n};",
                vec!["pool::Now", "pool::Wall", "daemon::Handle"],
            ),
            ("use crate::{limits::{self, Scope}, config};", vec!["limits", "limits::Scope", "config"]),
            ("fn f() { crate::daemon::run() }", vec!["daemon::run"]),
            ("use super::time::Now;", vec!["pool::time::Now"]),
            ("use super::super::http;", vec!["http"]),
            ("pub use self::child::Name as Other;", vec!["pool::select::child::Name"]),
            ("mod inner { use super::time; } use super::time;", vec!["pool::select::time", "pool::time"]),
            ("pub(in crate::cli) fn f(self) {}", vec!["cli"]),
            ("let a = supers::b; let c = x::crate_::y;", vec![]),
        ] {
            let found: Vec<String> = paths_of(code, &["pool", "select"]).iter().map(|path| path.join("::")).collect();
            assert_eq!(found, expected, "{code}");
        }
    }

    #[test]
    fn a_path_leads_to_the_nearest_file() {
        let files = files(&[
            ("a/mod.rs", "mod b; use crate::c::D;"),
            ("a/b.rs", "use super::E; fn f() { crate::c::inner::g() }"),
            ("c.rs", "#[cfg(test)] mod tests { use crate::a::b; }"),
            ("a/tests.rs", "use crate::c;"),
        ]);
        let graph = graph_of(&files);
        assert_eq!(graph["a/mod.rs"], BTreeSet::from(["c.rs"]));
        assert_eq!(graph["a/b.rs"], BTreeSet::from(["a/mod.rs", "c.rs"]));
        assert!(graph["c.rs"].is_empty() && !graph.contains_key("a/tests.rs"));
    }

    #[test]
    fn a_circle_of_three_files_or_of_two_is_seen() {
        let three =
            files(&[("a/x.rs", "use super::y;"), ("a/y.rs", "use crate::b;"), ("b.rs", "fn f() { crate::a::x::f() }")]);
        assert_eq!(circles(&three), [["a/x.rs", "a/y.rs", "b.rs"]]);
        let two = files(&[("a/x.rs", "use super::y;"), ("a/y.rs", "use super::x;"), ("a/z.rs", "use super::x;")]);
        assert_eq!(circles(&two), [["a/x.rs", "a/y.rs"]]);
    }

    #[test]
    fn a_parent_with_its_children_is_no_circle() {
        let family = files(&[
            ("a/mod.rs", "use self::x::X; use self::y::Y;"),
            ("a/x.rs", "use super::Z;"),
            ("a/y.rs", "use super::Z;"),
        ]);
        assert!(circles(&family).is_empty());
    }
}
