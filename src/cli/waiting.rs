//! Waiting for an account, with a word to the person who waits too.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::client::{Client, ClientError};
use crate::protocol::{AcquireParams, DaemonStatus, LeaseInfo};

use super::context::{self, Context};
use super::failure::Failure;
use super::output::clean;
use super::words;

/// A person begins to wonder.
const WONDERING: Duration = Duration::from_secs(1);

/// Leases; when that takes a while and somebody watches, tells why.
pub(super) fn acquire(
    client: &mut Client,
    request: AcquireParams,
    context: &Context,
) -> Result<LeaseInfo<'static>, Failure> {
    wait(client, request, context, Client::acquire)
}

/// The same, or has again what the same process holds.
pub(super) fn token(
    client: &mut Client,
    request: AcquireParams,
    context: &Context,
) -> Result<LeaseInfo<'static>, Failure> {
    wait(client, request, context, Client::token)
}

fn wait(
    client: &mut Client,
    request: AcquireParams,
    context: &Context,
    call: fn(&mut Client, AcquireParams) -> Result<LeaseInfo<'static>, ClientError>,
) -> Result<LeaseInfo<'static>, Failure> {
    if !std::io::stderr().is_terminal() || request.wait_ms == Some(0) {
        return Ok(call(client, request)?);
    }
    let (provider, socket) = (request.provider.clone(), client.socket().to_owned());
    std::thread::scope(|scope| {
        // dropping the sender ends the wait of the other thread
        let (_served, waits) = channel::<()>();
        scope.spawn(move || {
            if waits.recv_timeout(WONDERING) == Err(RecvTimeoutError::Timeout) {
                // only a courtesy: what goes wrong here goes wrong there, and is told there
                let status = Client::connect_at(&socket).and_then(|mut other| other.status());
                if let Ok(status) = status {
                    context.output.note(&line(&provider, &status, context::now()));
                }
            }
        });
        Ok(call(client, request)?)
    })
}

fn line(provider: &str, status: &DaemonStatus, now: u64) -> String {
    let ours: Vec<_> = status.queue.iter().filter(|row| row.provider == provider).collect();
    let served = match ours.iter().find_map(|row| row.eta_at) {
        Some(at) => format!("the next is expected {}", words::until(now, at)),
        None => "served when one is free".to_owned(),
    };
    let others = match ours.len() {
        0 | 1 => String::new(),
        all => format!(", {all} wait"),
    };
    format!("lessor: waiting for an account of {}{others}; {served} (Ctrl-C gives up)", clean(provider))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{AccountTotals, ConfigState, QueueRow};

    #[test]
    fn the_one_who_waits_hears_how_long() {
        let row = |position, provider: &str, eta_at| QueueRow {
            position,
            eta_at,
            provider: provider.into(),
            model: None,
            label: None,
        };
        let mut status = DaemonStatus {
            version: String::new(),
            pid: 1,
            uptime_ms: 0,
            socket: String::new(),
            gateway: None,
            config: ConfigState { path: String::new(), state: "ok".into(), error: None },
            accounts: AccountTotals::default(),
            leases: 0,
            queue: vec![row(1, "openai", Some(9)), row(2, "anthropic", Some(241_000)), row(3, "anthropic", None)],
            warnings: Vec::new(),
        };
        let text = line("anthropic", &status, 1000);
        assert!(text.contains("2 wait; the next is expected in 4 min"), "{text}");
        status.queue.truncate(1);
        assert!(line("anthropic", &status, 1000).contains("anthropic; served when one is free"));
    }
}
