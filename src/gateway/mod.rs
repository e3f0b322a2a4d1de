//! The gateway: an HTTP reverse proxy on loopback, `http://HOST:PORT/PROVIDER/PATH`, for agents that know nothing of
//! leases. Each request is forwarded with the credential of an account that can serve it; if the upstream refuses
//! before the first byte went to the client, the same request is sent again with another account.
//!
//! A request passes these files, in this order:
//!
//! | file | its part |
//! |---|---|
//! | `server/` | accepts connections; HTTP/1.1 with a client; closes a connection |
//! | `tls/` | the certificate of the https port, and the files by which programs trust it |
//! | `admission/` | which connections are open: who has them, for how long, and which goes when there are too many |
//! | `service.rs`, `request/access.rs`, `resolved_path.rs`, `route.rs` | rejects what may not come in; resolves the path to an upstream |
//! | `chatgpt.rs` | what Codex asks about its login, answered by the gateway |
//! | `request/` | the request: its body buffered within a budget, so that it can be sent again; its model, read in passing |
//! | `forward/` | leases an account, sends the request, decides after a refusal |
//! | `waiting/` | how long a request may wait; sessions that wait over several requests; refusals kept for later ones |
//! | `auth.rs` | replaces the credential, the only thing in a request that changes |
//! | `forward/upstream.rs`, `connections.rs`, `proxy.rs` | connections to upstreams: TLS, those that are kept, proxies |
//! | `websocket/` | WebSockets of the Responses API: each turn within one is a request, which is leased and recorded |
//! | `response/first_bytes.rs`, `response/sse.rs` | whether a response that begins like a success is one |
//! | `response/` | the response on its way to the client, and the observer that reads errors and tokens from it |
//! | `memory.rs`, `content_decoder/` | what is held and decoded, within bounds |
//! | `refusal.rs` | the gateway's own errors |
//! | `record/` | what happened to a request, for the history |
//! | `metrics/` | what was used, by which client, on which account |
//! | `telemetry/` | sends metrics and traces to a collector |
//! | `page/` | the page for browsers, `/ui` |
//!
//! The differences between providers are data of `provider/gateway_traits.rs`. The gateway runs on a thread and a
//! runtime of its own, so that forwarding bytes never delays a grant.

mod admission;
mod auth;
mod chatgpt;
mod content_decoder;
mod forward;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod memory;
mod metrics;
mod page;
mod record;
mod refusal;
mod request;
mod resolved_path;
mod response;
mod route;
mod running_key;
mod server;
mod service;
mod telemetry;
mod tls;
mod waiting;
mod websocket;

#[cfg(any(fuzzing, test))]
pub(crate) use request::fuzzing as request_fuzzing;
#[cfg(any(fuzzing, test))]
pub(crate) use response::fuzzing as response_fuzzing;
pub use server::start;

/// An error while a body is read or written.
type BodyError = Box<dyn std::error::Error + Send + Sync>;
