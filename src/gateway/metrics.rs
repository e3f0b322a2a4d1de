//! `/metrics`: what the gateway counts, and how accounts and leases stand.

use hyper::{Response, StatusCode};

use crate::daemon::{GatewayHandle, PoolStats};

use super::ledger::{Ledger, head, line};
use super::reply::{self, Body};

/// Prometheus' own name for its text.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All of it.
pub(super) fn told(desk: &GatewayHandle, ledger: &Ledger) -> Response<Body> {
    let mut out = String::new();
    ledger.told(&mut out);
    let PoolStats { accounts, leases, waiting, windows } = desk.standings();
    head(&mut out, "lessor_accounts", "gauge", "Accounts, by how they stand.");
    for (state, count) in [
        ("ready", accounts.ready),
        ("limited", accounts.limited),
        ("needs_login", accounts.needs_login),
        ("needs_verification", accounts.needs_verification),
        ("disabled", accounts.disabled),
    ] {
        line(&mut out, "lessor_accounts", &[("state", state)], count as f64);
    }
    head(&mut out, "lessor_leases", "gauge", "Leases that are held.");
    line(&mut out, "lessor_leases", &[], leases as f64);
    head(&mut out, "lessor_queue", "gauge", "Requests that wait for an account.");
    line(&mut out, "lessor_queue", &[], waiting as f64);
    head(&mut out, "lessor_account_utilization", "gauge", "How much of a quota window is used, from 0 to 1.");
    for (provider, account, window, used) in &windows {
        let labels = [("provider", provider.as_str()), ("account", account), ("window", window)];
        line(&mut out, "lessor_account_utilization", &labels, *used);
    }
    reply::with(StatusCode::OK, TEXT, out)
}
