//! Sharing a login with its tool: lessor refreshes it, and writes the new login to the tool's file. Claude Code takes
//! locks around its own refresh, which lessor holds meanwhile. Codex takes none that other programs can share, so only a
//! login in a login home is shared with it: there lessor alone refreshes.
//!
//! Claude Code's locks are directories, created by their holder and touched regularly. Both are taken, in this order: one in
//! Claude Code's directory, one beside it. A lock that was not touched for a minute is stale.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use zeroize::Zeroizing;

use super::import::discover::{DiscoveryError, KEYCHAIN_PREFIX, take};
use super::import::{Tool, parse, wipe};
use super::{Credential, LoginHome, Secret};

/// How often the holder touches its locks.
pub const TOUCH: Duration = Duration::from_secs(5);
/// The age at which a lock that was not touched is stale.
const STALE: Duration = Duration::from_secs(60);

/// Claude Code's locks; released when dropped.
#[derive(Debug)]
pub struct ClaudeCodeLocks(Vec<PathBuf>);

/// Why the new login could not be written to the tool's file.
#[derive(Debug, thiserror::Error)]
pub enum WriteBackError {
    /// The file cannot be read.
    #[error("its file cannot be read: {0}")]
    Unreadable(DiscoveryError),
    /// The file contains no login.
    #[error("its file no longer contains a login")]
    NoLogin,
    /// The file contains another login now.
    #[error("its file contains another login now")]
    Another,
    /// The file cannot be written.
    #[error("its file cannot be written: {0}")]
    Unwritable(io::Error),
}

/// A file with a login that a tool and lessor share, and that lessor can write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SharedDocument {
    /// Claude Code's `.credentials.json`.
    ClaudeCode,
    /// Codex's `auth.json`.
    Codex,
}

/// Whether lessor may refresh a login in this file, and give the tool the new one.
#[must_use]
pub fn can_be_shared(tool: Tool, file: &str) -> bool {
    let is_file = !file.starts_with(KEYCHAIN_PREFIX);
    let is_in_home = || LoginHome::program_of(Path::new(file)).is_some();
    is_file && SharedDocument::of(tool).is_some() && (tool.has_locks() || is_in_home())
}

/// Whether the directory of a file does not exist: then no tool has a login there, and none refreshes it.
#[must_use]
pub fn is_directory_missing(file: &Path) -> bool {
    let directory = file.parent().map(fs::metadata);
    matches!(directory, Some(Err(error)) if error.kind() == io::ErrorKind::NotFound)
}

/// Takes the locks that protect Claude Code's file; `None` if another process holds one.
///
/// # Errors
/// When they cannot be created.
pub fn lock(file: &Path) -> io::Result<Option<ClaudeCodeLocks>> {
    let home = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut beside = home.as_os_str().to_owned();
    beside.push(".lock");
    let mut held = ClaudeCodeLocks(Vec::new());
    for path in [home.join(".oauth_refresh.lock"), PathBuf::from(beside)] {
        if !make(&path)? {
            // dropping `held` releases the locks that were taken
            return Ok(None);
        }
        held.0.push(path);
    }
    Ok(Some(held))
}

impl ClaudeCodeLocks {
    /// Touches the locks, so that they do not become stale.
    pub fn touch(&self) {
        for path in &self.0 {
            // a process that finds a stale lock takes it, and then sees the current token in the file
            let _not_touched = File::open(path).and_then(|lock| lock.set_modified(SystemTime::now()));
        }
    }
}

impl Drop for ClaudeCodeLocks {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _already_gone = fs::remove_dir(path);
        }
    }
}

/// Creates the lock directory; `false` if another process holds the lock.
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
        // left behind by a process that crashed
        match fs::remove_dir(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

impl SharedDocument {
    /// The file of this tool, if lessor can write it.
    #[must_use]
    pub fn of(tool: Tool) -> Option<Self> {
        match tool {
            Tool::ClaudeCode => Some(Self::ClaudeCode),
            Tool::Codex => Some(Self::Codex),
            _ => None,
        }
    }

    /// The key of the login in the document, and those of its access token, its refresh token and the end of the former.
    fn keys(self) -> (&'static str, &'static str, &'static str, Option<&'static str>) {
        match self {
            Self::ClaudeCode => ("claudeAiOauth", "accessToken", "refreshToken", Some("expiresAt")),
            // the access token says itself when it ends
            Self::Codex => ("tokens", "access_token", "refresh_token", None),
        }
    }

    /// Replaces the login in the tool's file by a renewed one, if `is_ours` accepts the refresh token there; everything
    /// else in the file stays. The caller must hold the tool's locks, if it has any.
    ///
    /// # Errors
    /// When the file contains another login, or cannot be written.
    pub fn write_back(
        self,
        file: &Path,
        credential: &Credential,
        is_ours: impl Fn(&Secret) -> bool,
    ) -> Result<(), WriteBackError> {
        // a symbolic link stays a symbolic link
        let file = fs::canonicalize(file).map_err(WriteBackError::Unwritable)?;
        let taken = take(&file).map_err(WriteBackError::Unreadable)?;
        let unreadable = |error| WriteBackError::Unreadable(DiscoveryError::Content(error));
        let mut document = parse(&taken.bytes).map_err(unreadable)?;
        let given = self.put(&mut document, credential, is_ours);
        let text = given.map(|()| Zeroizing::new(serde_json::to_string(&document).unwrap_or_default()));
        wipe(&mut document);
        replace(&file, text?.as_bytes()).map_err(WriteBackError::Unwritable)
    }

    fn put(
        self,
        document: &mut Value,
        credential: &Credential,
        is_ours: impl Fn(&Secret) -> bool,
    ) -> Result<(), WriteBackError> {
        let (login, access, refresh, end) = self.keys();
        let login = document.get_mut(login).and_then(Value::as_object_mut).ok_or(WriteBackError::NoLogin)?;
        let before = login.get(refresh).and_then(Value::as_str).ok_or(WriteBackError::NoLogin)?;
        if !is_ours(&Secret::new(before.to_owned())) {
            return Err(WriteBackError::Another);
        }
        let mut set = |name: &str, value: Value| {
            if let Some(mut before) = login.insert(name.to_owned(), value) {
                wipe(&mut before);
            }
        };
        set(access, credential.access.expose().into());
        if let Some(token) = &credential.refresh {
            set(refresh, token.expose().into());
        }
        if let (Some(name), Some(at)) = (end, credential.expires_at) {
            set(name, at.0.into());
        }
        // that of the refresh token before
        login.remove("refreshTokenExpiresAt");
        if self == Self::Codex
            && let Ok(now) = jiff::Timestamp::try_from(SystemTime::now())
        {
            // when Codex would refresh a token whose end it cannot read
            document["last_refresh"] = now.to_string().into();
        }
        Ok(())
    }
}

/// Replaces the content of a file atomically; only its owner can read it.
///
/// # Errors
/// When it cannot be written.
pub fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let directory = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(content)?;
    temporary.as_file().sync_all()?;
    temporary.persist(file).map_err(|error| error.error)?;
    // makes the new name durable; where directories cannot be opened, the system does so itself
    let _best_effort = File::open(directory).and_then(|directory| directory.sync_all());
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
            "expiresAt":1,"refreshTokenExpiresAt":2,"scopes":["user:inference"],"subscriptionType":"max"},"trustedDeviceToken":"t"}"#;
        fs::write(&file, content).unwrap();
        (directory, file)
    }

    fn credential() -> Credential {
        Credential {
            refresh: Some(Secret::new("rt1".into())),
            expires_at: Some(Wall(99)),
            ..Credential::new(CredentialKind::Oauth, Secret::new("at1".into()))
        }
    }

    #[test]
    fn both_locks_are_taken_and_released_together() {
        let (directory, file) = home();
        let held = lock(&file).unwrap().unwrap();
        assert!(directory.path().join(".claude/.oauth_refresh.lock").is_dir());
        assert!(directory.path().join(".claude.lock").is_dir());
        assert!(lock(&file).unwrap().is_none(), "one holder at a time");
        drop(held);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        // the tool holds the second lock: the first is released
        fs::create_dir(directory.path().join(".claude.lock")).unwrap();
        assert!(lock(&file).unwrap().is_none());
        assert!(!directory.path().join(".claude/.oauth_refresh.lock").exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_stale_lock_is_taken_and_a_touched_one_is_not() {
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
    fn the_new_login_is_written_and_everything_else_stays() {
        let (_directory, file) = home();
        let document = SharedDocument::ClaudeCode;
        document.write_back(&file, &credential(), |before| before.expose() == "rt0").unwrap();
        let written: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let expected = serde_json::json!({ "mcpOAuth": { "x": [1, "two"] }, "trustedDeviceToken": "t",
            "claudeAiOauth": { "accessToken": "at1", "refreshToken": "rt1", "expiresAt": 99,
                "scopes": ["user:inference"], "subscriptionType": "max" } });
        assert_eq!(written, expected);
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions()) & 0o777, 0o600);
        // a new login of the user is not overwritten
        let refused = document.write_back(&file, &credential(), |before| before.expose() == "rt0");
        assert!(matches!(refused, Err(WriteBackError::Another)));
        fs::write(&file, "{\"half").unwrap();
        assert!(matches!(document.write_back(&file, &credential(), |_| true), Err(WriteBackError::Unreadable(_))));
        assert_eq!(fs::read_to_string(&file).unwrap(), "{\"half");
    }

    #[test]
    fn the_new_tokens_of_codex_are_written_beside_its_identity_token() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("auth.json");
        let content = r#"{"OPENAI_API_KEY":null,"auth_mode":"chatgpt","last_refresh":"2026-01-01T00:00:00Z",
            "tokens":{"id_token":"it","access_token":"at0","refresh_token":"rt0","account_id":"ws"}}"#;
        fs::write(&file, content).unwrap();
        let document = SharedDocument::of(Tool::Codex).unwrap();
        document.write_back(&file, &credential(), |before| before.expose() == "rt0").unwrap();
        let mut written: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let refreshed = written["last_refresh"].take();
        assert!(refreshed.as_str().unwrap().parse::<jiff::Timestamp>().is_ok() && refreshed != "2026-01-01T00:00:00Z");
        let tokens =
            serde_json::json!({ "id_token": "it", "access_token": "at1", "refresh_token": "rt1", "account_id": "ws" });
        assert_eq!((&written["tokens"], &written["auth_mode"]), (&tokens, &"chatgpt".into()));
        assert_eq!(written["OPENAI_API_KEY"], Value::Null);
    }

    #[test]
    fn a_login_is_shared_where_both_can_know_the_current_one() {
        for (tool, file, expected) in [
            (Tool::ClaudeCode, "/home/me/.claude/.credentials.json", true),
            (Tool::ClaudeCode, "keychain:Claude Code-credentials", false),
            (Tool::Codex, "/home/me/.codex/auth.json", false),
            (Tool::Codex, "/home/me/.local/state/lessor/logins/codex-1/home/auth.json", true),
            (Tool::GeminiCli, "/home/me/.local/state/lessor/logins/gemini-1/home/.gemini/oauth_creds.json", false),
        ] {
            assert_eq!(can_be_shared(tool, file), expected, "{file}");
        }
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_directory_missing(&directory.path().join("auth.json")));
        assert!(is_directory_missing(&directory.path().join("gone/auth.json")));
    }
}
