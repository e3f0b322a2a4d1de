//! Where a program is: on the `PATH`, behind the scripts that start lessor under its name.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The program's file: at the given path, or the first on the `PATH` that is none of lessor's own and not in `skipped`.
pub(crate) fn find_program(name: &OsStr, skipped: &[PathBuf]) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.parent().is_none_or(|parent| !parent.as_os_str().is_empty()) {
        return Some(path.to_owned());
    }
    programs(name).find(|file| !skipped.contains(file))
}

/// Every file on the `PATH` with this name that is a program and none of lessor's own.
pub(crate) fn programs(name: &OsStr) -> impl Iterator<Item = PathBuf> + use<> {
    let own = std::env::current_exe().and_then(|file| file.canonicalize()).ok();
    files_on_path(name).into_iter().filter(move |file| !is_lessors(file, own.as_deref()))
}

/// Every file on the `PATH` with this name that is a program.
pub(crate) fn files_on_path(name: &OsStr) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // an empty entry stands for the current directory, as in a shell
    let directories = std::env::split_paths(&path).filter_map(|directory| match directory.as_os_str().is_empty() {
        true => std::env::current_dir().ok(),
        false => std::path::absolute(directory).ok(),
    });
    directories.flat_map(|directory| files(&directory, name)).filter(|file| is_program(file)).collect()
}

/// The names under which a program may be installed in a directory.
fn files(directory: &Path, name: &OsStr) -> Vec<PathBuf> {
    if cfg!(windows) && Path::new(name).extension().is_none() {
        let with = |ending: &&str| {
            let mut file = name.to_owned();
            file.push(ending);
            directory.join(file)
        };
        return [".exe", ".cmd", ".bat", ".com"].iter().map(with).collect();
    }
    vec![directory.join(name)]
}

#[cfg(unix)]
pub(crate) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
pub(crate) fn is_program(file: &Path) -> bool {
    file.is_file()
}

/// Whether a file is lessor itself, or a script that starts it in place of the program.
fn is_lessors(file: &Path, own: Option<&Path>) -> bool {
    if own.is_some() && file.canonicalize().ok().as_deref() == own {
        return true;
    }
    let is_script = |text: &str| text.starts_with("#!") || cfg!(windows) && text.starts_with('@');
    beginning(file).is_some_and(|text| is_script(&text) && text.contains("lessor run"))
}

/// The first lines of a file; a script that starts lessor says so there.
pub(crate) fn beginning(file: &Path) -> Option<String> {
    const BEGINNING: u64 = 4096;
    let mut beginning = Vec::new();
    std::fs::File::open(file).ok()?.take(BEGINNING).read_to_end(&mut beginning).ok()?;
    Some(String::from_utf8_lossy(&beginning).into_owned())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn lessor_and_scripts_that_start_it_are_recognised() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let own = file("lessor", "binary");
        let link = directory.path().join("claude");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        for (path, expected) in [
            (link, true),
            (file("a", "#!/bin/sh\nexec lessor run claude -- \"$@\"\n"), true),
            (file("b", "#!/usr/bin/env node\nrequire('./cli.js')\n"), false),
            (file("c", "\u{7f}ELF lessor run"), false),
        ] {
            assert_eq!(is_lessors(&path, Some(&own)), expected, "{path:?}");
        }
    }
}
