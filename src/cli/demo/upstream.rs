//! The simulated provider: keys with a quota a window, and a book of who used which key when.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// How long a request takes, in ms; each its own of these.
const SERVICE_MS: [u64; 5] = [18, 31, 24, 37, 27];
/// The header by which an agent says who it is, for the book only.
pub(super) const AGENT: &str = "x-demo-agent";
/// The header with the exact wait; `retry-after` has whole seconds only.
pub(super) const RETRY_AFTER_MS: &str = "retry-after-ms";

/// The provider, shared by its connections and by whoever reads the book.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    book: Arc<Mutex<Book>>,
    begun: Instant,
    window: Duration,
}

/// What has happened.
#[derive(Debug, Default)]
struct Book {
    keys: BTreeMap<String, Key>,
    unknown: u64,
}

#[derive(Debug, Default)]
struct Key {
    quota: u64,
    window: u64,
    used: u64,
    served: u64,
    refused: u64,
    /// Agents with a request under way.
    agents: BTreeMap<String, u32>,
    most_agents: usize,
}

/// One key's line of the book.
#[derive(Clone, Debug)]
pub(super) struct KeyState {
    pub(super) quota: u64,
    pub(super) used: u64,
    pub(super) served: u64,
    pub(super) refused: u64,
    pub(super) most_agents: usize,
    pub(super) agents: BTreeSet<String>,
}

impl Upstream {
    /// A provider with these keys, each with its quota for a window.
    pub(super) fn new(keys: impl IntoIterator<Item = (String, u64)>, window: Duration) -> Self {
        let keys = keys.into_iter().map(|(key, quota)| (key, Key { quota, ..Key::default() }));
        let book = Book { keys: keys.collect(), unknown: 0 };
        Self { book: Arc::new(Mutex::new(book)), begun: Instant::now(), window }
    }

    /// Listens on loopback, and serves on a thread of its own until the process ends.
    pub(super) fn serve_in_background(&self) -> anyhow::Result<SocketAddr> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let address = listener.local_addr()?;
        let upstream = self.clone();
        let serving = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let upstream = upstream.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| upstream.clone().answer(request));
                    // an agent that is killed leaves a broken connection, and that is all
                    let _broken = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        };
        std::thread::Builder::new().name("upstream".to_owned()).spawn(move || runtime.block_on(serving))?;
        Ok(address)
    }

    /// How far the present window is.
    pub(super) fn time_of_window(&self) -> Duration {
        let past = self.begun.elapsed();
        past - self.window * u32::try_from(past.as_millis() / self.window.as_millis()).unwrap_or(u32::MAX)
    }

    /// The book as it stands, by key.
    pub(super) fn states(&self) -> BTreeMap<String, KeyState> {
        let window = self.window_number();
        let book = &mut *self.book();
        let state = |key: &mut Key| {
            key.turn(window);
            KeyState {
                quota: key.quota,
                used: key.used,
                served: key.served,
                refused: key.refused,
                most_agents: key.most_agents,
                agents: key.agents.keys().cloned().collect(),
            }
        };
        book.keys.iter_mut().map(|(name, key)| (name.clone(), state(key))).collect()
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let agent = header(AGENT).to_owned();
        let key = header(AUTHORIZATION.as_str()).trim_start_matches("Bearer ").to_owned();
        let Some(under_way) = self.begin(&key, &agent) else {
            return Ok(respond(StatusCode::UNAUTHORIZED, &[], "{\"error\":{\"type\":\"authentication_error\"}}"));
        };
        match under_way {
            Ok(number) => {
                let service = SERVICE_MS[usize::try_from(number).unwrap_or_default() % SERVICE_MS.len()];
                let _leaves = Leaves { upstream: &self, key: &key, agent: &agent };
                tokio::time::sleep(Duration::from_millis(service)).await;
                Ok(respond(StatusCode::OK, &[], "{\"type\":\"message\",\"content\":\"hi\"}"))
            }
            Err(wait) => {
                let millis = wait.as_millis().to_string();
                let seconds = wait.as_secs_f64().ceil().to_string();
                let headers = [("retry-after", seconds.as_str()), (RETRY_AFTER_MS, millis.as_str())];
                Ok(respond(StatusCode::TOO_MANY_REQUESTS, &headers, "{\"error\":{\"type\":\"rate_limit_error\"}}"))
            }
        }
    }

    /// Counts a request: its number, or how long the key has no quota; `None` for a key there is not.
    fn begin(&self, key: &str, agent: &str) -> Option<Result<u64, Duration>> {
        let window = self.window_number();
        let left = self.window.saturating_sub(self.time_of_window());
        let book = &mut *self.book();
        let Some(key) = book.keys.get_mut(key) else {
            book.unknown += 1;
            return None;
        };
        key.turn(window);
        if key.used >= key.quota {
            key.refused += 1;
            return Some(Err(left));
        }
        key.used += 1;
        key.served += 1;
        *key.agents.entry(agent.to_owned()).or_default() += 1;
        key.most_agents = key.most_agents.max(key.agents.len());
        Some(Ok(key.served))
    }

    fn end(&self, key: &str, agent: &str) {
        let book = &mut *self.book();
        let Some(key) = book.keys.get_mut(key) else { return };
        if let Some(requests) = key.agents.get_mut(agent) {
            *requests -= 1;
            if *requests == 0 {
                key.agents.remove(agent);
            }
        }
    }

    fn window_number(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis() / self.window.as_millis()).unwrap_or(u64::MAX)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // numbers only: a panic elsewhere leaves them as good as before
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the request out of the book, also when its client is killed in the middle of it.
struct Leaves<'a> {
    upstream: &'a Upstream,
    key: &'a str,
    agent: &'a str,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.upstream.end(self.key, self.agent);
    }
}

impl Key {
    /// A new window brings new quota.
    fn turn(&mut self, window: u64) {
        if self.window != window {
            self.window = window;
            self.used = 0;
        }
    }
}

fn respond(status: StatusCode, headers: &[(&str, &str)], body: &'static str) -> Response<Full<Bytes>> {
    let mut builder = Response::builder().status(status).header("content-type", "application/json");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_serves_its_quota_and_then_says_until_when() {
        let upstream = Upstream::new([("k".to_owned(), 2)], Duration::from_secs(3600));
        assert_eq!(upstream.begin("k", "a"), Some(Ok(1)));
        assert_eq!(upstream.begin("k", "b"), Some(Ok(2)));
        assert!(matches!(upstream.begin("k", "a"), Some(Err(wait)) if wait <= Duration::from_secs(3600)));
        assert_eq!(upstream.begin("other", "a"), None);
        upstream.end("k", "a");
        let state = &upstream.states()["k"];
        assert_eq!((state.served, state.refused, state.most_agents, state.agents.len()), (2, 1, 2, 1));
    }
}
