//! Background workers, all of one shape: a thread that reads its mailbox and applies commands to the state.

use std::sync::{Arc, Weak, mpsc};
use std::{io, thread::JoinHandle};

use super::state::{Daemon, Mailbox};

/// How many events the runtime of a thread looks at together that waits for few descriptors: each has its place in memory.
pub(crate) const FEW_EVENTS: usize = 32;

/// What a worker waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WaitsFor {
    /// Its mailbox and the time only: this needs no descriptor.
    Mail,
    /// Servers, too.
    Network,
}

/// A running worker: a thread with a runtime of its own, so that no slow file or server delays a lease.
#[derive(Debug)]
pub(crate) struct Worker<M> {
    mailbox: Mailbox<M>,
    thread: JoinHandle<()>,
}

impl<M: Send + 'static> Worker<M> {
    /// Starts `work` on a thread of this name.
    pub(crate) fn start<W: Future<Output = ()>>(
        (name, waits_for): (&str, WaitsFor),
        daemon: &Arc<Daemon>,
        mailbox: &Mailbox<M>,
        work: impl FnOnce(Weak<Daemon>, Mailbox<M>) -> W + Send + 'static,
    ) -> io::Result<Self> {
        let (daemon, inbox) = (Arc::downgrade(daemon), mailbox.clone());
        let (started, is_started) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name.to_owned());
        // the runtime is made on the thread: one that is dropped where the caller runs, because the thread does not
        // start, would panic
        let thread = thread.spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = match waits_for {
                WaitsFor::Mail => runtime.enable_time().build(),
                WaitsFor::Network => runtime.max_io_events_per_tick(FEW_EVENTS).enable_all().build(),
            };
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            drop(started.send(Ok(())));
            runtime.block_on(work(daemon, inbox));
            // requests under way are given up
            runtime.shutdown_background();
        })?;
        is_started.recv().map_err(io::Error::other)??;
        Ok(Self { mailbox: mailbox.clone(), thread })
    }

    /// Has the worker finish what must not be cut short, and waits for its thread.
    pub(crate) fn end(self) {
        self.mailbox.stop();
        // a thread that has panicked has ended, too
        let _panicked = self.thread.join();
    }
}
