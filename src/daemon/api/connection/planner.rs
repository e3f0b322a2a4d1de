//! The thread for calls that take long: it parses large messages, serves all calls but those about one lease, and
//! carries out what continues after its call. The connection of such a call waits for it, so that answers and effects
//! keep the order of the calls; other connections do not wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use std::{convert::Infallible, io};

use tokio::runtime::{Builder, Handle};

use crate::daemon::state::{Daemon, Mailbox};
use crate::daemon::worker::FEW_EVENTS;

/// The most calls that wait for the thread.
const MOST_WAITING: usize = 256;
/// How often the thread lets others lock the state before it takes the lock all the same.
const LOCK_YIELDS: u32 = 1000;
/// How often the thread wakes without work.
const IDLE: Duration = Duration::from_secs(3600);

/// The thread.
#[derive(Debug)]
pub(crate) struct PlannerThread {
    mailbox: Mailbox<Infallible>,
    thread: thread::JoinHandle<()>,
    planner: Planner,
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub(crate) struct Planner {
    runtime: Handle,
    waiting: Arc<AtomicUsize>,
}

/// A place among the calls that wait for the thread.
#[derive(Debug)]
pub(crate) struct PlannerPlace {
    planner: Planner,
}

impl PlannerThread {
    /// Starts the thread, and does not wait for it: the first client is served meanwhile. Not to be called by a task,
    /// where a runtime may not be dropped if the thread does not start.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().max_io_events_per_tick(FEW_EVENTS).enable_all().build()?;
        let planner = Planner { runtime: runtime.handle().clone(), waiting: Arc::default() };
        let mailbox = Mailbox::default();
        let inbox: Mailbox<Infallible> = mailbox.clone();
        let thread = thread::Builder::new().name("calls".to_owned()).spawn(move || {
            runtime.block_on(async { while !inbox.next(IDLE).await.stop {} });
            // calls under way are given up
            runtime.shutdown_background();
        })?;
        Ok(Self { mailbox, thread, planner })
    }

    pub(crate) fn planner(&self) -> &Planner {
        &self.planner
    }

    /// Gives up what is under way, and waits for the end of the thread.
    pub(crate) fn end(self) {
        self.mailbox.stop();
        // a thread that has panicked has ended, too
        let _panicked = self.thread.join();
    }
}

impl Planner {
    /// Whether no call waits for the thread or is served by it.
    #[cfg(all(test, unix))]
    pub(super) fn is_unused(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// A place for a call; `None` when too many wait.
    pub(crate) fn place(&self) -> Option<PlannerPlace> {
        let place = PlannerPlace { planner: self.clone() };
        (self.waiting.fetch_add(1, Ordering::Relaxed) < MOST_WAITING).then_some(place)
    }
}

impl PlannerPlace {
    /// Runs `work` on the thread; `None` when the thread ends before.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        daemon: &Arc<Daemon>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let daemon = daemon.clone();
        let task = async move {
            let_others_lock(&daemon);
            work()
        };
        self.planner.runtime.spawn(task).await.ok()
    }
}

impl Drop for PlannerPlace {
    fn drop(&mut self) {
        self.planner.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits a moment while other threads wait for the state's lock: a thread that takes it again and again would keep it
/// from them.
pub(crate) fn let_others_lock(daemon: &Daemon) {
    (0..LOCK_YIELDS).take_while(|_| daemon.is_lock_wanted()).for_each(|_| thread::yield_now());
}
