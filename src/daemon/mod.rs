//! The daemon: one per data directory, one thread for sockets, one for the disk.

mod account_calls;
#[cfg_attr(windows, path = "activation/windows.rs")]
mod activation;
mod adding;
mod answers;
mod asking;
mod calls;
pub mod clock;
mod configured;
mod connection;
mod core;
mod desk;
mod events;
mod explaining;
mod exporting;
mod following;
mod host;
mod importing;
mod learning;
mod leasing;
mod linked;
pub mod lock;
pub mod log;
#[cfg_attr(windows, path = "notify/windows.rs")]
mod notify;
mod outbox;
mod passing;
mod polling;
mod process;
mod refreshing;
mod reload;
mod reporting;
mod runs;
mod serving;
mod signals;
mod socket;
mod start;
mod tokens;
mod unlocking;
mod usage_file;
mod warnings;
mod watchers;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::config::{Config, Setting, Value};
use crate::pool::{Command, ConnectionId};

pub use self::core::Daemon;
pub use desk::{Desk, GatewayConfig, Serving, Standings, StartGateway};
pub use events::{KINDS, REPLAY_END};
pub use learning::{Heard, Learnt};
pub use passing::GatewayState;
pub use process::{find as find_process, wait_for_end as wait_for_process, watch as watch_process};
pub use refreshing::{Need, oauth_given};
pub use serving::{Held, NoLease, Step, Visitor, Wanted};
pub use socket::SocketError;
#[cfg(unix)]
pub use socket::{LocalStream, Socket, admit, prepare_place};
pub use start::{Ended, Options, StartError, run};

use lock::Lock;
use outbox::Outbox;
use signals::{Asked, Listening};
#[cfg(windows)]
use socket::{Socket, admit};

/// The longest sleep of the timer: what a clock that stops in suspend has missed is made up for.
const TICK: Duration = Duration::from_secs(30);
/// How often the socket's place is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// How long a stop waits for what is on its way.
const DRAIN: Duration = Duration::from_secs(10);
/// How long to accept nobody when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why serving ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    Asked,
    Unused,
    SocketLost,
    /// The key is there: somebody else serves from now on.
    Unlocked,
}

/// Serves until something ends it; answers what.
async fn serve(daemon: Arc<Daemon>, socket: &Socket, lock: &mut Lock, signals: &mut Listening) -> Why {
    let room = Arc::new(Semaphore::new(daemon.facts.most_connections));
    let mut connections = JoinSet::new();
    let timer = tokio::spawn(keep_time(daemon.clone()));
    let mut next = 0;
    let mut stop = daemon.stop.subscribe();
    let mut pulse = notify::Pulse::of_process();
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
                    daemon.core().connections.insert(connection, outbox.clone());
                    let daemon = daemon.clone();
                    connections.spawn(async move {
                        connection::serve(daemon, stream, connection, pid, outbox).await;
                        drop(permit);
                    });
                }
            }
            Some(_) = connections.join_next() => {}
            asked = signals.next() => match asked {
                Some(Asked::Reload) => daemon.reload.ask(None),
                Some(Asked::Stop) | None => break Why::Asked,
            },
            _ = stop.changed() => break Why::Asked,
            () = unlocking::unlocked(&daemon) => break Why::Unlocked,
            () = daemon.reconfigured.notified() => look.reset_after(until_look(&daemon)),
            () = pulse.next() => pulse.say(&daemon, timer.is_finished()),
            _ = look.tick() => {
                daemon.save_last_uses();
                daemon.settle_key();
                if !socket.is_in_place() {
                    break Why::SocketLost;
                }
                if daemon.idle_exit().is_some_and(|most| daemon.idle_for() >= most) {
                    break Why::Unused;
                }
                look.reset_after(until_look(&daemon));
            }
        }
    };
    if why == Why::Unlocked {
        timer.abort();
        drain(&daemon, &mut connections).await;
        return why;
    }
    match why {
        Why::Unlocked => {}
        Why::Asked => tracing::info!("stopping"),
        Why::Unused => tracing::info!("stopping: unused for as long as idle_exit allows"),
        Why::SocketLost => tracing::error!("stopping: the socket was removed or replaced, clients cannot reach us"),
    }
    notify::stopping();
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
        let core = &mut *daemon.core();
        daemon.apply_unasked(core, clock::now(), Command::Drain);
        for outbox in core.connections.values() {
            outbox.close();
        }
    }
    let all_gone = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, all_gone).await.is_err() {
        tracing::warn!("some clients did not take their last answers in time");
    }
}

/// The effective configuration as a JSON document.
fn settings_document(config: &Config) -> String {
    let value = |setting: &Setting| setting.value.as_ref().map(Value::json);
    let rows = config.show().into_iter().map(|setting| {
        serde_json::json!({ "key": setting.key, "value": value(&setting), "source": setting.source.to_string() })
    });
    serde_json::json!({ "settings": rows.collect::<Vec<_>>() }).to_string()
}
