//! A disk that fills up, becomes read-only and recovers, under changes and kills.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::{Chance, pass, rounds};
use crate::support::{Home, label, reference, wait_until};

/// A file system of two megabytes at a directory, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m,mode=700", "none"]).arg(at).output();
        done.is_ok_and(|done| done.status.success()).then(|| Self(at.to_owned()))
    }

    fn fill(&self) {
        let _until_it_is_full = std::fs::write(self.0.join("filler"), vec![0_u8; 4 << 20]);
    }

    fn free(&self) {
        let _not_there = std::fs::remove_file(self.0.join("filler"));
    }

    fn set_read_only(&self, is_so: bool) {
        let mode = if is_so { "remount,ro" } else { "remount,rw" };
        // refused while a file is open for writing: then it stays as it is
        let _refused = Command::new("mount").args(["-o", mode]).arg(&self.0).output();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _busy = Command::new("umount").args(["-l"]).arg(&self.0).output();
    }
}

#[test]
fn a_disk_that_fails_and_recovers_loses_nothing_that_was_acknowledged() {
    let rounds = rounds("LESSOR_CHAOS_DISK", 4);
    let mut chance = Chance::new("a failing disk");
    let mut home = Home::new("");
    let Some(disk) = SmallDisk::mount(&home.path().join("data")) else {
        println!("not run: this user cannot mount a file system");
        return;
    };
    home.start();
    let mut known = Vec::new();
    let (mut refused, mut served) = (0, 0);
    for round in 0..rounds {
        let mut client = home.client();
        let fails = chance.below(3);
        match fails {
            0 => disk.fill(),
            1 => disk.set_read_only(true),
            _ => {}
        }
        let mut unsure = Vec::new();
        for number in 0..1 + chance.below(4) {
            let name = format!("a{round}-{number}");
            let secret = format!("sk-canary-{name}-{}", "x".repeat(6000));
            let params = json!({ "provider": "anthropic", "kind": "api_key", "secret": secret, "label": name });
            let answer = client.ask("account.add", &params);
            match answer["error"].is_null() {
                true => known.push(name),
                false => {
                    assert_eq!(answer["error"]["data"]["kind"], "internal", "{answer}");
                    refused += 1;
                    // a disk that fails after the change was written, when its index could not grow: a kill brings it back
                    unsure.push(name);
                }
            }
        }
        if !known.is_empty() {
            // whatever the disk does
            let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "bind": "ttl" }));
            client.call("lease.release", reference(&lease));
            served += 1;
        }
        pass(chance.time(Duration::from_millis(20)));
        home.kill();
        if fails == 1 && chance.below(2) == 0 {
            // the next start finds it as it is
            home.start();
            check(&home, &mut known, &unsure);
            home.kill();
        }
        disk.free();
        disk.set_read_only(false);
        home.start();
        check(&home, &mut known, &unsure);
        wait_until("the warnings are over", || home.client().call("status", json!({}))["warnings"] == json!([]));
        for name in known.drain(known.len().min(6)..) {
            home.client().call("account.remove", json!({ "account": name }));
        }
    }
    println!("| full and read-only disk | {rounds} | {refused} changes refused, {served} leases served | 0 lost |");
}

/// Checks that all known accounts are there; of those that were refused when the disk failed, some may be.
fn check(home: &Home, known: &mut Vec<String>, unsure: &[String]) {
    let accounts = home.client().call("account.list", json!({}));
    let mut found: Vec<String> = accounts.as_array().unwrap().iter().map(name_of).collect();
    let written = found.iter().filter(|name| unsure.contains(name) && !known.contains(name)).cloned();
    known.extend(written.collect::<Vec<_>>());
    found.sort();
    known.sort();
    assert_eq!(found, *known);
    if let Some(name) = known.first() {
        let lease = home.client().call("lease.acquire", json!({ "provider": "anthropic", "account": name }));
        assert_eq!(&label(&lease), name);
    }
}

fn name_of(account: &serde_json::Value) -> String {
    account["label"].as_str().unwrap().to_owned()
}
