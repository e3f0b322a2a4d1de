//! A daemon that is stopped for a while, and continued.

use std::time::Duration;

use rustix::process::Signal;

use super::load::Load;
use super::{Chance, pass, rounds};
use crate::support::{Home, signal};

const HOLDERS: usize = 12;

#[test]
fn a_daemon_that_is_stopped_and_continued_grants_nothing_twice() {
    let rounds = rounds("LESSOR_CHAOS_SUSPENDED", 4);
    let mut chance = Chance::new("SIGSTOP under leases");
    let config = "[leases]\noverflow = \"wait\"\n[selection]\nreuse_window = \"0s\"\n";
    let home = Home::with_accounts(config, HOLDERS);
    let load = Load::start(&home, HOLDERS);
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        load.wait_for_grants(load.granted());
        signal(home.pid(), Signal::STOP);
        let time = chance.time(Duration::from_secs(2));
        longest = longest.max(time);
        pass(time);
        signal(home.pid(), Signal::CONT);
        load.compare(&home);
    }
    let granted = load.granted();
    load.end();
    println!(
        "| SIGSTOP and SIGCONT under leases | {rounds} | at most {longest:.1?}; {granted} leases | 0 granted twice |"
    );
}
