//! Writes the answer with a lease, which is the most frequent one, without `serde`, by the rules of bincode.

use crate::protocol::ReservedBytes;
use crate::protocol::answer::{AccountName, CredentialInfo, LeaseInfo};

// the places of the answer in `FromServer`, and of the lease in `Answer`
const ANSWER: u8 = 0;
const LEASE: u8 = 1;
/// The most bytes of an answer beside its texts: numbers, lengths, and what says whether a member is there.
const MOST_AROUND: usize = 256;

/// Appends the answer to a call, byte for byte as `serde` would.
pub(super) fn answer(id: u64, info: &LeaseInfo<'_>, out: &mut Vec<u8>) {
    let length: usize = info.texts().iter().flatten().map(|text| text.len()).sum();
    ReservedBytes::append(out, length + MOST_AROUND, |room| {
        room.put(&[ANSWER]);
        number(id, room);
        room.put(&[LEASE]);
        lease(info, room);
    });
}

/// The patterns name every member, so that none is forgotten.
fn lease(info: &LeaseInfo<'_>, room: &mut ReservedBytes<'_>) {
    let LeaseInfo {
        lease,
        fence,
        account,
        provider,
        pool,
        model,
        quota_key,
        shared_with,
        expires_at,
        credential,
        project_id,
    } = info;
    let AccountName { id, label, email, tier } = account;
    text(lease, room);
    number(*fence, room);
    text(id, room);
    optional_text(label.as_deref(), room);
    optional_text(email.as_deref(), room);
    // the place of a variant
    room.put(&[*tier as u8]);
    text(provider, room);
    optional_text(pool.as_deref(), room);
    optional_text(model.as_deref(), room);
    text(quota_key, room);
    number(u64::from(*shared_with), room);
    optional_number(*expires_at, room);
    room.put(&[u8::from(credential.is_some())]);
    if let Some(CredentialInfo { kind, secret, expires_at, header, scheme, resource, account_id }) = credential {
        room.put(&[*kind as u8]);
        text(&secret.0, room);
        optional_number(*expires_at, room);
        text(header, room);
        optional_text(scheme.as_deref(), room);
        optional_text(resource.as_deref(), room);
        optional_text(account_id.as_deref(), room);
    }
    optional_text(project_id.as_deref(), room);
}

#[inline]
fn number(number: u64, room: &mut ReservedBytes<'_>) {
    let bytes = number.to_le_bytes();
    let (mark, length) = match number {
        0..=250 => return room.put(&bytes[..1]),
        251..=0xffff => (251, 2),
        0x1_0000..=0xffff_ffff => (252, 4),
        0x1_0000_0000.. => (253, 8),
    };
    room.put(&[mark]);
    room.put(&bytes[..length]);
}

fn optional_number(of: Option<u64>, room: &mut ReservedBytes<'_>) {
    room.put(&[u8::from(of.is_some())]);
    if let Some(of) = of {
        number(of, room);
    }
}

#[inline]
fn text(text: &str, room: &mut ReservedBytes<'_>) {
    number(text.len() as u64, room);
    room.put(text.as_bytes());
}

#[inline]
fn optional_text(of: Option<&str>, room: &mut ReservedBytes<'_>) {
    room.put(&[u8::from(of.is_some())]);
    if let Some(of) = of {
        text(of, room);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::FromServer;
    use crate::protocol::Answer;
    use crate::protocol::answer::any_lease;

    proptest! {
        #[test]
        fn a_lease_is_written_as_serde_writes_it(id: u64, info in any_lease()) {
            let (mut written, mut by_serde) = (Vec::new(), Vec::new());
            super::answer(id, &info, &mut written);
            super::super::value(&FromServer::Answer(id, Answer::Lease(info)), &mut by_serde);
            prop_assert_eq!(written, by_serde);
        }
    }
}
