//! What opens with which keys, and what does not.

use proptest::prelude::*;

use super::*;
use crate::credential::any_credential;

const POOL: &str = "pool-1";

fn account(bits: u64) -> AccountId {
    AccountId::from_bits(bits)
}

fn keys() -> PoolKeys {
    PoolKeys::of_parts(KeyGeneration(3), [1; 32], [2; 32], Some([3; 32]))
}

fn pair(byte: u8) -> HostKeyPair {
    HostKeyPair::from_bytes(&[byte; 32])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_credential_opens_for_its_account_pool_and_generation_only(credential in any_credential(), bits in 0u64..1 << 40) {
        let keys = keys();
        let sealed = keys.seal_access(POOL, account(bits), &credential).unwrap();
        let opened = keys.open_access(POOL, account(bits), keys.generation(), &sealed);
        let expected = Credential { refresh: None, ..credential.duplicate() };
        prop_assert_eq!(opened, Ok(expected));
        prop_assert!(keys.open_access(POOL, account(bits + 1), keys.generation(), &sealed).is_err());
        prop_assert!(keys.open_access("pool-2", account(bits), keys.generation(), &sealed).is_err());
        prop_assert!(keys.open_refresh(POOL, account(bits), keys.generation(), &sealed).is_err());
        let relabelled = PoolKeys::of_parts(KeyGeneration(4), [1; 32], [2; 32], Some([3; 32]));
        prop_assert!(relabelled.open_access(POOL, account(bits), KeyGeneration(4), &sealed).is_err());
        let error = relabelled.open_access(POOL, account(bits), KeyGeneration(3), &sealed).unwrap_err();
        prop_assert_eq!(error, PoolKeyError::OtherGeneration { sealed: KeyGeneration(3), known: KeyGeneration(4) });
        if let Some(token) = &credential.refresh {
            let sealed = keys.seal_refresh(POOL, account(bits), token).unwrap();
            prop_assert_eq!(&keys.open_refresh(POOL, account(bits), keys.generation(), &sealed).unwrap(), token);
            prop_assert!(keys.open_refresh(POOL, account(bits + 1), keys.generation(), &sealed).is_err());
            prop_assert!(keys.open_access(POOL, account(bits), keys.generation(), &sealed).is_err());
            let member = keys.without_refresh().open_refresh(POOL, account(bits), keys.generation(), &sealed);
            prop_assert_eq!(member, Err(PoolKeyError::NoRefreshKey));
        }
    }

    #[test]
    fn one_changed_bit_or_a_lost_end_opens_nothing(at: prop::sample::Index, bit in 0u8..8, which in 0..3) {
        let (keys, host) = (keys(), pair(9));
        let credential = Credential::new(crate::pool::CredentialKind::ApiKey, Secret::new("sk".into()));
        let blob = match which {
            0 => keys.seal_access(POOL, account(1), &credential).unwrap(),
            1 => keys.seal_refresh(POOL, account(1), &credential.access).unwrap(),
            _ => keys.wrap_for(POOL, &host.public()).unwrap(),
        };
        let opens = |blob: &[u8]| match which {
            0 => keys.open_access(POOL, account(1), keys.generation(), blob).is_ok(),
            1 => keys.open_refresh(POOL, account(1), keys.generation(), blob).is_ok(),
            _ => host.unwrap(POOL, blob, &keys).is_ok(),
        };
        let mut changed = blob.clone();
        let place = at.index(blob.len());
        changed[place] ^= 1 << bit;
        prop_assert!(opens(&blob));
        // X25519 ignores the highest bit of a public key, which is bound to the key by its bytes
        prop_assert!(!opens(&changed), "{place} {bit}");
        prop_assert!(!opens(&blob[..place]));
    }

    #[test]
    fn any_bytes_unwrap_to_nothing(bytes: Vec<u8>) {
        prop_assert!(pair(1).unwrap(POOL, &bytes, &keys()).is_err());
        prop_assert!(pair(1).unwrap_invitation(POOL, &bytes).is_err());
    }
}

#[test]
fn wrapped_keys_open_for_their_host_only() {
    let (keys, host, other) = (keys(), pair(1), pair(2));
    let wrapped = keys.wrap_for(POOL, &host.public()).unwrap();
    assert_eq!(host.unwrap(POOL, &wrapped, &keys.without_refresh()).unwrap(), keys);
    assert_eq!(other.unwrap(POOL, &wrapped, &keys), Err(PoolKeyError::NotForThisHost));
    assert_eq!(host.unwrap("pool-2", &wrapped, &keys), Err(PoolKeyError::NotForThisHost));
    assert_ne!(wrapped, keys.wrap_for(POOL, &host.public()).unwrap(), "each time with another passing key");
}

#[test]
fn a_member_gets_no_refresh_key() {
    let (keys, host) = (keys(), pair(1));
    let wrapped = keys.without_refresh().wrap_for(POOL, &host.public()).unwrap();
    let member = host.unwrap(POOL, &wrapped, &keys).unwrap();
    assert!(!member.can_refresh() && member != keys);
    assert_eq!(member.seal_refresh(POOL, account(1), &Secret::new("rt".into())), Err(PoolKeyError::NoRefreshKey));
}

/// A person who can write to the database knows the public keys of all hosts, but not what all generations share.
#[test]
fn keys_that_no_member_wrapped_are_refused() {
    let (ours, host) = (keys(), pair(1));
    let made_up = PoolKeys { generation: KeyGeneration(9), ..PoolKeys::first().unwrap() };
    let wrapped = made_up.wrap_for(POOL, &host.public()).unwrap();
    assert_eq!(host.unwrap(POOL, &wrapped, &ours), Err(PoolKeyError::NotForThisHost));
    let one_time = pair(5);
    let wrapped = made_up.wrap_for(POOL, &one_time.public()).unwrap();
    assert_eq!(one_time.unwrap_invitation(POOL, &wrapped), Err(PoolKeyError::NotForThisHost));
}

#[test]
fn the_next_keys_are_new_and_older_ones_are_refused() {
    let (first, host) = (PoolKeys::first().unwrap(), pair(1));
    let next = first.next().unwrap();
    assert_eq!((first.generation(), next.generation()), (KeyGeneration(1), KeyGeneration(2)));
    assert_ne!(first.access, next.access);
    assert_ne!(first.refresh, next.refresh);
    let [of_first, of_next] = [&first, &next].map(|keys| keys.wrap_for(POOL, &host.public()).unwrap());
    assert_eq!(host.unwrap(POOL, &of_next, &first).unwrap(), next);
    let error = PoolKeyError::Older { wrapped: KeyGeneration(1), known: KeyGeneration(2) };
    assert_eq!(host.unwrap(POOL, &of_first, &next), Err(error));
}

#[test]
fn an_invitation_opens_with_its_one_time_key_only() {
    let (keys, one_time) = (keys(), pair(5));
    let wrapped = keys.wrap_for_invitation(POOL, &one_time).unwrap();
    assert_eq!(one_time.unwrap_invitation(POOL, &wrapped).unwrap(), keys);
    assert!(pair(6).unwrap_invitation(POOL, &wrapped).is_err());
    assert!(one_time.unwrap(POOL, &wrapped, &keys).is_err(), "it is no host");
}

#[test]
fn a_public_key_without_a_secret_is_refused() {
    let none = HostPublicKey([0; 32]);
    assert_eq!(keys().wrap_for(POOL, &none), Err(PoolKeyError::NotForThisHost));
}

#[test]
fn no_secret_is_printed() {
    let shown = format!("{:?} {:?}", keys(), pair(2));
    assert_eq!(shown, "PoolKeys(3, refresher) HostKeyPair(…)");
}
