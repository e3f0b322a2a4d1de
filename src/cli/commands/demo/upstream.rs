//! The simulated provider: keys with a quota per window, and a record of which agents used which key.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{collections::BTreeMap, collections::BTreeSet, convert::Infallible, mem, net::TcpListener};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use super::messages::{self, MessageRequest};

/// How long requests take, in ms; used in turn.
const SERVICE_MS: [u64; 5] = [18, 31, 24, 37, 27];
/// The header with the name of the agent, for the record only.
pub(super) const AGENT: &str = "x-demo-agent";
/// The header with the key, where it is not a bearer token.
const API_KEY: &str = "x-api-key";
/// A request that comes again so soon after a refusal did not wait for an account.
const AT_ONCE: Duration = Duration::from_millis(100);
/// The header with the exact wait; `retry-after` has whole seconds.
const RETRY_AFTER_MS: &str = "retry-after-ms";

/// The provider, shared by its connections and the demo.
#[derive(Clone, Debug)]
pub(super) struct DemoUpstream {
    records: Arc<Mutex<DemoRecords>>,
    begun: Instant,
    window: Duration,
    /// How long the demo takes: no window begins after it.
    time: Duration,
}

#[derive(Debug, Default)]
struct DemoRecords {
    keys: BTreeMap<String, DemoKey>,
    /// What has happened since the demo looked last.
    events: Vec<ProviderEvent>,
    /// Agents whose last request was refused: on which key, and when.
    refused: BTreeMap<String, (String, Instant)>,
    /// Agents that were killed. Until the daemon notices that, one of their requests may still arrive: it is not counted
    /// among those that use a key.
    killed: BTreeSet<String>,
    continued: Continued,
}

/// How the requests went on that were refused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Continued {
    /// With another key, at once.
    pub(super) moved: u64,
    /// With another key, after a wait for one.
    pub(super) moved_later: u64,
    /// With the same key, after its reset.
    pub(super) same_key: u64,
}

/// What the provider sees of limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ProviderEvent {
    /// An agent has used up the quota of a key.
    Limited { agent: String, key: String, wait: Duration },
    /// The request of an agent that was refused comes again, with another key.
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
    /// The first window begins now.
    pub(super) fn new(keys: impl IntoIterator<Item = (String, u64)>, window: Duration, time: Duration) -> Self {
        let keys = keys.into_iter().map(|(key, quota)| (key, DemoKey { quota, ..DemoKey::default() }));
        let records = DemoRecords { keys: keys.collect(), ..DemoRecords::default() };
        Self { records: Arc::new(Mutex::new(records)), begun: Instant::now(), window, time }
    }

    /// When the demo ends.
    pub(super) fn end(&self) -> Instant {
        self.begun + self.time
    }

    /// What has happened since the last call.
    pub(super) fn take_events(&self) -> Vec<ProviderEvent> {
        mem::take(&mut self.records().events)
    }

    /// How the requests went on that were refused.
    pub(super) fn continued(&self) -> Continued {
        self.records().continued
    }

    /// The agent is about to be killed: from now on it uses no key.
    pub(super) fn agent_is_killed(&self, agent: &str) {
        let records = &mut *self.records();
        records.killed.insert(agent.to_owned());
        for key in records.keys.values_mut() {
            key.agents.remove(agent);
        }
    }

    /// Serves on a thread until the process ends.
    pub(super) fn serve_in_background(&self, listener: TcpListener) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        listener.set_nonblocking(true)?;
        let upstream = self.clone();
        let serving = async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                let upstream = upstream.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| upstream.clone().answer(request));
                    // the connection of a killed daemon breaks
                    let _broken = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        };
        std::thread::Builder::new().name("upstream".to_owned()).spawn(move || runtime.block_on(serving))?;
        Ok(())
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
        let bearer = header(AUTHORIZATION.as_str()).trim_start_matches("Bearer ");
        let key = if bearer.is_empty() { header(API_KEY).to_owned() } else { bearer.to_owned() };
        if !self.records().keys.contains_key(&key) {
            return Ok(unknown_key());
        }
        if request.method() != Method::POST {
            return Ok(messages::models());
        }
        if request.uri().path().ends_with("/count_tokens") {
            return Ok(messages::token_count());
        }
        let body = Limited::new(request.into_body(), messages::LONGEST).collect().await;
        let question = MessageRequest::of(&body.map(|body| body.to_bytes()).unwrap_or_default());
        match self.begin(&key, &agent) {
            None => Ok(unknown_key()),
            Some(Ok(number)) => {
                let service = SERVICE_MS[usize::try_from(number).unwrap_or_default() % SERVICE_MS.len()];
                let _ends_when_dropped = ActiveRequest { upstream: &self, key: &key, agent: &agent };
                tokio::time::sleep(Duration::from_millis(service)).await;
                Ok(question.answer(number))
            }
            Some(Err(wait)) => {
                let millis = wait.as_millis().to_string();
                let seconds = wait.as_secs_f64().ceil().to_string();
                let headers = [("retry-after", seconds.as_str()), (RETRY_AFTER_MS, millis.as_str())];
                let why = "this key has used up its requests of this window";
                Ok(messages::refusal(StatusCode::TOO_MANY_REQUESTS, &headers, "rate_limit_error", why))
            }
        }
    }

    /// Counts a request: its number, or the wait if the quota is used up; `None` for an unknown key.
    fn begin(&self, name: &str, agent: &str) -> Option<Result<u64, Duration>> {
        let window = self.window_number();
        let left = self.window.saturating_sub(self.time_of_window());
        let DemoRecords { keys, events, refused, killed, continued } = &mut *self.records();
        let key = keys.get_mut(name)?;
        key.reset_in_new_window(window);
        if let Some((from, at)) = refused.remove(agent) {
            let after = at.elapsed();
            if from == name {
                continued.same_key += 1;
            } else {
                let count = if after < AT_ONCE { &mut continued.moved } else { &mut continued.moved_later };
                *count += 1;
                events.push(ProviderEvent::Moved { agent: agent.to_owned(), from, to: name.to_owned(), after });
            }
        }
        if key.used >= key.quota {
            key.refused += 1;
            events.push(ProviderEvent::Limited { agent: agent.to_owned(), key: name.to_owned(), wait: left });
            refused.insert(agent.to_owned(), (name.to_owned(), Instant::now()));
            return Some(Err(left));
        }
        key.used += 1;
        key.served += 1;
        if !killed.contains(agent) {
            *key.agents.entry(agent.to_owned()).or_default() += 1;
        }
        key.most_agents = key.most_agents.max(key.agents.len());
        Some(Ok(key.served))
    }

    fn finish(&self, key: &str, agent: &str) {
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
        let past = self.begun.elapsed().min(self.time.saturating_sub(Duration::from_millis(1)));
        u64::try_from(past.as_millis() / self.window.as_millis()).unwrap_or(u64::MAX)
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
        self.upstream.finish(self.key, self.agent);
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

fn unknown_key() -> Response<Full<Bytes>> {
    messages::refusal(StatusCode::UNAUTHORIZED, &[], "authentication_error", "unknown key")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn no_window_begins_after_the_end() {
        let upstream = DemoUpstream::new([("k".to_owned(), 1)], Duration::from_millis(1), Duration::from_millis(1));
        assert_eq!(upstream.begin("k", "a"), Some(Ok(1)));
        while upstream.begun.elapsed() < Duration::from_millis(3) {
            std::thread::yield_now();
        }
        assert!(matches!(upstream.begin("k", "a"), Some(Err(_))));
    }

    #[test]
    fn a_key_serves_its_quota_and_then_states_the_wait() {
        let upstream = DemoUpstream::new([("k".to_owned(), 2)], HOUR, HOUR);
        assert_eq!(upstream.begin("k", "a"), Some(Ok(1)));
        assert_eq!(upstream.begin("k", "b"), Some(Ok(2)));
        assert!(matches!(upstream.begin("k", "a"), Some(Err(wait)) if wait <= Duration::from_secs(3600)));
        assert_eq!(upstream.begin("other", "a"), None);
        upstream.finish("k", "a");
        let state = &upstream.states()["k"];
        assert_eq!((state.served, state.refused, state.most_agents, state.agents.len()), (2, 1, 2, 1));
    }

    #[test]
    fn a_killed_agent_uses_no_key() {
        let upstream = DemoUpstream::new([("k".to_owned(), 9)], HOUR, HOUR);
        upstream.begin("k", "a");
        upstream.agent_is_killed("a");
        upstream.begin("k", "b");
        // it was on its way when its agent was killed
        upstream.begin("k", "a");
        upstream.finish("k", "a");
        assert_eq!((upstream.states()["k"].most_agents, upstream.states()["k"].agents.len()), (1, 1));
    }

    #[test]
    fn how_a_refused_request_goes_on_is_counted() {
        let upstream = DemoUpstream::new([("k".to_owned(), 0), ("l".to_owned(), 9)], HOUR, HOUR);
        upstream.begin("k", "a");
        upstream.begin("k", "a");
        upstream.begin("l", "a");
        upstream.begin("l", "a");
        let Continued { moved, moved_later, same_key } = upstream.continued();
        assert_eq!((moved, moved_later, same_key), (1, 0, 1));
    }

    #[test]
    fn an_agent_that_was_refused_is_seen_on_its_next_key() {
        let upstream = DemoUpstream::new([("k".to_owned(), 0), ("l".to_owned(), 9)], HOUR, HOUR);
        upstream.begin("k", "a");
        upstream.begin("l", "a");
        upstream.begin("l", "a");
        let events = upstream.take_events();
        assert!(matches!(&events[0], ProviderEvent::Limited { agent, key, .. } if agent == "a" && key == "k"));
        assert!(matches!(&events[1], ProviderEvent::Moved { from, to, .. } if from == "k" && to == "l"));
        assert_eq!((events.len(), upstream.take_events().len()), (2, 0));
    }
}
