//! What a history keeps, and what happens to its file.

use std::fs;
use std::sync::mpsc::channel;

use rusqlite::Connection;

use super::*;

#[test]
fn what_was_recorded_is_answered_at_once_and_after_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let history = TestHistory::start(&path, settings(1 << 20));
    history.history.request(request(NOW));
    history.history.push(lease(NOW));
    history.history.push(event(NOW));
    let check = |history: &TestHistory| {
        let info = history.all("requests");
        assert_eq!(info.totals.requests, 1);
        let row = &info.requests[0];
        assert_eq!((row.at, row.cost_usd), (NOW, Some(0.5)), "the cost is that of the row");
        let stored = AccountLabel { email: None, ..account("ac_1") };
        assert_eq!(row.account.as_deref(), Some(&stored), "addresses are not stored");
        assert_eq!(*row.attempts[0].account, stored);
        assert_eq!(history.all("leases").leases[0].account, stored);
        assert_eq!(history.all("events").events[0].account.as_ref(), Some(&stored));
        assert_eq!(info.begins_at, Some(NOW));
    };
    check(&history);
    let ended = history.ended.lock().unwrap().recv().unwrap();
    assert_eq!(ended.id, history.all("requests").requests[0].id, "subscribers get the same row");
    history.history.end();
    let bytes = fs::read(&path).unwrap();
    assert!(!bytes.windows(11).any(|window| window == b"example.org"), "no address is in the file");
    check(&TestHistory::start(&path, settings(1 << 20)));
}

#[test]
fn rows_that_wait_are_written_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let history = TestHistory::start(&path, settings(16 << 20));
    (0..1000).for_each(|n| history.history.request(request(NOW + n)));
    history.history.end();
    assert_eq!(TestHistory::start(&path, settings(16 << 20)).all("requests").totals.requests, 1000);
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let history = TestHistory::start(&path, settings(1 << 20));
    history.history.request(request(NOW));
    history.flush();
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
}

#[test]
fn a_file_that_cannot_be_read_is_set_aside_and_a_new_one_begins() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("garbage", |path| fs::write(path, "no database at all, but long enough".repeat(100)).unwrap()),
        ("cut off", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("another program's", |path| {
            fs::remove_file(path).unwrap();
            Connection::open(path).unwrap().execute_batch("PRAGMA user_version = 3; CREATE TABLE x (y)").unwrap();
        }),
        ("of a newer version", |path| {
            Connection::open(path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        }),
        ("a directory", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.db");
        let history = TestHistory::start(&path, settings(1 << 20));
        (0..50).for_each(|n| history.history.request(request(NOW + n)));
        history.history.end();
        damage(&path);
        let history = TestHistory::start(&path, settings(1 << 20));
        assert_eq!(history.all("requests").totals.requests, 0, "{what}");
        history.history.request(request(NOW));
        assert_eq!(history.all("requests").totals.requests, 1, "{what}");
        assert_eq!(history.history.dropped(), 0, "{what}");
        let aside = directory.path().join(format!("history.db.damaged-{NOW}"));
        assert!(aside.exists(), "{what}: it was not set aside");
    }
}

#[test]
fn only_the_latest_damaged_file_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    for now in [NOW, NOW + 1] {
        fs::write(&path, "damaged".repeat(1000)).unwrap();
        database::open(&path, now).unwrap();
    }
    let asides = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let asides: Vec<_> = asides.filter(|name| name.to_string_lossy().contains("damaged")).collect();
    assert_eq!(asides, [format!("history.db.damaged-{}", NOW + 1).as_str()]);
}

#[test]
fn a_file_that_is_damaged_while_it_is_used_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let history = TestHistory::start(&path, settings(1 << 20));
    history.history.request(request(NOW));
    history.flush();
    // the tables are gone for every statement from now on
    Connection::open(&path).unwrap().execute_batch("DROP TABLE request").unwrap();
    history.history.request(request(NOW + 1));
    let info = history.all("requests");
    assert_eq!(info.requests.iter().map(|row| row.at).collect::<Vec<_>>(), [NOW + 1]);
}

#[test]
fn a_history_that_cannot_be_written_counts_what_it_drops_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("history.db");
    let history = TestHistory::start(&path, settings(1 << 20));
    history.history.request(request(NOW));
    history.flush();
    assert_eq!(history.history.dropped(), 1);
    assert!(history.history.trouble().unwrap().contains("history.db"));
    assert_eq!(history.ended.lock().unwrap().recv().unwrap().at, NOW, "subscribers hear of it all the same");
    fs::create_dir(path.parent().unwrap()).unwrap();
    history.history.request(request(NOW + 1));
    assert_eq!(history.all("requests").totals.requests, 1, "it goes on as soon as it can");
    assert_eq!(history.history.trouble(), None);
}

#[test]
fn turning_the_history_off_deletes_it_and_on_begins_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let history = TestHistory::start(&path, settings(1 << 20));
    history.history.request(request(NOW));
    history.flush();
    for off in [settings(0), HistorySettings { max_age: Duration::ZERO, ..settings(1 << 20) }] {
        history.history.configure(off);
        history.flush();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "no file is left");
        assert!(!history.history.is_kept() && history.history.status().is_none());
        let query = HistoryQuery::new(&HistoryParams::default(), None, NOW).unwrap();
        assert!(matches!(history.history.query(query, |_| {}), Err(QueryFault::Off)));
        history.history.request(request(NOW));
        history.flush();
        history.history.configure(settings(1 << 20));
        history.flush();
        assert_eq!(history.all("requests").totals.requests, 0);
    }
    assert_eq!(history.history.dropped(), 0);
}

#[test]
fn a_query_that_is_no_longer_wanted_ends() {
    let directory = tempfile::tempdir().unwrap();
    let history = TestHistory::start(&directory.path().join("history.db"), settings(1 << 20));
    let query = HistoryQuery::new(&HistoryParams::default(), None, NOW).unwrap();
    let (done, answer) = channel();
    let guard = history.history.query(query.clone(), {
        let done = done.clone();
        move |result| _ = done.send(result.is_ok())
    });
    drop(guard.unwrap());
    let _kept = history.history.query(query, move |result| _ = done.send(result.is_ok())).unwrap();
    // the first may have been answered before; the second is
    let answers: Vec<bool> = answer.iter().take(2).collect();
    assert!(answers[1], "ending one query does not end the next");
}
