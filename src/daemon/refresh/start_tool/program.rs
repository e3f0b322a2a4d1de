//! Whether a program's file may be started: only its user and the system's administrator can have written it.

use std::fs;
use std::path::Path;

/// Why the file is not started, as the rest of a sentence.
pub(super) fn check(file: &Path) -> Result<(), String> {
    let missing = |_| "is missing or was moved".to_owned();
    let real = fs::canonicalize(file).map_err(missing)?;
    let about = fs::metadata(&real).map_err(missing)?;
    if !about.is_file() || !is_executable(&about) {
        return Err("is no program".to_owned());
    }
    // its name can be a link; others must not be able to change either place
    let places = real.ancestors().chain(file.ancestors());
    match places.into_iter().find(|place| fs::symlink_metadata(place).map_or(true, |about| is_of_others(&about))) {
        Some(place) if place == real || place == file => {
            Err("is not started, because another user owns it or can change it".to_owned())
        }
        Some(place) => {
            Err(format!("is not started, because another user owns or can change its directory {}", place.display()))
        }
        None => Ok(()),
    }
}

#[cfg(unix)]
fn is_executable(about: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o111 != 0
}

/// Whether a user other than this one and root owns it, or can change what is in it.
#[cfg(unix)]
fn is_of_others(about: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (ours, mode) = (rustix::process::geteuid().as_raw(), about.mode());
    if about.uid() != ours && about.uid() != 0 {
        return true;
    }
    // a link has no rights of its own; in a directory with the sticky bit each user changes only what is its own
    if about.is_symlink() || about.is_dir() && mode & 0o1000 != 0 {
        return false;
    }
    // groups of administrators often own the directories of programs, but a file only the own group may change
    let is_foreign_group = about.is_file() && about.gid() != rustix::process::getegid().as_raw() && about.gid() != 0;
    mode & 0o002 != 0 || mode & 0o020 != 0 && is_foreign_group
}

#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    true
}

/// The rights of a file are not looked at: programs are in directories that other users cannot change.
#[cfg(not(unix))]
fn is_of_others(_: &fs::Metadata) -> bool {
    false
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn only_a_program_that_no_other_user_can_change_is_started() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("bin of mine");
        let file = folder.join("gemini");
        let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        fs::create_dir(&folder).unwrap();
        assert_eq!(check(&file), Err("is missing or was moved".to_owned()));
        fs::write(&file, "#!/bin/sh").unwrap();
        for (of_folder, of_file, part) in [
            (0o755, 0o644, "is no program"),
            (0o755, 0o755, ""),
            (0o755, 0o757, "another user owns it or can change it"),
            (0o777, 0o755, "can change its directory"),
            (0o1777, 0o755, ""),
        ] {
            allow(&folder, of_folder);
            allow(&file, of_file);
            let why = check(&file).err().unwrap_or_default();
            assert!(why.contains(part) && why.is_empty() == part.is_empty(), "{of_folder:o} {of_file:o}: {why}");
        }
        assert_eq!(check(&folder), Err("is no program".to_owned()));
        // the place of a link counts, and the place that it names
        let open = root.path().join("open");
        fs::create_dir(&open).unwrap();
        allow(&open, 0o777);
        symlink(&file, open.join("gemini")).unwrap();
        assert!(check(&open.join("gemini")).unwrap_err().contains("its directory"));
        allow(&open, 0o755);
        assert_eq!(check(&open.join("gemini")), Ok(()));
        // only root can give a file away
        if chown(&file, Some(4242), None).is_ok() {
            assert!(check(&file).unwrap_err().contains("another user owns it"));
        }
    }
}
