//! Identities: accounts, fences, connections, processes, waiters.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A short stable name of an account: 40 bits, printed as `ac_` and eight letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(u64);

/// The number of a lease. Fences are monotonic across restarts and crashes (I4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Fence(pub u64);

/// One connection to the daemon; never reused within a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// One process. The start time distinguishes it from a later process with the same pid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Start time in the platform's own unit; only compared.
    pub start: u64,
}

impl Process {
    /// Set in the start times of holders on other machines and in containers: a process of this system is never one.
    const GUEST: u64 = 1 << 62;

    /// A holder that a guest vouches for: `number` is its own within the guest, `pid` is for people. The same arguments
    /// make the same identity, also after a restart of the daemon.
    #[must_use]
    pub const fn of_guest(guest: GuestId, number: u32, pid: u32) -> Self {
        Self { pid, start: Self::GUEST | (guest.0 as u64) << 32 | number as u64 }
    }

    /// The guest that vouches for it; `None` for a process of this system.
    #[must_use]
    pub const fn guest(self) -> Option<GuestId> {
        if self.start & Self::GUEST == 0 { None } else { Some(GuestId(((self.start & !Self::GUEST) >> 32) as u32)) }
    }

    /// Its number within its guest.
    #[must_use]
    pub const fn guest_number(self) -> u32 {
        self.start as u32
    }
}

/// Another machine, or a container, whose processes hold leases here: 30 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GuestId(u32);

impl GuestId {
    /// Of random or hashed bits; only the lowest 30 count.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self((bits & ((1 << 30) - 1)) as u32)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// One queued request; later requests have higher ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WaiterId(pub u64);

/// Crockford's base 32, lower case: no letter looks like a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const PREFIX: &str = "ac_";
const LETTERS: usize = 8;

impl AccountId {
    /// Makes an id from random bits; only the lowest 40 count.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << 40) - 1))
    }

    /// Whether its text, with or without `ac_`, starts with `prefix`.
    pub(crate) fn starts_with(self, prefix: &str) -> bool {
        let text = self.text();
        text.starts_with(prefix.as_bytes()) || text[PREFIX.len()..].starts_with(prefix.as_bytes())
    }

    fn text(self) -> [u8; PREFIX.len() + LETTERS] {
        let mut text = [0u8; PREFIX.len() + LETTERS];
        text[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        for (place, letter) in text[PREFIX.len()..].iter_mut().enumerate() {
            *letter = ALPHABET[(self.0 >> (5 * (LETTERS - 1 - place)) & 31) as usize];
        }
        text
    }

    /// The 40 bits.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `ac_` and eight letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not an account id")]
pub struct BadAccountId;

impl FromStr for AccountId {
    type Err = BadAccountId;

    fn from_str(text: &str) -> Result<Self, BadAccountId> {
        let letters = text.strip_prefix(PREFIX).ok_or(BadAccountId)?.as_bytes();
        if letters.len() != LETTERS {
            return Err(BadAccountId);
        }
        let value = |letter| ALPHABET.iter().position(|known| known == letter);
        let bits = letters.iter().try_fold(0u64, |bits, letter| Some(bits << 5 | value(letter)? as u64));
        bits.map(Self).ok_or(BadAccountId)
    }
}

impl Serialize for AccountId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AccountId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_of_guests_are_no_processes_of_this_system() {
        let guest = GuestId::from_bits(u64::MAX);
        let holder = Process::of_guest(guest, u32::MAX, 7);
        assert_eq!((holder.guest(), holder.guest_number(), holder.pid), (Some(guest), u32::MAX, 7));
        assert!(i64::try_from(holder.start).is_ok(), "the store has signed numbers");
        assert_ne!(holder, Process::of_guest(guest, u32::MAX - 1, 7));
        assert_eq!(Process { pid: 7, start: 123_456 }.guest(), None);
    }

    #[test]
    fn account_ids_round_trip_as_text() {
        for bits in [0, 1, 31, 32, 0xff_ffff_ffff, 0x12_3456_789a] {
            let id = AccountId::from_bits(bits);
            assert_eq!(id.to_string().parse::<AccountId>().unwrap(), id);
        }
        for bad in ["", "ac_", "ac_0000000", "ac_000000000", "ac_0000000i", "xx_00000000", "ac_0000000é"] {
            assert!(bad.parse::<AccountId>().is_err(), "{bad}");
        }
    }
}
