//! One agent of the demo, a process: leases an account, sends requests, reports limits, switches accounts.

use std::io::Write;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::upstream::{AGENT, RETRY_AFTER_MS};
use crate::client::{Client, ClientError, LeaseGuard};
use crate::config::{AppPaths, Flags};
use crate::limits::Reason;
use crate::protocol::{AcquireParams, ReportParams};

/// The variable with the task, as JSON; it contains no secret.
pub(super) const TASK_VARIABLE: &str = "LESSOR_DEMO_TASK";
/// Requests of one turn; an agent keeps its lease for a turn.
const TURN: u32 = 8;
/// The pause before another attempt to reach a daemon that is being restarted.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AgentTask {
    pub(super) name: String,
    pub(super) provider: String,
    pub(super) upstream: String,
    pub(super) millis: u64,
}

/// What an agent has counted; printed as a line after each turn.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct AgentTally {
    pub(super) served: u64,
    /// Requests the upstream refused.
    pub(super) limits: u64,
    /// Limits after which the daemon switched to another account at once.
    pub(super) switched: u64,
    /// Limits after which no account was free, and the agent's next lease was on another account.
    pub(super) moved_later: u64,
    /// Limits after which no account was free, and the agent's next lease was on the same account after its reset.
    pub(super) came_back: u64,
    /// Requests that failed for the agent's work: refused, and not sent again on this or another account.
    pub(super) failed: u64,
    /// Calls that failed because the daemon had just been killed.
    pub(super) disconnected: u64,
}

pub(crate) fn work() -> u8 {
    let task = std::env::var(TASK_VARIABLE).ok().and_then(|task| serde_json::from_str::<AgentTask>(&task).ok());
    let Some(task) = task else {
        eprintln!("this command is internal: `lessor demo` starts its agents with it");
        return 2;
    };
    let end = Instant::now() + Duration::from_millis(task.millis);
    let mut agent = DemoAgent { end, task, tally: AgentTally::default(), upstream: None, limited: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(agent.run()));
    agent.print_tally();
    if let Err(error) = &result {
        eprintln!("{}: {error}", agent.task.name);
    }
    u8::from(result.is_err())
}

struct DemoAgent {
    task: AgentTask,
    end: Instant,
    tally: AgentTally,
    upstream: Option<SendRequest<Empty<Bytes>>>,
    /// The account that was limited last, until the next lease.
    limited: Option<String>,
}

impl DemoAgent {
    async fn run(&mut self) -> anyhow::Result<()> {
        let places = AppPaths::from_process(&Flags::default())?;
        while let Some(left) = self.end.checked_duration_since(Instant::now()) {
            match self.lease(&places, left) {
                Ok(lease) => {
                    let account = &*lease.lease().account.id;
                    match self.limited.take() {
                        Some(limited) if limited == account => self.tally.came_back += 1,
                        Some(_) => self.tally.moved_later += 1,
                        None => {}
                    }
                    self.turn(lease).await?;
                    // printed after every turn, so that the counts of a killed agent are not lost
                    self.print_tally();
                }
                // no account was free before the end
                Err(ClientError::Refused(_)) => {}
                // the daemon is being restarted
                Err(_) => {
                    self.tally.disconnected += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Ok(())
    }

    fn print_tally(&self) {
        // the demo may have ended: then the line is not needed
        let line = serde_json::to_string(&self.tally).unwrap_or_default();
        let _unread = writeln!(std::io::stdout(), "{line}");
    }

    fn lease(&self, places: &AppPaths, left: Duration) -> Result<LeaseGuard, ClientError> {
        let request = AcquireParams {
            provider: self.task.provider.clone(),
            label: Some(self.task.name.clone()),
            wait_ms: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            credential: true,
            ..AcquireParams::default()
        };
        // the demo itself restarts the daemon
        LeaseGuard::acquire(Client::connect(places)?, request)
    }

    /// A few requests on one lease; a limit moves or ends the lease.
    async fn turn(&mut self, mut lease: LeaseGuard) -> anyhow::Result<()> {
        // a request that was refused is sent again, so it does not count
        let mut left = TURN;
        while left > 0 && Instant::now() < self.end {
            // after a restart of the daemon, this resumes the lease
            if lease.renew().is_err_and(|error| error.kind().is_none()) {
                self.tally.disconnected += 1;
            }
            let secret = lease.lease().credential.as_ref().map(|credential| credential.secret.0.to_string());
            let Some(secret) = secret else { anyhow::bail!("the lease has no credential") };
            match self.request(&secret).await? {
                None => {
                    self.tally.served += 1;
                    left -= 1;
                }
                Some(wait) => {
                    self.tally.limits += 1;
                    if !self.report(&mut lease, wait).await {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reports a limit; answers whether the lease continues on another account.
    async fn report(&mut self, lease: &mut LeaseGuard, wait: Duration) -> bool {
        let report = || ReportParams {
            reason: Some(Reason::QuotaExhausted),
            retry_after_ms: Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            ..ReportParams::default()
        };
        while Instant::now() < self.end {
            match lease.report(report()) {
                Ok(decision) if decision.action == "switch" => {
                    self.tally.switched += 1;
                    return true;
                }
                Ok(_) => {
                    self.limited = Some(lease.lease().account.id.to_string());
                    return false;
                }
                Err(ClientError::Refused(_)) => {
                    self.tally.failed += 1;
                    return false;
                }
                // the daemon is being restarted: report again
                Err(_) => {
                    self.tally.disconnected += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        false
    }

    /// Sends a request; answers the wait if it was refused.
    async fn request(&mut self, secret: &str) -> anyhow::Result<Option<Duration>> {
        let mut connection = match self.upstream.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.ready().await?;
        let request = Request::post("/v1/messages")
            .header("host", &self.task.upstream)
            .header("authorization", format!("Bearer {secret}"))
            .header(AGENT, &self.task.name)
            .body(Empty::new())?;
        let response = connection.send_request(request).await?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER_MS).and_then(|value| value.to_str().ok()?.parse().ok());
        response.into_body().collect().await?;
        self.upstream = Some(connection);
        match (status, wait) {
            (StatusCode::OK, _) => Ok(None),
            (StatusCode::TOO_MANY_REQUESTS, Some(millis)) => Ok(Some(Duration::from_millis(millis))),
            _ => anyhow::bail!("the upstream answered {status}"),
        }
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
        let stream = TcpStream::connect(&self.task.upstream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}
