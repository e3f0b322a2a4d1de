//! Looking at places: bounded, without waiting for anybody, and without changing anything.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::pool::Wall;

use super::places::{Place, PlaceKind, Surroundings, beside};
use super::{Content, Entry, Format, Reading, Unreadable, keychain, read};

/// No file of accounts is larger, in bytes.
pub const LARGEST: u64 = 8 << 20;
/// What a place in the keychain begins with, where a file would have its path.
pub const KEYCHAIN: &str = "keychain:";
/// Most files of one directory that are looked at.
const MOST_FILES: usize = 1000;

/// A file that was looked at.
#[derive(Debug)]
pub struct Found {
    /// Where it is.
    pub source: Source,
    /// What it is of, and what was read of it; or why nothing was.
    pub reading: Result<(Format, Reading), Trouble>,
    /// The bits that let others than its owner in, where there are any.
    pub open_to_others: Option<u32>,
}

/// Where something was found.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// An item of the macOS keychain.
    Keychain(String),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Keychain(service) => write!(f, "keychain item {service:?}"),
        }
    }
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// There is none.
    #[error("there is no such file")]
    Missing,
    /// It is no file.
    #[error("it is {0}, not a file")]
    NoFile(&'static str),
    /// It is too large.
    #[error("it is larger than {} MiB; no list of accounts is", LARGEST >> 20)]
    TooLarge,
    /// The directory has too many files.
    #[error("more than {MOST_FILES} files are in it; those after them are left out: name them")]
    TooMany,
    /// The system refused.
    #[error("it cannot be read: {0}")]
    System(io::Error),
    /// The content is of no use.
    #[error(transparent)]
    Content(#[from] Unreadable),
}

/// A file's bytes, and what the system says of it.
#[derive(Debug)]
pub struct Taken {
    /// The content.
    pub bytes: Zeroizing<Vec<u8>>,
    /// When it was last written.
    pub written: Option<Wall>,
    /// The bits that let others than its owner in, where there are any.
    pub open_to_others: Option<u32>,
}

/// Looks at the usual places; what is not there is not mentioned.
#[must_use]
pub fn look(places: &[Place], of: &Surroundings<'_>, now: Wall) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for place in places {
        match &place.kind {
            PlaceKind::File(path) => found.extend(file(path, of, now)),
            PlaceKind::Directory(path) => {
                found.extend(directory(path, of, now));
            }
            PlaceKind::Keychain(service) => found.extend(keychain::look(service, of, now)),
        }
    }
    // the same file by two names is looked at twice, and read once
    let mut seen = Vec::new();
    found.retain(|found| {
        let name = match &found.source {
            Source::File(path) => fs::canonicalize(path).unwrap_or_else(|_| path.clone()),
            Source::Keychain(service) => PathBuf::from(format!("keychain:{service}")),
        };
        let new = !seen.contains(&name);
        seen.push(name);
        new
    });
    found.retain(|found| !matches!(found.reading, Err(Trouble::Missing)));
    found
}

/// Looks at a file that was named, or at the files of a directory.
#[must_use]
pub fn look_at(path: &Path, of: &Surroundings<'_>, now: Wall) -> Vec<Found> {
    if !path.is_dir() {
        return file(path, of, now).into_iter().collect();
    }
    // a data directory keeps its accounts in one of their own
    let accounts = path.join("accounts");
    let mut found = directory(path, of, now);
    if accounts.is_dir() {
        found.extend(directory(&accounts, of, now));
    }
    found
}

/// The files of a directory; one that cannot be read, or all of it, is told.
fn directory(path: &Path, of: &Surroundings<'_>, now: Wall) -> Vec<Found> {
    let trouble =
        |trouble| Found { source: Source::File(path.to_owned()), reading: Err(trouble), open_to_others: None };
    match files(path) {
        Ok((paths, all)) => {
            let mut found: Vec<Found> = paths.iter().filter_map(|path| file(path, of, now)).collect();
            if !all {
                found.push(trouble(Trouble::TooMany));
            }
            found
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => vec![trouble(Trouble::System(error))],
    }
}

fn file(path: &Path, of: &Surroundings<'_>, now: Wall) -> Option<Found> {
    let source = Source::File(path.to_owned());
    let taken = match take(path) {
        Ok(taken) => taken,
        Err(trouble) => return Some(Found { source, reading: Err(trouble), open_to_others: None }),
    };
    let beside = beside(path, of).iter().find_map(|path| take(path).ok());
    let beside = beside.as_ref().map(|taken| taken.bytes.as_slice());
    let content = Content { bytes: &taken.bytes, beside, written: taken.written, now };
    let reading = read(&content).map_err(Trouble::from);
    Some(Found { reading: followed(reading, &source), source, open_to_others: taken.open_to_others })
}

/// Notes of each login that rotates where it is kept, in words that can be kept.
pub(super) fn followed(
    reading: Result<(Format, Reading), Trouble>,
    source: &Source,
) -> Result<(Format, Reading), Trouble> {
    let (format, mut reading) = reading?;
    let place = match source {
        Source::File(path) => std::path::absolute(path).ok().and_then(|path| path.to_str().map(str::to_owned)),
        Source::Keychain(service) => Some(format!("{KEYCHAIN}{service}")),
    };
    for entry in reading.entries.iter_mut().filter(|entry| entry.rotates && entry.file.is_none()) {
        entry.file.clone_from(&place);
    }
    Ok((format, reading))
}

/// Reads again where logins are kept, and answers those.
///
/// # Errors
/// When nothing can be read there, or it is half written.
pub fn look_again(place: &str, of: &Surroundings<'_>, now: Wall) -> Result<Vec<Entry>, Trouble> {
    let found = match place.strip_prefix(KEYCHAIN) {
        Some(service) => keychain::look(service, of, now),
        None => file(Path::new(place), of, now),
    };
    let (_, reading) = found.ok_or(Trouble::Missing)?.reading?;
    Ok(reading.entries)
}

/// Reads a file: never more than [`LARGEST`], never one that is none.
///
/// # Errors
/// When it is missing, no file, too large, or the system refuses.
pub fn take(path: &Path) -> Result<Taken, Trouble> {
    let opened = match open(path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Trouble::Missing),
        Err(error) => return Err(Trouble::System(error)),
    };
    // of what was opened, not of what the name may mean by now
    let about = opened.metadata().map_err(Trouble::System)?;
    if about.is_dir() {
        return Err(Trouble::NoFile("a directory"));
    }
    if !about.is_file() {
        return Err(Trouble::NoFile("a pipe, a socket or a device"));
    }
    if about.len() > LARGEST {
        return Err(Trouble::TooLarge);
    }
    let expected = usize::try_from(about.len()).unwrap_or_default();
    // room for all of it at once: what is outgrown would stay behind in memory
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected + 1));
    opened.take(LARGEST + 1).read_to_end(&mut bytes).map_err(Trouble::System)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Trouble::TooLarge);
    }
    let written = about.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let written = written.map(|since| Wall(crate::pool::millis(since)));
    Ok(Taken { bytes, written, open_to_others: open_to_others(&about) })
}

/// Opens without waiting: a pipe that nobody writes to would hold us for ever.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
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

/// The files of a directory that can hold accounts, in order of their names; and whether these are all of them.
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
