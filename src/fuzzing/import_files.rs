//! Files of other tools.

use std::path::PathBuf;

use super::message::assert_hidden;
use crate::credential::import::discover::{HostEnvironment, Platform, read_path};
use crate::credential::import::{FileContent, MOST_ENTRIES, ParsedFile, read};
use crate::credential::{Credential, Secret};
use crate::pool::Wall;

const NOW: Wall = Wall(1_789_997_600_000);
/// Between a file and its companion.
const BESIDE: &[u8] = b"\n---beside---\n";

/// A file in any format of JSON, and what stands beside it.
pub fn import(input: &[u8]) {
    let split = memchr::memmem::find(input, BESIDE);
    let (bytes, beside) = match split {
        Some(at) => (&input[..at], Some(&input[at + BESIDE.len()..])),
        None => (input, None),
    };
    match read(&FileContent { bytes, beside, written: Some(Wall(NOW.0 - 1000)), now: NOW }) {
        Ok((_, parsed)) => assert_usable(&parsed, input),
        Err(error) => assert!(error.to_string().len() <= 1000, "{error}"),
    }
}

/// A database of opencode.
pub fn import_database(input: &[u8]) {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    // what does not begin like a database is read as JSON
    let bytes = [MAGIC, input.strip_prefix(MAGIC).unwrap_or(input)].concat();
    let path = std::env::temp_dir().join(format!("lessor-fuzz-{}.db", std::process::id()));
    if std::fs::write(&path, &bytes).is_err() {
        panic!("{} cannot be written", path.display());
    }
    let nothing = |_: &str| None;
    let host = HostEnvironment { system: Platform::Unix, home: PathBuf::from("/nowhere"), variable: &nothing };
    for file in read_path(&path, &host, NOW) {
        match file.reading {
            Ok((_, parsed)) => assert_usable(&parsed, &bytes),
            Err(error) => assert!(error.to_string().len() <= 2000, "{error}"),
        }
    }
    let is_same = std::fs::read(&path).is_ok_and(|now| now == bytes);
    let _removed = std::fs::remove_file(&path);
    assert!(is_same, "the database was changed");
}

/// Checks what holds for the content of every file.
fn assert_usable(parsed: &ParsedFile, input: &[u8]) {
    assert!(parsed.entries.len() <= MOST_ENTRIES);
    let printed = format!("{parsed:?}");
    for entry in &parsed.entries {
        assert!(!entry.provider.is_empty(), "{entry:?}");
        assert!(entry.limits.iter().all(|limit| limit.until > NOW), "{entry:?}");
        let texts = [&entry.email, &entry.label, &entry.project_id, &entry.owner.person, &entry.owner.organization];
        for text in texts.into_iter().flatten() {
            assert!(!text.contains(char::is_control) && text.len() <= 1024, "{entry:?}");
        }
        let Credential { access, refresh, .. } = &entry.credential;
        let is_header = |secret: &Secret| !secret.expose().contains(|c: char| c.is_control());
        assert!(is_header(access) && refresh.as_ref().is_none_or(is_header), "{entry:?}");
        for secret in [Some(access), refresh.as_ref()].into_iter().flatten() {
            assert_hidden(secret.expose(), input, &printed);
        }
    }
    parsed.problems.iter().for_each(|problem| assert!(!problem.message.is_empty()));
}
