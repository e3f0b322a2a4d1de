//! The gateway: `http://HOST:PORT/<provider>/<anything>` on loopback, for agents that know nothing of leases.
//!
//! A request goes through these hands, in this order:
//!
//! | file | its part |
//! |---|---|
//! | `doors.rs`, `connection.rs` | listens; speaks HTTP/1.1 with a client |
//! | `front.rs`, `route.rs` | turns away who has no business here; where a path leads |
//! | `ask.rs`, `scan.rs` | the request, kept to be sent again within a budget; its model, read and left as it is |
//! | `relay.rs` | the journey: account, attempt, what the refusal means, the next account |
//! | `swap.rs` | the credential, the one thing that is changed |
//! | `upstream.rs` | the way there: TLS, proxies, HTTP/2 |
//! | `peek.rs`, `events.rs` | whether what begins like a success is one |
//! | `body.rs`, `tap.rs`, `usage.rs`, `decode.rs` | the answer on its way to the client; what is learnt as it goes by |
//! | `refuse.rs`, `reply.rs` | what the gateway itself says |
//! | `ledger.rs`, `metrics.rs` | what was used, by whom |
//!
//! It has a thread and a runtime of its own, so that bytes on their way never hold up a grant; the pool is asked under
//! its short lock, as by every connection of the socket.

mod ask;
mod body;
mod connection;
mod decode;
mod doors;
mod events;
mod front;
mod ledger;
mod metrics;
mod peek;
mod refuse;
mod relay;
mod reply;
mod route;
mod scan;
mod swap;
mod tap;
mod upstream;
mod usage;

use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::daemon::{GatewayHandle, RunningGateway};

use doors::{Doors, Guest};
use front::Front;

/// How long what is on its way may take when the daemon ends.
const DRAIN: Duration = Duration::from_secs(8);
/// How often a place that is not free is tried again.
const AGAIN: Duration = Duration::from_secs(20);

/// The gateway's thread.
#[derive(Debug)]
struct Thread(JoinHandle<()>);

impl RunningGateway for Thread {
    fn end(self: Box<Self>) {
        if self.0.join().is_err() {
            tracing::error!("the gateway has failed");
        }
    }
}

/// Starts the gateway, on a thread of its own; it listens when this returns, or has said why not.
///
/// # Errors
/// When the system has no thread for it.
pub fn start(desk: GatewayHandle) -> io::Result<Box<dyn RunningGateway>> {
    let (tell, listens) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("lessor-gateway".to_owned());
    let thread = thread.spawn(move || runtime.block_on(serve(desk, tell)))?;
    // it has failed: that is in the log, and leases are served all the same
    let _failed = listens.recv();
    Ok(Box::new(Thread(thread)))
}

async fn serve(desk: GatewayHandle, tell: mpsc::Sender<()>) {
    let (mut changes, mut stop) = (desk.config_changes(), desk.stopping());
    let mut doors = Doors::default();
    doors.open(&desk);
    // nobody waits any more: the daemon ends already
    let _waits = tell.send(());
    let front = Front::new(desk.clone());
    let mut guests = JoinSet::new();
    // each may need another descriptor, for its upstream
    let most = (desk.most_connections() / 3).max(16);
    loop {
        tokio::select! {
            guest = doors.next(), if guests.len() < most => {
                guests.spawn(serve_guest(front.clone(), guest, stop.clone()));
            }
            Some(_) = guests.join_next() => {}
            Ok(()) = changes.changed() => {
                front.configure();
                doors.open(&desk);
            }
            () = tokio::time::sleep(AGAIN), if doors.in_trouble() => doors.open(&desk),
            _ = stop.changed() => break,
        }
    }
    doors.close();
    let all_gone = async { while guests.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, all_gone).await.is_err() {
        tracing::warn!("the gateway ends in the middle of {} requests", guests.len());
    }
}

async fn serve_guest(front: std::sync::Arc<Front>, guest: Guest, stop: watch::Receiver<bool>) {
    match guest {
        Guest::Tcp(stream) => connection::serve(front, stream, connection::Way::Tcp, stop).await,
        #[cfg(unix)]
        Guest::Local(stream) => connection::serve(front, stream, connection::Way::Local, stop).await,
    }
}
