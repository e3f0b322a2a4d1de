//! Sharing a login with Claude Code: its own locks are held while we refresh, and it gets what comes of it.
//!
//! Its locks are directories, made by whoever holds them and touched now and then; both are taken, in this order: one in
//! its directory, one beside it. One that was not touched for a minute was left behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use zeroize::Zeroizing;

use super::import::discover::{Trouble, take};
use super::import::{parse, wipe};
use super::{Credential, Secret};

/// How often the holder touches its locks.
pub const TOUCH: Duration = Duration::from_secs(5);
/// A lock that was not touched for so long was left behind.
const STALE: Duration = Duration::from_secs(60);
/// Where the login is in its file.
const LOGIN: &str = "claudeAiOauth";

/// The tool's locks; given back when dropped.
#[derive(Debug)]
pub struct Held(Vec<PathBuf>);

/// Why the tool does not get the new login.
#[derive(Debug, thiserror::Error)]
pub enum NotGiven {
    /// Its file cannot be read.
    #[error("its file cannot be read: {0}")]
    Unreadable(Trouble),
    /// There is no login of its in the file.
    #[error("its file holds no login any more")]
    NoLogin,
    /// There is another login by now.
    #[error("its file holds another login by now")]
    Another,
    /// The file cannot be written.
    #[error("its file cannot be written: {0}")]
    Unwritable(io::Error),
}

/// Takes the locks that go with the tool's file; nothing when somebody has them.
///
/// # Errors
/// When they cannot be made.
pub fn lock(file: &Path) -> io::Result<Option<Held>> {
    let home = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut beside = home.as_os_str().to_owned();
    beside.push(".lock");
    let mut held = Held(Vec::new());
    for path in [home.join(".oauth_refresh.lock"), PathBuf::from(beside)] {
        if !make(&path)? {
            // what was taken is given back
            return Ok(None);
        }
        held.0.push(path);
    }
    Ok(Some(held))
}

impl Held {
    /// Tells the others that they are still held.
    pub fn touch(&self) {
        for path in &self.0 {
            // whoever finds it stale takes it: the token in the file says then what has happened
            let _not_touched = File::open(path).and_then(|lock| lock.set_modified(SystemTime::now()));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _already_gone = fs::remove_dir(path);
        }
    }
}

/// Makes the directory that is the lock; `false` when somebody has it.
fn make(path: &Path) -> io::Result<bool> {
    for _ in 0..2 {
        match fs::create_dir(path) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let touched = match fs::metadata(path) {
            Ok(about) => about.modified()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if SystemTime::now().duration_since(touched).unwrap_or_default() <= STALE {
            return Ok(false);
        }
        // left behind by one that has crashed
        match fs::remove_dir(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Gives the tool a renewed login in place of one that `is_ours`; all else in the file stays. To be called with the
/// locks held.
///
/// # Errors
/// When the file holds something else by now, or cannot be written.
pub fn give(file: &Path, credential: &Credential, is_ours: impl Fn(&Secret) -> bool) -> Result<(), NotGiven> {
    // a link that leads elsewhere stays one
    let file = fs::canonicalize(file).map_err(NotGiven::Unwritable)?;
    let taken = take(&file).map_err(NotGiven::Unreadable)?;
    let unreadable = |error| NotGiven::Unreadable(Trouble::Content(error));
    let mut document = parse(&taken.bytes).map_err(unreadable)?;
    let given = put(&mut document, credential, is_ours);
    let text = given.map(|()| Zeroizing::new(serde_json::to_string(&document).unwrap_or_default()));
    wipe(&mut document);
    replace(&file, text?.as_bytes()).map_err(NotGiven::Unwritable)
}

fn put(document: &mut Value, credential: &Credential, is_ours: impl Fn(&Secret) -> bool) -> Result<(), NotGiven> {
    let login = document.get_mut(LOGIN).and_then(Value::as_object_mut).ok_or(NotGiven::NoLogin)?;
    let before = login.get("refreshToken").and_then(Value::as_str).ok_or(NotGiven::NoLogin)?;
    if !is_ours(&Secret::new(before.to_owned())) {
        return Err(NotGiven::Another);
    }
    let mut set = |name: &str, value: Value| {
        if let Some(mut before) = login.insert(name.to_owned(), value) {
            wipe(&mut before);
        }
    };
    set("accessToken", credential.access.expose().into());
    if let Some(refresh) = &credential.refresh {
        set("refreshToken", refresh.expose().into());
    }
    if let Some(end) = credential.expires_at {
        set("expiresAt", end.0.into());
    }
    Ok(())
}

/// Puts new content in the place of a file, whole or not at all; nobody but its owner may read it.
fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".lessor-{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&temporary).and_then(|mut opened| {
        opened.write_all(content)?;
        opened.sync_all()
    });
    let done = written.and_then(|()| fs::rename(&temporary, file));
    if done.is_err() {
        let _not_there = fs::remove_file(&temporary);
        return done;
    }
    // the new name, too, outlives the machine; where a directory cannot be opened the system does that
    if let Some(directory) = file.parent()
        && let Ok(opened) = File::open(directory)
    {
        let _best_effort = opened.sync_all();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{CredentialKind, Wall};

    fn home() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join(".claude");
        fs::create_dir(&home).unwrap();
        let file = home.join(".credentials.json");
        let content = r#"{"mcpOAuth":{"x":[1,"two"]},"claudeAiOauth":{"accessToken":"at0","refreshToken":"rt0",
            "expiresAt":1,"scopes":["user:inference"],"subscriptionType":"max"},"trustedDeviceToken":"t"}"#;
        fs::write(&file, content).unwrap();
        (directory, file)
    }

    fn credential() -> Credential {
        Credential {
            kind: CredentialKind::Oauth,
            access: Secret::new("at1".into()),
            refresh: Some(Secret::new("rt1".into())),
            expires_at: Some(Wall(99)),
        }
    }

    #[test]
    fn both_locks_are_held_and_given_back() {
        let (directory, file) = home();
        let held = lock(&file).unwrap().unwrap();
        assert!(directory.path().join(".claude/.oauth_refresh.lock").is_dir());
        assert!(directory.path().join(".claude.lock").is_dir());
        assert!(lock(&file).unwrap().is_none(), "one holder at a time");
        drop(held);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        // the second one is held by the tool: the first is given back
        fs::create_dir(directory.path().join(".claude.lock")).unwrap();
        assert!(lock(&file).unwrap().is_none());
        assert!(!directory.path().join(".claude/.oauth_refresh.lock").exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_that_was_left_behind_is_taken_and_one_that_is_touched_is_not() {
        let (directory, file) = home();
        let left = directory.path().join(".claude/.oauth_refresh.lock");
        fs::create_dir(&left).unwrap();
        let set = |ago: u64| {
            let at = SystemTime::now() - Duration::from_secs(ago);
            File::open(&left).unwrap().set_modified(at).unwrap();
        };
        set(59);
        assert!(lock(&file).unwrap().is_none());
        set(62);
        let held = lock(&file).unwrap().unwrap();
        set(62);
        held.touch();
        assert!(lock(&file).unwrap().is_none(), "touched: still held");
    }

    #[test]
    fn the_tool_gets_the_new_login_and_all_else_stays() {
        let (_directory, file) = home();
        give(&file, &credential(), |before| before.expose() == "rt0").unwrap();
        let written: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let expected = serde_json::json!({ "mcpOAuth": { "x": [1, "two"] }, "trustedDeviceToken": "t",
            "claudeAiOauth": { "accessToken": "at1", "refreshToken": "rt1", "expiresAt": 99,
                "scopes": ["user:inference"], "subscriptionType": "max" } });
        assert_eq!(written, expected);
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions()) & 0o777, 0o600);
        // whoever has logged in anew is not overwritten
        let refused = give(&file, &credential(), |before| before.expose() == "rt0");
        assert!(matches!(refused, Err(NotGiven::Another)));
        fs::write(&file, "{\"half").unwrap();
        assert!(matches!(give(&file, &credential(), |_| true), Err(NotGiven::Unreadable(_))));
        assert_eq!(fs::read_to_string(&file).unwrap(), "{\"half");
    }
}
