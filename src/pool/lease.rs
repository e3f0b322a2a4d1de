//! Leases: who holds which account, and what ends it.

use std::sync::Arc;
use std::time::Duration;

use super::id::{AccountId, ConnectionId, Fence, Process};
use super::select::ChosenBy;
use super::target::Target;
use super::time::{Mono, Wall};

/// What ends a lease, besides its holder and its time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Bind {
    /// The end of this connection.
    Connection(ConnectionId),
    /// The death of this process.
    Process(Process),
    /// Nothing else: it always has a time.
    Ttl,
}

/// Who asked: shown to people, and the key of the reuse window.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holder {
    /// The process, where the platform tells.
    pub process: Option<Process>,
    /// Its name.
    pub program: Option<Arc<str>>,
}

/// The right of one holder to use one account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Its number.
    pub fence: Fence,
    /// The account.
    pub account: AccountId,
    /// What for.
    pub target: Target,
    /// The conversation it belongs to.
    pub session: Option<Box<str>>,
    /// The holder's name for it.
    pub label: Option<Box<str>>,
    /// The agent's name, self-declared.
    pub agent: Option<Box<str>>,
    /// What ends it.
    pub bind: Bind,
    /// Who holds it.
    pub holder: Holder,
    /// Whether nobody else may hold the account meanwhile.
    pub exclusive: bool,
    /// Whether its holder asked for this account and no other.
    pub pinned: bool,
    /// What decided for this account.
    pub by: ChosenBy,
    /// What a renewal adds.
    pub ttl: Option<Duration>,
    /// When it ends by itself.
    pub expires: Option<Mono>,
    /// When it was granted.
    pub granted_at: Wall,
    /// The caller's name for the request, for retries.
    pub request_id: Option<Box<str>>,
}

/// Why a lease ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ending {
    /// Its holder gave it back.
    Released,
    /// Its connection closed.
    ConnectionClosed,
    /// Its process died.
    ProcessEnded,
    /// Its time ran out.
    Expired,
    /// A report moved its holder to another account.
    Switched,
    /// Its account was removed.
    Revoked,
}

impl Ending {
    /// The stable name, as in events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::ConnectionClosed => "connection_closed",
            Self::ProcessEnded => "process_ended",
            Self::Expired => "expired",
            Self::Switched => "switched",
            Self::Revoked => "revoked",
        }
    }
}

impl Lease {
    /// Whether it must outlive the daemon: its holder does not hang on our connection.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        !matches!(self.bind, Bind::Connection(_))
    }
}
