//! The file stays within its budget of bytes and age.

use super::*;
use crate::history::database::bytes;
use crate::history::tidy::MARGIN;

/// Rows of many sizes.
fn fill(history: &History, rounds: u64, begin: u64) {
    for n in 0..rounds {
        let at = begin + n;
        let directory = Some("d".repeat(usize::try_from(n % 700).unwrap()));
        let attempts = vec![request(at).attempts[0].clone(); usize::try_from(n % 5).unwrap()];
        history.request(RequestRow { directory: directory.map(Into::into), attempts, ..request(at) });
        history.push(lease(at));
        history.push(event(at));
        history.push(event(at));
    }
}

#[test]
fn the_file_never_exceeds_its_budget_while_much_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    for max_size in [1 << 20, 3 << 20] {
        let history = TestHistory::start(&path, settings(max_size));
        let mut largest = 0;
        for round in 0..15 {
            fill(&history.history, 700, NOW + round * 1000);
            while history.history.queue().is_filled() {
                largest = largest.max(bytes(&path));
                thread::yield_now();
            }
            history.flush();
            largest = largest.max(bytes(&path));
        }
        assert!(largest <= max_size + MARGIN, "{largest} bytes, allowed {max_size}");
        let kept = history.all("requests");
        assert!(kept.totals.requests > 300, "the budget is used: {}", kept.totals.requests);
        assert_eq!(kept.requests[0].at, NOW + 14 * 1000 + 699, "the newest rows are kept");
        assert!(kept.begins_at.unwrap() > NOW, "the oldest rows are gone");
        let status = history.history.status().unwrap();
        assert!(status.bytes <= max_size && status.bytes > max_size / 2, "{status:?}");
        assert_eq!(status.begins_at, kept.begins_at);
        history.history.end();
    }
}

#[test]
fn a_smaller_budget_shrinks_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let history = TestHistory::start(&path, settings(16 << 20));
    for round in 0..4 {
        fill(&history.history, 1000, NOW + round * 1000);
        history.flush();
    }
    assert!(bytes(&path) > 3 << 20);
    history.history.configure(settings(1 << 20));
    history.flush();
    assert!(bytes(&path) <= 1 << 20, "{}", bytes(&path));
    assert_eq!(history.all("requests").requests[0].at, NOW + 3999);
}

#[test]
fn rows_that_are_too_old_are_deleted_and_the_file_shrinks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let history = TestHistory::start(&path, settings(64 << 20));
    for round in 0..5 {
        fill(&history.history, 1000, NOW + round * 1000);
        history.flush();
    }
    let before = bytes(&path);
    history.history.request(request(NOW + 29 * 86_400_000));
    history.pass(31 * DAY);
    // old rows are deleted some at a time
    let mut left = u64::MAX;
    while left > 1 {
        let now_left = history.all("requests").totals.requests;
        assert!(now_left <= left);
        left = now_left;
    }
    for of in ["leases", "events"] {
        let info = history.all(of);
        assert!(info.leases.is_empty() && info.events.is_empty(), "{of}");
    }
    history.flush();
    assert!(bytes(&path) < before / 2, "{} of {before} bytes", bytes(&path));
}

#[test]
fn a_clock_that_is_set_far_ahead_deletes_nothing_unless_it_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let history = TestHistory::start(&path, settings(64 << 20));
    fill(&history.history, 100, NOW);
    history.flush();
    history.now.store(NOW + 400 * 86_400_000, Ordering::Relaxed);
    history.flush();
    assert_eq!(history.all("requests").totals.requests, 100, "set far ahead while it runs");
    history.history.end();
    let history = TestHistory::start(&path, settings(64 << 20));
    history.now.store(NOW + 400 * 86_400_000, Ordering::Relaxed);
    history.flush();
    assert_eq!(history.all("requests").totals.requests, 100, "set far ahead before the start");
    history.pass(Duration::from_secs(3600));
    history.flush();
    history.flush();
    assert_eq!(history.all("requests").totals.requests, 0, "it goes on so");
}

/// `cargo test --release --lib -- --ignored --exact history::tests::budgets::what_recording_costs --nocapture`
#[test]
#[ignore = "a measurement: see the command above"]
fn what_recording_costs() {
    let directory = tempfile::tempdir().unwrap();
    let history = TestHistory::start(&directory.path().join("history.db"), settings(64 << 20));
    let rows: Vec<RequestRow> = (0..5_000).map(|n| request(NOW + n)).collect();
    let count = u32::try_from(rows.len()).unwrap();
    let begin = std::time::Instant::now();
    rows.into_iter().for_each(|row| history.history.request(row));
    let handed_over = begin.elapsed() / count;
    history.flush();
    let per_second = f64::from(count) / begin.elapsed().as_secs_f64();
    println!("{} ns for the sender of a row; {per_second:.0} rows/s written", handed_over.as_nanos());
    assert_eq!(history.history.dropped(), 0);
}
