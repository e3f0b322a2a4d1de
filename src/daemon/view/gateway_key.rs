//! Lasting keys of the gateway.

use std::time::Duration;

use crate::daemon::state::{GatewayKeys, LastingKey};
use crate::pool::{Wall, spoken};
use crate::protocol::GatewayKeyInfo;

/// How long `status` warns of an expired key after a request with it.
const WARNED: Duration = Duration::from_secs(3600);
/// The most keys that it warns of one by one.
const MOST_WARNED: usize = 3;

/// A key for `gateway.keys`.
pub(crate) fn gateway_key(key: &LastingKey, now: Wall) -> GatewayKeyInfo {
    let record = key.record();
    let state = if key.is_revoked() {
        "revoked"
    } else if key.has_expired(now) {
        "expired"
    } else {
        "valid"
    };
    GatewayKeyInfo {
        id: key.id(),
        label: record.label.as_deref().map(str::to_owned),
        agent: record.agent.as_deref().map(str::to_owned),
        state: state.to_owned(),
        created_at: (!record.sealed).then_some(record.listed_at.0),
        listed_at: record.listed_at.0,
        expires_at: record.expires_at.map(|at| at.0),
        last_used_at: key.last_used_at().map(|at| at.0),
        revoked_at: key.revoked_at().map(|at| at.0),
        leases: key.in_use(),
        max_leases: record.max_leases,
        directory: record.directory.as_deref().map(str::to_owned),
    }
}

/// Warns of keys that have expired and are still used.
pub(super) fn warnings(keys: &GatewayKeys, now: Wall) -> Vec<String> {
    let is_used = |key: &LastingKey| {
        !key.is_revoked() && key.has_expired(now) && key.refused_at().is_some_and(|at| now.since(at) < WARNED)
    };
    let mut used = keys.listed(now);
    used.retain(|key| is_used(key));
    let more = used.len().saturating_sub(MOST_WARNED);
    let warning = |key: &std::sync::Arc<LastingKey>| {
        let since = spoken(now.since(key.record().expires_at.unwrap_or(now)));
        let name = key.name();
        format!("the gateway key {name} expired {since} ago and is still used; make a new one: lessor gateway key")
    };
    let mut warnings: Vec<String> = used.iter().take(MOST_WARNED).map(warning).collect();
    if more > 0 {
        warnings.push(format!("{more} more expired gateway keys are still used: lessor gateway keys"));
    }
    warnings
}
