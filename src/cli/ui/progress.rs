//! Waiting for an account, with a message on the terminal if it takes more than a moment.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::client::{Client, ClientError};
use crate::protocol::{AcquireParams, DaemonStatus, LeaseInfo};

use super::format;
use super::output::{Output, clean};

/// After this wait the user gets a message.
const DELAY: Duration = Duration::from_secs(1);

/// Makes a call that may wait for an account; on a terminal, shows how long the wait will be.
pub(crate) fn wait_for_lease(
    client: &mut Client,
    request: AcquireParams,
    output: &Output,
    call: fn(&mut Client, AcquireParams) -> Result<LeaseInfo<'static>, ClientError>,
) -> Result<LeaseInfo<'static>, ClientError> {
    if !std::io::stderr().is_terminal() || request.wait_ms == Some(0) {
        return call(client, request);
    }
    let (provider, socket) = (request.provider.clone(), client.socket().to_owned());
    std::thread::scope(|scope| {
        // dropping the sender ends the other thread's wait
        let (_served, waits) = channel::<()>();
        scope.spawn(move || {
            if waits.recv_timeout(DELAY) == Err(RecvTimeoutError::Timeout) {
                // errors are ignored: the call itself reports them
                let status = Client::connect_at(&socket).and_then(|mut other| other.status());
                if let Ok(status) = status {
                    output.note(&line(&provider, &status, format::now()));
                }
            }
        });
        call(client, request)
    })
}

fn line(provider: &str, status: &DaemonStatus, now: u64) -> String {
    let ours: Vec<_> = status.queue.iter().filter(|row| row.provider == provider).collect();
    let served = match ours.iter().find_map(|row| row.eta_at) {
        Some(at) => format!("the next is expected {}", format::until(now, at)),
        None => "served when one is free".to_owned(),
    };
    let others = match ours.len() {
        0 | 1 => String::new(),
        all => format!(", {all} requests wait"),
    };
    format!("lessor: waiting for an account of {}{others}; {served} (Ctrl-C cancels)", clean(provider))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::AccountTotals;
    use serde_json::json;

    #[test]
    fn a_waiting_user_sees_the_expected_time() {
        let row =
            |provider: &str, eta_at: Option<u64>| json!({ "position": 1, "provider": provider, "eta_at": eta_at });
        let status = json!({
            "version": "", "pid": 1, "uptime_ms": 0, "socket": "", "leases": 0, "warnings": [],
            "config": { "path": "", "state": "ok" }, "accounts": AccountTotals::default(),
            "queue": [row("openai", Some(9)), row("anthropic", Some(241_000)), row("anthropic", None)]
        });
        let mut status: DaemonStatus = serde_json::from_value(status).unwrap();
        let text = line("anthropic", &status, 1000);
        assert!(text.contains("2 requests wait; the next is expected in 4 min"), "{text}");
        status.queue.truncate(1);
        assert!(line("anthropic", &status, 1000).contains("anthropic; served when one is free"));
    }
}
