//! Reading the claims of a JSON web token. The signature is not verified: the claims name an account, but authorise
//! nothing.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

/// The alphabet for URLs, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The claims of a JSON web token; `None` if it is not one.
pub(in crate::credential) fn claims(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    match serde_json::from_slice(&BASE64.decode(payload).ok()?) {
        Ok(Value::Object(claims)) => Some(claims),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_and_invalid_tokens_have_none() {
        // {"email":"a@b.c","exp":1790000000}
        let token = "eyJhbGciOiJub25lIn0.eyJlbWFpbCI6ImFAYi5jIiwiZXhwIjoxNzkwMDAwMDAwfQ.FAKE";
        let claims = claims(token).unwrap();
        assert_eq!((claims["email"].as_str(), claims["exp"].as_u64()), (Some("a@b.c"), Some(1_790_000_000)));
        for text in ["", "a.b", "a.!.c", "a..c", "a.bnVsbA.c", "sk-FAKE"] {
            assert_eq!(super::claims(text), None, "{text}");
        }
    }
}
