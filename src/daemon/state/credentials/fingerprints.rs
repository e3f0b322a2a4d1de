//! What accounts authenticate with, and have authenticated with before: known again by fingerprint.

use std::collections::HashSet;

use rustc_hash::FxHashMap;

use crate::credential::{Credential, Fingerprint, FingerprintKey, Secret};
use crate::pool::{AccountId, Wall};

/// Most of one account; the store keeps no more.
const MOST: usize = 256;

/// Fingerprints of every credential that was ever kept, as far back as the store remembers.
#[derive(Debug)]
pub(crate) struct Fingerprints {
    key: FingerprintKey,
    seen: FxHashMap<Fingerprint, (AccountId, Wall)>,
}

impl Fingerprints {
    pub(crate) fn new(key: FingerprintKey, kept: Vec<(Fingerprint, AccountId, Wall)>) -> Self {
        let seen = kept.into_iter().map(|(print, account, at)| (print, (account, at))).collect();
        Self { key, seen }
    }

    pub(crate) fn of(&self, credential: &Credential) -> Fingerprint {
        self.key.of_credential(credential)
    }

    /// The fingerprint of a login with this refresh token.
    pub(crate) fn of_refresh(&self, refresh: &Secret) -> Fingerprint {
        self.key.of(refresh)
    }

    /// Remembers a credential that is kept from now on; one that was known stays known since then.
    pub(crate) fn keep(&mut self, account: AccountId, credential: &Credential, now: Wall) {
        let seen = self.seen.entry(self.of(credential)).or_insert((account, now));
        if seen.0 != account {
            *seen = (account, now);
        }
        let mut times: Vec<Wall> = self.each_of(account).map(|(_, at)| at).collect();
        if times.len() > MOST {
            times.sort_unstable();
            let oldest = times[times.len() - MOST];
            self.seen.retain(|_, (owner, at)| *owner != account || *at >= oldest);
        }
    }

    pub(crate) fn forget(&mut self, account: AccountId) {
        self.seen.retain(|_, (owner, _)| *owner != account);
    }

    /// Since when this has been known of this account.
    pub(crate) fn known_since(&self, account: AccountId, print: Fingerprint) -> Option<Wall> {
        self.seen.get(&print).filter(|(owner, _)| *owner == account).map(|(_, at)| *at)
    }

    /// All that is known of an account.
    pub(crate) fn of_account(&self, account: AccountId) -> HashSet<Fingerprint> {
        self.each_of(account).map(|(print, _)| print).collect()
    }

    fn each_of(&self, account: AccountId) -> impl Iterator<Item = (Fingerprint, Wall)> {
        self.seen.iter().filter(move |(_, (owner, _))| *owner == account).map(|(print, (_, at))| (*print, *at))
    }
}
