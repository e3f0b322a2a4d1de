//! Imports point only downwards (DESIGN §4), and the pure core touches nothing of the world.

use std::path::{Path, PathBuf};

/// What each folder of `src` may import of the others. `cli`, `top` and `main.rs` are not listed: they may all.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("pool", &["limits"]),
    ("simulate", &["pool", "limits"]),
    ("protocol", &["pool", "limits"]),
    ("store", &["pool", "credential", "limits"]),
    ("provider", &["limits", "pool"]),
    ("usage", &["http", "provider", "limits", "pool"]),
    ("credential", &["http", "pool", "limits", "provider", "store"]),
    ("config", &["pool", "limits"]),
    ("service", &[]),
    ("watch", &[]),
    ("http", &[]),
    ("client", &["protocol", "pool", "config"]),
    (
        "daemon",
        &[
            "client",
            "service",
            "http",
            "watch",
            "config",
            "credential",
            "usage",
            "provider",
            "store",
            "protocol",
            "limits",
            "pool",
        ],
    ),
    (
        "gateway",
        &[
            "daemon",
            "http",
            "service",
            "config",
            "credential",
            "usage",
            "provider",
            "store",
            "protocol",
            "limits",
            "pool",
        ],
    ),
];

/// What the pure folders must not name: I/O, clocks, threads, chance.
const PURE: &[&str] = &["pool", "limits", "simulate"];
const FORBIDDEN: &[&str] = &[
    "tokio",
    "std::fs",
    "std::net",
    "std::env",
    "std::io",
    "std::process",
    "std::thread",
    "std::os",
    "SystemTime",
    "Instant",
    "rand",
    "getrandom",
    "rustix",
    "RandomState",
    "HashMap::new",
];

/// The source without comments and the contents of strings, so that only code counts.
fn code_of(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '/' if rest.peek() == Some(&'/') => {
                while rest.peek().is_some_and(|next| *next != '\n') {
                    rest.next();
                }
            }
            '"' => {
                while let Some(next) = rest.next() {
                    match next {
                        '\\' => drop(rest.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                code.push_str("\"\"");
            }
            // a quote or a backslash as a character would open a string that is none
            '\'' if matches!(rest.peek(), Some('"' | '\\')) => {
                rest.next();
                while rest.next().is_some_and(|next| next != '\'') {}
            }
            _ => code.push(letter),
        }
    }
    code
}

/// Every folder of the crate that `code` names: `crate::a::…`, `crate::{a::…, b}`, and the same through `lessor::`.
fn imports_of(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let dense: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    for root in ["crate::", "lessor::"] {
        for (at, _) in dense.match_indices(root) {
            if dense[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
                continue;
            }
            let path = &dense[at + root.len()..];
            let Some(group) = path.trim_start().strip_prefix('{') else {
                found.push(first_name(path));
                continue;
            };
            let (mut depth, mut start) = (0_i32, true);
            for (at, letter) in group.char_indices() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    _ if start && !letter.is_whitespace() => {
                        found.push(first_name(&group[at..]));
                        start = false;
                    }
                    _ => {}
                }
            }
        }
    }
    found
}

fn first_name(path: &str) -> String {
    path.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

fn names(code: &str, forbidden: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(forbidden).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + forbidden.len()..]);
        !before.ends_with(part) && !after.starts_with(part)
    })
}

/// What is wrong with a file of `folder`.
fn violations(folder: &str, source: &str) -> Vec<String> {
    let code = code_of(source);
    let mut wrong = Vec::new();
    if let Some((_, allowed)) = MAY_IMPORT.iter().find(|(known, _)| *known == folder) {
        let layers = imports_of(&code);
        let is_layer = |name: &String| MAY_IMPORT.iter().any(|(known, _)| known == name) || is_top(name);
        for layer in layers.iter().filter(|name| is_layer(name) && *name != folder) {
            if !allowed.contains(&layer.as_str()) {
                wrong.push(format!("{folder} imports {layer}"));
            }
        }
    }
    if PURE.contains(&folder) {
        let grouped = code.contains("std::{").then(|| "a group of std, which hides what it imports".to_owned());
        let named = FORBIDDEN.iter().filter(|name| names(&code, name)).map(|name| (*name).to_owned());
        wrong.extend(named.chain(grouped).map(|name| format!("{folder} names {name}")));
    }
    wrong
}

fn is_top(name: &str) -> bool {
    matches!(name, "cli" | "top")
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn imports_point_downwards_and_the_core_is_pure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for path in sources(&src) {
        let inside = path.strip_prefix(&src).unwrap();
        let folder = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        let source = std::fs::read_to_string(&path).unwrap();
        wrong.extend(violations(folder, &source).into_iter().map(|what| format!("{}: {what}", inside.display())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_violation_is_seen() {
    let rows: &[(&str, &str, &[&str])] = &[
        ("pool", "use crate::limits::Reason;", &[]),
        ("pool", "use crate::store::Store;", &["pool imports store"]),
        ("pool", "fn f() { crate::daemon::run() }", &["pool imports daemon"]),
        ("limits", "use crate::pool::Now;", &["limits imports pool"]),
        ("store", "use crate::{\n    pool::{Now, Wall},\n    daemon::Handle,\n};", &["store imports daemon"]),
        ("protocol", "use crate::{limits::{self, Scope}, config::Config};", &["protocol imports config"]),
        ("client", "use crate::cli::Args;", &["client imports cli"]),
        ("daemon", "use crate::{client, gateway};", &["daemon imports gateway"]),
        ("cli", "use crate::{daemon, pool, gateway};", &[]),
        ("pool", "// use crate::store::Store; std::fs\nlet a = \"crate::store std::fs\";", &[]),
        ("pool", "let quote = '\"'; use std::fs;", &["pool names std::fs"]),
        ("pool", "use std::time::{Duration, Instant};", &["pool names Instant"]),
        ("limits", "let now = std::time::SystemTime::now();", &["limits names SystemTime"]),
        ("pool", "use tokio::sync::Mutex;", &["pool names tokio"]),
        ("pool", "let operand = grand;", &[]),
        ("pool", "use std::{fs, sync};", &["pool names a group of std, which hides what it imports"]),
        ("store", "use std::fs;", &[]),
    ];
    for (folder, source, wanted) in rows {
        assert_eq!(violations(folder, source), *wanted, "{folder}: {source}");
    }
}
