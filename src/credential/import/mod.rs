//! Importing the logins of other tools. Files are recognised by their content, parsed into accounts, and never
//! modified.
//!
//! The readers in `tools` are pure: bytes in, accounts and problems out. `discover` finds and reads the files; `plan`
//! decides what is done with each account.

mod account;
pub mod discover;
pub mod environment;
mod fields;
mod format;
pub mod plan;
mod settings;
#[cfg(test)]
mod tests;
mod tool;
mod tools;

pub use account::{DiscoveredAccount, DiscoveredLimit};
pub use format::{FileFormat, recognise};
pub use settings::{PREFERRED, SettingProposal};
pub use tool::Tool;
pub use tools::EXPORT_VERSION;

use serde_json::Value;
use zeroize::Zeroize;

use crate::pool::Wall;

/// The maximum number of accounts in one file.
pub const MOST_ENTRIES: usize = 1000;

/// A file's content, and the context that its reader needs.
#[derive(Clone, Copy, Debug)]
pub struct FileContent<'a> {
    /// The file.
    pub bytes: &'a [u8],
    /// A companion file, for example the one that names the login's owner.
    pub beside: Option<&'a [u8]>,
    /// When the file was last written.
    pub written: Option<Wall>,
    /// The current time: expired limits are dropped.
    pub now: Wall,
}

/// What a file contains.
#[derive(Debug, Default)]
pub struct ParsedFile {
    /// The logins and keys.
    pub entries: Vec<DiscoveredAccount>,
    /// Problems, each with its place in the file.
    pub problems: Vec<ImportProblem>,
    /// The proposals that its settings amount to.
    pub settings: Vec<SettingProposal>,
    /// Settings without a counterpart, each with the reason.
    pub unmatched: Vec<(String, String)>,
}

/// Something in a file that cannot be imported.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, schemars::JsonSchema)]
pub struct ImportProblem {
    /// The place in the file, such as `accounts[2].refreshToken`; empty for the whole file.
    pub place: String,
    /// The problem, without any text that could be a secret.
    pub message: String,
    /// Whether the data is damaged; otherwise it is valid, but not usable by lessor.
    pub broken: bool,
}

/// Why a file could not be parsed at all.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ImportParseError {
    /// It is not UTF-8.
    #[error("it is not UTF-8 (byte {0} is the first invalid one)")]
    Encoding(usize),
    /// It is not JSON.
    #[error("it is not JSON: {0}")]
    Json(String),
    /// It is JSON in an unknown format.
    #[error("its format is not known: it is neither a login nor a list of accounts of a known tool")]
    Unknown,
}

/// Parses a file in any known format.
///
/// # Errors
/// When it is not JSON, or in no known format.
pub fn read(content: &FileContent<'_>) -> Result<(FileFormat, ParsedFile), ImportParseError> {
    let mut document = parse(content.bytes)?;
    let mut beside = content.beside.and_then(|bytes| parse(bytes).ok());
    let read = recognise(&document).map(|format| (format, tools::read(format, &document, beside.as_ref(), content)));
    wipe(&mut document);
    if let Some(beside) = &mut beside {
        wipe(beside);
    }
    read.ok_or(ImportParseError::Unknown)
}

/// Parses a file as JSON.
///
/// # Errors
/// When it is not JSON.
pub fn parse(bytes: &[u8]) -> Result<Value, ImportParseError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // a crash can leave zero bytes after a shorter text
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let text = str::from_utf8(&bytes[..length]).map_err(|error| ImportParseError::Encoding(error.valid_up_to()))?;
    // the error messages of serde_json quote no text of an object or a list
    serde_json::from_str(text).map_err(|error| ImportParseError::Json(error.to_string()))
}

/// Overwrites all strings of a document in memory: most of them are secrets.
pub fn wipe(document: &mut Value) {
    match document {
        Value::String(text) => text.zeroize(),
        Value::Array(list) => list.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
