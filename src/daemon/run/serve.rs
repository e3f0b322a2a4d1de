//! Serving: accept clients, keep time, notice reasons to stop, drain.

use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::Stream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::daemon::api::connection;
use crate::daemon::config::settle_key;
use crate::daemon::os::lock::Lock;
use crate::daemon::os::signals::{SignalListener, SignalRequest};
use crate::daemon::os::socket::{Socket, admit};
use crate::daemon::os::{clock, service_manager};
use crate::daemon::state::{ConfigMessage, Daemon, Outbox};
use crate::pool::{Command, ConnectionId, Process};

use super::watchdog::Watchdog;

/// The longest sleep of the timer: it makes up for a clock that stops in suspend.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How often the socket is checked, and small things are saved.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// How long a stop waits for answers that are on their way.
const DRAIN: Duration = Duration::from_secs(10);
/// How long no client is accepted when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why serving has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StopReason {
    /// A signal or a call.
    Requested,
    /// No client for as long as `idle_exit` allows.
    Unused,
    /// The socket was removed or replaced.
    SocketLost,
    /// The key is available: a daemon with the accounts takes over.
    Unlocked,
}

/// What clients and signals come in by.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) socket: Socket,
    pub(super) lock: Lock,
    pub(super) signals: SignalListener,
}

impl Serving {
    /// Serves until something ends it. The ends of watched processes arrive by `ended`.
    pub(super) async fn serve(&mut self, daemon: Arc<Daemon>, mut ended: UnboundedReceiver<Process>) -> StopReason {
        let mut connections = Connections::new(&daemon);
        let timer = tokio::spawn(keep_time(daemon.clone()));
        let mut stop = daemon.stop.subscribe();
        let mut watchdog = Watchdog::new();
        let mut check = tokio::time::interval(check_interval(&daemon));
        // the first tick comes at once
        check.tick().await;
        let reason = loop {
            tokio::select! {
                accepted = accept(&self.socket, &connections.room) => {
                    if let Some((stream, permit)) = accepted {
                        connections.serve(stream, permit);
                    }
                }
                Some(_) = connections.tasks.join_next() => {}
                Some(process) = ended.recv() => daemon.process_ended(process),
                signal = self.signals.next() => match signal {
                    Some(SignalRequest::Reload) => daemon.mailboxes.config.send(ConfigMessage::ReadOnSignal),
                    Some(SignalRequest::Stop) | None => break StopReason::Requested,
                },
                _ = stop.changed() => break StopReason::Requested,
                () = unlocked(&daemon) => break StopReason::Unlocked,
                () = daemon.reconfigured.notified() => check.reset_after(check_interval(&daemon)),
                () = watchdog.next() => watchdog.report(&daemon, timer.is_finished()),
                _ = check.tick() => {
                    if let Some(reason) = self.check(&daemon) {
                        break reason;
                    }
                    check.reset_after(check_interval(&daemon));
                }
            }
        };
        timer.abort();
        self.end(&daemon, reason, connections.tasks).await;
        reason
    }

    /// What is done once a minute; answers why to stop.
    fn check(&self, daemon: &Daemon) -> Option<StopReason> {
        daemon.save_last_uses();
        settle_key(daemon);
        if !self.socket.is_in_place() {
            return Some(StopReason::SocketLost);
        }
        daemon.idle_exit().is_some_and(|most| daemon.idle_for() >= most).then_some(StopReason::Unused)
    }

    async fn end(&mut self, daemon: &Daemon, reason: StopReason, mut connections: JoinSet<()>) {
        match reason {
            StopReason::Unlocked => return drain(daemon, &mut connections).await,
            StopReason::Requested => tracing::info!("stopping"),
            StopReason::Unused => tracing::info!("stopping: unused for as long as idle_exit allows"),
            StopReason::SocketLost => {
                tracing::error!("stopping: the socket was removed or replaced, clients cannot reach the daemon");
            }
        }
        service_manager::stopping();
        // the gateway accepts no client any more, either
        daemon.stop.send_replace(true);
        // a client that comes now finds no daemon, and does not wait for one that ends
        self.lock.withdraw();
        self.socket.remove();
        tokio::select! {
            () = drain(daemon, &mut connections) => {}
            _ = self.signals.next() => tracing::warn!("stopping at once"),
        }
    }
}

/// The connections that are served.
struct Connections {
    daemon: Arc<Daemon>,
    room: Arc<Semaphore>,
    tasks: JoinSet<()>,
    next: u64,
}

impl Connections {
    fn new(daemon: &Arc<Daemon>) -> Self {
        let room = Arc::new(Semaphore::new(daemon.run.most_connections));
        Self { daemon: daemon.clone(), room, tasks: JoinSet::new(), next: 0 }
    }

    /// Serves a client, if it is the same user's.
    fn serve(&mut self, stream: Stream, permit: OwnedSemaphorePermit) {
        let id = ConnectionId(self.next);
        self.next += 1;
        let Some(pid) = admit(&stream) else { return };
        // known before its task runs: a stop in between must find it
        let outbox = Arc::new(Outbox::default());
        self.daemon.state().connections.insert(id, outbox.clone());
        let daemon = self.daemon.clone();
        self.tasks.spawn(async move {
            connection::serve(daemon, stream, id, pid, outbox).await;
            drop(permit);
        });
    }
}

/// Waits until the key of a locked keyring may be available; for ever, if no keyring is locked.
async fn unlocked(daemon: &Daemon) {
    match &daemon.run.keyring {
        Some(keyring) => keyring.unlocked().await,
        None => std::future::pending().await,
    }
}

/// How long until the next check.
fn check_interval(daemon: &Daemon) -> Duration {
    daemon.idle_exit().map_or(CHECK_INTERVAL, |idle| CHECK_INTERVAL.min(idle / 2).max(ACCEPT_PAUSE))
}

/// Accepts one client when there is room; `None` when that failed.
async fn accept(socket: &Socket, room: &Arc<Semaphore>) -> Option<(Stream, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match socket.accept().await {
        Ok(stream) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!("no connection can be accepted for a moment: {error}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Calls the pool when it wants to be called.
async fn keep_time(daemon: Arc<Daemon>) {
    loop {
        let sleep = daemon.tick(LONGEST_SLEEP);
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = daemon.reschedule.notified() => {}
        }
    }
}

/// Ends all waits, sends the answers that are on their way, closes the connections.
async fn drain(daemon: &Daemon, connections: &mut JoinSet<()>) {
    {
        let state = &mut *daemon.state();
        state.apply_internal(clock::now(), Command::Drain);
        state.connections.values().for_each(|outbox| outbox.close());
    }
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, all_ended).await.is_err() {
        tracing::warn!("some clients did not read their last answers in time");
    }
}
