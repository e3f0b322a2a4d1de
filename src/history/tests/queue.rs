//! The queue: bounded, and never waited for.

use super::*;
use crate::history::queue::{HistoryQueue, HistoryRecord, MOST_RECORDS};

const SOON: Duration = Duration::from_millis(1);

fn event() -> HistoryRecord {
    HistoryRecord::Event(Box::default(), None)
}

#[test]
fn a_full_queue_drops_and_counts_without_waiting() {
    let queue = HistoryQueue::default();
    queue.open(true);
    (0..MOST_RECORDS + 7).for_each(|_| queue.push(event()));
    let taken = queue.next(SOON, SOON).records.len() as u64;
    assert_eq!(taken + queue.dropped(), (MOST_RECORDS + 7) as u64);
    assert!(queue.dropped() >= 7);
    queue.push(event());
    assert!(queue.next(SOON, SOON).records.is_empty(), "what was taken is not written yet");
    queue.finished(MOST_RECORDS);
    queue.push(event());
    assert_eq!(queue.next(SOON, SOON).records.len(), 1, "there is room again");
}

#[test]
fn large_records_are_bounded_by_their_memory() {
    let queue = HistoryQueue::default();
    queue.open(true);
    let large = || RequestRow { path: "x".repeat(1 << 20).into(), ..RequestRow::default() };
    (0..20).for_each(|_| queue.request(large()));
    assert!(queue.dropped() >= 12, "{}", queue.dropped());
    assert!(!queue.next(SOON, SOON).records.is_empty());
}

#[test]
fn without_a_thread_nothing_is_kept_or_counted() {
    let queue = HistoryQueue::default();
    queue.request(RequestRow::default());
    assert!(!queue.is_kept());
    let (done, flushed) = channel();
    queue.flush(move || _ = done.send(()));
    flushed.recv().unwrap();
    assert_eq!(queue.dropped(), 0);
    assert!(queue.next(SOON, SOON).records.is_empty());
}

#[test]
fn a_flush_is_answered_after_the_records_before_it() {
    let queue = Arc::new(HistoryQueue::default());
    queue.open(true);
    let thread = thread::spawn({
        let queue = queue.clone();
        move || {
            let mut written = 0;
            loop {
                let batch = queue.next(Duration::from_secs(60), Duration::from_secs(60));
                written += batch.records.len();
                let is_last = batch.is_last;
                batch.written();
                if is_last {
                    return written;
                }
            }
        }
    });
    for _ in 0..3 {
        queue.push(event());
        let (done, flushed) = channel();
        queue.flush(move || _ = done.send(()));
        flushed.recv().unwrap();
    }
    queue.push(event());
    queue.close();
    assert_eq!(thread.join().unwrap(), 4, "what waits is written before the end");
    queue.push(event());
    assert_eq!(queue.dropped(), 1);
}
