//! The key as text, and the key file, which is separate from the database. The file either contains the key or says
//! that the key is in the keyring.

pub(super) mod keyring;
pub(super) mod location;
pub(super) mod rekey;
pub(super) mod seal;

use std::io::{Read, Write};
use std::{fs::File, path::Path};

use zeroize::Zeroizing;

use super::error::StoreError;
use super::file::{self, ExposedFiles};
use seal::SealKey;

/// The first word of the file; other versions use another word.
const WORD: &[u8] = b"lessor-key-1 ";
/// The file's content when the key is in the keyring. An older lessor takes it for a newer key format and refuses to
/// start.
const IN_KEYRING: &[u8] = b"lessor-key-in-keyring";
const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// Far more than any version of the file needs.
const LONGEST: u64 = 1024;

/// The content of the key file.
pub(super) enum KeyFile {
    /// The file does not exist.
    Nothing,
    /// The file contains the key.
    Key(SealKey),
    /// The file says that the key is in the keyring.
    InKeyring,
}

pub(super) fn read(path: &Path, exposed: &mut ExposedFiles) -> Result<KeyFile, StoreError> {
    let Some(length) = file::inspect(path, exposed)? else { return Ok(KeyFile::Nothing) };
    let damaged = |why| StoreError::KeyDamaged { path: path.to_owned(), why };
    if length > LONGEST {
        return Err(damaged("it is too long"));
    }
    let opened = File::open(path).map_err(StoreError::file("open", path))?;
    // allocated in full: a vector that grows leaves unwiped memory behind
    let mut text = Zeroizing::new(Vec::with_capacity(2 * LONGEST as usize));
    opened.take(LONGEST).read_to_end(&mut text).map_err(StoreError::file("read", path))?;
    if text.trim_ascii() == IN_KEYRING {
        return Ok(KeyFile::InKeyring);
    }
    parse(&text).map(KeyFile::Key).map_err(damaged)
}

/// Writes the key to `path`, replacing any file there; durable when this returns.
pub(super) fn put(path: &Path, key: &SealKey) -> Result<(), StoreError> {
    write(path, &print(key))
}

/// Writes to the file that the key is in the keyring.
pub(super) fn refer_to_keyring(path: &Path) -> Result<(), StoreError> {
    write(path, &[IN_KEYRING, b"\n"].concat())
}
pub(super) fn random() -> Result<SealKey, StoreError> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *bytes)?;
    Ok(SealKey::new(bytes))
}

fn write(path: &Path, text: &[u8]) -> Result<(), StoreError> {
    // written to another name first: an interrupted start must not leave half a key, which the next start would refuse
    let temporary = file::beside(path, ".new");
    file::clear(&temporary)?;
    let mut opened = file::create(&temporary)?;
    opened.write_all(text).map_err(StoreError::file("write", &temporary))?;
    opened.sync_all().map_err(StoreError::file("sync", &temporary))?;
    file::replace(&temporary, path)
}

pub(super) fn print(key: &SealKey) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(WORD.len() + 65));
    text.extend_from_slice(WORD);
    for byte in key.bytes() {
        text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    text.push(b'\n');
    text
}

/// Parses the key, or says why the text is not a key.
pub(super) fn parse(text: &[u8]) -> Result<SealKey, &'static str> {
    let Some(digits) = text.strip_prefix(WORD) else {
        let newer = text.starts_with(b"lessor-key-");
        return Err(if newer { "it was made by a newer lessor" } else { "it does not start like a key" });
    };
    of_digits(digits.trim_ascii()).ok_or("it is not 64 hexadecimal digits")
}

/// Parses a key that the user gives: the content of a key file, or its digits only.
pub(super) fn parse_given(text: &[u8]) -> Result<SealKey, &'static str> {
    let text = text.trim_ascii();
    of_digits(text).map_or_else(|| parse(text), Ok)
}

fn of_digits(digits: &[u8]) -> Option<SealKey> {
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = Zeroizing::new([0u8; 32]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(SealKey::new(bytes))
}

fn digit(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Option<SealKey> {
        match super::read(path, &mut ExposedFiles::default()).unwrap() {
            KeyFile::Key(key) => Some(key),
            KeyFile::Nothing => None,
            KeyFile::InKeyring => panic!("in the keyring"),
        }
    }

    #[test]
    fn a_key_reads_back_and_an_invalid_one_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        assert!(read(&path).is_none());
        let (key, other) = (random().unwrap(), random().unwrap());
        put(&path, &key).unwrap();
        assert_eq!(read(&path).unwrap().bytes(), key.bytes());
        put(&path, &other).unwrap();
        assert_eq!(read(&path).unwrap().bytes(), other.bytes());
        refer_to_keyring(&path).unwrap();
        assert!(matches!(super::read(&path, &mut ExposedFiles::default()).unwrap(), KeyFile::InKeyring));
        for (text, said) in [
            ("", "does not start"),
            ("lessor-key-1 abc", "64 hex"),
            (&format!("lessor-key-1 {}", "g".repeat(64)), "64 hex"),
            ("lessor-key-2 what follows", "newer lessor"),
            (&"x".repeat(5000), "too long"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = super::read(&path, &mut ExposedFiles::default()).err().unwrap().to_string();
            assert!(error.contains(said) && error.contains("key.damaged"), "{error}");
        }
    }

    #[test]
    fn a_leftover_half_written_key_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        std::fs::write(file::beside(&path, ".new"), "lessor-key-1 12").unwrap();
        put(&path, &random().unwrap()).unwrap();
        assert!(read(&path).is_some());
        assert!(!file::beside(&path, ".new").exists());
    }
}
