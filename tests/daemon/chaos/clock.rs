//! A time of day that jumps, under leases and kills. Needs Debian's package `libfaketime`; the clock that counts from
//! boot is left alone, as in a real change of the time of day.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::load::Load;
use super::{Chance, rounds};
use crate::support::Home;

const HOLDERS: usize = 9;
/// Seconds that the clock is set forward or back.
const JUMPS: [i64; 7] = [-315_360_000, -86_400, -61, 0, 61, 86_400, 315_360_000];

#[test]
fn a_clock_that_jumps_ends_no_lease_and_grants_none_twice() {
    let Some(library) = library() else {
        println!("not run: libfaketime is not installed");
        return;
    };
    let rounds = rounds("LESSOR_CHAOS_CLOCK", 4);
    let mut chance = Chance::new("clock jumps");
    let config = "[leases]\noverflow = \"wait\"\n[selection]\nreuse_window = \"0s\"\n";
    let mut home = Home::new(config);
    let offset = home.path().join("offset");
    set(&offset, 0);
    let command = |home: &Home| {
        let mut command = home.command();
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", home.path().join("offset"));
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    };
    home.start_as(command(&home));
    for number in 0..HOLDERS {
        home.client().add(&format!("a{number}"));
    }
    let load = Load::start(&home, HOLDERS);
    let mut kills = 0;
    for _ in 0..rounds {
        load.wait_for_grants(load.granted());
        set(&offset, *chance.of(&JUMPS));
        load.wait_for_grants(load.granted());
        load.compare(&home);
        if chance.below(3) == 0 {
            kills += 1;
            home.kill();
            home.start_as(command(&home));
            load.compare(&home);
        }
    }
    set(&offset, 0);
    load.wait_for_grants(load.granted());
    let granted = load.granted();
    load.end();
    let log = home.output();
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(home.client().call("account.list", json!({})).as_array().unwrap().len(), HOLDERS);
    println!(
        "| clock set by -10 years to +10 years | {rounds} | {granted} leases, {kills} kills between | 0 ended early, 0 \
         granted twice |"
    );
}

fn set(offset: &Path, seconds: i64) {
    let written = offset.with_extension("new");
    std::fs::write(&written, format!("{seconds:+}\n")).unwrap();
    std::fs::rename(&written, offset).unwrap();
}

fn library() -> Option<PathBuf> {
    let places = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib64/faketime"];
    places.iter().map(|place| Path::new(place).join("libfaketime.so.1")).find(|library| library.exists())
}
