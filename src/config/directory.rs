//! Directories as `[directories]` compares them: absolute, with `/` between the names and none at the end, and in lower
//! case where the system ignores case.

use std::path::{Component, Path, PathBuf};

use directories::BaseDirs;

/// The longest directory that is compared, in bytes; no system has longer ones.
pub const LONGEST_DIRECTORY: usize = 4096;

/// Whether file names that differ only in case are the same here.
const IGNORES_CASE: bool = cfg!(any(windows, target_os = "macos"));

/// An absolute directory without `.`, `..` and a slash at the end; `None` for a relative one. Links stay.
#[must_use]
pub fn comparable(directory: &Path) -> Option<String> {
    if !directory.is_absolute() {
        return None;
    }
    let mut parts: Vec<String> = Vec::new();
    for component in directory.components() {
        match component {
            Component::Prefix(prefix) => parts.push(prefix_text(&prefix.as_os_str().to_string_lossy())),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir => {
                // the name of a drive stays
                if parts.len() > usize::from(cfg!(windows)) {
                    parts.pop();
                }
            }
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
        }
    }
    let text = parts.join("/");
    let text = if cfg!(windows) { text } else { format!("/{text}") };
    Some(if IGNORES_CASE { text.to_lowercase() } else { text })
}

/// The same with its links resolved, as far as it exists. Blocks on the disk.
#[must_use]
pub fn resolved(directory: &Path) -> Option<String> {
    let mut missing: Vec<&std::ffi::OsStr> = Vec::new();
    let mut existing = directory;
    loop {
        if let Ok(mut real) = existing.canonicalize() {
            real.extend(missing.iter().rev());
            return comparable(&real);
        }
        // what does not exist has no links
        missing.push(existing.file_name()?);
        existing = existing.parent()?;
    }
}

/// A drive or share without the mark of a verbatim path: `\\?\C:` is `C:`.
fn prefix_text(prefix: &str) -> String {
    let plain = prefix.strip_prefix(r"\\?\").unwrap_or(prefix);
    let plain = plain.strip_prefix(r"UNC\").map_or_else(|| plain.to_owned(), |share| format!(r"\\{share}"));
    plain.replace('\\', "/")
}

/// The absolute path of a directory of the configuration: `~` is the home directory, and a relative one belongs to the
/// directory of the file. `None` if the home directory is not known.
fn absolute(name: &str, file: &Path) -> Option<PathBuf> {
    let home = |rest: &str| Some(BaseDirs::new()?.home_dir().join(rest));
    match name.strip_prefix('~') {
        Some("") => home(""),
        Some(rest) if rest.starts_with(std::path::is_separator) => {
            home(rest.trim_start_matches(std::path::is_separator))
        }
        _ => std::path::absolute(file.parent().unwrap_or(Path::new("")).join(name)).ok(),
    }
}

/// The paths that a section `[directories."NAME"]` of the configuration `file` stands for: as it is written, and with
/// its links resolved. Blocks on the disk.
pub(in crate::config) fn paths_of(name: &str, file: &Path) -> Vec<String> {
    let Some(directory) = absolute(name, file) else { return Vec::new() };
    let mut paths: Vec<String> = [comparable(&directory), resolved(&directory)].into_iter().flatten().collect();
    paths.dedup();
    paths
}

/// What is wrong with the name of a section, if it names no directory.
pub(in crate::config) fn name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > LONGEST_DIRECTORY || name.chars().any(char::is_control) {
        return Some("not a directory; use an absolute path, or one that begins with ~/");
    }
    let other_home =
        name.strip_prefix('~').is_some_and(|rest| !rest.is_empty() && !rest.starts_with(std::path::is_separator));
    other_home.then_some("the home directory of another user is not looked up; write its absolute path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn directories_are_compared_without_dots_and_slashes() {
        for (given, expected) in [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a/b/", Some("/a/b")),
            ("//a//b/./c/..", Some("/a/b")),
            ("/../..", Some("/")),
            ("a/b", None),
            ("", None),
        ] {
            let expected = expected.map(|text| if IGNORES_CASE { text.to_lowercase() } else { text.to_owned() });
            assert_eq!(comparable(Path::new(given)), expected, "{given}");
        }
        assert_eq!(comparable(Path::new("/Home/U")).as_deref(), Some(if IGNORES_CASE { "/home/u" } else { "/Home/U" }));
    }

    #[test]
    #[cfg(windows)]
    fn drives_are_compared_without_case_and_mark() {
        for given in [r"C:\Users\Me\x", r"c:/users/me/X/", r"\\?\C:\Users\me\x"] {
            assert_eq!(comparable(Path::new(given)).as_deref(), Some("c:/users/me/x"), "{given}");
        }
        assert_eq!(comparable(Path::new(r"C:\..\..")).as_deref(), Some("c:"));
    }

    #[test]
    fn the_prefix_of_a_path_has_no_mark() {
        for (given, expected) in [(r"\\?\C:", "C:"), ("C:", "C:"), (r"\\?\UNC\host\share", "//host/share")] {
            assert_eq!(prefix_text(given), expected);
        }
    }

    #[test]
    #[cfg(unix)]
    fn links_are_resolved_as_far_as_they_exist() {
        let home = tempfile::tempdir().unwrap();
        let base = home.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("real/inner")).unwrap();
        std::os::unix::fs::symlink(base.join("real"), base.join("link")).unwrap();
        let real = comparable(&base.join("real")).unwrap();
        assert_eq!(resolved(&base.join("link/inner")), Some(format!("{real}/inner")));
        assert_eq!(resolved(&base.join("link/not/there")), Some(format!("{real}/not/there")));
        let link = comparable(&base.join("link")).unwrap();
        let file = base.join("config.toml");
        assert_eq!(paths_of("link", &file), [link.clone(), real.clone()]);
        assert_eq!(paths_of(&format!("{}/link", base.display()), &file), [link, real.clone()]);
        assert_eq!(paths_of("real/../real/", &file), [real]);
    }

    #[test]
    fn a_tilde_is_the_home_directory() {
        let Some(base) = BaseDirs::new() else { return };
        let home = comparable(base.home_dir()).unwrap();
        let file = Path::new("/elsewhere/config.toml");
        assert_eq!(paths_of("~", file)[0], home);
        assert_eq!(paths_of("~/client-a", file)[0], format!("{}/client-a", home.trim_end_matches('/')));
        for (name, is_fine) in [("~", true), ("~/x", true), ("~other/x", false), ("", false), ("a\nb", false)] {
            assert_eq!(name_problem(name).is_none(), is_fine, "{name:?}");
        }
    }
}
