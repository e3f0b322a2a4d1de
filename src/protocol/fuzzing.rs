//! Lease ids and gateway keys of any content, for `fuzz/`.

use super::base32::{MacKey, encode};
use super::{GatewayKey, GatewayKeySealer, LeaseKey, gateway_key};

const KEY: [u8; 16] = [7; 16];
/// Of a longer text in a key only the end is kept, in bytes.
const LONGEST_SEALED: usize = 120;

/// A text, and the ids and keys with any payload under a valid MAC.
pub fn keys(input: &[u8]) {
    let (lease_key, sealer) = (LeaseKey::new(KEY), GatewayKeySealer::new(KEY));
    if let Ok(text) = str::from_utf8(input) {
        for text in [text.to_owned(), format!("ls_{text}"), format!("lk_{text}")] {
            assert!(LeaseKey::new([8; 16]).open(&text).is_none(), "a forged lease id: {text}");
            assert!(GatewayKeySealer::new([8; 16]).open(&text).is_none(), "a forged gateway key: {text}");
        }
    }
    let sealed = |prefix: &str, length: usize| {
        let mac = MacKey(KEY).mac(input);
        encode(prefix, &[input, &mac[..length]].concat())
    };
    if let Some(token) = lease_key.open(&sealed("ls_", 8)) {
        let _printed = format!("{token:?}");
        // an id is one text only
        assert_eq!(lease_key.open(&sealed("ls_", 8).to_uppercase()), None);
    }
    if let Some(key) = sealer.open(&sealed("lk_", 16)) {
        // of what a daemon seals, nothing is lost; other bytes may follow in what is made here
        let (first, second) = match &key {
            GatewayKey::Lease { directory, .. } => (directory, &None),
            GatewayKey::Client { agent, label, .. } => (agent, label),
        };
        let is_whole = [first, second].into_iter().flatten().all(|text| text.len() <= LONGEST_SEALED);
        let again = sealer.open(&sealer.seal(&key));
        assert!(!is_whole || again.as_ref() == Some(&key), "{key:?} became {again:?}");
    }
    if let Some(random) = input.first_chunk() {
        let key = gateway_key::lasting_key(random);
        let id = gateway_key::key_id(&gateway_key::key_hash(&key));
        assert!(gateway_key::looks_like_key(&key) && !gateway_key::looks_like_key(&id), "{id}");
        assert!(!key.contains(&id) && sealer.open(&key).is_none(), "{id}");
    }
    assert!(!format!("{lease_key:?} {sealer:?}").contains('7'), "the secret key of the MAC is printed");
}
