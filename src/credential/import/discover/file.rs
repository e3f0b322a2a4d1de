//! Reading one file: bounded, without blocking, and without changing it.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::super::{DiscoveredAccount, FileContent, FileFormat, ImportParseError, ImportProblem, ParsedFile, read};
use super::opencode_database;
use super::paths::{HostEnvironment, KeyringItem, beside};
use super::profiles::MOST_DIRECTORIES;
use crate::ownership::{self, UntrustedPath};
use crate::pool::{CredentialKind, Wall};

/// The maximum size of a file, in bytes.
pub const LARGEST: u64 = 8 << 20;
/// The prefix of a keychain item where a file would have its path.
pub const KEYCHAIN_PREFIX: &str = "keychain:";
/// The maximum number of files in one directory.
pub(super) const MOST_FILES: usize = 1000;

/// A file that was read.
#[derive(Debug)]
pub struct DiscoveredFile {
    /// Its location.
    pub source: DiscoverySource,
    /// Its format and content, or why it could not be read.
    pub reading: Result<(FileFormat, ParsedFile), DiscoveryError>,
    /// The permission bits that let other users in, if any.
    pub open_to_others: Option<u32>,
}

impl DiscoveredFile {
    /// A source without permission bits.
    pub(super) fn new(source: DiscoverySource, reading: Result<(FileFormat, ParsedFile), DiscoveryError>) -> Self {
        Self { source, reading, open_to_others: None }
    }
}

/// Where a login was found.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DiscoverySource {
    /// A file.
    File(PathBuf),
    /// An item of the macOS keychain.
    Keychain(String),
    /// An item of the system's keyring, which is not followed.
    Keyring(KeyringItem),
}

impl std::fmt::Display for DiscoverySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Keychain(service) => write!(f, "keychain item {service:?}"),
            Self::Keyring(item) => write!(f, "keyring item \"{}/{}\"", item.service, item.user),
        }
    }
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// It does not exist.
    #[error("there is no such file")]
    Missing,
    /// It is not a regular file.
    #[error("it is {0}, not a file")]
    NoFile(&'static str),
    /// It is too large.
    #[error("it is larger than {} MiB, more than any list of accounts", LARGEST >> 20)]
    TooLarge,
    /// The directory contains too many files.
    #[error("it contains more than {MOST_FILES} files; the others are left out: pass their paths")]
    TooMany,
    /// There are too many directories of one tool.
    #[error(
        "these are more than {MOST_DIRECTORIES} directories; the others are left out: lessor import {0} DIRECTORY…"
    )]
    TooManyDirectories(&'static str),
    /// Other users could have put another login there.
    #[error("it is not read, because other users could change it: {0}")]
    Untrusted(#[from] UntrustedPath),
    /// Its tool uses another file now.
    #[error("{0}")]
    Replaced(String),
    /// The system's error.
    #[error("it cannot be read: {0}")]
    System(io::Error),
    /// The content is not usable.
    #[error(transparent)]
    Content(#[from] ImportParseError),
}

/// A file's bytes and metadata.
#[derive(Debug)]
pub struct RawFile {
    /// The content.
    pub bytes: Zeroizing<Vec<u8>>,
    /// When it was last written.
    pub written: Option<Wall>,
    /// The permission bits that let other users in, if any.
    pub open_to_others: Option<u32>,
}

pub(super) fn file(path: &Path, of: &HostEnvironment<'_>, now: Wall) -> Option<DiscoveredFile> {
    let source = DiscoverySource::File(path.to_owned());
    if opencode_database::is_database(path) {
        if let Err(untrusted) = opencode_database::files(path).iter().try_for_each(|file| ownership::check(file)) {
            return Some(DiscoveredFile::new(source, Err(untrusted.into())));
        }
        let reading = followed(opencode_database::read(path, now).map_err(DiscoveryError::System), &source);
        let open_to_others = fs::metadata(path).ok().and_then(|about| open_to_others(&about));
        return Some(DiscoveredFile { source, reading, open_to_others });
    }
    let taken = match take(path) {
        Ok(taken) => taken,
        Err(trouble) => return Some(DiscoveredFile::new(source, Err(trouble))),
    };
    let beside = beside(path, of).iter().find_map(|path| take(path).ok());
    let beside = beside.as_ref().map(|taken| taken.bytes.as_slice());
    let content = FileContent { bytes: &taken.bytes, beside, written: taken.written, now };
    let mut reading = read(&content).map_err(DiscoveryError::from);
    if let Ok((FileFormat::Opencode, parsed)) = &mut reading
        && let Some(message) = opencode_database::replaces(path)
    {
        let problem = ImportProblem { place: String::new(), message, broken: false };
        *parsed = ParsedFile { problems: vec![problem], ..ParsedFile::default() };
    }
    Some(DiscoveredFile { reading: followed(reading, &source), source, open_to_others: taken.open_to_others })
}

/// Notes on each login where it is stored, so that the place can be watched.
pub(super) fn followed(
    reading: Result<(FileFormat, ParsedFile), DiscoveryError>,
    source: &DiscoverySource,
) -> Result<(FileFormat, ParsedFile), DiscoveryError> {
    let (format, mut reading) = reading?;
    let place = match source {
        DiscoverySource::File(path) => std::path::absolute(path).ok().and_then(|path| path.to_str().map(str::to_owned)),
        DiscoverySource::Keychain(service) => Some(format!("{KEYCHAIN_PREFIX}{service}")),
        DiscoverySource::Keyring(_) => None,
    };
    let is_login = |entry: &DiscoveredAccount| entry.credential.kind == CredentialKind::Oauth;
    for entry in reading.entries.iter_mut().filter(|entry| is_login(entry) && entry.file.is_none()) {
        entry.file.clone_from(&place);
    }
    Ok((format, reading))
}

/// Reads a file: at most [`LARGEST`] bytes, and regular files only.
///
/// # Errors
/// When it is missing, not a regular file, too large, or cannot be read.
pub fn take(path: &Path) -> Result<RawFile, DiscoveryError> {
    let opened = match ownership::open(path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DiscoveryError::Missing),
        Err(error) => return Err(DiscoveryError::System(error)),
    };
    // of the opened file: the name may refer to another one by now
    ownership::check_opened(path, &opened)?;
    let about = opened.metadata().map_err(DiscoveryError::System)?;
    if about.is_dir() {
        return Err(DiscoveryError::NoFile("a directory"));
    }
    if !about.is_file() {
        return Err(DiscoveryError::NoFile("a pipe, a socket or a device"));
    }
    if about.len() > LARGEST {
        return Err(DiscoveryError::TooLarge);
    }
    let expected = usize::try_from(about.len()).unwrap_or_default();
    // allocated in full: a buffer that grows leaves unwiped memory behind
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected + 1));
    opened.take(LARGEST + 1).read_to_end(&mut bytes).map_err(DiscoveryError::System)?;
    if bytes.len() as u64 > LARGEST {
        return Err(DiscoveryError::TooLarge);
    }
    let written = about.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let written = written.map(|since| Wall(crate::pool::millis(since)));
    Ok(RawFile { bytes, written, open_to_others: open_to_others(&about) })
}

#[cfg(unix)]
fn open_to_others(about: &fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    Some(about.mode() & 0o777).filter(|mode| mode & 0o077 != 0)
}

#[cfg(not(unix))]
fn open_to_others(_: &fs::Metadata) -> Option<u32> {
    None
}
