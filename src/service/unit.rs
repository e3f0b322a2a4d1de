//! Unit files: their content, and writing them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::ServiceError;

/// The settings for a unit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UnitSettings {
    /// The program.
    pub program: PathBuf,
    /// The variables to set, because the user's environment has them.
    pub variables: Vec<(&'static str, PathBuf)>,
    /// The socket, if it is not the default one.
    pub socket: Option<PathBuf>,
    /// The version of the manager, if it is known.
    pub manager_version: Option<u32>,
}

/// A unit file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceUnit {
    /// Its path.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
    /// Whether it is written as UTF-16, as Windows requires.
    pub wide: bool,
    /// Whether the manager keeps using an old version until it is stopped.
    pub stays_in_use: bool,
}

/// What was done with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnitChange {
    /// It was created.
    Written,
    /// It was replaced.
    Replaced,
    /// It already had this content.
    Unchanged,
    /// It was removed.
    Removed,
}

impl ServiceUnit {
    /// Writes the file atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self) -> Result<UnitChange, ServiceError> {
        let fault = |doing| move |error| ServiceError::File { doing, path: self.path.clone(), error };
        let before = match std::fs::read(&self.path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(fault("reading")(error)),
        };
        let bytes = self.bytes();
        if before.as_ref() == Some(&bytes) {
            return Ok(UnitChange::Unchanged);
        }
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory).map_err(fault("creating the directory of"))?;
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(fault("writing"))?;
        file.write_all(&bytes).map_err(fault("writing"))?;
        file.persist(&self.path).map_err(|error| fault("writing")(error.error))?;
        Ok(if before.is_some() { UnitChange::Replaced } else { UnitChange::Written })
    }

    fn bytes(&self) -> Vec<u8> {
        if !self.wide {
            return self.text.clone().into_bytes();
        }
        let text = format!("\u{feff}{}", self.text.replace('\n', "\r\n"));
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }
}

/// The text of an installed unit, if it exists and can be read.
pub(super) fn text(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let Some(wide) = bytes.strip_prefix(&[0xff, 0xfe]) else {
        return String::from_utf8(bytes).ok();
    };
    let words: Vec<u16> = wide.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    String::from_utf16(&words).ok().map(|text| text.replace("\r\n", "\n"))
}

/// Removes a unit; `false` if it does not exist.
pub(super) fn remove(path: &Path) -> Result<bool, ServiceError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ServiceError::File { doing: "removing", path: path.to_owned(), error }),
    }
}

/// A path as text without control characters, as every unit format requires.
pub(super) fn plain<'a>(what: &str, path: &'a Path) -> Result<&'a str, ServiceError> {
    let wrong = |why| ServiceError::Path { what: what.to_owned(), path: path.to_owned(), why };
    let text = path.to_str().ok_or_else(|| wrong("is not valid Unicode and cannot be written in a unit"))?;
    if text.contains(char::is_control) {
        return Err(wrong("contains control characters and cannot be written in a unit"));
    }
    Ok(text)
}
