//! `[share.NAME]`: further sockets, each for the programs of one container, with a policy of its own. A lease there belongs
//! to the process at the other end of its connection: what a container says of process ids is not looked at.

mod http;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use interprocess::local_socket::traits::StreamCommon as _;
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::api::connection::{SharedLimits, serve_guest};
use super::api::session_guest::SessionGuest;
use super::os::clock;
use super::os::opened_process::OpenedProcess;
use super::os::socket::{LocalStream, Socket};
use super::state::Daemon;
use super::state::guests::GuestPolicy;
use crate::config::ShareSection;
use crate::pool::{ConnectionId, GuestId};
use crate::protocol::GuestHolder;
use http::HttpRelay;

/// The ids of connections of containers begin here; those of the socket never get this high.
const FIRST_CONNECTION: u64 = 1 << 61;
/// The most connections of one share.
const MOST_CONNECTIONS: usize = 128;
/// How long to wait after a client could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client may take to send its first byte.
const FIRST_BYTE: Duration = Duration::from_secs(5);

/// Numbers connections.
static CONNECTIONS: AtomicU64 = AtomicU64::new(FIRST_CONNECTION);

/// Opens the sockets that the configuration names, as long as it names them.
pub(crate) async fn keep(daemon: Arc<Daemon>, limits: Arc<SharedLimits>) {
    let mut changes = daemon.config_version.subscribe();
    let mut stop = daemon.stop.subscribe();
    let mut open: BTreeMap<String, (ShareSection, JoinHandle<()>)> = BTreeMap::new();
    let http = Arc::new(HttpRelay::default());
    let holders = Arc::new(HolderNumbers::default());
    loop {
        let wanted = daemon.state().config.config.shares.clone();
        let mut gone = Vec::new();
        for (name, (section, task)) in &mut open {
            match wanted.get(name).filter(|_| !task.is_finished()) {
                Some(wanted) if wanted == section => {}
                // its socket and its clients stay: what they have is measured by the new policy now
                Some(wanted) if is_same_socket(wanted, section) => match set_policy(&daemon, name, wanted) {
                    Ok(_) => *section = wanted.clone(),
                    Err(why) => {
                        tracing::warn!("the share {name:?} is closed: {why}");
                        gone.push(name.clone());
                    }
                },
                _ => gone.push(name.clone()),
            }
        }
        for name in gone {
            if let Some((_, task)) = open.remove(&name) {
                end(task).await;
            }
            if !wanted.contains_key(&name) {
                let lost = daemon.state().guests.share_ends(&name, clock::now());
                lost.into_iter().for_each(|lost| daemon.await_guest(lost));
            }
        }
        for (name, section) in wanted {
            if open.contains_key(&name) {
                continue;
            }
            match begin(&daemon, &limits, (&name, &section), (&http, &holders)) {
                Ok(share) => {
                    let task = tokio::spawn(share.serve());
                    open.insert(name, (section, task));
                }
                Err(why) => tracing::warn!("the socket of the share {name:?} is not served: {why}"),
            }
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            _ = stop.wait_for(|stops| *stops) => break,
        }
    }
    for (_, task) in open.into_values() {
        end(task).await;
    }
}

/// Ends the task of a share. Its socket is closed after that: another one can take the same path.
async fn end(task: JoinHandle<()>) {
    task.abort();
    let _aborted = task.await;
}

/// Whether a section that has changed serves the same clients at the same place.
fn is_same_socket(one: &ShareSection, other: &ShareSection) -> bool {
    (&one.socket, one.uid, one.gid) == (&other.socket, other.uid, other.gid)
}

/// Numbers the holders of shares. A run of the daemon begins at random: leases from before a restart have other numbers.
struct HolderNumbers(Mutex<u32>);

impl Default for HolderNumbers {
    fn default() -> Self {
        Self(Mutex::new(getrandom::u32().unwrap_or(1)))
    }
}

impl HolderNumbers {
    fn next(&self) -> u32 {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *next = next.wrapping_add(1);
        *next
    }
}

/// One socket.
struct Share {
    daemon: Arc<Daemon>,
    limits: Arc<SharedLimits>,
    name: String,
    id: GuestId,
    peers: SharePeers,
    socket: Socket,
    room: Arc<Semaphore>,
    http: Arc<HttpRelay>,
    holders: Arc<HolderNumbers>,
}

/// The client is of another user and group, or has gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct NotAdmitted;

/// Who is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SharePeers {
    uid: Option<u32>,
    gid: Option<u32>,
}

impl SharePeers {
    fn admits(self, uid: Option<u32>, gid: Option<u32>) -> bool {
        let is = |wanted: Option<u32>, found| wanted.is_some() && wanted == found;
        // both, where both are named
        (is(self.uid, uid) || self.uid.is_none())
            && (is(self.gid, gid) || self.gid.is_none())
            && (self.uid.is_some() || self.gid.is_some())
    }
}

fn begin(
    daemon: &Arc<Daemon>,
    limits: &Arc<SharedLimits>,
    (name, section): (&str, &ShareSection),
    (http, holders): (&Arc<HttpRelay>, &Arc<HolderNumbers>),
) -> Result<Share, String> {
    let path = section.socket.clone().ok_or_else(|| format!("set share.{name}.socket"))?;
    let peers = SharePeers { uid: section.uid, gid: section.gid };
    if peers == (SharePeers { uid: None, gid: None }) {
        return Err(format!("set share.{name}.uid or share.{name}.gid"));
    }
    let socket = open_socket(&path)?;
    let id = set_policy(daemon, name, section)?;
    tracing::info!(path = %path.display(), "the share {name} is served");
    let (daemon, limits, name) = (daemon.clone(), limits.clone(), name.to_owned());
    let (http, holders, room) = (http.clone(), holders.clone(), Arc::new(Semaphore::new(MOST_CONNECTIONS)));
    Ok(Share { daemon, limits, name, id, peers, socket, room, http, holders })
}

/// What the clients of a share may have from now on.
fn set_policy(daemon: &Daemon, name: &str, section: &ShareSection) -> Result<GuestId, String> {
    let only = (!section.only.is_empty()).then(|| section.only.clone());
    let policy = GuestPolicy { only, max_leases: section.max_leases, name: None };
    let state = &mut *daemon.state();
    let now = clock::now();
    let id = state.guests.share_begins(name, policy, now).map_err(|why| why.to_string())?;
    state.limit_guest(id, now);
    Ok(id)
}

/// The socket, in a directory that others can enter: its peers are checked when they connect.
fn open_socket(path: &Path) -> Result<Socket, String> {
    let directory = path.parent().map(PathBuf::from).unwrap_or_default();
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&directory);
    made.map_err(|error| format!("{}: {error}", directory.display()))?;
    let socket = Socket::bind(path).map_err(|error| error.to_string())?;
    let opened = fs::set_permissions(path, fs::Permissions::from_mode(0o666));
    opened.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(socket)
}

impl Drop for Share {
    fn drop(&mut self) {
        self.socket.remove();
    }
}

impl Share {
    async fn serve(self) {
        let mut clients = JoinSet::new();
        loop {
            let Ok(permit) = self.room.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                Some(_) = clients.join_next() => continue,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!("no connection to the share {} can be accepted for a moment: {error}", self.name);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(pid) = self.admit(&stream) else { continue };
            let (daemon, limits, http) = (self.daemon.clone(), self.limits.clone(), self.http.clone());
            let (id, name, number) = (self.id, self.name.clone(), self.holders.next());
            clients.spawn(async move {
                serve_client(&daemon, limits, (id, &name, number), (stream, pid), &http).await;
                drop(permit);
            });
        }
    }

    /// The process at the other end, if it is of the user or group that is served.
    fn admit(&self, stream: &LocalStream) -> Result<Option<u32>, NotAdmitted> {
        let peer = stream.peer_creds().map_err(|_| NotAdmitted)?;
        if !self.peers.admits(peer.euid(), peer.egid()) {
            tracing::warn!(uid = peer.euid(), gid = peer.egid(), "a client of the share {} was refused", self.name);
            return Err(NotAdmitted);
        }
        Ok(peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0))
    }
}

async fn serve_client(
    daemon: &Arc<Daemon>,
    limits: Arc<SharedLimits>,
    (id, name, number): (GuestId, &str, u32),
    (stream, pid): (LocalStream, Option<u32>),
    http: &HttpRelay,
) {
    let stream = match first_byte(stream).await {
        Some((stream, is_http)) if is_http => return http.relay(daemon, stream).await,
        Some((stream, _)) => stream,
        None => return,
    };
    let Ok(stream) = stream.into_std().map(OwnedFd::from) else { return };
    let Ok(stream) = interprocess::os::unix::uds_local_socket::tokio::Stream::try_from(stream) else { return };
    // found and opened once, when it has just connected
    let opened = pid.and_then(|pid| OpenedProcess::open_of_any_user(pid).ok().flatten());
    let program = opened.as_ref().and_then(|opened| opened.holder().program).map(|program| program.to_string());
    let holder = GuestHolder { number, pid: pid.unwrap_or_default(), program };
    if daemon.guest_holders(id, &[holder], (&[], false)).is_err() {
        return;
    }
    let connection = ConnectionId(CONNECTIONS.fetch_add(1, Ordering::Relaxed));
    let outbox = limits.outbox();
    daemon.state().connections.insert(connection, outbox.clone());
    let _served = ServedClient { daemon, id, number, connection };
    let guest = Arc::new(SessionGuest::of_share(id, name, number));
    let process_ended = async {
        match opened {
            Some(opened) => drop(opened.ended().await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = serve_guest(daemon.clone(), limits, LocalStream::UdSocket(stream), (connection, guest), outbox) => {}
        // a child may still have the connection
        () = process_ended => daemon.connection_ended(connection),
    }
}

/// A client that is served. What it has ends with it, also when its share is closed or removed in the middle.
struct ServedClient<'a> {
    daemon: &'a Arc<Daemon>,
    id: GuestId,
    number: u32,
    connection: ConnectionId,
}

impl Drop for ServedClient<'_> {
    fn drop(&mut self) {
        // leases outlive a daemon that stops: their holders resume them
        if !*self.daemon.stop.borrow() {
            self.daemon.connection_ended(self.connection);
            let _ended = self.daemon.guest_holders(self.id, &[], (&[self.number], false));
        }
    }
}

/// Whether a client speaks HTTP, as its first byte says: calls begin with `{` or with the magic of binary frames.
async fn first_byte(LocalStream::UdSocket(stream): LocalStream) -> Option<(UnixStream, bool)> {
    let stream = std::os::unix::net::UnixStream::from(OwnedFd::try_from(stream).ok()?);
    stream.set_nonblocking(true).ok()?;
    let stream = UnixStream::from_std(stream).ok()?;
    let peeking = async {
        loop {
            stream.readable().await.ok()?;
            let mut byte = [0_u8; 1];
            let peeked = stream.try_io(Interest::READABLE, || Ok(recv(&stream, &mut byte, RecvFlags::PEEK)?.0));
            match peeked {
                Ok(0) => return None,
                Ok(_) => return Some(byte[0].is_ascii_uppercase() && byte[0] != b'L'),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    };
    let is_http = tokio::time::timeout(FIRST_BYTE, peeking).await.ok().flatten()?;
    Some((stream, is_http))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_of_the_named_user_and_group() {
        let of = |uid, gid| SharePeers { uid, gid };
        for (peers, uid, gid, is_admitted) in [
            (of(Some(7), None), 7, 1, true),
            (of(Some(7), None), 8, 7, false),
            (of(None, Some(9)), 7, 9, true),
            (of(None, Some(9)), 9, 7, false),
            (of(Some(7), Some(9)), 7, 9, true),
            (of(Some(7), Some(9)), 7, 8, false),
            (of(None, None), 0, 0, false),
        ] {
            assert_eq!(peers.admits(Some(uid), Some(gid)), is_admitted, "{peers:?} {uid} {gid}");
        }
        assert!(!of(Some(7), None).admits(None, None), "the system does not tell who it is");
    }
}
