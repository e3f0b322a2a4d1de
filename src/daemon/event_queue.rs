//! Events on their way to subscribers. They are queued under the state's lock and sent after its release: the programs
//! of holders are looked up, and each event is encoded once for all subscribers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use rustc_hash::FxHashMap;

use crate::daemon::os::process;
use crate::daemon::state::outbox::Outbox;
use crate::pool::Process;
use crate::protocol::{Codec, EventInfo, HolderInfo};

/// An event, and the process of the holder that it names.
#[derive(Debug)]
pub(crate) struct NamedEvent {
    pub(crate) event: EventInfo,
    pub(crate) holder: Option<Process>,
}

/// The queue; events leave it in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    waiting: Mutex<VecDeque<Delivery>>,
    /// Held by the thread that sends.
    sending: Mutex<()>,
}

#[derive(Debug)]
struct Delivery {
    event: NamedEvent,
    to: Vec<(Codec, Arc<Outbox>)>,
}

/// The programs that holders run now.
#[derive(Debug, Default)]
pub(crate) struct Programs(FxHashMap<Process, Option<String>>);

impl EventQueue {
    pub(crate) fn push(&self, event: NamedEvent, to: Vec<(Codec, Arc<Outbox>)>) {
        self.waiting().push_back(Delivery { event, to });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    /// Sends what waits, unless another thread does. This reads from the system, so it must not be called under the lock
    /// of the state.
    pub(crate) fn send(&self) {
        // what came after the last look of a thread that has just stopped sending is sent by this one
        while !self.is_empty() {
            let _sending = match self.sending.try_lock() {
                Ok(sending) => sending,
                Err(TryLockError::Poisoned(error)) => error.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let mut programs = Programs::default();
            let batch = std::mem::take(&mut *self.waiting());
            for Delivery { event, to } in batch {
                send(&programs.named(event), &to);
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Delivery>> {
        // it is only appended to and taken
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn send(event: &EventInfo, to: &[(Codec, Arc<Outbox>)]) {
    let (mut json, mut binary) = (Vec::new(), Vec::new());
    for (codec, outbox) in to {
        let encoded = match codec {
            Codec::Json => &mut json,
            Codec::Binary => &mut binary,
        };
        if encoded.is_empty() {
            codec.event(event, encoded);
        }
        outbox.push(|out| out.extend_from_slice(encoded));
    }
}

impl Programs {
    /// The event with its holder's program; without it when the process has ended.
    pub(crate) fn named(&mut self, NamedEvent { mut event, holder }: NamedEvent) -> EventInfo {
        if let Some(holder) = holder {
            let program = self.0.entry(holder).or_insert_with(|| program_of(holder));
            event.holder = Some(HolderInfo { pid: holder.pid, program: program.clone() });
        }
        event
    }
}

fn program_of(holder: Process) -> Option<String> {
    Some(process::running(holder)?.program?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::memory::MemoryBudget;

    #[test]
    fn events_are_sent_in_order_and_once_for_each_subscriber() {
        let queue = EventQueue::default();
        let outboxes: Vec<_> = (0..2).map(|_| Arc::new(Outbox::new(&MemoryBudget::new(1 << 20)))).collect();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (queue, outboxes) = (&queue, &outboxes);
                scope.spawn(move || {
                    for number in 0..50 {
                        let event = EventInfo { at: number, fence: Some(thread), ..EventInfo::default() };
                        let to = outboxes.iter().map(|outbox| (Codec::Json, outbox.clone())).collect();
                        queue.push(NamedEvent { event, holder: None }, to);
                        queue.send();
                    }
                });
            }
        });
        for outbox in outboxes {
            let mut sent = Vec::new();
            outbox.drain_into(&mut sent);
            let sent = String::from_utf8(sent).unwrap();
            assert_eq!(sent.lines().count(), 200);
            for thread in 0..4 {
                let of_thread = |line: &&str| line.contains(&format!("\"fence\":{thread}"));
                let order =
                    sent.lines().filter(of_thread).zip(0..).all(|(line, at)| line.contains(&format!("\"at\":{at},")));
                assert!(order, "{sent}");
            }
        }
    }
}
