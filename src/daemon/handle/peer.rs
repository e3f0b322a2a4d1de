//! The other end of a gateway connection: what is known of its program. It is looked up at most once for each connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OnceCell, watch};

use crate::daemon::attest::{Lookups, StatedAgent, process_of};
use crate::daemon::os::peer_process::{Ancestry, RunningProgram, ancestry, ancestry_of_tcp_peer};
use crate::daemon::os::tcp_peer::find_tcp_peer;
use crate::pool::{Attestation, Process};
use crate::protocol::HolderInfo;

/// The other end of a gateway connection.
#[derive(Debug)]
pub struct GatewayPeer {
    pub(super) end: PeerEnd,
    ancestry: OnceCell<Vec<RunningProgram>>,
    /// The last comparison, and the version of the configuration that it was made with.
    pub(super) last: Mutex<Option<(StatedAgent, u64, Attestation)>>,
    /// The agents that its program is recognised as.
    pub(super) agents: Mutex<Option<RecognisedAgents>>,
    /// How many lookups have failed.
    pub(super) failures: AtomicU32,
    /// Whether it was compared for a warning.
    pub(super) is_compared: AtomicBool,
    /// The sender of its requests, for their records.
    pub(super) sender: Mutex<KnownSender>,
}

/// The agents that a program is recognised as.
#[derive(Clone, Debug)]
pub(super) struct RecognisedAgents {
    /// Of the configuration that names further programs.
    pub(super) version: u64,
    pub(super) agents: Arc<[Box<str>]>,
}

/// After so many failures a connection is not looked up again.
pub(super) const MOST_FAILURES: u32 = 3;

#[derive(Clone, Copy, Debug)]
pub(super) enum PeerEnd {
    /// The addresses of this end and of the other one.
    Tcp(SocketAddr, SocketAddr),
    /// The process that connected.
    Process(Process),
    Unknown,
}

impl GatewayPeer {
    /// Of a TCP connection with these addresses, this end's and the other one's.
    #[must_use]
    pub fn tcp(addresses: Option<(SocketAddr, SocketAddr)>) -> Arc<Self> {
        Self::new(addresses.map_or(PeerEnd::Unknown, |(own, peer)| PeerEnd::Tcp(own, peer)))
    }

    /// Of a connection to the Unix socket, by the process that has just connected.
    #[must_use]
    pub fn local(pid: Option<u32>) -> Arc<Self> {
        Self::new(pid.and_then(process_of).map_or(PeerEnd::Unknown, PeerEnd::Process))
    }

    /// Whether it is a program of this user, or one whose user the system does not tell.
    #[must_use]
    pub fn may_be_of_this_user(&self) -> bool {
        match self.end {
            PeerEnd::Tcp(own, peer) => find_tcp_peer(own, peer).is_none_or(|peer| peer.is_of_this_user()),
            PeerEnd::Process(_) | PeerEnd::Unknown => true,
        }
    }

    fn new(end: PeerEnd) -> Arc<Self> {
        let (failures, is_compared) = (AtomicU32::new(0), AtomicBool::new(false));
        Arc::new(Self {
            end,
            ancestry: OnceCell::new(),
            last: Mutex::default(),
            agents: Mutex::default(),
            failures,
            is_compared,
            sender: Mutex::default(),
        })
    }

    /// The processes behind the connection; looked up on another thread, again after a failure that may pass.
    pub(super) async fn ancestry(&self, lookups: &Lookups) -> Ancestry {
        let end = self.end;
        let lookup = || async move {
            if self.failures.load(Ordering::Relaxed) >= MOST_FAILURES {
                return Err("the system has not told which process has the other end of the connection".into());
            }
            let found =
                lookups.run(move || end.ancestry()).await.unwrap_or_else(|| Err("the lookup has failed".into()));
            if found.is_err() {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            found
        };
        self.ancestry.get_or_try_init(lookup).await.cloned()
    }

    /// The process at the other end of a connection to the Unix socket.
    pub(super) fn process(&self) -> Option<Process> {
        match self.end {
            PeerEnd::Process(process) => Some(process),
            PeerEnd::Tcp(..) | PeerEnd::Unknown => None,
        }
    }

    pub(super) fn known_attestation(&self, stated: &StatedAgent, version: u64) -> Option<Attestation> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, _, attested) = last.as_ref().filter(|(known, at, _)| known == stated && *at == version)?;
        Some(attested.clone())
    }
}

impl PeerEnd {
    fn ancestry(self) -> Ancestry {
        match self {
            Self::Tcp(own, peer) => ancestry_of_tcp_peer(own, peer),
            Self::Process(process) => match ancestry(process.pid) {
                Ok(found) if found.first().is_some_and(|first| first.process == process) => Ok(found),
                _ => Err("the process that made the connection has ended".into()),
            },
            Self::Unknown => Err("the system does not tell which process made the connection".into()),
        }
    }
}

/// The process that sends requests, as far as it is known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestSender {
    /// The process and its program.
    pub holder: Option<Arc<HolderInfo>>,
    /// The directory that it works in.
    pub directory: Option<Arc<str>>,
}

/// What a connection knows of its sender.
#[derive(Debug, Default)]
pub(super) struct KnownSender {
    /// The process of the lease that it was looked up for, and what was found.
    pub(super) last: Option<(Option<Process>, Arc<RequestSender>)>,
    /// Gets the result of a lookup on another thread.
    pub(super) awaited: Option<watch::Receiver<Option<Arc<RequestSender>>>>,
}
