//! Kills under leases of each binding.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::load::Load;
use super::{Chance, pass, rounds};
use crate::support::Home;

const HOLDERS: usize = 18;

#[test]
fn kills_under_leases_lose_no_account_grant_none_twice_and_bring_none_back() {
    let rounds = rounds("LESSOR_CHAOS_LEASES", 6);
    let mut chance = Chance::new("kills under leases");
    let config = "[leases]\noverflow = \"wait\"\n[selection]\nreuse_window = \"0s\"\n";
    let mut home = Home::with_accounts(config, HOLDERS);
    let load = Load::start(&home, HOLDERS);
    for _ in 0..rounds {
        // some have leased since the last start and its grace period
        load.wait_for_grants(load.granted());
        pass(chance.time(Duration::from_millis(20)));
        home.kill();
        home.start();
        load.compare(&home);
    }
    let counts = load.end();
    let [granted, released, resumed, found, ended] =
        [&counts.granted, &counts.released, &counts.resumed, &counts.found_again, &counts.processes_ended]
            .map(|count| count.load(Ordering::Relaxed));
    println!(
        "| kills under leases | {rounds} | {granted} granted, {released} released, {ended} ended with their process; \
         {resumed} resumed and {found} found again after a kill | 0 granted twice, 0 back after their end |"
    );
    assert!(resumed as usize >= rounds.min(3), "{resumed} leases were resumed in {rounds} rounds");
    assert_eq!(home.client().call("account.list", json!({})).as_array().unwrap().len(), HOLDERS);
}
