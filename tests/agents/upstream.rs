//! Three providers on loopback: each account has a limit, and a test may add trouble; the requests are recorded.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::UPGRADE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use super::body::PacedBody;
use super::native::Wish;
use super::trouble::{Trouble, TroubleKind};
use super::vendors::{self, AgentRequest, Vendor};
use super::websocket;

/// How long the first requests of the other runs are waited for, before a trouble begins without them.
const GATHERING: Duration = Duration::from_secs(50);

/// The providers; clones share one record.
#[derive(Clone)]
pub struct Upstream {
    record: Arc<Mutex<Record>>,
}

/// An account at its provider.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its key; for a login, what its access tokens begin with.
    pub secret: String,
    pub is_login: bool,
    pub limit: Limit,
}

#[derive(Clone, Copy, Debug)]
pub enum Limit {
    None,
    /// So many requests in all.
    Requests(u64),
    /// So many requests in each window of this length.
    Window(u64, Duration),
}

struct Record {
    accounts: Vec<Account>,
    /// How many requests each account was served, in its current window.
    served: Vec<(u128, u64)>,
    seen: Vec<Seen>,
    wishes: Vec<Wish>,
    /// The runs and sub-agents that got their final answers.
    finished: BTreeSet<u64>,
    started: Instant,
    trouble: Option<Trouble>,
    /// The time between two events of a stream.
    pace: Duration,
    /// How many WebSockets were opened.
    sockets: u64,
    /// Requests that a client sent again, as it says.
    repeated: u64,
}

/// A recorded request.
#[derive(Clone)]
pub struct Seen {
    /// The number of its account, if its credential is known.
    pub account: Option<usize>,
    /// Its run, as named in the prompt.
    pub run: Option<u64>,
    pub status: u16,
    pub path: String,
    pub at: Instant,
    /// The window it came in, if its account has windows.
    pub window: u128,
    /// The sub-agent that sends it, as it says.
    pub subagent: Option<String>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { account, run, status, path, at: _, window: _, subagent: _ } = self;
        let account = account.map_or("an unknown account".to_owned(), |number| format!("account {number}"));
        write!(f, "run {} {account} {status} {path}", run.unwrap_or_default())
    }
}

/// What an account does with a request.
enum Verdict {
    Serve,
    /// A rate limit that ends after this time.
    Limited(Duration),
    Refuse(u16),
}

impl Upstream {
    /// Starts with these accounts. Serves until the process ends.
    pub fn start(accounts: &[Account]) -> (Self, SocketAddr) {
        let record = Record {
            accounts: accounts.to_vec(),
            served: vec![(0, 0); accounts.len()],
            seen: Vec::new(),
            wishes: Vec::new(),
            finished: BTreeSet::new(),
            started: Instant::now(),
            trouble: None,
            pace: Duration::ZERO,
            sockets: 0,
            repeated: 0,
        };
        let upstream = Self { record: Arc::new(Mutex::new(record)) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = upstream.clone();
        std::thread::spawn(move || runtime.block_on(serving.serve(listener)));
        (upstream, address)
    }

    /// Adds an account.
    pub fn add(&self, account: Account) {
        let record = &mut *self.record();
        record.accounts.push(account);
        record.served.push((0, 0));
    }

    /// Adds a trouble, which begins when its condition is met.
    pub fn plan(&self, trouble: Trouble) {
        self.record().trouble = Some(trouble);
    }

    pub fn set_pace(&self, pace: Duration) {
        self.record().pace = pace;
    }

    async fn serve(self, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let upstream = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| upstream.clone().respond(request));
                // a client may disconnect at any time
                let _disconnected = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    }

    async fn respond(self, mut request: Request<Incoming>) -> Result<Response<PacedBody>, Infallible> {
        if request.headers().contains_key(UPGRADE) {
            let (answer, turns) = websocket::open(&mut request);
            if let Some(turns) = turns {
                self.record().sockets += 1;
                tokio::spawn(turns.serve(self.clone()));
            }
            return Ok(answer);
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        // codex compresses the requests of a login
        let body = if head.headers.get("content-encoding").is_some_and(|coding| coding == "zstd") {
            let mut plain = Vec::new();
            let mut decoder = ruzstd::decoding::StreamingDecoder::new(&body[..]).expect("zstd");
            std::io::Read::read_to_end(&mut decoder, &mut plain).expect("zstd");
            plain.into()
        } else {
            body
        };
        let path = head.uri.path().to_owned();
        let (vendor, below) = Vendor::of(&path);
        let text = String::from_utf8_lossy(&body);
        if below.ends_with("/token") {
            let (status, kind, text) = vendor.token(&text);
            return Ok(response(status, kind, PacedBody::whole(text)));
        }
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let key = ["authorization", "x-api-key", "x-goog-api-key"]
            .iter()
            .filter_map(|name| head.headers.get(*name)?.to_str().ok())
            .map(|value| value.trim_start_matches("Bearer ").to_owned())
            .next();
        let subagent = head.headers.get("x-claude-code-agent-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let request = AgentRequest::read(vendor, below, &json, &text);
        let counts = head.method == Method::POST && request.is_generation;
        if counts {
            self.gather(request.run).await;
        }
        let mut record = self.record();
        // the SDKs of Python say so; Claude Code tries again without them
        let again = head.headers.get("x-stainless-retry-count").is_some_and(|count| count != "0");
        record.repeated += u64::from(again);
        let account = key.and_then(|key| record.account_of(&key));
        let (pace, window) = (record.pace, account.map_or(0, |account| record.window(account)));
        let (mut status, content_type, text) = match account {
            None => vendor.refused(401),
            Some(_) if head.method == Method::HEAD => (200, "text/plain", String::new()),
            // the workspaces of a ChatGPT login: codex goes on only if its own is among them
            Some(_) if below.ends_with("/wham/accounts/check") => {
                let own = head.headers.get("chatgpt-account-id").and_then(|id| id.to_str().ok());
                vendors::workspaces(own.unwrap_or_default())
            }
            Some(_) if !counts => vendor.other(below),
            Some(account) => match record.judge(account, request.run) {
                Verdict::Serve => {
                    record.finished.extend(request.finishes());
                    vendor.served(&request)
                }
                Verdict::Refuse(status) => vendor.refused(status),
                Verdict::Limited(wait) => {
                    let (status, kind, text) = vendor.limited(record.accounts[account].is_login, wait);
                    record.note((account, window), &request, status, &path, subagent);
                    let is_login = record.accounts[account].is_login;
                    let response = vendor.with_limit_headers(is_login, wait, Response::builder().status(status));
                    return Ok(response.header("content-type", kind).body(PacedBody::whole(text)).unwrap());
                }
            },
        };
        if head.method == Method::HEAD && account.is_none() {
            status = 200;
        }
        if counts {
            record.wishes.push(Wish::read(account, &head.headers, &json));
        }
        if counts || status == 401 {
            let seen = Seen { account, run: request.run, status, path, at: Instant::now(), window, subagent };
            record.seen.push(seen);
        }
        drop(record);
        Ok(response(status, content_type, PacedBody::paced(text, pace)))
    }

    /// The answer to a turn in a WebSocket: its status, the events or the error, and the time between two events.
    pub async fn turn(&self, key: &str, path: &str, request: &AgentRequest) -> (u16, String, Duration) {
        let vendor = Vendor::Openai;
        self.gather(request.run).await;
        let mut record = self.record();
        let account = record.account_of(key);
        let (status, _, text) = match account {
            None => vendor.refused(401),
            Some(account) => match record.judge(account, request.run) {
                Verdict::Serve => {
                    record.finished.extend(request.finishes());
                    vendor.served(request)
                }
                Verdict::Refuse(status) => vendor.refused(status),
                Verdict::Limited(wait) => vendor.limited(record.accounts[account].is_login, wait),
            },
        };
        let window = account.map_or(0, |account| record.window(account));
        let (path, at) = (path.to_owned(), Instant::now());
        // codex names no sub-agent in a turn
        let seen = Seen { account, run: request.run, status, path, at, window, subagent: None };
        record.seen.push(seen);
        (status, text, record.pace)
    }

    /// How many WebSockets were opened.
    pub fn sockets(&self) -> u64 {
        self.record().sockets
    }

    /// How many requests the SDKs of Python sent again, after a limit that they saw.
    pub fn repeated(&self) -> u64 {
        self.record().repeated
    }

    /// Holds the first requests until those of all runs have come, so that a trouble meets all of them.
    async fn gather(&self, run: Option<u64>) {
        let begun = Instant::now();
        loop {
            if self.record().has_gathered(run, begun.elapsed() > GATHERING) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    /// What the requests that were sent to a model asked for.
    pub fn wishes(&self) -> Vec<Wish> {
        self.record().wishes.clone()
    }

    /// All recorded requests.
    pub fn seen(&self) -> Vec<Seen> {
        self.record().seen.clone()
    }

    /// The runs that got their final answers; sub-agents count from 100.
    pub fn finished(&self) -> BTreeSet<u64> {
        self.record().finished.clone()
    }

    /// When the trouble began, if it has.
    pub fn trouble_began(&self) -> Option<Instant> {
        self.record().trouble.as_ref().and_then(|trouble| trouble.began)
    }

    /// The sum of the requests that are left.
    pub fn left(&self) -> u64 {
        let record = self.record();
        let left = record.accounts.iter().zip(&record.served).map(|(account, (_, served))| match account.limit {
            Limit::Requests(most) => most.saturating_sub(*served),
            Limit::None | Limit::Window(..) => 0,
        });
        left.sum()
    }
}

impl Record {
    fn account_of(&self, key: &str) -> Option<usize> {
        let is_of = |account: &Account| match account.is_login {
            true => key.starts_with(&account.secret),
            false => key == account.secret,
        };
        self.accounts.iter().position(is_of)
    }

    fn window(&self, account: usize) -> u128 {
        match self.accounts[account].limit {
            Limit::Window(_, length) => self.started.elapsed().as_millis() / length.as_millis(),
            Limit::None | Limit::Requests(_) => 0,
        }
    }

    fn has_gathered(&mut self, run: Option<u64>, is_late: bool) -> bool {
        let Some(trouble) = &mut self.trouble else { return true };
        let TroubleKind::OfAll { runs, .. } = trouble.kind else { return true };
        if trouble.began.is_some() {
            return true;
        }
        trouble.gathered.extend(run);
        if trouble.gathered.len() as u64 >= runs || is_late {
            trouble.began = Some(Instant::now());
        }
        trouble.began.is_some()
    }

    fn judge(&mut self, account: usize, run: Option<u64>) -> Verdict {
        let served: BTreeSet<_> =
            self.seen.iter().filter(|seen| seen.status == 200).filter_map(|seen| seen.run).collect();
        let is_first = run.is_none_or(|run| !served.contains(&run));
        let count = self.seen.iter().filter(|seen| seen.account == Some(account) && seen.status == 200).count() as u64;
        if let Some(trouble) = &mut self.trouble
            && let Some((refusal, left)) = trouble.meets(account, is_first, count)
        {
            return refusal.map_or(Verdict::Limited(left), Verdict::Refuse);
        }
        let window = self.window(account);
        let (at, used) = &mut self.served[account];
        if *at != window {
            (*at, *used) = (window, 0);
        }
        let (most, wait) = match self.accounts[account].limit {
            Limit::None => (u64::MAX, Duration::ZERO),
            Limit::Requests(most) => (most, Duration::from_secs(3600)),
            Limit::Window(most, length) => {
                let end = length * u32::try_from(window + 1).unwrap();
                (most, end.saturating_sub(self.started.elapsed()))
            }
        };
        if *used >= most {
            return Verdict::Limited(wait);
        }
        *used += 1;
        Verdict::Serve
    }

    fn note(
        &mut self,
        (account, window): (usize, u128),
        request: &AgentRequest,
        status: u16,
        path: &str,
        subagent: Option<String>,
    ) {
        let (path, at) = (path.to_owned(), Instant::now());
        self.seen.push(Seen { account: Some(account), run: request.run, status, path, at, window, subagent });
    }
}

fn response(status: u16, content_type: &str, body: PacedBody) -> Response<PacedBody> {
    Response::builder().status(status).header("content-type", content_type).body(body).unwrap()
}
