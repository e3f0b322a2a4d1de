//! WebSockets of the Responses API. A client's socket is joined to one of an upstream, with the credential of the account
//! that is leased; messages pass unchanged.
//!
//! A turn within a socket, from `response.create` to its last event, is a request: it is leased, counted, recorded, and
//! its refusals are learnt, as for one over HTTP. A turn that begins a conversation can go to any account, over another
//! connection to an upstream. One that continues a conversation can go only where that is; when another account must
//! serve, the client's socket is closed, and the client sends the whole conversation again on a new one.
//!
//! | file | its part |
//! |---|---|
//! | `handshake.rs` | which sockets are relayed; opens one, or answers as to a request |
//! | `upstream_socket.rs` | the connection to an upstream: opening it, and the first events of a turn |
//! | `turn.rs` | sends one turn to an account: the transport of `forward/` |
//! | `turn_observer.rs` | reads a turn's events while they go to the client |
//! | `relay.rs` | a client's socket between turns, and its end |
//! | `relayed_turn.rs` | one turn in it |
//! | `message.rs` | what the messages and the gateway's own error events say |

mod handshake;
mod message;
mod relay;
mod relayed_turn;
mod turn;
mod turn_observer;
mod upstream_socket;

pub(super) use handshake::{AcceptedSocket, SocketOrigin, WebSocketRequest, rejected};
pub(super) use relay::SocketRelay;

use std::time::Duration;

/// A socket without a turn is closed after this time; its client opens another one when it needs it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// The largest message of an upstream, in bytes: what clients accept.
const MAX_EVENT: usize = 64 << 20;
/// How much is read from a socket at a time, in bytes.
const READ_BUFFER: usize = 16 * 1024;
