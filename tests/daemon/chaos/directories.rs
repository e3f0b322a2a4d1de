//! Daemons of two data directories that are to serve at the same socket, started together and killed.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::{Chance, pass, rounds};
use crate::support::{Client, Home, signal, wait_until};

#[test]
fn daemons_of_two_directories_at_one_socket_never_take_it_from_each_other() {
    let rounds = rounds("LESSOR_CHAOS_DIRECTORIES", 12);
    let mut chance = Chance::new("two data directories at one socket");
    let homes = [Home::new(""), Home::new("")];
    let place = crate::support::directory();
    let run = place.path().join("run");
    std::fs::create_dir(&run).unwrap();
    std::fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let socket = run.join("lessor.sock");
    let (mut served, mut refused) = ([0, 0], 0);
    for round in 0..rounds {
        // a dead socket is in the way, except at first
        let mut daemons: Vec<(usize, Child)> = Vec::new();
        for number in 0..4 {
            let of = (number + round) % 2;
            daemons.push((of, start(&homes[of], &socket)));
            pass(chance.time(Duration::from_millis(1)));
        }
        wait_until("all but one have ended", || alive(&mut daemons).len() <= 1);
        // the last one may still be about to give up
        let [(of, pid)] = alive(&mut daemons)[..] else { panic!("round {round}: no daemon is left: {}", ends(&homes)) };
        wait_until("the one serves", || UnixStream::connect(&socket).is_ok());
        let answer = Client::connect(&socket).call("status", json!({}));
        assert_eq!(answer["pid"], pid, "round {round}: clients reach another daemon than the one that runs");
        served[of] += 1;
        refused += daemons.len() - 1;
        signal(pid, rustix::process::Signal::KILL);
        for (_, daemon) in &mut daemons {
            daemon.wait().unwrap();
        }
    }
    println!(
        "| two data directories at one socket | {rounds} | served {} and {} times, {refused} others refused | 0 sockets \
         taken from a living daemon |",
        served[0], served[1]
    );
}

/// The daemons that run: the number of their home, and their process.
fn alive(daemons: &mut [(usize, Child)]) -> Vec<(usize, u32)> {
    let running = |(of, daemon): &mut (usize, Child)| daemon.try_wait().unwrap().is_none().then(|| (*of, daemon.id()));
    daemons.iter_mut().filter_map(running).collect()
}

fn start(home: &Home, socket: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(home.log()).unwrap();
    let mut command: Command = home.command();
    command.env("LESSOR_SOCKET", socket).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn ends(homes: &[Home]) -> String {
    homes.iter().map(Home::output).collect::<Vec<_>>().join("\n---\n")
}
