//! Answers one request: checks that it may come in, resolves its path, reads it, and forwards it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hyper::body::Incoming;
use hyper::header::{ACCEPT, HOST};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Uri};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::admission::ConnectionWatch;
use super::chatgpt::LoginQuestion;
use super::forward::upstream::UpstreamClients;
use super::forward::{Backend, Forward};
use super::metrics::{self, InFlightCount, MetricsFormat, MetricsRecorder};
use super::page::{self, PageConnection, PageService};
use super::record::{CutReason, RecordedSource, RequestRecord, RequestRecorder};
use super::request::{
    BufferBudget, BufferLimits, BufferedRequest, ConnectionOrigin, RequestParts, RequestReadError, access,
};
use super::resolved_path::ResolvedPaths;
use super::response::{self, ClientBody};
use super::route::UpstreamRoute;
use super::running_key::{KeyedRequest, RunningKey};
use super::telemetry::{SpanBuffer, TelemetryExporter};
use super::waiting::{KeptAnswers, WaitingSessions};
use super::websocket::{AcceptedSocket, SocketOrigin, SocketRelay, WebSocketRequest};
use super::{auth, refusal, websocket};
use crate::daemon::{GatewayClient, GatewayConfig, GatewayHandle, GatewayPeer};
use crate::{credential::Secret, pool::ConnectionId, provider};

/// A longer model name is ignored.
const MAX_MODEL_NAME: usize = 200;

#[derive(Debug)]
pub(super) struct GatewayService {
    backend: Backend,
    config: RwLock<Arc<GatewayConfig>>,
    budget: Arc<BufferBudget>,
    page: PageService,
    paths: ResolvedPaths,
    connections: AtomicU64,
}

/// The provider that a path names.
fn provider_in(uri: &Uri) -> &str {
    uri.path().split('/').nth(1).unwrap_or_default()
}

/// The connection of a request.
pub(super) struct RequestConnection {
    pub(super) id: ConnectionId,
    pub(super) origin: ConnectionOrigin,
    /// The program at its other end.
    pub(super) peer: Arc<GatewayPeer>,
    /// Its place and its times.
    pub(super) watch: Arc<ConnectionWatch>,
    /// The key of the request that it serves.
    pub(super) running_key: RunningKey,
    /// Why the gateway has ended it.
    pub(super) cut: Arc<CutReason>,
    /// The WebSocket that it becomes.
    pub(super) socket: Mutex<Option<Box<AcceptedSocket>>>,
    /// The client of its last request that showed one key.
    pub(super) known_client: Mutex<Option<ClientOfKey>>,
}

/// A client, and the key that it was found by.
pub(super) struct ClientOfKey {
    key: Secret,
    client: Arc<GatewayClient>,
}

impl RequestConnection {
    /// Remembers which client a key stands for, if a request has shown this key only; over the Unix socket there is always
    /// the client without a key, too.
    fn remember(&self, client: &Arc<GatewayClient>, head: &Parts) {
        let key = auth::only_key(&head.headers, head.uri.query()).filter(|_| self.origin == ConnectionOrigin::Tcp);
        let known = key.map(|key| ClientOfKey { key: Secret::new(key.to_owned()), client: client.clone() });
        *self.known_client.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

impl GatewayService {
    /// With what sends its metrics.
    pub(super) fn new(handle: GatewayHandle) -> (Arc<Self>, TelemetryExporter) {
        let config = RwLock::new(Arc::new(handle.config()));
        let metrics = Arc::new(MetricsRecorder::counting(handle.in_flight()));
        let spans = Arc::<SpanBuffer>::default();
        let recorder = RequestRecorder::new(handle.clone(), metrics.clone(), spans.clone());
        let exporter = TelemetryExporter::new(handle.clone(), metrics.clone(), spans);
        let page = PageService::new(handle.clone());
        let backend = Backend {
            handle,
            upstreams: UpstreamClients::default(),
            metrics,
            recorder,
            sessions: WaitingSessions::default(),
            answers: KeptAnswers::default(),
        };
        let (budget, paths, connections) = Default::default();
        (Arc::new(Self { backend, config, budget, page, paths, connections }), exporter)
    }

    /// The daemon, as the gateway sees it.
    pub(super) fn handle(&self) -> &GatewayHandle {
        &self.backend.handle
    }

    /// Takes over a changed configuration, for the requests that come from now on.
    pub(super) fn reconfigure(&self) {
        let config = Arc::new(self.backend.handle.config());
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        self.backend.upstreams.clear();
    }

    /// The requests in flight.
    pub(super) fn in_flight(&self) -> Arc<InFlightCount> {
        self.backend.metrics.in_flight_count()
    }

    fn config(&self) -> Arc<GatewayConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn connection(&self) -> ConnectionId {
        self.backend.handle.connection(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) async fn respond(
        &self,
        connection: &RequestConnection,
        request: Request<Incoming>,
    ) -> Response<ClientBody> {
        #[expect(clippy::disallowed_methods, reason = "tokio's own clock, to measure by")]
        let received_at = Instant::now();
        let (mut head, body) = request.into_parts();
        let config = self.config();
        if page::is_page(head.uri.path()) {
            let connection = PageConnection { id: connection.id, peer: &connection.peer, watch: &connection.watch };
            // boxed, as all that is rare: the future of each request has room for what is not
            return Box::pin(self.page.respond(&connection, (head, body), config.gateway.allow_remote)).await;
        }
        if let Err((status, message)) =
            access::check(connection.origin, &head.uri, &head.headers, config.gateway.allow_remote)
        {
            return refusal::error("", status, message);
        }
        if connection.origin == ConnectionOrigin::Local {
            let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
            if let Some(uri) = UpstreamRoute::of_vendor(&config, &head.uri, host) {
                head.uri = uri;
            }
        }
        let path = head.uri.path();
        if path == "/healthz" {
            return response::json(StatusCode::OK, &json!({ "ok": true }));
        }
        let uri = head.uri.clone();
        let provider = provider_in(&uri);
        let mut websocket = None;
        if access::wants_websocket(&head.headers) {
            match WebSocketRequest::take(&mut head, provider, config.gateway.websocket) {
                Ok(socket) => websocket = Some(socket),
                Err(message) => return websocket::rejected(provider, message),
            }
        }
        let client = match self.known_client(connection, &head) {
            Some(client) => client,
            None => {
                let found = self.client(connection.origin, &head);
                let Some(client) = found else { return refusal::unauthorized(provider) };
                let recognising = self.backend.handle.recognised(client, &connection.peer, provider);
                let client = Arc::new(Box::pin(recognising).await);
                connection.remember(&client, &head);
                client
            }
        };
        // the first key of a connection is checked at once: it decides about its place
        let is_first = !connection.watch.has_key();
        if is_first {
            if !self.backend.handle.is_valid(&client) {
                return refusal::unauthorized(provider);
            }
            connection.watch.show_key();
        }
        let mut keyed = connection.running_key.begin(&client);
        let (peer, cut) = (connection.peer.clone(), connection.cut.clone());
        let source = RecordedSource { client: client.clone(), peer, cut, received_at };
        let (rejection, record) = match self.prepare(connection.id, source, head, body, &config).await {
            Ok(request) => {
                if let Some(websocket) = websocket {
                    let opening = self.open_socket(websocket, (connection, client), request, &config, keyed);
                    return Box::pin(opening).await;
                }
                let response = Forward::new(&self.backend, &client, request, &config).run(&mut keyed).await;
                if !response.status().is_success() {
                    // a refusal tells the client of limits
                    self.backend.handle.all_saved().await;
                }
                return response.map(|body| body.with_key(keyed));
            }
            Err(rejected) => *rejected,
        };
        // a lease checks the key as well; without one, it must be checked here
        if is_first || self.backend.handle.is_valid(&client) {
            return rejection;
        }
        record.into_iter().for_each(RequestRecord::discard);
        refusal::unauthorized(provider)
    }

    /// Opens a WebSocket, which is served when its connection has switched to it.
    async fn open_socket(
        &self,
        websocket: WebSocketRequest,
        (connection, client): (&RequestConnection, Arc<GatewayClient>),
        request: Box<RequestParts>,
        config: &GatewayConfig,
        keyed: KeyedRequest,
    ) -> Response<ClientBody> {
        let (id, peer, cut) = (connection.id, connection.peer.clone(), connection.cut.clone());
        let origin = SocketOrigin { client, connection: id, peer, cut, budget: self.budget.clone() };
        let (response, socket) = websocket.open(&self.backend, origin, request, config, keyed).await;
        match socket {
            Some(socket) => {
                connection.watch.upgrade();
                *connection.socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
            }
            // a refusal tells the client of limits
            None => self.backend.handle.all_saved().await,
        }
        response
    }

    /// Serves the WebSocket that a connection has become, if it has, until it ends.
    pub(super) async fn serve_socket(&self, connection: &RequestConnection, stop: watch::Receiver<bool>) {
        let socket = connection.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(socket) = socket {
            let config = Box::new(|| self.config());
            SocketRelay::run(socket, &self.backend, config, connection.watch.clone(), stop).await;
        }
    }

    /// Finds the upstream and reads the request, as far as it is buffered; `Err` is any other response, with the record
    /// of a request that has a route.
    async fn prepare(
        &self,
        connection: ConnectionId,
        source: RecordedSource,
        head: Parts,
        body: Incoming,
        config: &Arc<GatewayConfig>,
    ) -> Result<Box<RequestParts>, Box<(Response<ClientBody>, Option<RequestRecord>)>> {
        let path = head.uri.path();
        if path == "/metrics" {
            if self.backend.handle.is_guest(&source.client) {
                let message = "lessor: the metrics are those of all accounts, and not for guests";
                return Err(Box::new((refusal::error("", StatusCode::FORBIDDEN, message), None)));
            }
            let accept = head.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
            let format = MetricsFormat::accepted(accept);
            return Err(Box::new((metrics::page(&self.backend.handle, &self.backend.metrics, format), None)));
        }
        if let Some(question) = LoginQuestion::of(&head.method, path) {
            let owner = self.backend.handle.login_owner(&source.client, "openai");
            return Err(Box::new((question.answer(owner, &head.headers), None)));
        }
        let response =
            |provider: &str, status, message: &str| refusal::error(provider, status, &format!("lessor: {message}"));
        let resolved = self.paths.find(config, &head.uri).map_err(|reason| {
            Box::new((response(provider_in(&head.uri), StatusCode::NOT_FOUND, &reason.to_string()), None))
        })?;
        let route = &resolved.route;
        let provider = &route.provider;
        let recorded = (provider.clone(), resolved.recorded_path.clone());
        let mut record = RequestRecord::begin(&self.backend.recorder, &source, recorded);
        let rejected = |mut record: RequestRecord, status: StatusCode, message: String| {
            record.refused(status.as_u16(), &message);
            Box::new((response(provider, status, &message), Some(record)))
        };
        // a restart waits for it
        let in_flight = self.backend.metrics.in_flight();
        let (max_body, total) = (config.gateway.max_body, config.gateway.buffer_total);
        let limits = BufferLimits { budget: self.budget.clone(), max_body, total };
        let buffered = BufferedRequest::read(head, body, &limits, &resolved.wanted).await;
        let buffered = match buffered {
            Ok(buffered) => buffered,
            Err(RequestReadError::TooLarge) => {
                let message = format!("the request is larger than gateway.max_body ({max_body} bytes)");
                return Err(rejected(record, StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            Err(RequestReadError::Incomplete) => {
                let message = "the request body is incomplete".to_owned();
                return Err(rejected(record, StatusCode::REQUEST_TIMEOUT, message));
            }
        };
        if buffered.is_large() {
            in_flight.is_large();
        }
        let model = route.model().map(Into::into).or_else(|| buffered.text.model.clone());
        let model = model.filter(|model: &Arc<str>| model.len() <= MAX_MODEL_NAME);
        if let Some(name) = model.as_deref().filter(|model| provider::names_a_quota(provider, model)) {
            let message =
                format!("{name:?} is a name for `lessor run -m`; requests must use the provider's own model name");
            return Err(rejected(record, StatusCode::BAD_REQUEST, message));
        }
        let pool = provider::quota_of_agent(provider, &route.path, model.as_deref(), buffered.user_agent());
        record.is_for(model.as_ref(), buffered.text.session.as_ref(), pool);
        let (peer, route) = (source.peer, route.clone());
        // boxed, because it is handed on several times
        Ok(Box::new(RequestParts {
            connection,
            peer,
            route,
            buffered,
            model,
            pool,
            record,
            in_flight: Some(in_flight),
        }))
    }

    /// The client of the connection's last request, if this one shows the same key and no other one.
    fn known_client(&self, connection: &RequestConnection, head: &Parts) -> Option<Arc<GatewayClient>> {
        let known = connection.known_client.lock().unwrap_or_else(PoisonError::into_inner);
        let ClientOfKey { key, client } = known.as_ref()?;
        let is_same = auth::only_key(&head.headers, head.uri.query()) == Some(key.expose());
        (is_same && self.backend.handle.serves_again(client)).then(|| client.clone())
    }

    /// The client that a key stands for, wherever in the request the key is; the Unix socket needs none.
    fn client(&self, origin: ConnectionOrigin, head: &Parts) -> Option<GatewayClient> {
        let handle = &self.backend.handle;
        let keys = auth::presented_keys(&head.headers, head.uri.query());
        let mut has_key = false;
        let clients = keys.inspect(|_| has_key = true).filter_map(|key| handle.client(key));
        let mut clients: Vec<GatewayClient> = clients.collect();
        clients.dedup();
        clients.extend((origin == ConnectionOrigin::Local).then(|| handle.local_client()));
        if clients.is_empty() && !has_key {
            handle.came_without_key();
        }
        // of a single client, the key is checked when a lease is requested
        if clients.len() > 1 { clients.into_iter().find(|client| handle.is_valid(client)) } else { clients.pop() }
    }
}
