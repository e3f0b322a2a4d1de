//! The key as text, and the file that holds it, apart from the database it opens; or that says that it lies elsewhere.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use zeroize::Zeroizing;

use super::error::StoreError;
use super::file;
use super::seal::Key;

/// The first word; a file of another version begins with another.
const WORD: &[u8] = b"lessor-key-1 ";
/// Stands in the file when the key is in the keyring; an older lessor takes it for a newer one's key, and stops.
const IN_KEYRING: &[u8] = b"lessor-key-in-keyring";
const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// Far more than any version of the file will need.
const LONGEST: u64 = 1024;

/// What the key file says.
pub(super) enum InFile {
    /// There is none.
    Nothing,
    /// The key.
    Key(Key),
    /// It is in the keyring.
    InKeyring,
}

/// What the file at `path` says.
pub(super) fn look(path: &Path, warnings: &mut Vec<String>) -> Result<InFile, StoreError> {
    let Some(length) = file::inspect(path, warnings)? else { return Ok(InFile::Nothing) };
    let damaged = |why| StoreError::KeyDamaged { path: path.to_owned(), why };
    if length > LONGEST {
        return Err(damaged("it is far too long"));
    }
    let opened = File::open(path).map_err(StoreError::file("open", path))?;
    // room for all of it at once: a vector that grows leaves its old, unwiped memory behind
    let mut text = Zeroizing::new(Vec::with_capacity(2 * LONGEST as usize));
    opened.take(LONGEST).read_to_end(&mut text).map_err(StoreError::file("read", path))?;
    if text.trim_ascii() == IN_KEYRING {
        return Ok(InFile::InKeyring);
    }
    parse(&text).map(InFile::Key).map_err(damaged)
}

/// Puts the key at `path`, in place of what is there, durable before it is used for anything.
pub(super) fn put(path: &Path, key: &Key) -> Result<(), StoreError> {
    write(path, &print(key))
}

/// Lets the file say that the key is in the keyring.
pub(super) fn refer_to_keyring(path: &Path) -> Result<(), StoreError> {
    write(path, &[IN_KEYRING, b"\n"].concat())
}

/// A new random key.
pub(super) fn random() -> Result<Key, StoreError> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *bytes)?;
    Ok(Key::new(bytes))
}

fn write(path: &Path, text: &[u8]) -> Result<(), StoreError> {
    // under another name first: a start cut short here leaves no half key that the next one must refuse
    let temporary = file::beside(path, ".new");
    file::clear(&temporary)?;
    let mut opened = file::create(&temporary)?;
    opened.write_all(text).map_err(StoreError::file("write", &temporary))?;
    opened.sync_all().map_err(StoreError::file("sync", &temporary))?;
    file::replace(&temporary, path)
}

/// The key as text.
pub(super) fn print(key: &Key) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(WORD.len() + 65));
    text.extend_from_slice(WORD);
    for byte in key.bytes() {
        text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    text.push(b'\n');
    text
}

/// The key that a text is, or why it is none.
pub(super) fn parse(text: &[u8]) -> Result<Key, &'static str> {
    let Some(digits) = text.strip_prefix(WORD) else {
        let newer = text.starts_with(b"lessor-key-");
        return Err(if newer { "it was made by a newer lessor" } else { "it does not begin like a key" });
    };
    of_digits(digits.trim_ascii()).ok_or("it is not 64 hexadecimal digits")
}

fn of_digits(digits: &[u8]) -> Option<Key> {
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

    fn read(path: &Path) -> Option<Key> {
        match look(path, &mut Vec::new()).unwrap() {
            InFile::Key(key) => Some(key),
            InFile::Nothing => None,
            InFile::InKeyring => panic!("in the keyring"),
        }
    }

    #[test]
    fn a_key_reads_back_and_a_bad_one_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        assert!(read(&path).is_none());
        let (key, other) = (random().unwrap(), random().unwrap());
        put(&path, &key).unwrap();
        assert_eq!(read(&path).unwrap().bytes(), key.bytes());
        put(&path, &other).unwrap();
        assert_eq!(read(&path).unwrap().bytes(), other.bytes());
        refer_to_keyring(&path).unwrap();
        assert!(matches!(look(&path, &mut Vec::new()).unwrap(), InFile::InKeyring));
        for (text, said) in [
            ("", "does not begin"),
            ("lessor-key-1 abc", "64 hex"),
            (&format!("lessor-key-1 {}", "g".repeat(64)), "64 hex"),
            ("lessor-key-2 what follows", "newer lessor"),
            (&"x".repeat(5000), "too long"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = look(&path, &mut Vec::new()).err().unwrap().to_string();
            assert!(error.contains(said) && error.contains("key.damaged"), "{error}");
        }
    }

    #[test]
    fn a_key_left_half_made_is_made_anew() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        std::fs::write(file::beside(&path, ".new"), "lessor-key-1 12").unwrap();
        put(&path, &random().unwrap()).unwrap();
        assert!(read(&path).is_some());
        assert!(!file::beside(&path, ".new").exists());
    }
}
