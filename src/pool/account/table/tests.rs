//! The table of accounts alone.

use super::*;
use crate::limits::{Reason, Scope};
use crate::pool::lease::LeaseKind;
use crate::pool::limit::Limit;
use crate::pool::model::{CredentialKind, Deadline, Fence, LimitSource, Protect, Wall};
use crate::pool::queue::Changes;

const NOW: Now = Now { mono: Mono(1_000), wall: Wall(1_000_000) };

fn record(n: u64, provider: &str) -> AccountRecord {
    AccountRecord {
        label: Some(format!("label{n}")),
        email: Some("same@example.org".into()),
        allowed_agents: Some(vec!["claude".into()]),
        ..AccountRecord::new(AccountId::from_bits(n), provider, CredentialKind::ApiKey, Wall(0))
    }
}

fn table(providers: &[&str], settings: &PoolSettings) -> Accounts {
    let mut accounts = Accounts::default();
    for (n, provider) in providers.iter().enumerate() {
        accounts.add(record(n as u64, provider), settings, NOW);
    }
    accounts.dirty().clear();
    accounts
}

#[test]
fn every_change_keeps_digests_indices_and_timers_consistent() {
    let settings = PoolSettings::default();
    let (mut accounts, mut timers) = (table(&["p", "q", "p"], &settings), Timers::default());
    let limit = Limit::new(Scope::Account, "", Reason::Unknown, Deadline::Mono(Mono(9_000)), LimitSource::Table);
    accounts.take_lease(2, Fence(1), LeaseKind::Exclusive, &settings.selection.tokens, NOW);
    accounts.add_health(0, -50.0, &settings.selection.health, NOW.mono);
    accounts.change_limits(2, NOW, &mut timers, |limits| limits.set(limit, NOW, &mut Vec::new()));
    accounts.set_renewing(0, Some(Renewing { until: None }));
    let change = AccountChange { priority: Some(7), ..AccountChange::default() };
    accounts.change_record(1, change, &settings, NOW, &mut timers);
    accounts.check(NOW, &timers).unwrap();
    assert_eq!(timers.next(NOW, true), Some(Mono(9_000)));
    accounts.end_lease(2, Fence(1), LeaseKind::Exclusive, NOW, &mut timers);
    accounts.check(NOW, &timers).unwrap();
    accounts.remove(0, &mut timers);
    accounts.check(NOW, &timers).unwrap();
    assert_eq!((accounts.slot(AccountId::from_bits(2)), accounts.position(1)), (Some(1), 0));
    accounts.remove(1, &mut timers);
    assert_eq!(timers.next(NOW, true), None, "a removed account has no timer");
    assert!(accounts.of_provider("p").is_none() && accounts.of_provider("q").is_some());
}

#[test]
fn a_change_notes_what_it_means_for_the_queue() {
    let settings = PoolSettings::default();
    let (mut accounts, mut timers) = (table(&["p"], &settings), Timers::default());
    accounts.take_lease(0, Fence(1), LeaseKind::Shared, &settings.selection.tokens, NOW);
    accounts.add_health(0, -1.0, &settings.selection.health, NOW.mono);
    accounts.give_token_back(0, &settings.selection.tokens, NOW.mono);
    let trial = accounts.leave_out(0, LeaseKind::Shared);
    accounts.set_lease_counts(0, trial);
    accounts.change_usage(0, NOW, &mut timers, |usage| usage.windows.clear());
    assert_eq!(accounts.dirty().take(), None, "none of these can serve a queued request");
    accounts.end_lease(0, Fence(1), LeaseKind::Shared, NOW, &mut timers);
    assert_eq!(accounts.dirty().take(), Some(Changes::Freed(vec![0])));
    accounts.set_renewing(0, Some(Renewing { until: None }));
    assert_eq!(accounts.dirty().take(), Some(Changes::All));
    accounts.set_renewing(0, Some(Renewing { until: None }));
    assert_eq!(accounts.dirty().take(), None, "nothing has changed");
}

#[test]
fn a_window_reset_has_a_timer_only_where_quota_is_reserved() {
    let mut settings = PoolSettings::default();
    let (mut accounts, mut timers) = (table(&["p"], &settings), Timers::default());
    let window = crate::pool::account::usage::Window {
        name: "5h".into(),
        utilization: 0.5,
        resets_at: Some(Wall(1_005_000)),
        as_of: NOW.wall,
        key: String::new(),
    };
    accounts.change_usage(0, NOW, &mut timers, |usage| usage.windows = vec![window]);
    assert_eq!(timers.next(NOW, true), None);
    settings.quota.protect = vec![Protect { models: vec!["*".into()], below: 0.1 }];
    accounts.configure(&settings, NOW, &mut timers);
    assert_eq!(timers.next(NOW, true), Some(Mono(6_000)));
    let later = Now { mono: Mono(6_000), wall: Wall(1_005_000) };
    accounts.pass_reset(AccountId::from_bits(0), later, &mut timers);
    assert_eq!(timers.next(later, true), None);
}

#[test]
fn an_account_is_found_by_id_label_or_a_unique_prefix_and_a_shared_email_is_ambiguous() {
    let accounts = table(&["p", "p", "q"], &PoolSettings::default());
    assert_eq!(accounts.find("label1", None).unwrap(), 1);
    assert_eq!(accounts.find(&AccountId::from_bits(2).to_string(), None).unwrap(), 2);
    assert_eq!(accounts.find("same@example.org", Some("q")).unwrap(), 2);
    assert!(accounts.find("same@example.org", Some("p")).unwrap_err().message.contains("several"));
    assert!(accounts.find("label2", Some("p")).unwrap_err().message.contains("there is no account"));
}

#[test]
fn a_family_s_current_account_moves_unless_it_is_kept() {
    let mut accounts = table(&["p", "p"], &PoolSettings::default());
    let (family, id) = (Arc::from("f"), AccountId::from_bits);
    accounts.advance(0, &family, false);
    accounts.advance(1, &family, true);
    let provider = accounts.of_provider("p").unwrap();
    assert_eq!((provider.current("f"), provider.last("f")), (Some(id(0)), Some(id(1))));
}
