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
    /// How many there are of each account.
    counts: FxHashMap<AccountId, usize>,
}

impl Fingerprints {
    pub(crate) fn new(key: FingerprintKey, kept: Vec<(Fingerprint, AccountId, Wall)>) -> Self {
        let seen: FxHashMap<_, _> = kept.into_iter().map(|(print, account, at)| (print, (account, at))).collect();
        let mut counts = FxHashMap::default();
        seen.values().for_each(|(account, _)| *counts.entry(*account).or_default() += 1);
        Self { key, seen, counts }
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
        let print = self.of(credential);
        match self.seen.get(&print) {
            Some((owner, _)) if *owner == account => return,
            Some((other, _)) => *self.counts.entry(*other).or_default() -= 1,
            None => {}
        }
        self.seen.insert(print, (account, now));
        let count = self.counts.entry(account).or_default();
        *count += 1;
        // only then are they looked through: at a start this is called for every account
        if *count > MOST {
            let mut times: Vec<Wall> = self.each_of(account).map(|(_, at)| at).collect();
            times.sort_unstable();
            let oldest = times[times.len() - MOST];
            self.seen.retain(|_, (owner, at)| *owner != account || *at >= oldest);
            let left = self.each_of(account).count();
            self.counts.insert(account, left);
        }
    }

    pub(crate) fn forget(&mut self, account: AccountId) {
        self.seen.retain(|_, (owner, _)| *owner != account);
        self.counts.remove(&account);
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
