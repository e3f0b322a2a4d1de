//! Which database this host is to be connected with: what the configuration and the membership say together.

use std::sync::Arc;

use super::status::PoolLink;
use crate::daemon::state::Daemon;
use crate::shared_pool::{Membership, PoolAddress};

/// The database, and as whom.
#[derive(Debug)]
pub(super) struct PoolTarget {
    pub(super) address: PoolAddress,
    pub(super) membership: Arc<Membership>,
}

impl PoolTarget {
    /// What holds now; otherwise how `status` says that there is none.
    pub(super) fn of(daemon: &Daemon) -> Result<Self, PoolLink> {
        let membership = daemon.many_hosts.membership();
        let (url, root_certificate) = {
            let section = &daemon.state().config.config.shared_pool;
            (section.url.clone(), section.root_certificate.clone())
        };
        match (url, membership) {
            (None, None) => Err(PoolLink::Unset),
            (Some(_), None) => Err(PoolLink::NotJoined),
            (None, Some(_)) => Err(PoolLink::NoUrl),
            (Some(url), Some(membership)) => {
                let known = membership.address.duplicate();
                let root_certificate = root_certificate.or(known.root_certificate);
                // the role is this host's in the pool, wherever the pool is now
                let url = with_user_of(&url, &known.url);
                let address = PoolAddress { url, root_certificate, ..known };
                Ok(Self { address, membership })
            }
        }
    }

    /// Whether it is the database that this host has joined. Another one need not know its role.
    pub(super) fn is_own_address(&self) -> bool {
        self.address.url == with_user_of(&self.membership.address.url, &self.membership.address.url)
    }

    /// Whether a connection for `self` is still the right one. Newer keys of the same host need no other one.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let of = |target: &Self| (target.membership.pool.clone(), target.membership.host);
        self.address == other.address && of(self) == of(other)
    }
}

/// The URL of the configuration with the user of the membership: that role is this host in the pool, and the password that
/// is stored is its own. Hosts can have the same file.
fn with_user_of(url: &str, known: &str) -> String {
    let user_of =
        |rest: &str| rest.split(['/', '?']).next().and_then(|place| place.rsplit_once('@')).map(|(user, _)| user.len());
    let (Some((scheme, rest)), Some((_, known))) = (url.split_once("://"), known.split_once("://")) else {
        return url.to_owned();
    };
    let Some(user) = user_of(known).map(|length| &known[..length]) else { return url.to_owned() };
    let place = user_of(rest).map_or(rest, |length| &rest[length + 1..]);
    format!("{scheme}://{user}@{place}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::shared_pool::{HostId, HostKeyPair, PoolKeys};

    /// The database at `url`, for a host that has joined the pool at `known`.
    pub(in crate::daemon::many_hosts) fn target(url: &str, known: &str) -> Arc<PoolTarget> {
        let address = |url: &str| PoolAddress { url: url.to_owned(), password: None, root_certificate: None };
        let membership = Membership {
            pool: "a pool".to_owned(),
            host: HostId(7),
            name: "ci-7".to_owned(),
            address: address(known),
            key_pair: HostKeyPair::from_bytes(&[7; 32]),
            keys: PoolKeys::first().unwrap(),
            admin: false,
            refresher: false,
        };
        Arc::new(PoolTarget { address: address(url), membership: Arc::new(membership) })
    }

    #[test]
    fn the_user_is_that_of_the_membership() {
        for (url, known, expected) in [
            ("postgres://db/lessor", "postgres://h7@old/lessor", "postgres://h7@db/lessor"),
            ("postgres://db", "postgres://h7@old/lessor", "postgres://h7@db"),
            ("postgres://me@db/lessor", "postgres://h7@old/lessor", "postgres://h7@db/lessor"),
            ("postgres://db/lessor?a=b@c", "postgres://h7@old/lessor", "postgres://h7@db/lessor?a=b@c"),
            ("postgres://db/lessor", "postgres://old/lessor", "postgres://db/lessor"),
        ] {
            assert_eq!(with_user_of(url, known), expected);
        }
    }
}
