//! The Rust client.

#[cfg(unix)]
use std::{process::Command, time::Duration};

use lessor::client::{Client, LeaseGuard};
#[cfg(unix)]
use lessor::client::{ClientError, DaemonStarter};
#[cfg(unix)]
use lessor::config::Flags;
#[cfg(unix)]
use lessor::protocol::ErrorKind;
use lessor::protocol::{AcquireParams, ReportParams};

use super::support::Home;
#[cfg(unix)]
use super::support::PROGRAM;

fn request() -> AcquireParams {
    AcquireParams { provider: "anthropic".into(), wait_ms: Some(0), ..AcquireParams::default() }
}

/// A wrapper that sets the home, which the environment of this process does not.
#[cfg(unix)]
fn start(home: &Home) -> DaemonStarter {
    let wrapper = home.path().join("lessor-here");
    let script = format!("#!/bin/sh\nLESSOR_HOME='{}' exec {PROGRAM} \"$@\"\n", home.path().display());
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    DaemonStarter::program(wrapper, &Flags::default())
}

#[test]
fn a_guard_releases_its_lease() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let client = Client::connect(&home.places()).unwrap();
    let guard = LeaseGuard::acquire(client, request()).unwrap();
    assert_eq!(guard.lease().account.label.as_deref(), Some("work"));
    assert!(!format!("{guard:?}").contains("canary"));
    let mut other = Client::connect(&home.places()).unwrap();
    assert_eq!(other.leases().unwrap().len(), 1);
    drop(guard);
    assert!(other.leases().unwrap().is_empty());
}

#[test]
fn after_a_switch_a_guard_has_the_other_account() {
    let home = Home::with_keys(&[("anthropic", "one"), ("anthropic", "two")]);
    let client = Client::connect(&home.places()).unwrap();
    let mut guard = LeaseGuard::acquire(client, AcquireParams::new("anthropic")).unwrap();
    let first = guard.lease().clone();
    assert_eq!(*first.credential.unwrap().header_value(), "sk-canary-one");
    let ended = ReportParams::response(429, [("retry-after", "60")], "{}");
    let next = guard.report(ended).unwrap();
    assert_eq!((&*next.action, guard.lease().account.label.as_deref()), ("switch", Some("two")));
    assert_eq!(*guard.credential(false).unwrap().header_value(), "sk-canary-two");
    assert!(guard.lease().fence > first.fence);
}

#[cfg(unix)]
#[test]
fn a_guard_outlives_its_daemon() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let client = Client::connect(&home.places()).unwrap();
    let pid = client.server().pid;
    let mut guard = LeaseGuard::acquire(client, request()).unwrap().reconnect_by(home.places(), start(&home));
    let fence = guard.lease().fence;
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    let credential = guard.credential(false).unwrap();
    assert_eq!(&*credential.secret.0, "sk-canary-work");
    assert_eq!(guard.lease().fence, fence);
    let mut other = Client::connect(&home.places()).unwrap();
    assert_ne!(other.server().pid, pid);
    assert_eq!(other.leases().unwrap().len(), 1);
}

#[cfg(unix)]
#[test]
fn a_refusal_differs_from_a_missing_daemon() {
    let home = Home::new();
    assert!(matches!(Client::connect(&home.places()), Err(ClientError::NoDaemon(_))));
    let mut client = Client::connect_or_start(&home.places(), &start(&home)).unwrap();
    assert_eq!(client.acquire(request()).unwrap_err().kind(), Some(&ErrorKind::NoAccount));
    assert!(client.config().unwrap().starts_with('{'));
    assert!(client.stop(Duration::from_secs(15)).unwrap());
}
