//! The key file: one line of text, apart from the database it opens.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use zeroize::Zeroizing;

use super::error::StoreError;
use super::file;
use super::seal::Key;

/// The first word; a file of another version begins with another.
const WORD: &[u8] = b"lessor-key-1 ";
const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// Far more than any version of the file will need.
const LONGEST: u64 = 1024;

/// The key at `path`, or `None` when there is no file.
pub(super) fn read(path: &Path, warnings: &mut Vec<String>) -> Result<Option<Key>, StoreError> {
    let Some(length) = file::inspect(path, warnings)? else { return Ok(None) };
    let damaged = |why| StoreError::KeyDamaged { path: path.to_owned(), why };
    if length > LONGEST {
        return Err(damaged("it is far too long"));
    }
    let opened = File::open(path).map_err(StoreError::file("open", path))?;
    // room for all of it at once: a vector that grows leaves its old, unwiped memory behind
    let mut text = Zeroizing::new(Vec::with_capacity(2 * LONGEST as usize));
    opened.take(LONGEST).read_to_end(&mut text).map_err(StoreError::file("read", path))?;
    if !text.starts_with(WORD) {
        let newer = text.starts_with(b"lessor-key-");
        return Err(damaged(if newer { "it was made by a newer lessor" } else { "it does not begin like a key" }));
    }
    let key = parse(text[WORD.len()..].trim_ascii()).ok_or_else(|| damaged("it is not 64 hexadecimal digits"))?;
    Ok(Some(key))
}

/// A new random key, durable at `path` before it is used for anything.
pub(super) fn create(path: &Path) -> Result<Key, StoreError> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *bytes)?;
    let key = Key::new(bytes);
    // under another name first: a start cut short here leaves no half key that the next one must refuse
    let temporary = file::beside(path, ".new");
    file::clear(&temporary)?;
    let mut opened = file::create(&temporary)?;
    opened.write_all(&print(&key)).map_err(StoreError::file("write", &temporary))?;
    opened.sync_all().map_err(StoreError::file("sync", &temporary))?;
    file::publish(&temporary, path)?;
    Ok(key)
}

fn print(key: &Key) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(WORD.len() + 65));
    text.extend_from_slice(WORD);
    for byte in key.bytes() {
        text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    text.push(b'\n');
    text
}

fn parse(digits: &[u8]) -> Option<Key> {
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = Zeroizing::new([0u8; 32]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(Key::new(bytes))
}

fn digit(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_a_bad_one_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        assert!(read(&path, &mut Vec::new()).unwrap().is_none());
        let key = create(&path).unwrap();
        assert_eq!(read(&path, &mut Vec::new()).unwrap().unwrap().bytes(), key.bytes());
        for (text, said) in [
            ("", "does not begin"),
            ("lessor-key-1 abc", "64 hex"),
            (&format!("lessor-key-1 {}", "g".repeat(64)), "64 hex"),
            ("lessor-key-2 what follows", "newer lessor"),
            (&"x".repeat(5000), "too long"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path, &mut Vec::new()).err().unwrap().to_string();
            assert!(error.contains(said) && error.contains("key.damaged"), "{error}");
        }
    }

    #[test]
    fn a_key_left_half_made_is_made_anew() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        std::fs::write(file::beside(&path, ".new"), "lessor-key-1 12").unwrap();
        create(&path).unwrap();
        assert!(read(&path, &mut Vec::new()).unwrap().is_some());
        assert!(!file::beside(&path, ".new").exists());
    }
}
