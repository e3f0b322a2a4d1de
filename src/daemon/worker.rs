//! Background workers, all of one shape: a task that reads its mailbox and applies commands to the state.

use std::convert::Infallible;
use std::sync::{Arc, Weak, mpsc};
use std::{io, thread::JoinHandle};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::state::{Daemon, Mailbox};

/// How many events the runtime of a thread looks at together that waits for few descriptors: each has its place in memory.
pub(crate) const FEW_EVENTS: usize = 32;

/// What the workers of a thread wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WaitsFor {
    /// Their mailboxes and the time only: this needs no descriptor.
    Mail,
    /// Servers, too.
    Network,
}

/// A thread with a runtime, so that no slow file or server delays a lease. Workers that seldom work share one, because each
/// takes memory while it waits; one that a file or another program may delay has its own.
#[derive(Debug)]
pub(crate) struct WorkerThread {
    runtime: Handle,
    last_worker_ended: oneshot::Sender<Infallible>,
    thread: JoinHandle<()>,
}

impl WorkerThread {
    /// Starts a thread of this name.
    pub(crate) fn start(name: &str, waits_for: WaitsFor) -> io::Result<Arc<Self>> {
        let (started, is_started) = mpsc::channel();
        let (last_worker_ended, may_end) = oneshot::channel::<Infallible>();
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
            drop(started.send(Ok(runtime.handle().clone())));
            let _sender_was_dropped = runtime.block_on(may_end);
            // requests under way are given up
            runtime.shutdown_background();
        })?;
        let runtime = is_started.recv().map_err(io::Error::other)??;
        Ok(Arc::new(Self { runtime, last_worker_ended, thread }))
    }

    fn end(self) {
        drop(self.last_worker_ended);
        // a thread that has panicked has ended, too
        let _panicked = self.thread.join();
    }
}

/// A running worker.
#[derive(Debug)]
pub(crate) struct Worker<M> {
    mailbox: Mailbox<M>,
    /// Disconnected when the worker has ended.
    ended: mpsc::Receiver<Infallible>,
    thread: Arc<WorkerThread>,
}

impl<M: Send + 'static> Worker<M> {
    /// Starts `work` on a thread.
    pub(crate) fn start<W: Future<Output = ()> + Send + 'static>(
        thread: &Arc<WorkerThread>,
        daemon: &Arc<Daemon>,
        mailbox: &Mailbox<M>,
        work: impl FnOnce(Weak<Daemon>, Mailbox<M>) -> W + Send + 'static,
    ) -> Self {
        let (daemon, inbox) = (Arc::downgrade(daemon), mailbox.clone());
        let (ends, ended) = mpsc::channel();
        thread.runtime.spawn(async move {
            let _ends: mpsc::Sender<Infallible> = ends;
            work(daemon, inbox).await;
        });
        Self { mailbox: mailbox.clone(), ended, thread: thread.clone() }
    }

    /// Has the worker finish what must not be cut short, and waits for it; with the last worker of a thread, for the thread.
    pub(crate) fn end(self) {
        self.mailbox.stop();
        let _disconnected = self.ended.recv();
        if let Some(thread) = Arc::into_inner(self.thread) {
            thread.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_ends_with_its_last_worker() {
        let thread = WorkerThread::start("test", WaitsFor::Mail).unwrap();
        let (ends, ended) = mpsc::channel::<Infallible>();
        let spawn = |mailbox: &Mailbox<()>| {
            let (inbox, ends, (closes, closed)) = (mailbox.clone(), ends.clone(), mpsc::channel());
            thread.runtime.spawn(async move {
                let _both: (mpsc::Sender<Infallible>, mpsc::Sender<Infallible>) = (ends, closes);
                while !inbox.next(std::time::Duration::MAX).await.stop {}
            });
            Worker { mailbox: mailbox.clone(), ended: closed, thread: thread.clone() }
        };
        let (first, second) = (spawn(&Mailbox::default()), spawn(&Mailbox::default()));
        drop(ends);
        drop(thread);
        first.end();
        assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Empty), "the second works on");
        second.end();
        assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }
}
