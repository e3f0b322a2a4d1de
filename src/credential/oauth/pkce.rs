//! What only we know, and what proves that we do (RFC 7636).

use ring::digest::{SHA256, digest};

use crate::credential::Secret;

/// Random text in the alphabet for URLs, of this many bytes of chance.
pub(super) fn random<const N: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    let text = base64(&bytes);
    zeroize::Zeroize::zeroize(&mut bytes);
    Ok(text)
}

/// What a verifier is announced with.
pub(super) fn challenge(verifier: &Secret) -> String {
    base64(digest(&SHA256, verifier.expose().as_bytes()).as_ref())
}

/// Base64 in the alphabet for URLs, without padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..=three.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636, appendix B.
    #[test]
    fn the_challenge_is_the_standards() {
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into());
        assert_eq!(challenge(&verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn random_texts_are_long_enough_and_differ() {
        let (one, other) = (random::<32>().unwrap(), random::<32>().unwrap());
        assert_eq!((one.len(), one == other), (43, false));
        for (bytes, text) in [(&b"f"[..], "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (b"", "")] {
            assert_eq!(base64(bytes), text);
        }
    }
}
