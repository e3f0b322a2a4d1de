//! Texts that carry data under a keyed MAC, in Crockford's base 32: its letters do not look alike, and five bytes are
//! eight letters.

use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// Crockford's base 32, lower case.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Encodes five bytes to eight letters; the last group may be shorter.
pub(super) fn encode(prefix: &str, bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(prefix.len() + bytes.len() * 8 / 5 + 1);
    text.extend_from_slice(prefix.as_bytes());
    for group in bytes.chunks(GROUP) {
        let mut padded = [0; 8];
        padded[8 - GROUP..8 - GROUP + group.len()].copy_from_slice(group);
        let bits = u64::from_be_bytes(padded);
        let letters: [u8; 8] = std::array::from_fn(|place| ALPHABET[(bits >> (35 - 5 * place) & 31) as usize]);
        text.extend_from_slice(&letters[..(group.len() * 8).div_ceil(5)]);
    }
    // letters of the alphabet are ASCII
    String::from_utf8(text).unwrap_or_default()
}

/// Decodes into `room` and returns the used part; `room` must have space for one group more than the longest text.
fn decode<'a>(text: &str, room: &'a mut [u8]) -> Option<&'a [u8]> {
    if text.len() > room.len() * 8 / 5 + 1 {
        return None;
    }
    let mut end = 0;
    for letters in text.as_bytes().chunks(8) {
        let mut bits = 0u64;
        for letter in letters {
            let value = VALUES[usize::from(*letter)];
            if value == NONE {
                return None;
            }
            bits = bits << 5 | u64::from(value);
        }
        let whole = letters.len() * 5 / 8;
        let bits = bits << (40 - 5 * letters.len());
        let group = bits.to_be_bytes();
        let (group, rest) = group[8 - GROUP..].split_at(whole);
        // the bits after the last whole byte must be zero, or two texts would name one lease
        if rest.iter().any(|byte| *byte != 0) || letters.len() != (whole * 8).div_ceil(5) {
            return None;
        }
        room.get_mut(end..end + whole)?.copy_from_slice(group);
        end += whole;
    }
    room.get(..end)
}

/// The number of bytes that are encoded together.
pub(super) const GROUP: usize = 5;
const NONE: u8 = u8::MAX;
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// The secret key of a MAC.
#[derive(Clone)]
pub(super) struct MacKey(pub(super) [u8; 16]);

impl MacKey {
    /// The MAC of a payload; a shorter one is the beginning of it.
    pub(super) fn mac(&self, payload: &[u8]) -> [u8; 16] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(payload);
        hasher.finish128().as_bytes()
    }

    /// The payload of a text that ends with a MAC of `length` bytes; `None` for a forged text.
    pub(super) fn open<'a>(&self, text: &str, length: usize, room: &'a mut [u8]) -> Option<&'a [u8]> {
        let bytes = decode(text, room)?;
        let (payload, mac) = bytes.split_at_checked(bytes.len().checked_sub(length)?)?;
        let differs = self.mac(payload).iter().zip(mac).fold(0, |differs, (ours, theirs)| differs | (ours ^ theirs));
        (differs == 0).then_some(payload)
    }
}

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacKey(…)")
    }
}

/// Takes an optional text from the payload of an id or key: its length plus one, then the text.
#[expect(clippy::option_option, reason = "an absent text, or malformed bytes")]
pub(super) fn take_text(bytes: &mut &[u8]) -> Option<Option<Box<str>>> {
    let (length, rest) = bytes.split_first()?;
    let Some(length) = length.checked_sub(1) else {
        *bytes = rest;
        return Some(None);
    };
    let (text, rest) = rest.split_at_checked(usize::from(length))?;
    *bytes = rest;
    Some(Some(str::from_utf8(text).ok()?.into()))
}

/// Checks that a text whose letters after `prefix` are changed is not opened.
#[cfg(test)]
pub(super) fn every_letter_counts(text: &str, prefix: &str, opens: impl Fn(&str) -> bool) {
    for place in prefix.len()..text.len() {
        let mut changed = text.to_owned().into_bytes();
        changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
        assert!(!opens(str::from_utf8(&changed).unwrap()), "letter {place}");
    }
}
