//! Texts that carry data under a keyed MAC, in Crockford's base 32: its letters do not look alike, and five bytes are
//! eight letters.

use crate::pool::AccountId;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// Crockford's base 32, lower case.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Encodes five bytes to eight letters; the last group may be shorter.
pub(super) fn encode(prefix: &str, bytes: &[u8]) -> String {
    let mut text = String::new();
    encode_to(&mut text, prefix, bytes);
    text
}

/// The same, to a text that is replaced: its memory is used again.
pub(super) fn encode_to(text: &mut String, prefix: &str, bytes: &[u8]) {
    let (groups, rest) = bytes.as_chunks::<GROUP>();
    let mut letters = std::mem::take(text).into_bytes();
    letters.clear();
    letters.reserve(prefix.len() + (groups.len() + 1) * LETTERS);
    letters.extend_from_slice(prefix.as_bytes());
    letters.resize(prefix.len() + groups.len() * LETTERS, 0);
    let (places, _) = letters[prefix.len()..].as_chunks_mut::<LETTERS>();
    for (place, group) in places.iter_mut().zip(groups) {
        *place = letters_of(*group);
    }
    if !rest.is_empty() {
        let mut group = [0; GROUP];
        group[..rest.len()].copy_from_slice(rest);
        letters.extend_from_slice(&letters_of(group)[..(rest.len() * 8).div_ceil(5)]);
    }
    // letters of the alphabet are ASCII
    *text = String::from_utf8(letters).unwrap_or_default();
}

/// Decodes into `room` and returns the used part; `room` must have space for one group more than the longest text.
fn decode<'a>(text: &str, room: &'a mut [u8]) -> Option<&'a [u8]> {
    if text.len() > room.len() * 8 / 5 + 1 {
        return None;
    }
    let mut end = 0;
    let (groups, rest) = text.as_bytes().as_chunks::<LETTERS>();
    for letters in groups {
        room.get_mut(end..end + GROUP)?.copy_from_slice(&bytes_of(*letters)?);
        end += GROUP;
    }
    if !rest.is_empty() {
        let mut letters = [ALPHABET[0]; LETTERS];
        letters[..rest.len()].copy_from_slice(rest);
        let group = bytes_of(letters)?;
        let (whole, beyond) = group.split_at(rest.len() * 5 / 8);
        // the bits after the last whole byte must be zero, or two texts would name one lease
        if beyond.iter().any(|byte| *byte != 0) || rest.len() != (whole.len() * 8).div_ceil(5) {
            return None;
        }
        room.get_mut(end..end + whole.len())?.copy_from_slice(whole);
        end += whole.len();
    }
    room.get(..end)
}

/// The letters of five bytes: four times ten bits, which are two letters each.
fn letters_of([a, b, c, d, e]: [u8; GROUP]) -> [u8; LETTERS] {
    let bits = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
    let pair = |place: u32| PAIRS[(bits >> (30 - 10 * place)) as usize % PAIRS.len()];
    let ([a, b], [c, d], [e, f], [g, h]) = (pair(0), pair(1), pair(2), pair(3));
    [a, b, c, d, e, f, g, h]
}

/// The bytes of eight letters; `None` if one of them is not of the alphabet.
fn bytes_of(letters: [u8; LETTERS]) -> Option<[u8; GROUP]> {
    let values = letters.iter().fold(0, |values, letter| values << 8 | u64::from(VALUES[usize::from(*letter)]));
    if values & (EACH * 0xe0) != 0 {
        return None;
    }
    let bits = (values & 0x1f00_1f00_1f00_1f00) >> 3 | values & 0x001f_001f_001f_001f;
    let bits = (bits & 0x03ff_0000_03ff_0000) >> 6 | bits & 0x0000_03ff_0000_03ff;
    let bits = (bits & 0x000f_ffff_0000_0000) >> 12 | bits & 0x000f_ffff;
    let [_, _, _, bytes @ ..] = bits.to_be_bytes();
    Some(bytes)
}

/// The text of an account's id, as its `Display` writes it.
pub(crate) struct AccountIdText([u8; 3 + LETTERS]);

impl AccountIdText {
    pub(crate) fn of(id: AccountId) -> Self {
        let [_, _, _, bytes @ ..] = id.bits().to_be_bytes();
        let [a, b, c, d, e, f, g, h] = letters_of(bytes);
        Self([b'a', b'c', b'_', a, b, c, d, e, f, g, h])
    }

    pub(crate) fn as_str(&self) -> &str {
        // all of it is ASCII
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The number of letters that are decoded together.
const LETTERS: usize = 8;
/// A one in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;
/// The number of bytes that are encoded together.
pub(super) const GROUP: usize = 5;
/// The letters of each value of ten bits.
static PAIRS: [[u8; 2]; 1 << 10] = {
    let mut pairs = [[0; 2]; 1 << 10];
    let mut value = 0;
    while value < pairs.len() {
        pairs[value] = [ALPHABET[value >> 5], ALPHABET[value & 31]];
        value += 1;
    }
    pairs
};
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
pub(super) fn take_text<T: for<'t> From<&'t str>>(bytes: &mut &[u8]) -> Option<Option<T>> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_value_has_its_letter() {
        for value in 0..32_u8 {
            // the value in all eight places of a group
            let bits = (0..LETTERS).fold(0_u64, |bits, _| bits << 5 | u64::from(value));
            let [_, _, _, group @ ..] = bits.to_be_bytes();
            assert_eq!(letters_of(group), [ALPHABET[usize::from(value)]; LETTERS]);
            assert_eq!(bytes_of([ALPHABET[usize::from(value)]; LETTERS]), Some(group));
        }
        for letter in (0..=u8::MAX).filter(|letter| !ALPHABET.contains(letter)) {
            for place in 0..LETTERS {
                let mut letters = [b'0'; LETTERS];
                letters[place] = letter;
                assert_eq!(bytes_of(letters), None, "{letter} at {place}");
            }
        }
    }

    #[test]
    fn texts_of_earlier_versions_are_the_same() {
        for (bytes, text) in [
            (&b""[..], "x_"),
            (b"\0", "x_00"),
            (b"\xff", "x_zw"),
            (b"lessor", "x_dhjq6wvfe8"),
            (b"hello world", "x_d1jprv3f41vpywkccg"),
        ] {
            assert_eq!(encode("x_", bytes), text);
        }
    }

    proptest! {
        #[test]
        fn the_text_of_an_account_is_that_of_its_id(bits: u64) {
            let id = AccountId::from_bits(bits);
            let text = AccountIdText::of(id);
            prop_assert_eq!(text.as_str(), id.to_string());
        }

        #[test]
        fn what_was_encoded_is_decoded(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut room = [0; 64 + GROUP];
            prop_assert_eq!(decode(&encode("", &bytes), &mut room), Some(&*bytes));
        }

        #[test]
        fn a_text_is_decoded_only_if_it_is_encoded_so(text in "[0-9a-z]{0,40}") {
            let mut room = [0; 64 + GROUP];
            if let Some(bytes) = decode(&text, &mut room) {
                prop_assert_eq!(encode("", bytes), text);
            }
        }
    }
}
