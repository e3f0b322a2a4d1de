//! Three providers on loopback: each has a quota per key and records the requests.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use super::vendors::{AgentRequest, Vendor};

/// The providers; clones share one record.
#[derive(Clone)]
pub struct Upstream {
    record: Arc<Mutex<Record>>,
}

#[derive(Default)]
struct Record {
    /// How many requests each key has left.
    left: BTreeMap<String, u64>,
    seen: Vec<Seen>,
}

/// A recorded request.
#[derive(Clone)]
pub struct Seen {
    /// Its key, if it is a known one.
    pub key: Option<String>,
    /// Its run, as named in the prompt.
    pub run: Option<u64>,
    pub status: u16,
    pub path: String,
    pub at: Instant,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, run, status, path, at: _ } = self;
        write!(f, "run {} {} {status} {path}", run.unwrap_or_default(), key.as_deref().unwrap_or("an unknown key"))
    }
}

impl Upstream {
    /// Starts with these keys and their numbers of requests. Serves until the process ends.
    pub fn start(quotas: &[(&str, u64)]) -> (Self, SocketAddr) {
        let left = quotas.iter().map(|(key, quota)| ((*key).to_owned(), *quota)).collect();
        let upstream = Self { record: Arc::new(Mutex::new(Record { left, seen: Vec::new() })) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = upstream.clone();
        std::thread::spawn(move || runtime.block_on(serving.serve(listener)));
        (upstream, address)
    }

    async fn serve(self, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let upstream = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| upstream.clone().respond(request));
                // a client may disconnect at any time
                let _disconnected =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    async fn respond(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let path = head.uri.path().to_owned();
        let (vendor, below) = Vendor::of(&path);
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let key = ["authorization", "x-api-key", "x-goog-api-key"]
            .iter()
            .filter_map(|name| head.headers.get(*name)?.to_str().ok())
            .map(|value| value.trim_start_matches("Bearer ").to_owned())
            .next();
        let request = AgentRequest::read(vendor, below, &json, &String::from_utf8_lossy(&body));
        let counts = head.method == Method::POST && request.is_generation;
        let mut record = self.record();
        let known = key.filter(|key| record.left.contains_key(key));
        let (status, content_type, text) = match &known {
            None => vendor.unauthorized(),
            Some(_) if head.method == Method::HEAD => (200, "text/plain", String::new()),
            Some(_) if !counts => vendor.other(below),
            Some(key) => match record.left.get_mut(key) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    vendor.served(&request)
                }
                _ => vendor.exhausted(),
            },
        };
        if counts || status == 401 {
            record.seen.push(Seen { key: known, run: request.run, status, path, at: Instant::now() });
        }
        drop(record);
        let response = Response::builder().status(status).header("content-type", content_type);
        let response = if status == 429 { vendor.with_limit_headers(response) } else { response };
        Ok(response.body(Full::from(text)).unwrap())
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    /// All recorded requests.
    pub fn seen(&self) -> Vec<Seen> {
        self.record().seen.clone()
    }

    /// The sum of the quotas that are left.
    pub fn left(&self) -> u64 {
        self.record().left.values().sum()
    }
}
