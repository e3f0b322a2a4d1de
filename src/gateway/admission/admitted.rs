//! The place of one connection, from its acceptance to its end, and what is noted when places run out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::places::{Admission, PeerClass, PlaceId, PlaceLimits, Places};
use crate::daemon::{GatewayHandle, GatewayShortage, clock, find_tcp_peer};
use crate::gateway::waiting::now;

/// The most bytes of half-sent heads, over all connections.
const MOST_HEADS: usize = 8 << 20;
/// The interval between two log lines about connections that had no place.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How long another user has to wait, when its share is used up, until a connection replaces one of its own: a new
/// connection that is refused at once costs a fraction of one that is served and closed.
const REPLACE_INTERVAL: Duration = Duration::from_millis(20);

/// Admits connections, and notes when places run out.
#[derive(Debug)]
pub(in crate::gateway) struct ConnectionAdmission {
    handle: GatewayHandle,
    places: Mutex<Places<oneshot::Sender<()>>>,
    /// When a connection of another user has last replaced one.
    replaced: Mutex<Option<Instant>>,
    shortage: Mutex<ShortageLog>,
}

#[derive(Debug, Default)]
struct ShortageLog {
    /// Since the daemon has started.
    closed: u64,
    logged: Option<Instant>,
}

/// The place of an admitted connection; it is free again when this is dropped.
#[derive(Debug)]
pub(in crate::gateway) struct AdmittedConnection {
    admission: Arc<ConnectionAdmission>,
    id: PlaceId,
    gone: Mutex<Option<oneshot::Receiver<()>>>,
}

impl PeerClass {
    /// Who is at the other end of a TCP connection.
    pub(in crate::gateway) fn of(stream: &TcpStream) -> Self {
        let (Ok(own), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return Self::Unknown };
        match find_tcp_peer(own, peer) {
            Some(peer) if peer.is_of_this_user() => Self::Own,
            Some(peer) => Self::Other(peer.uid),
            None => Self::Unknown,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Local | Self::Own => "this user".to_owned(),
            Self::Other(uid) => format!("the user with uid {uid}"),
            Self::Unknown => "a user who is not known".to_owned(),
        }
    }
}

impl ConnectionAdmission {
    /// For `most` connections.
    pub(in crate::gateway) fn new(handle: GatewayHandle, most: usize) -> Arc<Self> {
        let limits = PlaceLimits::of(most, cfg!(target_os = "linux"));
        let places = Mutex::new(Places::new(limits));
        Arc::new(Self { handle, places, replaced: Mutex::default(), shortage: Mutex::default() })
    }

    /// How many connections there may be.
    pub(in crate::gateway) fn most(&self) -> usize {
        self.places().limits().all
    }

    /// A place for a new connection, if there is one.
    pub(in crate::gateway) fn admit(self: &Arc<Self>, class: PeerClass) -> Option<AdmittedConnection> {
        let (signal, gone) = oneshot::channel();
        let admission = {
            let mut places = self.places();
            let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
            let may_replace = replaced.is_none_or(|at| now().duration_since(at) >= REPLACE_INTERVAL);
            let admission = places.admit(class, signal, may_replace);
            if matches!(admission, Admission::Admitted(_, Some(_))) && places.limits().is_foreign(class) {
                *replaced = Some(now());
            }
            admission
        };
        match admission {
            Admission::Admitted(id, closed) => {
                if let Some(closed) = closed {
                    self.note_shortage(closed);
                }
                Some(AdmittedConnection { admission: self.clone(), id, gone: Mutex::new(Some(gone)) })
            }
            Admission::Refused => {
                self.note_shortage(class);
                None
            }
        }
    }

    fn places(&self) -> MutexGuard<'_, Places<oneshot::Sender<()>>> {
        // a panic ends one connection; the counts are changed in one step
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of this class was closed because too many are open.
    fn note_shortage(&self, class: PeerClass) {
        let (open, most, without_key, share) = {
            let places = self.places();
            let limits = places.limits();
            (places.len(), limits.all, places.without_key(class), limits.share(class))
        };
        let mut log = self.shortage.lock().unwrap_or_else(PoisonError::into_inner);
        log.closed += 1;
        let (user, last) = (class.name(), clock::now().wall);
        let closed = log.closed;
        self.handle.note_shortage(GatewayShortage { closed, last, user: user.clone(), without_key, share, open, most });
        if log.logged.is_none_or(|at| now().duration_since(at) >= LOG_INTERVAL) {
            log.logged = Some(now());
            tracing::warn!(
                closed,
                "the gateway has too many connections and has closed one of {user}, who has {without_key} open without \
                 a key ({share} allowed); {open} of {most} are open in all, {closed} were closed since the start"
            );
        }
    }
}

impl AdmittedConnection {
    /// The connection has shown a valid key.
    pub(in crate::gateway) fn show_key(&self) {
        self.admission.places().show_key(self.id);
    }

    pub(super) fn begin(&self) {
        self.admission.places().begin(self.id);
    }

    pub(super) fn end(&self) {
        self.admission.places().end(self.id);
    }

    /// More of an unfinished head has come.
    pub(super) fn grow_head(&self, bytes: usize) {
        let gone = self.admission.places().grow_head(self.id, bytes, MOST_HEADS);
        for class in gone {
            self.admission.note_shortage(class);
        }
    }

    /// Waits until the connection has to go, in favour of another one.
    pub(in crate::gateway) async fn closed(&self) {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner).take();
        match gone {
            Some(gone) => _ = gone.await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for AdmittedConnection {
    fn drop(&mut self) {
        self.admission.places().remove(self.id);
    }
}
