//! Clients whose daemons are killed while they start: a client goes on for a while; a daemon that ends with an exit code
//! is reported at once.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::support::Home;

/// How long daemons are killed.
const KILLING: Duration = Duration::from_millis(1500);

/// Kills the daemons that clients have started with this socket; returns how many.
fn kill_daemons(socket: &Path) -> usize {
    let socket = socket.as_os_str().as_encoded_bytes();
    let is_daemon = |pid: i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let has = |word: &[u8]| words.split(|byte| *byte == 0).any(|one| one == word);
        has(socket) && has(b"--detached")
    };
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let daemons = pids.filter(|pid| is_daemon(*pid));
    daemons
        .filter(|pid| {
            let pid = rustix::process::Pid::from_raw(*pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok()
        })
        .count()
}

#[test]
fn clients_whose_daemons_are_killed_at_start_go_on_until_one_serves() {
    let home = Home::new();
    let socket = home.path().join("own.sock");
    let ping = ["--socket", socket.to_str().unwrap(), "ping"];
    let (killed, served) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while begun.elapsed() < KILLING {
                killed.fetch_add(kill_daemons(&socket), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for _ in 0..4 {
            scope.spawn(|| {
                // one more call after the last kill
                let mut is_last = false;
                while !is_last {
                    is_last = begun.elapsed() > KILLING;
                    let done = home.run(&ping);
                    // the daemon may have been killed when it had greeted the client already
                    let is_cut = done.err.contains("the connection to the daemon was lost");
                    assert!(done.code == 0 || is_cut && !is_last, "{done:?}");
                    served.fetch_add(usize::from(done.code == 0), Ordering::Relaxed);
                }
            });
        }
    });
    println!("{killed:?} daemons were killed, {served:?} calls were served");
    assert!(killed.into_inner() > 0);
}

#[test]
fn a_daemon_that_ends_with_an_error_is_reported_at_once() {
    let home = Home::new();
    std::fs::write(home.path().join("config.toml"), "nonsense = 1\n").unwrap();
    let begun = Instant::now();
    home.run(&["ping"]).exits(6).complains("nonsense");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    std::fs::remove_file(home.path().join("config.toml")).unwrap();
}
