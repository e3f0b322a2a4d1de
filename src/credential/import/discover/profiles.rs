//! Directories in which a tool has one login each, beside its default directory: found by their names, or where programs
//! that switch between logins keep them.

use std::fs;
use std::path::{Path, PathBuf};

#[cfg(any(target_os = "macos", all(test, unix)))]
use super::paths::{HostEnvironment, KEYCHAIN_LOGIN, keychain_service, profile_places};
#[cfg(any(target_os = "macos", all(test, unix)))]
use crate::credential::import::Tool;

/// The most directories that are looked at in one place.
pub(super) const MOST_DIRECTORIES: usize = 1000;
/// Directories of such programs, below which each directory is one of a login.
const CONTAINERS: [&str; 3] = ["profiles", "accounts", "instances"];

/// The directories of logins whose names begin so, and those below them, sorted; and whether these are all.
pub(super) fn profile_directories(parent: &Path, prefix: &str) -> (Vec<PathBuf>, bool) {
    let mut found = Vec::new();
    for directory in below(parent, |name| name.starts_with(prefix)) {
        let children = below(&directory, |name| !name.starts_with('.'));
        let contained = CONTAINERS.iter().flat_map(|name| below(&directory.join(name), |_| true));
        let contained: Vec<PathBuf> = contained.collect();
        found.push(directory);
        found.extend(children);
        found.extend(contained);
    }
    let all = found.len() <= MOST_DIRECTORIES;
    found.truncate(MOST_DIRECTORIES);
    (found, all)
}

fn below(parent: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let wanted = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&is_wanted));
    let directories = wanted.map(|entry| entry.path()).filter(|path| path.is_dir());
    let mut directories: Vec<PathBuf> = directories.take(MOST_DIRECTORIES + 1).collect();
    directories.sort_unstable();
    directories
}

/// The file that names the owner of a keychain item.
#[cfg(any(target_os = "macos", all(test, unix)))]
pub(super) fn beside_keychain(service: &str, of: &HostEnvironment<'_>) -> Option<PathBuf> {
    if service == KEYCHAIN_LOGIN {
        return Some(of.home.join(".claude.json"));
    }
    let is_named = |name: &str| (of.variable)(name).is_some_and(|directory| keychain_service(&directory) == service);
    let named = ["CLAUDE_SECURESTORAGE_CONFIG_DIR", "CLAUDE_CONFIG_DIR"].into_iter().any(is_named);
    let of_profile = || {
        let places = profile_places(of).into_iter().filter(|(tool, _, _)| *tool == Tool::ClaudeCode);
        let mut directories = places.flat_map(|(_, parent, prefix)| profile_directories(&parent, prefix).0);
        directories.find(|directory| keychain_service(&directory.to_string_lossy()) == service)
    };
    let directory = if named { None } else { of_profile() };
    directory.or_else(|| of.set("CLAUDE_CONFIG_DIR")).map(|directory| directory.join(".claude.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_found_by_their_names_and_below_them() {
        let home = tempfile::tempdir().unwrap();
        let make = |path: &str| fs::create_dir_all(home.path().join(path)).unwrap();
        for path in [".claude", ".claude-work", ".claude-switch/profiles/a", ".claude-switch/profiles/b", ".other"] {
            make(path);
        }
        fs::write(home.path().join(".claude-file"), "").unwrap();
        let (found, all) = profile_directories(home.path(), ".claude-");
        assert!(all);
        let names: Vec<String> = found
            .iter()
            .map(|path| path.strip_prefix(home.path()).unwrap().to_string_lossy().replace('\\', "/"))
            .collect();
        let expected = [
            ".claude-switch",
            ".claude-switch/profiles",
            ".claude-switch/profiles/a",
            ".claude-switch/profiles/b",
            ".claude-work",
        ];
        assert_eq!(names, expected);
        assert!(profile_directories(&home.path().join("missing"), "").0.is_empty());
    }

    #[test]
    fn directories_beyond_the_most_are_reported() {
        let home = tempfile::tempdir().unwrap();
        for number in 0..=MOST_DIRECTORIES {
            fs::create_dir(home.path().join(format!(".claude-{number}"))).unwrap();
        }
        let (found, all) = profile_directories(home.path(), ".claude-");
        assert_eq!((found.len(), all), (MOST_DIRECTORIES, false));
        fs::remove_dir(home.path().join(".claude-0")).unwrap();
        let (found, all) = profile_directories(home.path(), ".claude-");
        assert_eq!((found.len(), all), (MOST_DIRECTORIES, true));
    }
}
