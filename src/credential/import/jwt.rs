//! What a token says of its owner. Nothing is proved by it: it names an account, it does not let anybody in.

use serde_json::{Map, Value};

/// The claims of a JSON web token; `None` when it is none.
pub(in crate::credential) fn claims(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    match serde_json::from_slice(&base64(payload)?) {
        Ok(Value::Object(claims)) => Some(claims),
        _ => None,
    }
}

/// Decodes base64 in the alphabet for URLs, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_and_nonsense_is_none() {
        // {"email":"a@b.c","exp":1790000000}
        let token = "eyJhbGciOiJub25lIn0.eyJlbWFpbCI6ImFAYi5jIiwiZXhwIjoxNzkwMDAwMDAwfQ.FAKE";
        let claims = claims(token).unwrap();
        assert_eq!((claims["email"].as_str(), claims["exp"].as_u64()), (Some("a@b.c"), Some(1_790_000_000)));
        for text in ["", "a.b", "a.!.c", "a..c", "a.bnVsbA.c", "sk-FAKE"] {
            assert_eq!(super::claims(text), None, "{text}");
        }
    }
}
