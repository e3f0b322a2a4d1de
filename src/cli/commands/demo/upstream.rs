//! The simulated provider: keys with a quota per window, and a record of which agents used which key.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{collections::BTreeMap, convert::Infallible, mem, net::SocketAddr};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// How long requests take, in ms; used in turn.
const SERVICE_MS: [u64; 5] = [18, 31, 24, 37, 27];
/// The header with the name of the agent, for the record only.
pub(super) const AGENT: &str = "x-demo-agent";
/// The header with the exact wait; `retry-after` has whole seconds.
pub(super) const RETRY_AFTER_MS: &str = "retry-after-ms";

/// The provider, shared by its connections and the demo.
#[derive(Clone, Debug)]
pub(super) struct DemoUpstream {
    records: Arc<Mutex<DemoRecords>>,
    begun: Instant,
    window: Duration,
}

#[derive(Debug)]
struct DemoRecords {
    keys: BTreeMap<String, DemoKey>,
    /// What has happened since the demo looked last.
    events: Vec<ProviderEvent>,
    /// Agents whose last request was refused: on which key, and when.
    refused: BTreeMap<String, (String, Instant)>,
}

/// What the provider sees of limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ProviderEvent {
    /// An agent has used up the quota of a key.
    Limited { agent: String, key: String, wait: Duration },
    /// An agent that was refused goes on with another key.
    Moved { agent: String, from: String, to: String, after: Duration },
}

#[derive(Clone, Debug, Default)]
pub(super) struct DemoKey {
    pub(super) quota: u64,
    pub(super) window: u64,
    pub(super) used: u64,
    pub(super) served: u64,
    pub(super) refused: u64,
    /// Agents with an active request, and how many each has.
    pub(super) agents: BTreeMap<String, u32>,
    pub(super) most_agents: usize,
}

impl DemoUpstream {
    pub(super) fn new(keys: impl IntoIterator<Item = (String, u64)>, window: Duration) -> Self {
        let keys = keys.into_iter().map(|(key, quota)| (key, DemoKey { quota, ..DemoKey::default() }));
        let records = DemoRecords { keys: keys.collect(), events: Vec::new(), refused: BTreeMap::new() };
        Self { records: Arc::new(Mutex::new(records)), begun: Instant::now(), window }
    }

    /// What has happened since the last call.
    pub(super) fn take_events(&self) -> Vec<ProviderEvent> {
        mem::take(&mut self.records().events)
    }

    /// Listens on loopback, and serves on a thread until the process ends.
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
                    // the connection of a killed agent breaks
                    let _broken = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        };
        std::thread::Builder::new().name("upstream".to_owned()).spawn(move || runtime.block_on(serving))?;
        Ok(address)
    }

    pub(super) fn time_of_window(&self) -> Duration {
        let past = self.begun.elapsed();
        past - self.window * u32::try_from(past.as_millis() / self.window.as_millis()).unwrap_or(u32::MAX)
    }

    pub(super) fn states(&self) -> BTreeMap<String, DemoKey> {
        let window = self.window_number();
        let keys = &mut self.records().keys;
        keys.values_mut().for_each(|key| key.reset_in_new_window(window));
        keys.clone()
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let agent = header(AGENT).to_owned();
        let key = header(AUTHORIZATION.as_str()).trim_start_matches("Bearer ").to_owned();
        let Some(begun) = self.begin(&key, &agent) else {
            return Ok(respond(StatusCode::UNAUTHORIZED, &[], "{\"error\":{\"type\":\"authentication_error\"}}"));
        };
        match begun {
            Ok(number) => {
                let service = SERVICE_MS[usize::try_from(number).unwrap_or_default() % SERVICE_MS.len()];
                let _ends_when_dropped = ActiveRequest { upstream: &self, key: &key, agent: &agent };
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

    /// Counts a request: its number, or the wait if the quota is used up; `None` for an unknown key.
    fn begin(&self, name: &str, agent: &str) -> Option<Result<u64, Duration>> {
        let window = self.window_number();
        let left = self.window.saturating_sub(self.time_of_window());
        let DemoRecords { keys, events, refused } = &mut *self.records();
        let key = keys.get_mut(name)?;
        key.reset_in_new_window(window);
        if key.used >= key.quota {
            key.refused += 1;
            events.push(ProviderEvent::Limited { agent: agent.to_owned(), key: name.to_owned(), wait: left });
            refused.insert(agent.to_owned(), (name.to_owned(), Instant::now()));
            return Some(Err(left));
        }
        if let Some((from, at)) = refused.remove(agent).filter(|(from, _)| from != name) {
            let (agent, to, after) = (agent.to_owned(), name.to_owned(), at.elapsed());
            events.push(ProviderEvent::Moved { agent, from, to, after });
        }
        key.used += 1;
        key.served += 1;
        *key.agents.entry(agent.to_owned()).or_default() += 1;
        key.most_agents = key.most_agents.max(key.agents.len());
        Some(Ok(key.served))
    }

    fn end(&self, key: &str, agent: &str) {
        let records = &mut *self.records();
        let Some(key) = records.keys.get_mut(key) else { return };
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

    fn records(&self) -> MutexGuard<'_, DemoRecords> {
        // the counts stay valid if another thread panics
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the request when dropped, also if its client is killed.
struct ActiveRequest<'a> {
    upstream: &'a DemoUpstream,
    key: &'a str,
    agent: &'a str,
}

impl Drop for ActiveRequest<'_> {
    fn drop(&mut self) {
        self.upstream.end(self.key, self.agent);
    }
}

impl DemoKey {
    fn reset_in_new_window(&mut self, window: u64) {
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
    fn a_key_serves_its_quota_and_then_states_the_wait() {
        let upstream = DemoUpstream::new([("k".to_owned(), 2)], Duration::from_secs(3600));
        assert_eq!(upstream.begin("k", "a"), Some(Ok(1)));
        assert_eq!(upstream.begin("k", "b"), Some(Ok(2)));
        assert!(matches!(upstream.begin("k", "a"), Some(Err(wait)) if wait <= Duration::from_secs(3600)));
        assert_eq!(upstream.begin("other", "a"), None);
        upstream.end("k", "a");
        let state = &upstream.states()["k"];
        assert_eq!((state.served, state.refused, state.most_agents, state.agents.len()), (2, 1, 2, 1));
    }

    #[test]
    fn an_agent_that_was_refused_is_seen_on_its_next_key() {
        let upstream = DemoUpstream::new([("k".to_owned(), 0), ("l".to_owned(), 9)], Duration::from_secs(3600));
        upstream.begin("k", "a");
        upstream.begin("l", "a");
        upstream.begin("l", "a");
        let events = upstream.take_events();
        assert!(matches!(&events[0], ProviderEvent::Limited { agent, key, .. } if agent == "a" && key == "k"));
        assert!(matches!(&events[1], ProviderEvent::Moved { from, to, .. } if from == "k" && to == "l"));
        assert_eq!((events.len(), upstream.take_events().len()), (2, 0));
    }
}
