//! Writes the answer with a lease, which is the most frequent one, and that to a report without `serde`: the names of
//! their members are known.

use super::value;
use crate::pool::CredentialKind;
use crate::protocol::answer::{AccountName, CredentialInfo, DecisionInfo, LeaseInfo};

/// The room that is made at once; most leases take less.
const ROOM: usize = 768;

/// Appends a lease, byte for byte as `serde` would. The patterns name every member, so that none is forgotten.
pub(super) fn lease(info: &LeaseInfo<'_>, out: &mut Vec<u8>) {
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
    out.reserve(ROOM);
    text(b"{\"lease\":", lease, out);
    number(b",\"fence\":", *fence, out);
    text(b",\"account\":{\"id\":", id, out);
    optional_text(b",\"label\":", label.as_deref(), out);
    optional_text(b",\"email\":", email.as_deref(), out);
    text(b",\"tier\":", tier.name(), out);
    text(b"},\"provider\":", provider, out);
    optional_text(b",\"pool\":", pool.as_deref(), out);
    optional_text(b",\"model\":", model.as_deref(), out);
    text(b",\"quota_key\":", quota_key, out);
    number(b",\"shared_with\":", u64::from(*shared_with), out);
    optional_number(b",\"expires_at\":", *expires_at, out);
    out.extend_from_slice(b",\"credential\":");
    match credential {
        Some(info) => credential_members(info, out),
        None => out.extend_from_slice(b"null"),
    }
    optional_text(b",\"project_id\":", project_id.as_deref(), out);
    out.push(b'}');
}

/// Appends a decision in the same way.
pub(super) fn decision(info: &DecisionInfo<'_>, out: &mut Vec<u8>) {
    let DecisionInfo { action, after_ms, reason, scope, lease: granted, evidence, link } = info;
    text(b"{\"action\":", action, out);
    number(b",\"after_ms\":", *after_ms, out);
    optional_text(b",\"reason\":", reason.as_deref(), out);
    optional_text(b",\"scope\":", scope.as_deref(), out);
    out.extend_from_slice(b",\"lease\":");
    match granted {
        Some(info) => lease(info, out),
        None => out.extend_from_slice(b"null"),
    }
    optional_text(b",\"evidence\":", evidence.as_deref(), out);
    optional_text(b",\"link\":", link.as_deref(), out);
    out.push(b'}');
}

fn credential_members(info: &CredentialInfo<'_>, out: &mut Vec<u8>) {
    let CredentialInfo { kind, secret, expires_at, header, scheme, resource, account_id } = info;
    let kind = match kind {
        CredentialKind::Oauth => "oauth",
        CredentialKind::ApiKey => "api_key",
        CredentialKind::Token => "token",
    };
    text(b"{\"kind\":", kind, out);
    text(b",\"secret\":", &secret.0, out);
    optional_number(b",\"expires_at\":", *expires_at, out);
    text(b",\"header\":", header, out);
    optional_text(b",\"scheme\":", scheme.as_deref(), out);
    optional_text(b",\"resource\":", resource.as_deref(), out);
    optional_text(b",\"account_id\":", account_id.as_deref(), out);
    out.push(b'}');
}

/// Inlined, so that the length of the name is known where it is copied.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a fifth of the instructions of a lease")]
fn text(name: &[u8], text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    let bytes = text.as_bytes();
    // without a branch, so that many bytes are compared at a time
    let is_escaped = bytes.iter().fold(false, |odd, byte| odd | (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\'));
    if is_escaped {
        return value(text, out);
    }
    out.push(b'"');
    out.extend_from_slice(bytes);
    out.push(b'"');
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "a fifth of the instructions of a lease")]
fn optional_text(name: &[u8], of: Option<&str>, out: &mut Vec<u8>) {
    match of {
        Some(of) => text(name, of, out),
        None => null(name, out),
    }
}

#[inline]
fn number(name: &[u8], number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    value(&number, out);
}

#[inline]
fn optional_number(name: &[u8], of: Option<u64>, out: &mut Vec<u8>) {
    match of {
        Some(of) => number(name, of, out),
        None => null(name, out),
    }
}

#[inline]
fn null(name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b"null");
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
