//! `/metrics`: what the gateway counts, and the current state of accounts and leases.

mod recorder;

use recorder::MetricsText;
pub(super) use recorder::{InFlightGuard, MetricsRecorder, RequestLabels};

use hyper::{Response, StatusCode};

use super::response::{self, ClientBody};
use crate::daemon::{GatewayHandle, PoolStats};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn page(handle: &GatewayHandle, recorder: &MetricsRecorder) -> Response<ClientBody> {
    let mut out = MetricsText::default();
    recorder.write(&mut out);
    let PoolStats { accounts, leases, waiting, windows } = handle.stats();
    out.describe("lessor_accounts", "gauge", "Accounts by state.");
    for (state, count) in [
        ("ready", accounts.ready),
        ("partly_limited", accounts.partly_limited),
        ("limited", accounts.limited),
        ("waiting_for_token", accounts.waiting_for_token),
        ("cannot_renew", accounts.cannot_renew),
        ("needs_login", accounts.needs_login),
        ("needs_verification", accounts.needs_verification),
        ("disabled", accounts.disabled),
    ] {
        out.value("lessor_accounts", &[("state", state)], count as f64);
    }
    out.describe("lessor_leases", "gauge", "Leases that are held.");
    out.value("lessor_leases", &[], leases as f64);
    out.describe("lessor_queue", "gauge", "Requests that wait for an account.");
    out.value("lessor_queue", &[], waiting as f64);
    out.describe("lessor_account_utilization", "gauge", "Used part of a quota window, from 0 to 1.");
    for (provider, account, window, used) in &windows {
        let labels = [("provider", provider.as_str()), ("account", account), ("window", window)];
        out.value("lessor_account_utilization", &labels, *used);
    }
    #[cfg(debug_assertions)]
    out.value("lessor_debug_gateway_locks", &[], handle.lock_count() as f64);
    response::text(StatusCode::OK, CONTENT_TYPE, out.0)
}
