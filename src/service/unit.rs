//! Unit files: what they must say, and how they are written.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::ServiceError;

/// What a service is to be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// The program.
    pub program: PathBuf,
    /// What its environment must say, because the user's does.
    pub variables: Vec<(&'static str, PathBuf)>,
    /// Where it listens, if not at the usual place.
    pub socket: Option<PathBuf>,
}

/// A unit file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Where it belongs.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
    /// Written as UTF-16, which Windows wants.
    pub wide: bool,
    /// The manager goes on with an older one until that is ended.
    pub stays_in_use: bool,
}

/// What became of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is new.
    Written,
    /// It said something else before.
    Replaced,
    /// It says what it should already.
    Unchanged,
    /// It is gone.
    Removed,
}

impl Unit {
    /// Writes it where it belongs, whole or not at all.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self) -> Result<Change, ServiceError> {
        let fault = |doing| move |error| ServiceError::File { doing, path: self.path.clone(), error };
        let before = match std::fs::read(&self.path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(fault("reading")(error)),
        };
        let bytes = self.bytes();
        if before.as_ref() == Some(&bytes) {
            return Ok(Change::Unchanged);
        }
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory).map_err(fault("making the directory of"))?;
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(fault("writing"))?;
        file.write_all(&bytes).map_err(fault("writing"))?;
        file.persist(&self.path).map_err(|error| fault("writing")(error.error))?;
        Ok(if before.is_some() { Change::Replaced } else { Change::Written })
    }

    fn bytes(&self) -> Vec<u8> {
        if !self.wide {
            return self.text.clone().into_bytes();
        }
        let text = format!("\u{feff}{}", self.text.replace('\n', "\r\n"));
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }
}

/// What an installed unit says, if it is there and can be read.
pub(super) fn text(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let Some(wide) = bytes.strip_prefix(&[0xff, 0xfe]) else {
        return String::from_utf8(bytes).ok();
    };
    let words: Vec<u16> = wide.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    String::from_utf16(&words).ok().map(|text| text.replace("\r\n", "\n"))
}

/// Removes a unit; `false` when there is none.
pub(super) fn remove(path: &Path) -> Result<bool, ServiceError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ServiceError::File { doing: "removing", path: path.to_owned(), error }),
    }
}

/// A path as text without line breaks and the like, as every kind of unit needs it.
pub(super) fn plain<'a>(what: &str, path: &'a Path) -> Result<&'a str, ServiceError> {
    let wrong = |why| ServiceError::Path { what: what.to_owned(), path: path.to_owned(), why };
    let text = path.to_str().ok_or_else(|| wrong("is not valid Unicode and cannot be written in a unit"))?;
    if text.contains(char::is_control) {
        return Err(wrong("holds control characters and cannot be written in a unit"));
    }
    Ok(text)
}
