//! What guests state: other machines and containers whose programs use this daemon's accounts.
//!
//! A connection that is made for a guest begins with [`GUEST_MAGIC`], the length of a JSON document (`u32`,
//! little-endian), and that document, a [`GuestGreeting`]. The protocol as everywhere follows. `lessor share --stdio`, which
//! runs as the daemon's user, writes the greeting: a guest cannot leave it out, and cannot take it back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The first bytes of a connection that is made for a guest.
pub const GUEST_MAGIC: [u8; 4] = *b"LSG\x01";
/// The longest greeting, in bytes.
pub const LONGEST_GUEST_GREETING: usize = 32 * 1024;

/// Who a guest is, and what it may have.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuestGreeting {
    /// A random number of the guest's daemon, the same for each of its links: leases are resumed by it.
    pub link: String,
    /// For people: user and host name, as the guest states them.
    pub name: String,
    /// The version of lessor there.
    pub version: String,
    /// The name of this host, as the guest calls it.
    pub host: String,
    /// How long leases outlive the link, in ms.
    pub grace_ms: u64,
    /// Only these accounts; stated by `lessor share`.
    pub only: Option<Vec<String>>,
    /// At most so many leases; stated by `lessor share`.
    pub max_leases: Option<u32>,
    /// The name that the host has chosen for the guest; stated by `lessor share`.
    pub policy: Option<String>,
    /// What the connection is for.
    pub role: GuestRole,
    /// Where the guest's programs reach its daemon.
    pub addresses: GuestAddresses,
}

/// What a connection of a guest is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestRole {
    /// One client of the guest's daemon.
    #[default]
    Client,
    /// The link itself: it begins with the holders that live, and its end is the end of the link.
    Link,
}

/// Where a guest's programs reach their own daemon, which passes on what they send.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuestAddresses {
    /// The socket.
    pub socket: String,
    /// The gateway: `http://HOST:PORT`.
    pub gateway_url: Option<String>,
    /// The gateway's Unix socket.
    pub gateway_socket: Option<String>,
    /// The gateway for TLS: `https://HOST:PORT`.
    pub secure_url: Option<String>,
    /// The certificate of the guest's CA.
    pub ca_file: Option<String>,
    /// The guest's certificates and those of its CA.
    pub ca_bundle: Option<String>,
}

/// A process or connection on a guest that holds leases: the guest watches it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GuestHolder {
    /// The guest's own number for it; never used again.
    pub number: u32,
    /// Its process id on the guest, for people.
    pub pid: u32,
    /// Its program, for people.
    pub program: Option<String>,
}

/// `guest.holders`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GuestHoldersParams {
    /// The guest vouches for these from now on.
    pub begun: Vec<GuestHolder>,
    /// These have ended.
    pub ended: Vec<u32>,
    /// The leases that this connection acquires or resumes from now on belong to this one.
    pub holds: Option<u32>,
    /// At the beginning of a link: `begun` has all that live; the leases of all others end.
    pub all: bool,
}

impl GuestGreeting {
    /// The first bytes of a connection.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // texts and numbers only: this cannot fail
        let document = serde_json::to_vec(self).unwrap_or_default();
        let length = u32::try_from(document.len()).unwrap_or(u32::MAX);
        [GUEST_MAGIC.as_slice(), &length.to_le_bytes(), &document].concat()
    }
}
