//! Finding logins on this machine: bounded, without blocking, and without changing anything.

mod file;
mod keychain;
mod keyring;
mod opencode_database;
mod paths;
mod profiles;

use std::path::{Path, PathBuf};
use std::{ffi::OsStr, fs, io};

use super::{DiscoveredAccount, FileFormat, Tool};
use crate::pool::Wall;
use file::{MOST_FILES, file};

pub use file::{DiscoveredFile, DiscoveryError, DiscoverySource, KEYCHAIN_PREFIX, LARGEST, RawFile, take};
pub use paths::{
    DiscoveryPath, DiscoveryPathKind, HostEnvironment, KeyringItem, Platform, beside, default_paths, keychain_service,
};

/// Reads the files at these paths; missing ones are left out.
#[must_use]
pub fn find_logins(places: &[DiscoveryPath], of: &HostEnvironment<'_>, now: Wall) -> Vec<DiscoveredFile> {
    let mut found: Vec<DiscoveredFile> = Vec::new();
    for place in places {
        match &place.kind {
            DiscoveryPathKind::File(path) => found.extend(file(path, of, now)),
            DiscoveryPathKind::Directory(path) => {
                found.extend(directory(path, of, now));
            }
            DiscoveryPathKind::Profiles { parent, prefix } => {
                let (directories, all) = profiles::profile_directories(parent, prefix);
                for directory in directories {
                    found.extend(read_profile(place.tool, &directory, of, now));
                }
                if !all {
                    let source = DiscoverySource::File(parent.join(format!("{prefix}*")));
                    found.push(DiscoveredFile::new(source, Err(DiscoveryError::TooManyDirectories(place.tool.name()))));
                }
            }
            DiscoveryPathKind::Keychain(service) => found.extend(keychain::look(service, of, now)),
            DiscoveryPathKind::Keyring(item) => found.extend(keyring::look(*item, now)),
        }
    }
    // a file that has two names is reported once
    let mut seen = Vec::new();
    found.retain(|found| {
        let name = match &found.source {
            DiscoverySource::File(path) => fs::canonicalize(path).unwrap_or_else(|_| path.clone()),
            DiscoverySource::Keychain(service) => PathBuf::from(format!("keychain:{service}")),
            DiscoverySource::Keyring(item) => PathBuf::from(format!("keyring:{}/{}", item.service, item.user)),
        };
        let new = !seen.contains(&name);
        seen.push(name);
        new
    });
    found.retain(|found| !matches!(found.reading, Err(DiscoveryError::Missing)));
    found
}

/// Reads a file, or the files of a directory.
#[must_use]
pub fn read_path(path: &Path, of: &HostEnvironment<'_>, now: Wall) -> Vec<DiscoveredFile> {
    if !path.is_dir() {
        return file(path, of, now).into_iter().collect();
    }
    // Antigravity Manager keeps its accounts in a subdirectory
    let accounts = path.join("accounts");
    let mut found = directory(path, of, now);
    if accounts.is_dir() {
        found.extend(directory(&accounts, of, now));
    }
    found
}

/// Reads the logins of one tool in a file or directory.
#[must_use]
pub fn read_path_of(tool: Tool, path: &Path, of: &HostEnvironment<'_>, now: Wall) -> Vec<DiscoveredFile> {
    let mut found =
        if path.is_dir() && has_profiles(tool) { read_profile(tool, path, of, now) } else { read_path(path, of, now) };
    // other files of a directory are no concern of the user's
    let is_of_tool = |found: &DiscoveredFile| match &found.reading {
        Ok((format, _)) => format.tool() == Some(tool),
        Err(_) => true,
    };
    found.retain(is_of_tool);
    found
}

/// The files in which a tool keeps a login, in a directory of its own.
fn files_of(tool: Tool) -> &'static [&'static str] {
    match tool {
        Tool::ClaudeCode => &[".credentials.json", ".claude.json"],
        Tool::Codex => &["auth.json"],
        Tool::GeminiCli => &["oauth_creds.json", ".gemini/oauth_creds.json"],
        _ => &[],
    }
}

/// Whether a directory of the tool can be read as one of a login.
fn has_profiles(tool: Tool) -> bool {
    !files_of(tool).is_empty()
}

/// Reads the login of a tool in a directory of its own.
fn read_profile(tool: Tool, directory: &Path, of: &HostEnvironment<'_>, now: Wall) -> Vec<DiscoveredFile> {
    let paths =
        files_of(tool).iter().map(|name| directory.join(name)).filter(|path| fs::symlink_metadata(path).is_ok());
    let mut found: Vec<DiscoveredFile> = paths.filter_map(|path| file(&path, of, now)).collect();
    if tool == Tool::ClaudeCode && of.system == Platform::MacOs {
        found.extend(keychain::look(&keychain_service(&directory.to_string_lossy()), of, now));
    }
    found
}

/// Reads the files of a directory, and reports one that cannot be read.
fn directory(path: &Path, of: &HostEnvironment<'_>, now: Wall) -> Vec<DiscoveredFile> {
    let trouble = |trouble| DiscoveredFile::new(DiscoverySource::File(path.to_owned()), Err(trouble));
    match files(path) {
        Ok((paths, all)) => {
            let mut found: Vec<DiscoveredFile> = paths.iter().filter_map(|path| file(path, of, now)).collect();
            if !all {
                found.push(trouble(DiscoveryError::TooMany));
            }
            found
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => vec![trouble(DiscoveryError::System(error))],
    }
}

/// Reads the accounts at a place again.
///
/// # Errors
/// When nothing can be read there, or the file is only half written.
pub fn reread(place: &str, of: &HostEnvironment<'_>, now: Wall) -> Result<Vec<DiscoveredAccount>, DiscoveryError> {
    let found = match place.strip_prefix(KEYCHAIN_PREFIX) {
        Some(service) => keychain::look(service, of, now),
        None => file(Path::new(place), of, now),
    };
    let (format, reading) = found.ok_or(DiscoveryError::Missing)?.reading?;
    match reading.problems.into_iter().next() {
        Some(problem) if format == FileFormat::Opencode && problem.place.is_empty() => {
            Err(DiscoveryError::Replaced(problem.message))
        }
        _ => Ok(reading.entries),
    }
}

/// The JSON files of a directory, sorted by name, and whether these are all.
fn files(directory: &Path) -> io::Result<(Vec<PathBuf>, bool)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("json")) && !path.is_dir() {
            if found.len() == MOST_FILES {
                found.sort_unstable();
                return Ok((found, false));
            }
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok((found, true))
}
