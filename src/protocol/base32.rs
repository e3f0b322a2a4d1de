//! Crockford's base 32, without letters that look alike: five bytes are eight letters.

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
pub(super) fn decode<'a>(text: &str, room: &'a mut [u8]) -> Option<&'a [u8]> {
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
