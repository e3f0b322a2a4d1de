//! Sealing bytes with a key of 32 bytes: authenticated encryption that is bound to the purpose of the bytes.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
/// The length of a nonce, in bytes.
pub(crate) const NONCE: usize = 24;

/// Seals bytes for a purpose: version, nonce, ciphertext, tag.
pub(crate) fn seal(key: &[u8; 32], purpose: &str, plain: &[u8]) -> Result<Vec<u8>, String> {
    let mut nonce = [0u8; NONCE];
    getrandom::fill(&mut nonce).map_err(|error| format!("no random bytes: {error}"))?;
    let payload = Payload { msg: plain, aad: purpose.as_bytes() };
    let cipher = XChaCha20Poly1305::new(key.into());
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| "too long to seal")?;
    let mut blob = Vec::with_capacity(1 + NONCE + sealed.len());
    blob.push(VERSION);
    blob.extend_from_slice(&nonce);
    blob.extend_from_slice(&sealed);
    Ok(blob)
}

/// Opens what [`seal`] made, if it is intact and was sealed for this purpose with this key.
pub(crate) fn open(key: &[u8; 32], purpose: &str, blob: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (&version, rest) = blob.split_first()?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
    if version != VERSION {
        return None;
    }
    let payload = Payload { msg: sealed, aad: purpose.as_bytes() };
    let cipher = XChaCha20Poly1305::new(key.into());
    cipher.decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
}
