//! Writes the answer with a lease, which is the most frequent one, without `serde`, by the rules of bincode.

use super::value;
use crate::protocol::answer::{AccountName, CredentialInfo, LeaseInfo};

// the places of the answer in `FromServer`, and of the lease in `Answer`
const ANSWER: u8 = 0;
const LEASE: u8 = 1;
/// The room that is made at once; most leases take less.
const ROOM: usize = 384;

/// Appends the answer to a call, byte for byte as `serde` would.
pub(super) fn answer(id: u64, info: &LeaseInfo<'_>, out: &mut Vec<u8>) {
    out.reserve(ROOM);
    out.push(ANSWER);
    number(id, out);
    out.push(LEASE);
    lease(info, out);
}

/// The patterns name every member, so that none is forgotten.
fn lease(info: &LeaseInfo<'_>, out: &mut Vec<u8>) {
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
    text(lease, out);
    number(*fence, out);
    text(id, out);
    optional_text(label.as_deref(), out);
    optional_text(email.as_deref(), out);
    value(tier, out);
    text(provider, out);
    optional_text(pool.as_deref(), out);
    optional_text(model.as_deref(), out);
    text(quota_key, out);
    number(u64::from(*shared_with), out);
    optional_number(*expires_at, out);
    out.push(u8::from(credential.is_some()));
    if let Some(CredentialInfo { kind, secret, expires_at, header, scheme, resource, account_id }) = credential {
        value(kind, out);
        text(&secret.0, out);
        optional_number(*expires_at, out);
        text(header, out);
        optional_text(scheme.as_deref(), out);
        optional_text(resource.as_deref(), out);
        optional_text(account_id.as_deref(), out);
    }
    optional_text(project_id.as_deref(), out);
}

fn number(number: u64, out: &mut Vec<u8>) {
    let bytes = number.to_le_bytes();
    let (mark, length) = match number {
        0..=250 => return out.push(bytes[0]),
        251..=0xffff => (251, 2),
        0x1_0000..=0xffff_ffff => (252, 4),
        0x1_0000_0000.. => (253, 8),
    };
    out.push(mark);
    out.extend_from_slice(&bytes[..length]);
}

fn optional_number(of: Option<u64>, out: &mut Vec<u8>) {
    out.push(u8::from(of.is_some()));
    if let Some(of) = of {
        number(of, out);
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    number(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn optional_text(of: Option<&str>, out: &mut Vec<u8>) {
    out.push(u8::from(of.is_some()));
    if let Some(of) = of {
        text(of, out);
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
            super::value(&FromServer::Answer(id, Answer::Lease(info)), &mut by_serde);
            prop_assert_eq!(written, by_serde);
        }
    }
}
