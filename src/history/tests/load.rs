//! More requests at a time than the thread may write: none is lost from the sums, and the telling ones have their row.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::sums::{any_request, ask, everything, history_of};
use super::*;
use crate::history::rows;
use crate::history::summed::SummedRequests;

/// Every hundredth of them met a limit and was refused.
const TELLING: u64 = 100;

fn of_number(number: u64) -> RequestRow {
    let row = RequestRow { directory: Some(format!("/work/{}", number % 3).into()), ..request(NOW + number / 1000) };
    if !number.is_multiple_of(TELLING) {
        return row;
    }
    let attempt = AttemptRow { status: Some(429), scope: Some("account".to_owned()), ..row.attempts[0].clone() };
    RequestRow { status: Some(429), outcome: "refused".into(), attempts: vec![attempt], tokens: None, ..row }
}

/// All rows, page by page.
fn rows_of(history: &TestHistory, status: Option<&str>) -> Vec<RequestRow> {
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let status = status.map(str::to_owned);
        let page = history.ask(&HistoryParams { status, limit: Some(1000), before, ..everything() });
        found.extend(page.requests);
        before = page.next;
        if before.is_none() {
            return found;
        }
    }
}

fn check_sums(history: &TestHistory, requests: u64) {
    let info = history.ask(&HistoryParams { by: Some("dir".to_owned()), limit: Some(0), ..everything() });
    let refused = requests / TELLING;
    assert_eq!((info.totals.requests, info.totals.refused, info.totals.limited), (requests, refused, refused));
    assert_eq!((info.totals.ok, info.totals.attempts), (requests - refused, requests));
    assert_eq!(info.totals.tokens.input, (requests - refused) * 2_000_000);
    let of_directory = |number: u64| (0..requests).filter(|request| request % 3 == number).count() as u64;
    for group in &info.groups {
        let number = group.name.rsplit('/').next().unwrap().parse().unwrap();
        assert_eq!(group.sums.requests, of_directory(number), "{}", group.name);
    }
    let info = history.ask(&HistoryParams { by: Some("account".to_owned()), limit: Some(0), ..everything() });
    let sums = info.groups[0].sums;
    assert_eq!((sums.requests, sums.attempts, sums.limited), (requests, requests, refused));
}

#[test]
fn under_load_requests_are_summed_up_and_the_refused_ones_have_rows() {
    const REQUESTS: u64 = 30_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let history = TestHistory::start_slow(&path, settings(64 << 20), 100);
    // twice, so that rows are written before and after sums
    (0..REQUESTS / 2).for_each(|number| history.history.request(of_number(number)));
    check_sums(&history, REQUESTS / 2);
    (REQUESTS / 2..REQUESTS).for_each(|number| history.history.request(of_number(number)));
    let dropped = history.history.dropped();
    assert!(dropped > 0 && dropped < REQUESTS, "{dropped}");
    check_sums(&history, REQUESTS);
    assert_eq!((history.history.uncounted(), history.history.trouble()), (0, None));
    let found = rows_of(&history, None);
    assert_eq!(found.len() as u64, REQUESTS - dropped, "those that found room have their row");
    assert!(found.iter().all(|row| &*row.path == "/v1/messages"));
    assert_eq!(rows_of(&history, Some("429")).len() as u64, REQUESTS / TELLING, "each refused one has its row");
    let status = history.history.status().unwrap();
    assert_eq!((status.dropped, status.uncounted), (dropped, 0));
    let info = history.all("requests");
    assert_eq!((info.dropped, info.uncounted), (dropped, 0));
}

#[test]
fn the_end_writes_all_that_waits_and_all_sums() {
    const REQUESTS: u64 = 12_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let history = TestHistory::start_slow(&path, settings(64 << 20), 100);
    (0..REQUESTS).for_each(|number| history.history.request(of_number(number)));
    let dropped = history.history.dropped();
    history.history.end();
    let again = TestHistory::start(&path, settings(64 << 20));
    check_sums(&again, REQUESTS);
    assert_eq!(rows_of(&again, None).len() as u64, REQUESTS - dropped);
}

#[test]
fn a_burst_of_requests_leaves_every_row() {
    let directory = tempfile::tempdir().unwrap();
    let history = TestHistory::start_slow(&directory.path().join("history.db"), settings(64 << 20), 100);
    // its clock stands still: what the thread may not write yet waits
    (0..5000).for_each(|number| history.history.request(of_number(number)));
    assert_eq!(history.history.dropped(), 0);
    check_sums(&history, 5000);
    assert_eq!(rows_of(&history, None).len(), 5000);
}

#[test]
fn the_thread_pauses_as_long_as_its_work_demands() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let history = TestHistory::start_slow(&path, settings(64 << 20), 10);
    let written = || {
        let reader = rusqlite::Connection::open(&path).unwrap();
        reader.query_row("SELECT count(*) FROM request", [], |row| row.get::<_, i64>(0)).map_or(0, i64::unsigned_abs)
    };
    let wait_until = |rows: u64| {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while written() < rows {
            assert!(std::time::Instant::now() < deadline, "{} of {rows} rows", written());
            thread::yield_now();
        }
    };
    // its clock stands still: after the first group it may not go on
    (0..1000).for_each(|number| history.history.request(of_number(number)));
    let ended = history.ended.lock().unwrap();
    (0..1000).for_each(|_| drop(ended.recv().unwrap()));
    history.history.request(of_number(1000));
    ended.recv().unwrap();
    assert!(written() <= 500, "{} rows", written());
    for _ in 0..5 {
        history.pass(Duration::from_secs(10));
        history.history.request(of_number(0));
        ended.recv().unwrap();
    }
    wait_until(501);
}

#[test]
fn the_number_of_groups_is_bounded() {
    let mut summed = SummedRequests::default();
    let of = |number: u64, model: &str| RequestRow {
        session: Some(number.to_string().into()),
        model: Some(model.into()),
        ..request(NOW)
    };
    for number in 0..3000 {
        assert!(summed.add(&of(number, "m")), "{number}: put together without their session");
    }
    let added = (0..3000).filter(|number| summed.add(&of(*number, &number.to_string()))).count();
    let groups = summed.take();
    assert!(groups.len() <= 1024, "{} groups", groups.len());
    assert_eq!(groups.iter().map(|group| group.requests).sum::<u64>(), 3000 + added as u64);
    assert!(summed.take().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn requests_that_are_summed_up_count_as_those_with_rows(
        kinds in prop::collection::vec(any_request(), 1..8),
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..80),
        status in prop::option::of(prop::sample::select(&["ok", "refused", "limited", "429", "5xx"][..])),
        account in prop::option::of(prop::sample::select(&["ac_1", "ac_2"][..])),
    ) {
        let requests: Vec<RequestRow> = picks.iter().map(|(pick, _)| pick.get(&kinds).clone()).collect();
        let mut wanted = history_of(&requests);
        let (mut found, mut summed) = (history_of(&[]), SummedRequests::default());
        for (row, (_, has_row)) in requests.iter().zip(&picks) {
            if *has_row {
                rows::insert_request(&found, row, 1).unwrap();
            } else {
                prop_assert!(summed.add(row));
            }
        }
        for group in summed.take() {
            rows::insert_request(&found, &group.row, group.requests).unwrap();
        }
        for by in ["hour", "day", "account", "model", "agent", "dir", "provider"] {
            let query = HistoryParams {
                by: Some(by.to_owned()),
                status: status.map(str::to_owned),
                account: account.map(str::to_owned),
                limit: Some(0),
                ..everything()
            };
            let (found, wanted) = (ask(&mut found, &query, &TimeZone::UTC), ask(&mut wanted, &query, &TimeZone::UTC));
            prop_assert_eq!(found.totals, wanted.totals);
            prop_assert_eq!(found.groups, wanted.groups);
        }
    }
}
