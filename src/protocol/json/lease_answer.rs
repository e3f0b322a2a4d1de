//! Writes the answer with a lease, which is the most frequent one, and that to a report without `serde`: the names of
//! their members are known.

use super::{has_odd, value};
use crate::pool::CredentialKind;
use crate::protocol::ReservedBytes;
use crate::protocol::answer::{AccountName, CredentialInfo, DecisionInfo, LeaseInfo};

/// The most bytes of a lease beside its texts: names, quotes and numbers.
const MOST_AROUND: usize = 512;

/// Appends a lease, byte for byte as `serde` would. The patterns name every member, so that none is forgotten.
pub(super) fn lease(info: &LeaseInfo<'_>, out: &mut Vec<u8>) {
    let texts = info.texts();
    if has_escape(&texts) {
        return value(info, out);
    }
    let length: usize = texts.iter().flatten().map(|text| text.len()).sum();
    ReservedBytes::append(out, length + MOST_AROUND, |room| members(info, room));
}

/// Appends a decision in the same way; one with a lease is rare.
pub(super) fn decision(info: &DecisionInfo<'_>, out: &mut Vec<u8>) {
    let DecisionInfo { action, after_ms, reason, scope, lease, evidence, link } = info;
    let [reason, scope, evidence, link] = [reason, scope, evidence, link].map(Option::as_deref);
    let texts = [Some(&**action), reason, scope, evidence, link];
    if lease.is_some() || has_escape(&texts) {
        return value(info, out);
    }
    let length: usize = texts.iter().flatten().map(|text| text.len()).sum();
    ReservedBytes::append(out, length + MOST_AROUND, |room| {
        text(b"{\"action\":\"", action, room);
        number(b",\"after_ms\":", *after_ms, room);
        optional_text(b",\"reason\":", reason, room);
        optional_text(b",\"scope\":", scope, room);
        room.put(b",\"lease\":null");
        optional_text(b",\"evidence\":", evidence, room);
        optional_text(b",\"link\":", link, room);
        room.put(b"}");
    });
}

fn members(info: &LeaseInfo<'_>, room: &mut ReservedBytes<'_>) {
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
    text(b"{\"lease\":\"", lease, room);
    number(b",\"fence\":", *fence, room);
    text(b",\"account\":{\"id\":\"", id, room);
    optional_text(b",\"label\":", label.as_deref(), room);
    optional_text(b",\"email\":", email.as_deref(), room);
    text(b",\"tier\":\"", tier.name(), room);
    text(b"},\"provider\":\"", provider, room);
    optional_text(b",\"pool\":", pool.as_deref(), room);
    optional_text(b",\"model\":", model.as_deref(), room);
    text(b",\"quota_key\":\"", quota_key, room);
    number(b",\"shared_with\":", u64::from(*shared_with), room);
    optional_number(b",\"expires_at\":", *expires_at, room);
    room.put(b",\"credential\":");
    match credential {
        Some(info) => credential_members(info, room),
        None => room.put(b"null"),
    }
    optional_text(b",\"project_id\":", project_id.as_deref(), room);
    room.put(b"}");
}

fn credential_members(info: &CredentialInfo<'_>, room: &mut ReservedBytes<'_>) {
    let CredentialInfo { kind, secret, expires_at, header, scheme, resource, account_id } = info;
    let kind = match kind {
        CredentialKind::Oauth => "oauth",
        CredentialKind::ApiKey => "api_key",
        CredentialKind::Token => "token",
    };
    text(b"{\"kind\":\"", kind, room);
    text(b",\"secret\":\"", &secret.0, room);
    optional_number(b",\"expires_at\":", *expires_at, room);
    text(b",\"header\":\"", header, room);
    optional_text(b",\"scheme\":", scheme.as_deref(), room);
    optional_text(b",\"resource\":", resource.as_deref(), room);
    optional_text(b",\"account_id\":", account_id.as_deref(), room);
    room.put(b"}");
}

/// Writes a member whose text needs no escapes; `name` ends with the first quote of the text.
#[inline]
fn text(name: &[u8], text: &str, room: &mut ReservedBytes<'_>) {
    room.put(name);
    room.put(text.as_bytes());
    room.put(b"\"");
}

#[inline]
fn optional_text(name: &[u8], of: Option<&str>, room: &mut ReservedBytes<'_>) {
    room.put(name);
    match of {
        Some(of) => text(b"\"", of, room),
        None => room.put(b"null"),
    }
}

#[inline]
fn number(name: &[u8], number: u64, room: &mut ReservedBytes<'_>) {
    room.put(name);
    room.put(itoa::Buffer::new().format(number).as_bytes());
}

#[inline]
fn optional_number(name: &[u8], of: Option<u64>, room: &mut ReservedBytes<'_>) {
    match of {
        Some(of) => number(name, of, room),
        None => {
            room.put(name);
            room.put(b"null");
        }
    }
}

/// Whether `serde` would write an escape within one of the texts.
fn has_escape(texts: &[Option<&str>]) -> bool {
    texts.iter().flatten().any(|text| has_odd(text.as_bytes(), [b'"', b'\\']))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::DecisionInfo;
    use crate::protocol::answer::any_lease;

    proptest! {
        #[test]
        fn a_lease_is_written_as_serde_writes_it(info in any_lease()) {
            let mut written = Vec::new();
            super::lease(&info, &mut written);
            prop_assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(&info).unwrap());
        }

        #[test]
        fn a_decision_is_written_as_serde_writes_it(
            lease in prop::option::of(any_lease()),
            action: String,
            after_ms: u64,
            texts in prop::array::uniform4(prop::option::of(any::<String>())),
        ) {
            let [reason, scope, evidence, link] = texts.map(|text| text.map(Into::into));
            let info = DecisionInfo { action: action.into(), after_ms, reason, scope, lease, evidence, link };
            let mut written = Vec::new();
            super::decision(&info, &mut written);
            prop_assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(&info).unwrap());
        }
    }
}
