//! Real files of other users; they need root, which may give files away.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::PathBuf;

use super::*;

/// A user that is neither root nor this one.
const OTHER: u32 = 61234;

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can give files to other users");
    }
    is_root
}

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(home.at("config/lessor")).unwrap();
        fs::create_dir(home.at("dotfiles")).unwrap();
        fs::write(home.at("config/lessor/config.toml"), "x").unwrap();
        fs::write(home.at("config/lessor/beside"), "x").unwrap();
        fs::write(home.at("dotfiles/config.toml"), "y").unwrap();
        home.set("config/lessor/config.toml", 0o600);
        home.set("config/lessor/beside", 0o600);
        home.set("dotfiles/config.toml", 0o600);
        for directory in ["config", "config/lessor", "dotfiles"] {
            home.set(directory, 0o755);
        }
        home
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn set(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), Permissions::from_mode(mode)).unwrap();
    }

    /// The part of the configuration's path that is refused, with the message.
    fn refused(&self) -> Option<(PathBuf, String)> {
        let path = self.at("config/lessor/config.toml");
        let refused = check(&path).err();
        // in the same directory as a file that was checked before
        let beside = self.at("config/lessor/beside");
        assert_eq!(check_all([&*beside, &*path]).err(), refused);
        refused.map(|refused| (refused.path.clone(), refused.to_string()))
    }
}

#[test]
fn each_part_of_a_path_must_be_closed_to_others() {
    for (name, mode, usual, remedy) in [
        ("config/lessor/config.toml", 0o602, 0o600, "chmod o-w"),
        ("config/lessor/config.toml", 0o666, 0o600, "o-w"),
        ("config/lessor", 0o757, 0o755, "chmod o-w"),
        ("config", 0o777, 0o755, "o-w"),
    ] {
        let home = Home::new();
        assert_eq!(home.refused(), None);
        home.set(name, mode);
        let (path, message) = home.refused().unwrap();
        assert_eq!(path, home.at(name));
        assert!(message.contains(&format!("(mode {mode:04o}); run: ")) && message.contains(remedy), "{message}");
        home.set(name, usual);
        assert_eq!(home.refused(), None);
    }
}

#[test]
fn the_directories_of_links_and_targets_count() {
    let home = Home::new();
    let path = home.at("config/lessor/config.toml");
    fs::remove_file(&path).unwrap();
    // over another link, whose directory counts too
    fs::create_dir(home.at("store")).unwrap();
    home.set("store", 0o1775);
    symlink("../../store/link", &path).unwrap();
    symlink(home.at("dotfiles/config.toml"), home.at("store/link")).unwrap();
    assert_eq!(home.refused(), None, "the store is sticky");
    home.set("store", 0o757);
    assert_eq!(home.refused().unwrap().0, home.at("store"));
    home.set("store", 0o755);
    home.set("dotfiles", 0o702);
    assert_eq!(home.refused().unwrap().0, home.at("dotfiles"));
    home.set("dotfiles", 0o700);
    home.set("dotfiles/config.toml", 0o606);
    assert_eq!(home.refused().unwrap().0, home.at("dotfiles/config.toml"));
}

#[test]
fn what_does_not_exist_is_no_error_where_others_cannot_create_it() {
    let home = Home::new();
    assert_eq!(check(&home.at("config/lessor/none/none")), Ok(()));
    assert_eq!(check(&home.at("config/lessor/config.toml/none")), Ok(()));
    home.set("config/lessor", 0o777);
    assert!(check(&home.at("config/lessor/none/none")).is_err());
    home.set("config/lessor", 0o1777);
    assert_eq!(check(&home.at("config/lessor/none")), Ok(()));
    assert!(check(&home.at("config/lessor")).is_err(), "used itself");
    assert!(check(&home.at("config/lessor/../lessor")).is_err());
    home.set("config/lessor", 0o755);
    symlink("loop", home.at("loop")).unwrap();
    assert!(check(&home.at("loop")).unwrap_err().to_string().contains("too many links"));
}

#[test]
fn files_directories_and_links_of_another_user_are_refused() {
    if !is_root() {
        return;
    }
    for name in ["config/lessor/config.toml", "config/lessor", "config"] {
        let home = Home::new();
        chown(home.at(name), Some(OTHER), None).unwrap();
        let (path, message) = home.refused().unwrap();
        assert_eq!(path, home.at(name));
        let run = format!("belongs to another user ({OTHER}); if it is yours, run: chown root {}", path.display());
        assert!(message.contains(&run), "{message}");
    }
    let home = Home::new();
    fs::remove_file(home.at("config/lessor/config.toml")).unwrap();
    // in a sticky directory another user may have placed the link
    home.set("config/lessor", 0o1777);
    symlink(home.at("dotfiles/config.toml"), home.at("config/lessor/config.toml")).unwrap();
    assert_eq!(home.refused(), None);
    lchown(home.at("config/lessor/config.toml"), Some(OTHER), None).unwrap();
    let (_, message) = home.refused().unwrap();
    assert!(
        message.contains("is a link that belongs to another user") && message.contains("chown -h root"),
        "{message}"
    );
}

#[test]
fn a_group_with_other_members_is_refused() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    chown(home.at("config/lessor"), None, Some(OTHER)).unwrap();
    home.set("config/lessor", 0o775);
    let (_, message) = home.refused().unwrap();
    assert!(message.contains("writing to the group 61234 (mode 0775); run: chmod g-w "), "{message}");
    chown(home.at("config/lessor"), None, Some(rustix::process::getegid().as_raw())).unwrap();
    assert_eq!(home.refused(), None, "a group of only the user");
}

#[cfg(target_os = "linux")]
#[test]
fn an_access_control_list_that_lets_others_write_is_refused() {
    // version 2: user::rw-, user:61234:rw-, group::r--, mask::rw-, other::r--
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes()[..], &id.to_le_bytes()[..]].concat()
    };
    let list = [
        2_u32.to_le_bytes().to_vec(),
        entry(1, 6, u32::MAX),
        entry(2, 6, OTHER),
        entry(4, 4, u32::MAX),
        entry(16, 6, u32::MAX),
        entry(32, 4, u32::MAX),
    ]
    .concat();
    let home = Home::new();
    let path = home.at("config/lessor/config.toml");
    let set = rustix::fs::setxattr(&path, c"system.posix_acl_access", &list, rustix::fs::XattrFlags::empty());
    if let Err(error) = set {
        eprintln!("skipped: no access control lists here: {error}");
        return;
    }
    assert!(home.refused().unwrap().1.contains("access control list"));
    // without write permission in the mask the list grants none
    home.set("config/lessor/config.toml", 0o640);
    assert_eq!(home.refused(), None);
}

#[test]
fn an_opened_file_must_be_the_one_at_the_path() {
    let home = Home::new();
    let path = home.at("config/lessor/config.toml");
    let file = File::open(&path).unwrap();
    assert_eq!(check_opened(&path, &file), Ok(()));
    fs::rename(home.at("dotfiles/config.toml"), &path).unwrap();
    assert!(check_opened(&path, &file).unwrap_err().to_string().contains("was replaced"));
    assert_eq!(check_opened(Path::new("/dev/null"), &File::open("/dev/null").unwrap()), Ok(()));
}
