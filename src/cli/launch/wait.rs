//! The wait for a lease. If the daemon ends meanwhile, the request continues in the queue of the next daemon.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{io::IsTerminal, path::Path};

use serde_json::Value;

use crate::cli::ui::{self, Output, format};
use crate::cli::{context::Context, error::CliError};
use crate::client::{Client, ClientError};
use crate::protocol::AcquireParams;

/// After this wait the user gets a message.
const DELAY: Duration = Duration::from_secs(1);
/// How often a request is repeated after its time is over: a daemon that dies at each request must not be asked for ever.
const LATE_TRIES: u32 = 2;
/// The pause before a request is repeated.
const PAUSE: Duration = Duration::from_millis(50);
/// The setting that applies to a request without a wait of its own.
const DEFAULT_WAIT: &str = "limits.max_rate_limit_wait";

/// Makes a call that may wait for an account; on a terminal, shows how long the wait will be. `client` is connected to
/// the daemon that granted the lease.
pub(crate) fn wait_for_lease<T: Send>(
    client: &mut Client,
    request: AcquireParams,
    context: &Context,
    call: impl FnMut(&mut Client, AcquireParams) -> Result<T, ClientError>,
) -> Result<T, CliError> {
    if !std::io::stderr().is_terminal() || request.wait_ms == Some(0) {
        return LeaseWait::new(request, context).call(client, call);
    }
    let (provider, socket) = (request.provider.clone(), client.socket().to_owned());
    std::thread::scope(|scope| {
        // dropping the sender ends the other thread's wait
        let (_served, waits) = channel::<()>();
        scope.spawn(move || {
            if waits.recv_timeout(DELAY) == Err(RecvTimeoutError::Timeout) {
                show_queue(&provider, &socket, &context.output);
            }
        });
        LeaseWait::new(request, context).call(client, call)
    })
}

fn show_queue(provider: &str, socket: &Path, output: &Output) {
    // errors are ignored: the call itself reports them
    let status = Client::connect_at(socket).and_then(|mut other| other.status());
    if let Ok(status) = status {
        output.note(&ui::lease::waiting_text(provider, &status, format::now()));
    }
}

/// A request that outlives the daemon that it was sent to.
struct LeaseWait<'a> {
    request: AcquireParams,
    context: &'a Context,
    begun: Instant,
    /// How long it waits in all; `None` while only the daemon knows.
    wait: Option<Duration>,
    late_tries: u32,
    has_noted: bool,
}

impl<'a> LeaseWait<'a> {
    fn new(mut request: AcquireParams, context: &'a Context) -> Self {
        // the daemon may have granted the lease before it died: the same id gets the same lease
        request.request_id = request.request_id.or_else(new_request_id);
        let wait = request.wait_ms.map(Duration::from_millis);
        Self { request, context, begun: Instant::now(), wait, late_tries: 0, has_noted: false }
    }

    fn call<T>(
        mut self,
        client: &mut Client,
        mut call: impl FnMut(&mut Client, AcquireParams) -> Result<T, ClientError>,
    ) -> Result<T, CliError> {
        loop {
            match call(client, self.request.clone()) {
                Err(error) if error.is_end_of_daemon() && self.may_repeat() => *client = self.requeue()?,
                result => return Ok(result?),
            }
        }
    }

    fn time_left(&self) -> Option<Duration> {
        self.wait.map(|wait| wait.saturating_sub(self.begun.elapsed()))
    }

    fn may_repeat(&mut self) -> bool {
        if self.time_left().is_none_or(|left| !left.is_zero()) {
            return true;
        }
        self.late_tries += 1;
        self.late_tries <= LATE_TRIES
    }

    /// Connects to the next daemon; the request waits there for the rest of its time.
    fn requeue(&mut self) -> Result<Client, CliError> {
        if !std::mem::replace(&mut self.has_noted, true) {
            self.context
                .output
                .note("lessor: the daemon has ended; the request continues in the queue of the next one");
        }
        // a daemon that waits for the answers of refreshes refuses new requests meanwhile
        std::thread::sleep(PAUSE);
        let mut client = self.context.reconnect(self.time_left())?;
        if self.wait.is_none() {
            self.wait = default_wait(&mut client);
        }
        self.request.wait_ms = self.time_left().map(crate::pool::millis);
        Ok(client)
    }
}

/// By which the daemon recognises a request that is made again.
pub(crate) fn new_request_id() -> Option<String> {
    let random = || getrandom::u64().ok();
    Some(format!("cli-{:016x}{:016x}", random()?, random()?))
}

/// How long the daemon lets a request wait that does not say so itself.
fn default_wait(client: &mut Client) -> Option<Duration> {
    wait_in(&client.config().ok()?)
}

fn wait_in(document: &str) -> Option<Duration> {
    let document: Value = serde_json::from_str(document).ok()?;
    let mut settings = document["settings"].as_array()?.iter();
    let setting = settings.find(|setting| setting["key"] == DEFAULT_WAIT)?;
    super::parse_duration(setting["value"].as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_wait_is_read_from_the_configuration() {
        let document = |value: &str| {
            format!(r#"{{"settings":[{{"key":"x","value":1}},{{"key":"{DEFAULT_WAIT}","value":{value}}}]}}"#)
        };
        assert_eq!(wait_in(&document("\"5m\"")), Some(Duration::from_secs(300)));
        for other in ["7", "null", "\"soon\""] {
            assert_eq!(wait_in(&document(other)), None, "{other}");
        }
        assert_eq!(wait_in("{}"), None);
    }

    #[test]
    fn each_request_has_an_id_of_its_own() {
        assert_ne!(new_request_id(), new_request_id());
    }
}
