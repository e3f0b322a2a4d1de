//! `src/daemon/state/` runs under the daemon's lock: it must not read files, look up processes or call the system.

use std::collections::BTreeSet;

use crate::imports::paths_of;
use crate::layers::{hides_imports, names_in};
use crate::source::SourceFile;

/// The folder.
pub const FOLDER: &str = "daemon/state/";

/// Files of `daemon/os` that it may use: reading the clock is no system call on the systems that lessor supports;
/// `blocking` forbids calls to the system; an `opened_process` was opened before.
const ALLOWED: &[&str] = &["clock", "blocking", "opened_process"];

/// What its code must not name.
const SYSTEM: &[&str] = &[
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::env",
    "std::process",
    "std::thread",
    "tokio::fs",
    "tokio::net",
    "tokio::process",
    "rustix",
    "winsafe",
    "interprocess",
    "fs::File",
    "OpenOptions",
    "Path::exists",
    "process::find",
    "process::watch",
    "OpenedProcess::open",
    "find_process",
    "watch_process",
    "pidfd_open",
    "boot_id",
    "reqwest",
    "getrandom",
];

/// What is wrong with a file of the folder; tests may do all of it.
pub fn violations(file: &SourceFile) -> Vec<String> {
    let code = file.shipped_code();
    let mut wrong: BTreeSet<String> = names_in(&code, SYSTEM).map(|name| format!("names {name}")).collect();
    if hides_imports(&code) {
        wrong.insert("imports a group of std, which hides what it imports".to_owned());
    }
    for path in paths_of(&code, &file.module()) {
        if let [daemon, os, name, ..] = path.as_slice()
            && (daemon.as_str(), os.as_str()) == ("daemon", "os")
            && !ALLOWED.contains(&name.as_str())
        {
            wrong.insert(format!("imports daemon::os::{name}"));
        }
    }
    wrong.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_is_seen() {
        for (text, expected) in [
            ("use std::fs;", vec!["names std::fs"]),
            ("let file = std::fs::File::open(path)?;", vec!["names fs::File", "names std::fs"]),
            ("use super::super::os::process::find;", vec!["imports daemon::os::process", "names process::find"]),
            ("use crate::daemon::os::{clock, signals};", vec!["imports daemon::os::signals"]),
            ("let holder = find_process(pid);", vec!["names find_process"]),
            ("use std::{fs, mem};", vec!["imports a group of std, which hides what it imports"]),
            ("use crate::daemon::os::clock; use std::mem; struct Files;", vec![]),
            ("#[cfg(test)] mod tests { use std::fs; }", vec![]),
        ] {
            let file = SourceFile::new("daemon/state/effects.rs", text);
            assert_eq!(violations(&file), expected, "{text}");
        }
    }
}
