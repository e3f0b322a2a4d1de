//! Which sockets are relayed, and how one is opened: an account is leased as for a request, and refusals of the upstream
//! are tried with the next one.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::http::{request::Parts, response::Builder};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Response, StatusCode};

use super::upstream_socket::{UpstreamSocket, accept_value};
use crate::daemon::{GatewayClient, GatewayConfig, GatewayPeer, LeasedAccount};
use crate::gateway::forward::upstream::UpstreamClients;
use crate::gateway::forward::{
    AttemptOutcome, Backend, Forward, ForwardEnd, UpgradeRequest, UpstreamTransport, limit_headers, signed,
};
use crate::gateway::record::CutReason;
use crate::gateway::refusal;
use crate::gateway::request::{BufferBudget, RequestParts};
use crate::gateway::response::{self, ClientBody};
use crate::gateway::running_key::KeyedRequest;
use crate::pool::ConnectionId;
use crate::provider;

/// How long a socket waits for an account before it is accepted without one: clients give up its opening after 15 s, and
/// a turn within it may wait for longer.
const OPENING_WAIT: Duration = Duration::from_secs(10);

/// A request to open a socket that can be relayed.
pub(in crate::gateway) struct WebSocketRequest {
    on_upgrade: OnUpgrade,
    accept: String,
}

/// Where a socket comes from.
pub(in crate::gateway) struct SocketOrigin {
    pub(in crate::gateway) client: Arc<GatewayClient>,
    pub(in crate::gateway) connection: ConnectionId,
    pub(in crate::gateway) peer: Arc<GatewayPeer>,
    /// Why the gateway has ended its connection.
    pub(in crate::gateway) cut: Arc<CutReason>,
    pub(in crate::gateway) budget: Arc<BufferBudget>,
}

/// A socket that is open for its client.
pub(in crate::gateway) struct AcceptedSocket {
    pub(super) on_upgrade: OnUpgrade,
    /// None if no account was free: the first turn waits for one.
    pub(super) upstream: Option<UpstreamSocket>,
    pub(super) upgrade: UpgradeRequest,
    pub(super) origin: SocketOrigin,
    pub(super) keyed: KeyedRequest,
    /// The upstream's account is that of the lease of the client's key.
    pub(super) follows_lease: bool,
}

impl WebSocketRequest {
    /// Takes the socket from the head of a request.
    ///
    /// # Errors
    /// Why it is not relayed, for the client.
    pub(in crate::gateway) fn take(head: &mut Parts, provider: &str, is_on: bool) -> Result<Self, &'static str> {
        const USE_HTTP: &str = "lessor: the gateway does not relay WebSockets (gateway.websocket = false); use HTTP";
        const OTHER_API: &str =
            "lessor: the gateway relays only WebSockets of the Responses API, at /openai/v1/responses; use HTTP";
        const INVALID: &str = "lessor: this is no request for a WebSocket of version 13; use HTTP";
        if !is_on {
            return Err(USE_HTTP);
        }
        let below = head.uri.path().strip_prefix('/').and_then(|path| path.strip_prefix(provider)).unwrap_or_default();
        if !provider::has_responses_socket(provider, below) {
            return Err(OTHER_API);
        }
        let is_current = head.headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
        let on_upgrade = head.extensions.remove::<OnUpgrade>();
        match (on_upgrade, accept_value(&head.headers)) {
            (Some(on_upgrade), Some(accept)) if is_current && head.method == Method::GET => {
                Ok(Self { on_upgrade, accept })
            }
            _ => Err(INVALID),
        }
    }

    /// Opens the socket at an account, or answers as to any request.
    pub(in crate::gateway) async fn open(
        self,
        backend: &Backend,
        origin: SocketOrigin,
        request: Box<RequestParts>,
        config: &GatewayConfig,
        mut keyed: KeyedRequest,
    ) -> (Response<ClientBody>, Option<Box<AcceptedSocket>>) {
        let upgrade = upgrade_request(&request);
        let is_subagents = request.buffered.text.subagent.is_some();
        let client = origin.client.clone();
        let mut forward = Forward::new(backend, &client, request, config);
        forward.patience.waits_at_most(OPENING_WAIT);
        // the model is not asked: it takes no place of a request, and waits for none
        forward.turn = None;
        let mut end = forward.try_accounts(&mut OpeningTransport(&upgrade), &mut keyed).await;
        let (mut upstream, mut name, mut of_upstream) = (None, None, HeaderMap::new());
        let mut follows_lease = false;
        match &mut end {
            ForwardEnd::Served(lease, account, head, ..) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                match UpstreamSocket::of(head, &upgrade.headers, account).await {
                    Ok(socket) => upstream = Some(socket),
                    Err(reason) => {
                        let message = format!("lessor: no WebSocket at {}: {reason}", upgrade.route.provider);
                        return (forward.error(StatusCode::BAD_GATEWAY, &message), None);
                    }
                }
                lease.report_limits(&limit_headers(&head.headers));
                follows_lease = !is_subagents && !lease.ends_with_request();
                name = Some(account.name().to_owned());
                of_upstream = std::mem::take(&mut head.headers);
            }
            // its first turn waits for an account
            ForwardEnd::Answer(_) if forward.comes_back => {}
            _ => return (answer(forward, end), None),
        }
        let attempts = forward.attempts;
        match (attempts, end) {
            // a socket is no request, unless accounts have refused it
            (0 | 1, _) => forward.request.record.discard(),
            (_, ForwardEnd::Served(_, account, ..)) => {
                forward.observed(&account, StatusCode::SWITCHING_PROTOCOLS).ends_well();
            }
            _ => {}
        }
        keyed.key_use = None;
        let response = signed(accepted(&self.accept, &of_upstream), name.as_deref(), attempts);
        let socket = AcceptedSocket { on_upgrade: self.on_upgrade, upstream, upgrade, origin, keyed, follows_lease };
        (response, Some(Box::new(socket)))
    }
}

/// The answer to a socket that is not opened.
fn answer(mut forward: Forward<'_>, end: ForwardEnd<Incoming>) -> Response<ClientBody> {
    const NO_SOCKET: [StatusCode; 4] = [
        StatusCode::NOT_FOUND,
        StatusCode::METHOD_NOT_ALLOWED,
        StatusCode::UPGRADE_REQUIRED,
        StatusCode::NOT_IMPLEMENTED,
    ];
    match end {
        ForwardEnd::Answer(response) => *response,
        ForwardEnd::Refused(lease, account, refused) if !NO_SOCKET.contains(&refused.head.status) => {
            forward.relay_refusal(lease, &account, *refused)
        }
        // a base URL may lead to a service without WebSockets: clients use HTTP after this status
        ForwardEnd::Refused(..) | ForwardEnd::Served(..) | ForwardEnd::Reconnect => {
            let message = format!("lessor: {} has no WebSockets here; use HTTP", forward.provider());
            let provider = forward.provider().to_owned();
            drop(forward.error(StatusCode::UPGRADE_REQUIRED, &message));
            rejected(&provider, &message)
        }
    }
}

/// A socket is not relayed: the client is to use HTTP.
pub(in crate::gateway) fn rejected(provider: &str, message: &str) -> Response<ClientBody> {
    let mut response = refusal::error(provider, StatusCode::UPGRADE_REQUIRED, message);
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("HTTP/1.1"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

/// What opens the socket at any account. Extensions and subprotocols are not offered: messages could then not be read.
fn upgrade_request(request: &RequestParts) -> UpgradeRequest {
    let (mut headers, extensions) = request.buffered.head();
    headers.remove(SEC_WEBSOCKET_EXTENSIONS);
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    UpgradeRequest { route: request.route.clone(), headers, extensions }
}

/// The response that opens the client's socket, with what the upstream's says beside it.
fn accepted(accept: &str, of_upstream: &HeaderMap) -> Response<ClientBody> {
    let mut head = Builder::new().status(StatusCode::SWITCHING_PROTOCOLS);
    head = head.header(CONNECTION, "Upgrade").header(UPGRADE, "websocket").header(SEC_WEBSOCKET_ACCEPT, accept);
    let of_socket = [SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, CONTENT_LENGTH];
    for (name, value) in &response::without_hop_by_hop(of_upstream.clone()) {
        if !of_socket.contains(name) {
            head = head.header(name, value);
        }
    }
    // only a header's value can be invalid, and these were read from headers
    head.body(ClientBody::nothing()).unwrap_or_else(|_| Response::new(ClientBody::nothing()))
}

/// Opens a socket, with nothing in it.
struct OpeningTransport<'a>(&'a UpgradeRequest);

impl UpstreamTransport for OpeningTransport<'_> {
    type Rest = Incoming;

    async fn send(
        &mut self,
        upstreams: &UpstreamClients,
        _request: &mut RequestParts,
        account: &LeasedAccount,
    ) -> Result<AttemptOutcome<Incoming>, String> {
        self.0.send(upstreams, account).await
    }
}
