//! Walks a path from the root to its end, and follows its links.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use nix::unistd::{Gid, Group, Uid, User};
use rustix::process::geteuid;

use super::UntrustedPath;
use super::group::is_private;
use super::rule::{Facts, Kind, Other, Trusted, judge};

/// The most links that are followed, as in Linux.
const MOST_LINKS: usize = 40;

/// Checks what exists of a path; answers what is at its end, if it exists.
pub(super) fn check(path: &Path) -> Result<Option<Metadata>, UntrustedPath> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let refuse = |path: &Path, why: String| {
        let remedy = "use another path".to_owned();
        UntrustedPath { path: path.to_owned(), why, remedy }
    };
    let mut reached = PathBuf::from("/");
    // the parts that are left, the next one last
    let mut rest = Vec::new();
    push(&mut rest, &whole);
    let mut links = 0;
    let mut last = Some(
        look(&reached, &reached, rest.is_empty())?
            .map_err(|error| refuse(&reached, format!("cannot be checked: {error}")))?,
    );
    while let Some(part) = rest.pop() {
        if part == ".." {
            reached.pop();
            continue;
        }
        let next = reached.join(&part);
        let about = match look(&next, &whole, rest.is_empty())? {
            Ok(about) => about,
            // the rest does not exist; or it leads through a file, and using the path fails
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                last = None;
                break;
            }
            Err(error) => return Err(refuse(&next, format!("cannot be checked: {error}"))),
        };
        if !about.is_symlink() {
            reached = next;
            last = Some(about);
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(refuse(&whole, "leads through too many links".to_owned()));
        }
        let target = fs::read_link(&next).map_err(|error| refuse(&next, format!("cannot be read: {error}")))?;
        if target.is_absolute() {
            reached = PathBuf::from("/");
        }
        push(&mut rest, &target);
    }
    // a path that ends with `..` leads to a directory that was judged as one on the way
    if last.as_ref().is_some_and(Metadata::is_dir) {
        last = look(&reached, &whole, true)?.ok();
    }
    Ok(last)
}

/// Checks what exists of several paths. The way to a directory is walked once: other users cannot replace what is not
/// theirs in it, and each file is judged itself.
pub(super) fn check_all<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<(), UntrustedPath> {
    let mut directory = None;
    for path in paths {
        let parent = path.parent().filter(|parent| parent.is_absolute());
        if parent.is_none() || parent != directory {
            directory = check(path)?.and(parent);
            continue;
        }
        let is_plain = match look(path, path, true)? {
            Ok(about) => !about.is_symlink(),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        if !is_plain {
            check(path)?;
        }
    }
    Ok(())
}

/// Checks a path, and that the opened file is the one at its end.
pub(super) fn check_opened(path: &Path, file: &File) -> Result<(), UntrustedPath> {
    let ends_at = check(path)?;
    let opened = file.metadata().ok();
    let same = |one: &Metadata, other: &Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
    // a device or pipe that a name of /proc stands for is not at the end of a path
    let is_special = opened.as_ref().is_some_and(|opened| !opened.is_file() && !opened.is_dir());
    match (&ends_at, &opened) {
        (Some(ends_at), Some(opened)) if same(ends_at, opened) => Ok(()),
        _ if is_special => Ok(()),
        _ => Err(UntrustedPath {
            path: path.to_owned(),
            why: "was replaced while it was opened".to_owned(),
            remedy: "try again".to_owned(),
        }),
    }
}

fn push(rest: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().rev();
    rest.extend(parts.filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    }));
}

/// Judges one part of a path, without following it if it is a link.
fn look(path: &Path, whole: &Path, is_last: bool) -> Result<std::io::Result<Metadata>, UntrustedPath> {
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(error) => return Ok(Err(error)),
    };
    let kind = about.file_type();
    let kind = match () {
        () if kind.is_symlink() => Kind::Link,
        () if kind.is_dir() => {
            if is_last {
                Kind::Directory
            } else {
                Kind::Passed
            }
        }
        () if kind.is_char_device() || kind.is_block_device() || kind.is_fifo() || kind.is_socket() => Kind::Other,
        () => Kind::File,
    };
    let is_writable = kind != Kind::Link && about.mode() & 0o022 != 0;
    let facts = Facts {
        kind,
        owner: about.uid(),
        group: about.gid(),
        mode: about.mode() & 0o7777,
        has_list: is_writable && has_list(path),
    };
    let trusted = Trusted { user: geteuid().as_raw(), unmapped: unmapped_root(), is_private_group: &is_private };
    match judge(&facts, &trusted) {
        None => Ok(Ok(about)),
        Some(other) => Err(refusal(path, whole, &facts, other)),
    }
}

fn refusal(path: &Path, whole: &Path, facts: &Facts, other: Other) -> UntrustedPath {
    let user = geteuid().as_raw();
    let root = if user == 0 || facts.owner == user && other != Other::Owner { "" } else { "sudo " };
    let shown = shell_word(path);
    let mode = facts.mode;
    let (why, remedy) = match other {
        Other::Owner => {
            let is_link = facts.kind == Kind::Link;
            let (what, no_follow) = if is_link { ("is a link that belongs", "-h ") } else { ("belongs", "") };
            let why = format!("{what} to another user ({})", user_name(facts.owner));
            // what lies on the way may be another user's home
            let own = if path == whole { "" } else { ", or use a path in a directory of your own" };
            (why, format!("if it is yours, run: {root}chown {no_follow}{} {shown}{own}", user_name(user)))
        }
        Other::Everyone => (format!("is open for writing to others (mode {mode:04o})"), {
            let group = if facts.mode & 0o020 != 0 && !is_private(facts.group) { "g-w,o-w" } else { "o-w" };
            format!("run: {root}chmod {group} {shown}")
        }),
        Other::Group => {
            let group = Group::from_gid(Gid::from_raw(facts.group)).ok().flatten();
            let group = group.map_or_else(|| facts.group.to_string(), |group| group.name);
            (
                format!("is open for writing to the group {group} (mode {mode:04o})"),
                format!("run: {root}chmod g-w {shown}"),
            )
        }
        Other::List => {
            let why = "is open for writing to others by its access control list".to_owned();
            (why, format!("run: {root}chmod g-w {shown}"))
        }
    };
    UntrustedPath { path: path.to_owned(), why, remedy }
}

fn user_name(id: u32) -> String {
    User::from_uid(Uid::from_raw(id)).ok().flatten().map_or_else(|| id.to_string(), |user| user.name)
}

/// A path as one word of a shell.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@%:,=".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Whether an access control list names users or groups besides the owner and the group.
#[cfg(target_os = "linux")]
fn has_list(path: &Path) -> bool {
    rustix::fs::lgetxattr(path, c"system.posix_acl_access", &mut [0_u8; 0]).is_ok()
}

/// Not checked on this system.
#[cfg(not(target_os = "linux"))]
fn has_list(_path: &Path) -> bool {
    false
}

/// In a user namespace without root, as in many sandboxes, the system shows one id for all owners outside, root among
/// them. It cannot be told from other users there.
fn unmapped_root() -> Option<u32> {
    static FOUND: OnceLock<Option<u32>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        if !cfg!(target_os = "linux") {
            return None;
        }
        let map = fs::read_to_string("/proc/self/uid_map").ok()?;
        let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok()?;
        is_without_root(&map).then_some(overflow)
    })
}

/// Whether a user namespace has no user that is root outside: no range begins at 0 there.
fn is_without_root(map: &str) -> bool {
    let mut outside = map.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).peekable();
    outside.peek().is_some() && outside.all(|first| first != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_namespace_without_root_is_recognized() {
        assert!(!is_without_root("         0          0 4294967295\n"));
        assert!(!is_without_root(""));
        assert!(is_without_root("      1000       1000          1\n"));
        assert!(is_without_root("0 1000 1\n1 100000 65536\n"));
    }

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(shell_word(Path::new("/home/ann/.config")), "/home/ann/.config");
        assert_eq!(shell_word(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
