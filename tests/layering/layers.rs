//! Which folder of `src` may import which, and what the pure folders must not use.

use crate::imports::paths_of;
use crate::source::{SourceFile, is_name_letter};

/// What each folder of `src` may import of the others: only folders that are listed above it. `cli` and `main.rs` are
/// not listed: they may import all.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("visible", &[]),
    ("limits", &["visible"]),
    ("pool", &["limits", "visible"]),
    ("watch", &[]),
    ("ownership", &[]),
    ("http", &["ownership"]),
    ("service", &[]),
    ("simulate", &["limits", "pool"]),
    ("protocol", &["limits", "pool"]),
    ("provider", &["limits", "pool"]),
    ("usage", &["limits", "pool", "http", "provider"]),
    ("credential", &["limits", "pool", "ownership", "http", "provider"]),
    ("shared_pool", &["limits", "pool", "ownership", "http", "credential"]),
    ("store", &["limits", "pool", "credential"]),
    ("history", &["pool", "protocol"]),
    ("config", &["limits", "pool", "ownership", "visible"]),
    ("guest", &["pool", "protocol"]),
    ("client", &["pool", "protocol", "config", "ownership", "guest"]),
    ("measure", &["client", "pool", "protocol"]),
    (
        "daemon",
        &[
            "limits",
            "pool",
            "watch",
            "ownership",
            "visible",
            "http",
            "service",
            "protocol",
            "provider",
            "usage",
            "credential",
            "shared_pool",
            "store",
            "history",
            "config",
            "client",
            "guest",
        ],
    ),
    ("gateway", &["limits", "pool", "http", "protocol", "provider", "credential", "config", "daemon"]),
];

/// Folders that use no I/O, clock, thread or randomness.
const PURE: &[&str] = &["pool", "limits", "simulate", "visible"];

/// What pure code must not name.
const IMPURE: &[&str] = &[
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

/// What is wrong with a file, its tests included.
pub fn violations(file: &SourceFile) -> Vec<String> {
    let layer = file.layer();
    let mut wrong = Vec::new();
    if let Some((_, allowed)) = MAY_IMPORT.iter().find(|(known, _)| *known == layer) {
        let imported = paths_of(&file.code, &file.module()).into_iter().filter_map(|path| path.into_iter().next());
        let is_layer = |name: &str| name == "cli" || MAY_IMPORT.iter().any(|(known, _)| *known == name);
        for name in imported.filter(|name| is_layer(name) && name != layer && !allowed.contains(&name.as_str())) {
            wrong.push(format!("{layer} imports {name}"));
        }
    }
    if PURE.contains(&layer) {
        wrong.extend(names_in(&file.code, IMPURE).map(|name| format!("{layer} names {name}")));
        if hides_imports(&file.code) {
            wrong.push(format!("{layer} imports a group of std, which hides what it imports"));
        }
    }
    wrong
}

/// Which of these names the code contains, as whole words.
pub fn names_in<'a>(code: &'a str, names: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    names.iter().copied().filter(|name| {
        code.match_indices(name).any(|(at, _)| {
            let (before, after) = (&code[..at], &code[at + name.len()..]);
            !before.ends_with(is_name_letter) && !after.starts_with(is_name_letter)
        })
    })
}

/// Whether the code imports a group of `std`, in which the names above cannot be seen.
pub fn hides_imports(code: &str) -> bool {
    code.contains("std::{")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layer_imports_only_lower_ones() {
        for (at, (layer, allowed)) in MAY_IMPORT.iter().enumerate() {
            let is_lower = |name: &&&str| MAY_IMPORT[..at].iter().any(|(lower, _)| lower == *name);
            let wrong: Vec<_> = allowed.iter().filter(|name| !is_lower(name)).collect();
            assert!(wrong.is_empty(), "{layer} may import {wrong:?}, which are not below it");
        }
    }

    #[test]
    fn a_violation_is_seen() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("pool", "use crate::limits::Reason;", &[]),
            ("pool", "use crate::store::Store;", &["pool imports store"]),
            ("pool", "fn f() { crate::daemon::run() }", &["pool imports daemon"]),
            ("limits", "use crate::pool::Now;", &["limits imports pool"]),
            ("store", "use crate::{\n    pool::{Now, Wall},\n    daemon::Handle,\n};", &["store imports daemon"]),
            ("store", "use super::super::daemon::Handle;", &["store imports daemon"]),
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
            ("pool", "use std::{fs, sync};", &["pool imports a group of std, which hides what it imports"]),
            ("store", "use std::fs;", &[]),
        ];
        for (layer, text, expected) in rows {
            let file = SourceFile::new(&format!("{layer}/file.rs"), text);
            assert_eq!(violations(&file), *expected, "{layer}: {text}");
        }
    }
}
