//! What other tools keep: recognised by its content, read into entries, never written.
//!
//! The readers are pure: bytes go in, entries and problems come out. Looking for the files is `places` and `discover`;
//! what becomes of an entry is `plan`.

mod anthropic_multi_auth;
mod antigravity_auth;
mod antigravity_manager;
mod claude_code;
mod cliproxyapi;
mod codex;
pub mod discover;
mod entry;
pub mod environment;
mod fields;
mod format;
mod gemini_cli;
pub(in crate::credential) mod jwt;
mod keychain;
mod opencode;
pub mod own;
pub mod places;
pub mod plan;
mod settings;
#[cfg(test)]
mod tests;
mod tool;

pub use entry::{Entry, Limited};
pub use format::{Format, recognise};
pub use settings::{PREFERRED, Proposal};
pub use tool::Tool;

use std::collections::HashMap;

use serde_json::Value;
use zeroize::Zeroize;

use crate::pool::Wall;

use fields::{Fields, Problems};

/// Most entries of one file.
pub const MOST_ENTRIES: usize = 1000;

/// A file's content, and what its reader needs beside it.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// The file.
    pub bytes: &'a [u8],
    /// What the tool keeps beside it, such as whose login it is.
    pub beside: Option<&'a [u8]>,
    /// When it was last written.
    pub written: Option<Wall>,
    /// The time of day: limits that are over are not kept.
    pub now: Wall,
}

/// What was read of a file.
#[derive(Debug, Default)]
pub struct Reading {
    /// The logins and keys.
    pub entries: Vec<Entry>,
    /// What is wrong with it, each with its place.
    pub problems: Vec<Problem>,
    /// What its settings amount to.
    pub settings: Vec<Proposal>,
    /// Settings that have no counterpart, each with why.
    pub unmatched: Vec<(String, String)>,
}

/// Something in a file that cannot be taken in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where in the file, such as `accounts[2].refreshToken`; empty for all of it.
    pub place: String,
    /// What is wrong; quotes nothing that could be a secret.
    pub message: String,
    /// Whether something is damaged; else it is whole, and of no use to lessor.
    pub broken: bool,
}

/// Why nothing at all was read of a file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not text.
    #[error("it is not UTF-8 (byte {0} is the first that does not fit)")]
    Encoding(usize),
    /// It is not JSON.
    #[error("it is not JSON: {0}")]
    Json(String),
    /// It is JSON of no known kind.
    #[error("it is nothing that lessor knows: neither a login nor a list of accounts of a known tool")]
    Unknown,
}

/// Reads a file, whatever tool it is of.
///
/// # Errors
/// When it is not JSON, or of no known tool.
pub fn read(content: &Content<'_>) -> Result<(Format, Reading), Unreadable> {
    let mut document = parse(content.bytes)?;
    let mut beside = content.beside.and_then(|bytes| parse(bytes).ok());
    let read = recognise(&document).map(|format| (format, read_as(format, &document, beside.as_ref(), content)));
    wipe(&mut document);
    if let Some(beside) = &mut beside {
        wipe(beside);
    }
    read.ok_or(Unreadable::Unknown)
}

/// The plan by the name that `ChatGPT` has for it.
#[must_use]
pub fn account_tier(plan: &str) -> crate::pool::Tier {
    codex::tier(Some(plan))
}

/// A file's JSON.
///
/// # Errors
/// When it is none.
pub fn parse(bytes: &[u8]) -> Result<Value, Unreadable> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // what a crash left behind a shorter text
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let text = str::from_utf8(&bytes[..length]).map_err(|error| Unreadable::Encoding(error.valid_up_to()))?;
    // an object or a list: the messages of the reader quote no text of it
    serde_json::from_str(text).map_err(|error| Unreadable::Json(error.to_string()))
}

/// Takes the texts of a document out of memory: most of them are secrets.
pub fn wipe(document: &mut Value) {
    match document {
        Value::String(text) => text.zeroize(),
        Value::Array(list) => list.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn read_as(format: Format, document: &Value, beside: Option<&Value>, content: &Content<'_>) -> Reading {
    let problems = Problems::default();
    let top = match document {
        Value::Object(map) => Fields::new(map, String::new(), &problems),
        _ => Fields::none(&problems),
    };
    let beside = beside.and_then(Value::as_object).map(|map| Fields::new(map, String::new(), &problems));
    let mut entries = match format {
        Format::AntigravityAuth => antigravity_auth::read(&top, content.now),
        Format::AnthropicMultiAuth => anthropic_multi_auth::read(&top, content.now),
        Format::ClaudeCode => claude_code::credentials(&top, beside.as_ref(), content.now),
        Format::ClaudeCodeSettings => claude_code::settings(&top),
        Format::Codex => codex::read(&top),
        Format::GeminiCli => gemini_cli::read(&top, beside.as_ref()),
        Format::Opencode => opencode::read(&top),
        Format::AntigravityManager => antigravity_manager::account(&top, content.now).into_iter().collect(),
        Format::AntigravityManagerList => antigravity_manager::list(document, &problems),
        Format::CliProxyApi => cliproxyapi::read(&top).into_iter().collect(),
        Format::Lessor => own::read(&top, content.now),
        Format::AntigravityAuthConfig
        | Format::AntigravityManagerConfig
        | Format::AntigravityManagerIndex
        | Format::GeminiCliAccounts
        | Format::Empty => Vec::new(),
    };
    let (settings, unmatched) = match format {
        Format::AntigravityAuthConfig => settings::antigravity_auth(&top),
        Format::AntigravityManagerConfig => settings::antigravity_manager(&top),
        _ => Default::default(),
    };
    name_apart(&mut entries);
    for entry in &mut entries {
        // these are written anew at each refresh, which tells nothing of when the login was made
        let refreshed = [Tool::GeminiCli, Tool::CliProxyApi].contains(&entry.tool) && !entry.rotates;
        entry.as_of = entry.as_of.or(content.written).filter(|_| !refreshed);
        entry.limits.retain(|limit| limit.until > content.now);
        entry.usage.retain(|window| window.resets_at.is_some_and(|at| at > content.now));
        entry.last_used_at = entry.last_used_at.filter(|at| *at <= content.now);
    }
    Reading { entries, problems: problems.into_list(), settings, unmatched }
}

/// Gives each entry a name of its own, for the file to be followed by it.
fn name_apart(entries: &mut [Entry]) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for entry in entries {
        let count = seen.entry(entry.item.clone()).or_default();
        *count += 1;
        if *count > 1 {
            entry.item = format!("{} ({count})", entry.item);
        }
    }
}
