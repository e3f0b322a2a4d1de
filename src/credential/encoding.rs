//! The plain bytes of a credential, which are sealed before they are stored or leave the machine.

use zeroize::Zeroizing;

use super::{Credential, Secret};
use crate::pool::{CredentialKind, Wall};

/// The format of a plain credential: kind, expiry, access token, refresh token; integers have a fixed length.
type Plain<'a> = (u8, Option<u64>, &'a str, Option<&'a str>);

/// What follows it if any of it is known: the OAuth client, and when the provider first accepted the credential.
/// Earlier versions did not write it.
type Later<'a> = (Option<&'a str>, Option<u64>);

/// What follows that if any of it is known: the API that the login is for, and when it may be refreshed.
type Latest<'a> = (Option<&'a str>, Option<u64>);

/// The bound keeps damaged lengths from allocating memory.
const FORMAT: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Fixint,
    bincode::config::Limit<{ 16 << 20 }>,
> = bincode::config::legacy().with_limit();

const KINDS: [CredentialKind; 3] = [CredentialKind::Oauth, CredentialKind::ApiKey, CredentialKind::Token];

/// The bytes of a credential, in a buffer that is wiped.
pub(crate) fn encode(credential: &Credential) -> Result<Zeroizing<Vec<u8>>, String> {
    let kind = KINDS.iter().position(|kind| *kind == credential.kind).and_then(|at| u8::try_from(at).ok());
    let (access, refresh) = (credential.access.expose(), credential.refresh.as_ref().map(Secret::expose));
    let plain: Plain<'_> = (kind.ok_or("unknown kind")?, credential.expires_at.map(|at| at.0), access, refresh);
    let later: Later<'_> = (credential.client_id.as_deref(), credential.accepted_at.map(|at| at.0));
    let latest: Latest<'_> = (credential.resource.as_deref(), credential.refresh_from.map(|at| at.0));
    let texts = [Some(access), refresh, later.0, latest.0];
    // allocated in full: a vector that grows leaves unwiped memory behind
    let mut bytes = Zeroizing::new(vec![0; 96 + texts.into_iter().flatten().map(str::len).sum::<usize>()]);
    let mut length = bincode::encode_into_slice(plain, &mut bytes, FORMAT).map_err(|error| error.to_string())?;
    let parts = [later, latest];
    let known = parts.iter().rposition(|part| *part != (None, None)).map_or(0, |last| last + 1);
    for part in parts.into_iter().take(known) {
        let rest = bytes.get_mut(length..).unwrap_or_default();
        length += bincode::encode_into_slice(part, rest, FORMAT).map_err(|error| error.to_string())?;
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// The credential that these are the bytes of.
pub(crate) fn decode(bytes: &[u8]) -> Option<Credential> {
    let ((kind, expires_at, access, refresh), length): (Plain<'_>, _) =
        bincode::borrow_decode_from_slice(bytes, FORMAT).ok()?;
    let mut rest = bytes.get(length..).unwrap_or_default();
    let mut parts: [Later<'_>; 2] = [(None, None); 2];
    for part in &mut parts {
        if rest.is_empty() {
            break;
        }
        let length;
        (*part, length) = bincode::borrow_decode_from_slice(rest, FORMAT).ok()?;
        rest = rest.get(length..).unwrap_or_default();
        // the last part that is there says something
        if rest.is_empty() && *part == (None, None) {
            return None;
        }
    }
    if !rest.is_empty() {
        return None;
    }
    let [(client_id, accepted_at), (resource, refresh_from)] = parts;
    let secret = |text: &str| Secret::new(text.to_owned());
    Some(Credential {
        kind: *KINDS.get(usize::from(kind))?,
        access: secret(access),
        refresh: refresh.map(secret),
        expires_at: expires_at.map(Wall),
        client_id: client_id.map(str::to_owned),
        accepted_at: accepted_at.map(Wall),
        resource: resource.map(str::to_owned),
        refresh_from: refresh_from.map(Wall),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any credential.
    pub(crate) fn any_credential() -> impl Strategy<Value = Credential> {
        let kind = prop_oneof![Just(CredentialKind::Oauth), Just(CredentialKind::ApiKey), Just(CredentialKind::Token)];
        let (text, time) = (|| proptest::option::of(".{0,40}"), || proptest::option::of(any::<u64>()));
        (kind, ".{0,40}", text(), time(), text(), time(), text(), time()).prop_map(
            |(kind, access, refresh, expires, client_id, accepted, resource, refresh_from)| Credential {
                kind,
                access: Secret::new(access),
                refresh: refresh.map(Secret::new),
                expires_at: expires.map(Wall),
                client_id,
                accepted_at: accepted.map(Wall),
                resource,
                refresh_from: refresh_from.map(Wall),
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_decode_to_something_or_nothing(bytes: Vec<u8>) {
            if let Some(credential) = decode(&bytes) {
                prop_assert_eq!(&encode(&credential).unwrap()[..], &bytes[..]);
            }
        }
    }

    /// What version 0.1 wrote: without a client id.
    #[test]
    fn credentials_of_earlier_versions_open_and_are_written_as_before() {
        let bytes = b"\x00\x01\x09\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0at\x01\x02\0\0\0\0\0\0\0rt";
        let login = decode(bytes).unwrap();
        assert_eq!((login.access.expose(), login.expires_at), ("at", Some(Wall(9))));
        assert_eq!((&login.client_id, login.accepted_at), (&None, None));
        assert_eq!(&encode(&login).unwrap()[..], bytes);
        let of_client = Credential { client_id: Some("c".into()), accepted_at: Some(Wall(7)), ..login };
        let longer = encode(&of_client).unwrap();
        let later = b"\x01\x01\0\0\0\0\0\0\0c\x01\x07\0\0\0\0\0\0\0";
        assert_eq!((&longer[..bytes.len()], &longer[bytes.len()..]), (&bytes[..], &later[..]));
        assert_eq!(decode(&longer), Some(of_client));
        for cut in bytes.len() + 1..longer.len() {
            assert_eq!(decode(&longer[..cut]), None, "{cut}");
        }
    }
}
