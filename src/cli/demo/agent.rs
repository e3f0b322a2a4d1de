//! One agent of the demo, in a process of its own: leases, works, reports limits, moves on.

use std::io::Write;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::client::{Client, ClientError, LeaseGuard};
use crate::config::{AppPaths, Flags};
use crate::limits::Reason;
use crate::protocol::{AcquireParams, ReportParams};

use super::upstream::{AGENT, RETRY_AFTER_MS};

/// What an agent is told, as JSON in this variable: nothing of it is secret.
pub(super) const TASK: &str = "LESSOR_DEMO_TASK";
/// Requests of one turn, for which an agent keeps its lease.
const TURN: u32 = 8;
/// Before trying again to reach a daemon that is being restarted.
const PAUSE: Duration = Duration::from_millis(20);

/// What an agent is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) provider: String,
    pub(super) upstream: String,
    pub(super) millis: u64,
}

/// What an agent has met, printed as a line when it ends.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    /// Requests the upstream served.
    pub(super) served: u64,
    /// Requests the upstream refused.
    pub(super) limits: u64,
    /// Limits after which the daemon had another account at once.
    pub(super) switched: u64,
    /// Limits after which every account was held or spent, and the agent's next lease was another account's.
    pub(super) moved_later: u64,
    /// Limits after which its next lease was the same account's, its window having come first.
    pub(super) came_back: u64,
    /// Calls that met no daemon, because it had just been killed.
    pub(super) disconnected: u64,
}

/// Works until the time is over.
pub(super) fn work() -> u8 {
    let task = std::env::var(TASK).ok().and_then(|task| serde_json::from_str::<Task>(&task).ok());
    let Some(task) = task else {
        eprintln!("this command is what `lessor demo` starts its agents by");
        return 2;
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{}: {error}", task.name);
            return 1;
        }
    };
    let mut agent = Agent {
        end: Instant::now() + Duration::from_millis(task.millis),
        task,
        tally: Tally::default(),
        upstream: None,
        spent: None,
    };
    let result = runtime.block_on(agent.run());
    agent.tell();
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{}: {error}", agent.task.name);
            1
        }
    }
}

struct Agent {
    task: Task,
    end: Instant,
    tally: Tally,
    upstream: Option<SendRequest<Empty<Bytes>>>,
    /// The account whose quota was spent last, until the next lease.
    spent: Option<String>,
}

/// What the upstream said.
enum Said {
    Served,
    Limited(Duration),
}

impl Agent {
    async fn run(&mut self) -> anyhow::Result<()> {
        let places = AppPaths::from_process(&Flags::default())?;
        while let Some(left) = self.end.checked_duration_since(Instant::now()) {
            match self.lease(&places, left) {
                Ok(lease) => {
                    let account = &*lease.lease().account.id;
                    match self.spent.take() {
                        Some(spent) if spent == account => self.tally.came_back += 1,
                        Some(_) => self.tally.moved_later += 1,
                        None => {}
                    }
                    self.turn(lease).await?;
                    // said after every turn: an agent that is killed has said what it met
                    self.tell();
                }
                // nothing came free before the end
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

    fn tell(&self) {
        // the demo may be gone: then nobody wants to know
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
        // the demo itself restarts the daemon it kills: no agent needs to
        LeaseGuard::acquire(Client::connect(places)?, request)
    }

    /// A few requests on one lease; a limit moves it, or ends it.
    async fn turn(&mut self, mut lease: LeaseGuard) -> anyhow::Result<()> {
        for _ in 0..TURN {
            if Instant::now() >= self.end {
                break;
            }
            // a sign of life; after a restart of the daemon it is what takes the lease up again
            if lease.renew().is_err_and(|error| error.kind().is_none()) {
                self.tally.disconnected += 1;
            }
            let secret = lease.lease().credential.as_ref().map(|credential| credential.secret.0.to_string());
            let Some(secret) = secret else { anyhow::bail!("a lease without a credential") };
            match self.request(&secret).await? {
                Said::Served => self.tally.served += 1,
                Said::Limited(wait) => {
                    self.tally.limits += 1;
                    if !self.report(&mut lease, wait).await {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reports a limit; whether the lease goes on, on another account.
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
                    self.spent = Some(lease.lease().account.id.to_string());
                    return false;
                }
                Err(ClientError::Refused(_)) => return false,
                // the daemon is being restarted: what it must know is not forgotten meanwhile
                Err(_) => {
                    self.tally.disconnected += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        false
    }

    async fn request(&mut self, secret: &str) -> anyhow::Result<Said> {
        let connection = match self.upstream.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let mut connection = connection;
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
            (StatusCode::OK, _) => Ok(Said::Served),
            (StatusCode::TOO_MANY_REQUESTS, Some(millis)) => Ok(Said::Limited(Duration::from_millis(millis))),
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
