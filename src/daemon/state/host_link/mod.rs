//! The link to a host, whose accounts this daemon uses, as the daemon's clients see it; `host_link/` keeps it.

mod holders;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, watch};

use crate::guest::LinkHandle;
use crate::pool::{ConnectionId, Now, Process};
use crate::protocol::{ErrorInfo, ErrorKind, GuestHolder, HostInfo};
use holders::LocalHolders;

/// The link to the host, as the daemon's clients see it.
#[derive(Debug)]
pub(crate) struct HostLink {
    /// Whether `[join]` names a host.
    pub(in crate::daemon) is_joined: AtomicBool,
    /// Whether the thread of the link runs.
    pub(in crate::daemon) is_running: AtomicBool,
    /// This daemon's random number: the host knows its leases by it.
    pub(in crate::daemon) id: String,
    pub(in crate::daemon) state: watch::Sender<HostState>,
    /// How many calls and requests wait for the link.
    pub(in crate::daemon) waiting: AtomicUsize,
    /// Wakes the thread of the link, which may pause between two attempts.
    pub(in crate::daemon) wanted: Notify,
    holders: Mutex<LocalHolders>,
    /// Holders that have ended, for the host.
    pub(in crate::daemon) ended: mpsc::UnboundedSender<u32>,
    pub(in crate::daemon) for_link: Mutex<Option<mpsc::UnboundedReceiver<u32>>>,
}

/// How the link is.
#[derive(Clone, Debug)]
pub(in crate::daemon) enum HostState {
    Off,
    Down {
        since: Now,
        why: Option<Arc<str>>,
        /// For longer than the grace: the leases have ended.
        is_over: bool,
    },
    Up(LinkHandle, Now),
}

impl HostLink {
    /// Of a daemon with this random number, which tells its guests apart at the host.
    pub(crate) fn new(number: u64) -> Self {
        let (ended, for_link) = mpsc::unbounded_channel();
        Self {
            is_joined: AtomicBool::new(false),
            is_running: AtomicBool::new(false),
            id: format!("{number:016x}"),
            state: watch::Sender::new(HostState::Off),
            waiting: AtomicUsize::new(0),
            wanted: Notify::new(),
            holders: Mutex::default(),
            ended,
            for_link: Mutex::new(Some(for_link)),
        }
    }

    /// Whether calls about leases go to a host.
    pub(crate) fn is_joined(&self) -> bool {
        self.is_joined.load(Ordering::Relaxed)
    }

    /// Whether the link is up.
    pub(crate) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), HostState::Up(..))
    }

    /// The link, as soon as it is up.
    ///
    /// # Errors
    /// When it has been down for longer than the grace, or there is no host any more.
    pub(in crate::daemon) async fn when_up(&self) -> Result<LinkHandle, ErrorInfo> {
        if let HostState::Up(link, _) = &*self.state.borrow() {
            return Ok(link.clone());
        }
        let _waiting = WaitingForLink::begin(self);
        let mut state = self.state.subscribe();
        let found = state.wait_for(|state| !matches!(state, HostState::Down { is_over: false, .. })).await;
        match found.as_deref() {
            Ok(HostState::Up(link, _)) => Ok(link.clone()),
            Ok(HostState::Down { why, .. }) => Err(unreachable_host(why.as_deref())),
            Ok(HostState::Off) | Err(_) => Err(unreachable_host(Some("this machine has left its host"))),
        }
    }

    pub(in crate::daemon) fn holders(&self) -> MutexGuard<'_, LocalHolders> {
        // entries are only added and removed
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a process whose leases end with it.
    pub(crate) fn process_holder(&self, process: Process, program: Option<&str>) -> GuestHolder {
        self.holders().of_process(process, program)
    }

    /// The number of a connection whose leases end with it.
    pub(crate) fn connection_holder(
        &self,
        connection: ConnectionId,
        pid: Option<u32>,
        program: Option<&str>,
    ) -> GuestHolder {
        self.holders().of_connection(connection, pid, program)
    }

    /// The number for leases that end with their time, and with this daemon.
    pub(crate) fn own_holder(&self, pid: u32) -> GuestHolder {
        self.holders().own(pid)
    }

    pub(crate) fn process_ended(&self, process: Process) {
        let ended = self.holders().process_ended(process);
        self.tell(ended);
    }

    pub(crate) fn connection_ended(&self, connection: ConnectionId) {
        let ended = self.holders().connection_ended(connection);
        self.tell(ended);
    }

    /// Whether leases of the host are held here.
    pub(crate) fn has_holders(&self) -> bool {
        self.is_joined() && !self.holders().is_empty()
    }

    fn tell(&self, ended: Option<u32>) {
        if let Some(number) = ended {
            // without a link, the next one begins with those that live
            let _no_link = self.ended.send(number);
        }
    }

    /// For `status`.
    pub(crate) fn info(&self, host: &str) -> Option<HostInfo> {
        let (state, since, trouble) = match &*self.state.borrow() {
            HostState::Off => return None,
            HostState::Down { since, why, .. } => ("down", *since, why.as_deref().map(str::to_owned)),
            HostState::Up(_, since) => ("up", *since, None),
        };
        Some(HostInfo { name: host.to_owned(), state: state.to_owned(), since: since.wall.0, trouble })
    }
}

/// A call or request that waits for the link.
struct WaitingForLink<'a>(&'a HostLink);

impl<'a> WaitingForLink<'a> {
    fn begin(link: &'a HostLink) -> Self {
        link.waiting.fetch_add(1, Ordering::Relaxed);
        link.wanted.notify_one();
        Self(link)
    }
}

impl Drop for WaitingForLink<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The refusal of what waits for a host in vain.
pub(in crate::daemon) fn unreachable_host(why: Option<&str>) -> ErrorInfo {
    let why = why.unwrap_or("it has been down for longer than `join.grace`");
    ErrorInfo::new(ErrorKind::HostUnreachable, format!("the link to the host is down: {why}"))
        .hint("see: lessor status; to use this machine's own accounts again: lessor leave")
}
