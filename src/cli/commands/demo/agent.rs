//! One agent of the demo, a process: leases an account for a few requests at a time, and sends them through the gateway.

use std::io::Write;
use std::mem;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::upstream::AGENT;
use crate::client::{Client, ClientError};
use crate::config::{AppPaths, Flags};
use crate::pool::millis;
use crate::protocol::{AcquireParams, BindTo, GatewayKeyParams, LeaseInfo, LeaseRef, LeaseRow};

/// The variable with the task, as JSON; it contains no secret.
pub(super) const TASK_VARIABLE: &str = "LESSOR_DEMO_TASK";
/// Requests of one turn; an agent keeps its lease for a turn.
pub(super) const TURN: u32 = 8;
/// The pause before another attempt to reach a daemon that is being restarted.
const PAUSE: Duration = Duration::from_millis(20);
/// The body of each request.
const BODY: &[u8] = b"{\"model\":\"sim-1\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AgentTask {
    pub(super) name: String,
    pub(super) provider: String,
    pub(super) millis: u64,
}

/// What an agent has counted; printed as a line after each turn.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct AgentTally {
    pub(super) served: u64,
    /// Answers 429 and 5xx that it got: limits that the gateway did not absorb.
    pub(super) limits: u64,
    /// Calls and requests that it made again because the connection broke: the daemon had just been killed.
    pub(super) reconnects: u64,
}

pub(crate) fn work() -> u8 {
    let task = std::env::var(TASK_VARIABLE).ok().and_then(|task| serde_json::from_str::<AgentTask>(&task).ok());
    let Some(task) = task else {
        eprintln!("this command is internal: `lessor demo` starts its agents with it");
        return 2;
    };
    let name = task.name.clone();
    let result = DemoAgent::new(task).and_then(|mut agent| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(agent.run());
        agent.print_tally();
        result
    });
    if let Err(error) = &result {
        eprintln!("{name}: {error:#}");
    }
    u8::from(result.is_err())
}

struct DemoAgent {
    task: AgentTask,
    end: Instant,
    tally: AgentTally,
    places: AppPaths,
    /// The connection to the daemon.
    client: Option<Client>,
    /// The connection to the gateway.
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// What an agent that `lessor run` starts finds in its environment.
struct GatewayAddress {
    host: String,
    key: String,
}

impl DemoAgent {
    fn new(task: AgentTask) -> anyhow::Result<Self> {
        let end = Instant::now() + Duration::from_millis(task.millis);
        let places = AppPaths::from_process(&Flags::default())?;
        Ok(Self { task, end, tally: AgentTally::default(), places, client: None, connection: None })
    }

    async fn run(&mut self) -> anyhow::Result<()> {
        while !self.left().is_zero() {
            let lease = self.lease();
            if let Some(lease) = &lease {
                self.turn(lease).await?;
                // printed after every turn, so that the counts of a killed agent are not lost
                self.print_tally();
            }
        }
        Ok(())
    }

    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    fn print_tally(&self) {
        // the demo may have ended: then the line is not needed
        let line = serde_json::to_string(&self.tally).unwrap_or_default();
        let _unread = writeln!(std::io::stdout(), "{line}");
    }

    /// A lease that is bound to this process; `None` if no account was free before the end.
    fn lease(&mut self) -> Option<LeaseInfo<'static>> {
        let request = AcquireParams {
            provider: self.task.provider.clone(),
            label: Some(self.task.name.clone()),
            wait_ms: Some(millis(self.left())),
            bind: BindTo::Pid(std::process::id()),
            ..AcquireParams::default()
        };
        // after a restart this returns the lease whose answer was lost with the connection
        self.call(|client| client.token(request.clone()))
    }

    /// A few requests on one lease; the gateway moves it to another account when it meets a limit.
    async fn turn(&mut self, lease: &LeaseInfo<'static>) -> anyhow::Result<()> {
        let params = GatewayKeyParams { lease: Some(lease.lease.clone().into_owned()), ..GatewayKeyParams::default() };
        let Some(access) = self.call(|client| client.gateway_key(params.clone())) else { return Ok(()) };
        let Some(url) = access.url else {
            anyhow::bail!("the gateway does not listen: {}", access.trouble.unwrap_or_default())
        };
        let host = url.trim_start_matches("http://").to_owned();
        let gateway = GatewayAddress { host, key: access.key.0.into_owned() };
        for _ in 0..TURN {
            if !self.request(&gateway).await? {
                break;
            }
        }
        self.release();
        Ok(())
    }

    /// Releases what this process holds: where the gateway has moved the lease, it has another id by now.
    fn release(&mut self) {
        let leases = self.call(Client::leases).unwrap_or_default();
        let pid = std::process::id();
        let is_own = |row: &LeaseRow| row.holder.as_ref().is_some_and(|holder| holder.pid == pid);
        for LeaseRow { lease, fence, .. } in leases.into_iter().filter(is_own) {
            let reference = LeaseRef { lease, fence: Some(fence) };
            // refused if it has ended already; at the end of the demo it ends with this process
            let _released = self.call(|client| client.release(reference.clone()));
        }
    }

    /// Calls the daemon, again while it is being restarted; `None` if it refuses, or when the time is over.
    fn call<T>(&mut self, call: impl Fn(&mut Client) -> Result<T, ClientError>) -> Option<T> {
        let mut broke = false;
        while !self.left().is_zero() {
            let client = match self.client.take() {
                Some(client) => Ok(client),
                None => Client::connect(&self.places),
            };
            let answer = client.and_then(|mut client| {
                let answer = call(&mut client)?;
                self.client = Some(client);
                Ok(answer)
            });
            match answer {
                Ok(answer) => return Some(answer),
                Err(ClientError::Refused(_)) => return None,
                Err(_) => {
                    self.tally.reconnects += u64::from(!mem::replace(&mut broke, true));
                    std::thread::sleep(PAUSE);
                }
            }
        }
        None
    }

    /// Sends a request until it is served, as the vendors' clients do: again when its connection broke, and after the
    /// stated time when it was refused. `false` when the time is over.
    async fn request(&mut self, gateway: &GatewayAddress) -> anyhow::Result<bool> {
        let mut broke = false;
        while !self.left().is_zero() {
            // a request for which the gateway waits beyond the end is given up
            let Ok(answer) = tokio::time::timeout(self.left(), self.send(gateway)).await else { return Ok(false) };
            let pause = match answer {
                Ok((StatusCode::OK, _)) => {
                    self.tally.served += 1;
                    return Ok(true);
                }
                Ok((status, wait)) if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                    self.tally.limits += 1;
                    wait.unwrap_or(PAUSE)
                }
                Ok((status, _)) => anyhow::bail!("the gateway answered {status}"),
                Err(_not_sent) => {
                    self.tally.reconnects += u64::from(!mem::replace(&mut broke, true));
                    PAUSE
                }
            };
            tokio::time::sleep(pause.min(self.left())).await;
        }
        Ok(false)
    }

    /// Sends a request once; answers its status, and the wait that is stated.
    async fn send(&mut self, gateway: &GatewayAddress) -> anyhow::Result<(StatusCode, Option<Duration>)> {
        let mut connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => connect(&gateway.host).await?,
        };
        connection.ready().await?;
        let request = Request::post(format!("/{}/v1/messages", self.task.provider))
            .header(HOST, &gateway.host)
            .header(AUTHORIZATION, format!("Bearer {}", gateway.key))
            .header(USER_AGENT, "lessor-demo")
            .header(CONTENT_TYPE, "application/json")
            .header(AGENT, &self.task.name)
            .body(Full::new(Bytes::from_static(BODY)))?;
        let response = connection.send_request(request).await?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        response.into_body().collect().await?;
        self.connection = Some(connection);
        Ok((status, wait.map(Duration::from_secs)))
    }
}

async fn connect(host: &str) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(host).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
