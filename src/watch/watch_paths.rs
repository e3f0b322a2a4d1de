//! The directory entries on a file's path that editors and dotfile managers replace, and where a change can be seen.

use std::path::{Component, Path, PathBuf};
use std::{ffi::OsString, fs};

/// The number of links that are followed.
const MOST_LINKS: usize = 40;
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct WatchedEntry {
    pub(super) directory: PathBuf,
    pub(super) name: OsString,
}

/// The file and its directory, at its own path and at each path that a link leads to. Replaced directories
/// further up are left to polling: a watch on `/home` would wake the daemon for unrelated files.
pub(super) fn of(file: &Path) -> Vec<WatchedEntry> {
    let mut steps = Vec::new();
    let mut path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    for _ in 0..=MOST_LINKS {
        let Some(directory) = path.parent().map(Path::to_owned) else { break };
        for entry in [path.as_path(), directory.as_path()] {
            if let (Some(directory), Some(name)) = (entry.parent(), entry.file_name()) {
                let step = WatchedEntry { directory: directory.to_owned(), name: name.to_owned() };
                if !steps.contains(&step) {
                    steps.push(step);
                }
            }
        }
        path = match (fs::read_link(&path), fs::read_link(&directory)) {
            (Ok(target), _) => joined(&directory, &target),
            (Err(_), Ok(target)) => {
                let Some(name) = path.file_name() else { break };
                let above = directory.parent().unwrap_or(&directory);
                joined(above, &target).join(name)
            }
            (Err(_), Err(_)) => break,
        };
    }
    steps
}

/// The target of a link in `directory`, with leading `..` resolved.
fn joined(directory: &Path, target: &Path) -> PathBuf {
    let mut path = directory.to_owned();
    for component in target.components() {
        match component {
            // the directory that `..` leaves must not be a link itself
            Component::ParentDir => {
                path = fs::canonicalize(&path).unwrap_or(path);
                path.pop();
            }
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_and_its_directory() {
        let steps = of(Path::new("/nowhere/lessor/config.toml"));
        let expected = [("/nowhere/lessor", "config.toml"), ("/nowhere", "lessor")];
        assert_eq!(texts(&steps), expected.map(|(directory, name)| (directory.to_owned(), name.to_owned())));
    }

    #[test]
    fn every_link_on_the_way_adds_its_target() {
        let home = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(home.path()).unwrap();
        let at = |path: &str| root.join(path).display().to_string();
        for directory in ["config", "dotfiles/lessor", "config/..2026"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        // a dotfile manager links the file
        symlink("../dotfiles/lessor/a.toml", root.join("config/a.toml")).unwrap();
        // another one links the directory
        symlink(root.join("dotfiles/lessor"), root.join("config/lessor")).unwrap();
        // mounted configuration: the file is behind a link that is replaced
        symlink("..2026", root.join("config/..data")).unwrap();
        symlink("..data/b.toml", root.join("config/b.toml")).unwrap();
        for (file, entries) in [
            ("config/a.toml", vec![("config", "a.toml"), ("dotfiles/lessor", "a.toml"), ("dotfiles", "lessor")]),
            ("config/lessor/c.toml", vec![("config", "lessor"), ("dotfiles/lessor", "c.toml")]),
            ("config/b.toml", vec![("config", "b.toml"), ("config", "..data"), ("config/..2026", "b.toml")]),
        ] {
            let found = texts(&of(&root.join(file)));
            for (directory, name) in entries {
                assert!(found.contains(&(at(directory), name.to_owned())), "{file}: {directory}/{name} in {found:?}");
            }
        }
    }

    #[test]
    fn link_loops_end() {
        let home = tempfile::tempdir().unwrap();
        symlink("b", home.path().join("a")).unwrap();
        symlink("a", home.path().join("b")).unwrap();
        assert!(of(&home.path().join("a")).len() <= 4);
    }

    fn texts(steps: &[WatchedEntry]) -> Vec<(String, String)> {
        let text =
            |step: &WatchedEntry| (step.directory.display().to_string(), step.name.to_string_lossy().into_owned());
        steps.iter().map(text).collect()
    }
}
