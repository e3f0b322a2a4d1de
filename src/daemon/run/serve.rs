//! Serving: accept clients, keep time, watch for reasons to stop, drain.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::daemon::api::connection;
use crate::daemon::os::clock;
use crate::daemon::os::lock::Lock;
use crate::daemon::os::service_manager;
use crate::daemon::os::signals::{Listening, SignalRequest};
use crate::daemon::os::socket::{Socket, admit};
use crate::daemon::run::locked;
use crate::daemon::state::Daemon;
use crate::daemon::state::outbox::Outbox;
use crate::pool::{Command, ConnectionId};

/// The longest sleep of the timer: what a clock that stops in suspend has missed is made up for.
const TICK: Duration = Duration::from_secs(30);
/// How often the socket's place is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// How long a stop waits for what is on its way.
const DRAIN: Duration = Duration::from_secs(10);
/// How long to accept nobody when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// StopReason serving ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StopReason {
    Requested,
    Unused,
    SocketLost,
    /// The key is there: somebody else serves from now on.
    Unlocked,
}

/// Serves until something ends it; answers what.
pub(crate) async fn serve(
    daemon: Arc<Daemon>,
    socket: &Socket,
    lock: &mut Lock,
    signals: &mut Listening,
) -> StopReason {
    let room = Arc::new(Semaphore::new(daemon.facts.most_connections));
    let mut connections = JoinSet::new();
    let timer = tokio::spawn(keep_time(daemon.clone()));
    let mut next = 0;
    let mut stop = daemon.stop.subscribe();
    let mut pulse = service_manager::Pulse::of_process();
    let mut look = tokio::time::interval(until_look(&daemon));
    // the first one comes at once
    look.tick().await;
    let why = loop {
        tokio::select! {
            accepted = accept(socket, &room) => {
                let Some((stream, permit)) = accepted else { continue };
                let connection = ConnectionId(next);
                next += 1;
                if let Some(pid) = admit(&stream) {
                    // known before it runs: a stop in between must find it
                    let outbox = Arc::new(Outbox::default());
                    daemon.state().connections.insert(connection, outbox.clone());
                    let daemon = daemon.clone();
                    connections.spawn(async move {
                        connection::serve(daemon, stream, connection, pid, outbox).await;
                        drop(permit);
                    });
                }
            }
            Some(_) = connections.join_next() => {}
            asked = signals.next() => match asked {
                Some(SignalRequest::Reload) => daemon.reload.ask(None),
                Some(SignalRequest::Stop) | None => break StopReason::Requested,
            },
            _ = stop.changed() => break StopReason::Requested,
            () = locked::unlocked(&daemon) => break StopReason::Unlocked,
            () = daemon.reconfigured.notified() => look.reset_after(until_look(&daemon)),
            () = pulse.next() => pulse.say(&daemon, timer.is_finished()),
            _ = look.tick() => {
                daemon.save_last_uses();
                daemon.settle_key();
                if !socket.is_in_place() {
                    break StopReason::SocketLost;
                }
                if daemon.idle_exit().is_some_and(|most| daemon.idle_for() >= most) {
                    break StopReason::Unused;
                }
                look.reset_after(until_look(&daemon));
            }
        }
    };
    if why == StopReason::Unlocked {
        timer.abort();
        drain(&daemon, &mut connections).await;
        return why;
    }
    match why {
        StopReason::Unlocked => {}
        StopReason::Requested => tracing::info!("stopping"),
        StopReason::Unused => tracing::info!("stopping: unused for as long as idle_exit allows"),
        StopReason::SocketLost => {
            tracing::error!("stopping: the socket was removed or replaced, clients cannot reach us")
        }
    }
    service_manager::stopping();
    // the gateway lets nobody in any more either
    daemon.stop.send_replace(true);
    timer.abort();
    // who comes now finds nothing, and does not wait in front of a closed door
    lock.withdraw();
    socket.remove();
    tokio::select! {
        () = drain(&daemon, &mut connections) => {}
        _ = signals.next() => tracing::warn!("stopping at once"),
    }
    why
}

/// How long until the daemon looks after itself.
fn until_look(daemon: &Daemon) -> Duration {
    daemon.idle_exit().map_or(LOOK, |idle| LOOK.min(idle / 2).max(ACCEPT_PAUSE))
}

/// Accepts one client when there is room; `None` when that failed.
async fn accept(
    socket: &Socket,
    room: &Arc<Semaphore>,
) -> Option<(interprocess::local_socket::tokio::Stream, tokio::sync::OwnedSemaphorePermit)> {
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
        let sleep = daemon.tick(TICK);
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = daemon.reschedule.notified() => {}
        }
    }
}

/// Tells everybody, lets out what is on its way, closes.
async fn drain(daemon: &Daemon, connections: &mut JoinSet<()>) {
    {
        let state = &mut *daemon.state();
        daemon.apply_unasked(state, clock::now(), Command::Drain);
        for outbox in state.connections.values() {
            outbox.close();
        }
    }
    let all_gone = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, all_gone).await.is_err() {
        tracing::warn!("some clients did not take their last answers in time");
    }
}
