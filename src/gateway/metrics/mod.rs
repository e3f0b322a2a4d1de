//! `/metrics`: what the gateway counts, and the current state of accounts and leases.

mod counts;
mod histogram;
mod in_flight;
mod recorder;
mod sink;
mod text;

pub(super) use histogram::{BOUNDS, LatencyHistogram};
pub(super) use in_flight::{InFlightCount, InFlightGuard};
pub(super) use recorder::MetricsRecorder;
pub(super) use sink::{MetricKind, MetricsSink, unit_of};
pub(super) use text::MetricsFormat;

use hyper::{Response, StatusCode};

use super::response::{self, ClientBody};
use crate::daemon::{GatewayHandle, PoolStats};
use text::MetricsText;

pub(super) fn page(handle: &GatewayHandle, recorder: &MetricsRecorder, format: MetricsFormat) -> Response<ClientBody> {
    let mut out = MetricsText::new(format);
    write(&mut out, handle, recorder);
    #[cfg(debug_assertions)]
    {
        out.describe("lessor_debug_gateway_locks", MetricKind::Gauge, "For tests.");
        out.value("lessor_debug_gateway_locks", &[], handle.lock_count() as f64);
    }
    response::text(StatusCode::OK, format.content_type(), out.finish())
}

/// Writes all metrics.
pub(super) fn write(out: &mut impl MetricsSink, handle: &GatewayHandle, recorder: &MetricsRecorder) {
    recorder.write(out, &handle.account_names());
    write_pool(out, &handle.stats());
    out.describe("lessor_history_dropped", MetricKind::Counter, "Records that the history had no room for.");
    out.value("lessor_history_dropped", &[], handle.history_dropped() as f64);
}

/// The state of accounts and leases.
fn write_pool(out: &mut impl MetricsSink, stats: &PoolStats) {
    use MetricKind::Gauge;
    let PoolStats { accounts, leases, waiting, waiting_for_room, windows, in_flight } = stats;
    out.describe("lessor_accounts", Gauge, "Accounts by state.");
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
    out.describe("lessor_leases", Gauge, "Leases that are held.");
    out.value("lessor_leases", &[], *leases as f64);
    out.describe("lessor_queue", Gauge, "Requests that wait for an account.");
    out.value("lessor_queue", &[], *waiting as f64);
    out.describe("lessor_account_in_flight", Gauge, "Requests under way on an account.");
    for (provider, account, count, _) in in_flight {
        out.value("lessor_account_in_flight", &[("provider", provider), ("account", account)], f64::from(*count));
    }
    let help = "How many requests may be under way on an account, as configured or learnt from its limits.";
    out.describe("lessor_account_in_flight_cap", Gauge, help);
    for (provider, account, _, cap) in in_flight {
        let labels = [("provider", provider.as_str()), ("account", account)];
        cap.iter().for_each(|cap| out.value("lessor_account_in_flight_cap", &labels, f64::from(*cap)));
    }
    out.describe("lessor_in_flight_waiting", Gauge, "Requests that wait until fewer are under way.");
    out.value("lessor_in_flight_waiting", &[], *waiting_for_room as f64);
    out.describe("lessor_account_utilization", Gauge, "Used part of a quota window, from 0 to 1.");
    for (provider, account, window, used) in windows {
        let labels = [("provider", provider.as_str()), ("account", account), ("window", window)];
        out.value("lessor_account_utilization", &labels, *used);
    }
}
