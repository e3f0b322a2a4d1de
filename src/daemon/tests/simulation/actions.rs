//! What clients do, and what they are answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::contents::Promise;
use super::world::World;
use crate::daemon::api::session::{IssuedLeases, Session};
use crate::pool::{AccountId, ConnectionId};
use crate::protocol::{Codec, MessageDecoder};

const CLIENTS: usize = 4;

/// A connection of a client.
pub(super) struct Client {
    pub(super) session: Session,
    pub(super) is_closed: bool,
    /// Answers on the spot.
    out: Vec<u8>,
}

/// The calls that were not answered yet, and what was granted.
#[derive(Default)]
pub(super) struct OpenCalls {
    next: u64,
    next_connection: u64,
    asked: BTreeMap<u64, Asked>,
    /// The leases that clients believe to hold.
    held: Vec<HeldLease>,
    fences: BTreeSet<u64>,
}

/// A call, as far as its answer promises something.
#[derive(Clone, Debug)]
enum Asked {
    Acquire { client: usize },
    Resume { fence: u64 },
    Release { fence: u64 },
    Report { client: usize, fence: u64, account: Option<AccountId> },
    Change { account: AccountId },
    Other,
}

#[derive(Clone, Debug)]
struct HeldLease {
    client: usize,
    id: String,
    fence: u64,
}

impl OpenCalls {
    pub(super) fn highest_fence(&self) -> u64 {
        self.fences.last().copied().unwrap_or_default()
    }

    /// The daemon is gone: no call is answered any more.
    pub(super) fn forget(&mut self) {
        self.asked.clear();
    }
}

impl World {
    /// One thing happens.
    pub(super) fn act(&mut self) {
        match self.chance.below(100) {
            0..25 => self.acquire(),
            25..43 => self.release(),
            43..48 => self.renew(),
            48..62 => self.report(),
            62..72 => self.change_account(),
            72..74 => self.reconnect(),
            74..76 => self.configure(),
            76..84 => self.refresh(),
            84..91 => self.answer_refresh(),
            91..99 => {
                let time = [50, 1_000, 20_000, 300_000][self.chance.below(4)];
                let time = Duration::from_millis(time + self.chance.below(1_000) as u64);
                self.pass(time);
            }
            _ => {
                if self.chance.one_in(3) {
                    self.set_time_of_day();
                }
            }
        }
    }

    /// New connections; holders of the last run's leases resume some of them.
    pub(super) fn connect_clients(&mut self) {
        self.clients = (0..CLIENTS).map(|_| self.calls.connect()).collect();
        for HeldLease { client, id, fence } in std::mem::take(&mut self.calls.held) {
            if self.chance.one_in(2) {
                self.call(client, "lease.resume", json!({ "lease": id }), Asked::Resume { fence });
            }
        }
    }

    fn call(&mut self, client: usize, method: &str, params: Value, asked: Asked) {
        self.figures.calls += 1;
        self.calls.next += 1;
        let id = self.calls.next;
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let mut decoder = MessageDecoder::default();
        decoder.inbox().extend_from_slice(format!("{message}\n").as_bytes());
        let incoming = decoder.take().unwrap().unwrap();
        let call = incoming.call.unwrap_or_else(|error| panic!("{method}: {error:?}"));
        self.calls.asked.insert(id, asked);
        let daemon = self.daemon().clone();
        let mut of = self.clients.swap_remove(client);
        self.within(|| of.session.serve(&daemon, incoming.id, call, &mut of.out));
        self.clients.push(of);
        let last = self.clients.len() - 1;
        self.clients.swap(client, last);
    }

    fn acquire(&mut self) {
        let client = self.chance.below(CLIENTS);
        let bind = match self.chance.below(10) {
            0..5 => json!("connection"),
            5..9 => json!("ttl"),
            _ => json!({ "pid": std::process::id() }),
        };
        let mut params = json!({ "provider": "p", "bind": bind, "wait_ms": 0 });
        if self.chance.one_in(6) {
            params["wait_ms"] = json!(self.chance.below(60_000));
        }
        if self.chance.one_in(4) {
            params["session"] = json!(format!("s{}", self.chance.below(5)));
        }
        if self.chance.one_in(12) {
            params["exclusive"] = json!(true);
        }
        self.call(client, "lease.acquire", params, Asked::Acquire { client });
    }

    /// A lease that a client believes to hold.
    fn some_lease(&mut self) -> Option<HeldLease> {
        let which = self.chance.below(self.calls.held.len());
        self.calls.held.get(which).cloned()
    }

    fn release(&mut self) {
        let Some(HeldLease { client, id, fence }) = self.some_lease() else { return };
        self.calls.held.retain(|held| held.fence != fence);
        self.call(client, "lease.release", json!({ "lease": id }), Asked::Release { fence });
    }

    fn renew(&mut self) {
        let Some(HeldLease { client, id, .. }) = self.some_lease() else { return };
        self.call(client, "lease.renew", json!({ "lease": id }), Asked::Other);
    }

    fn report(&mut self) {
        let Some(HeldLease { client, id, fence }) = self.some_lease() else { return };
        let wait = 1000 * (1 + self.chance.below(7200) as u64);
        let report = match self.chance.below(8) {
            0..3 => json!({ "lease": id, "ok": true }),
            3 => json!({ "lease": id, "reason": "quota_exhausted", "retry_after_ms": wait }),
            4 => json!({ "lease": id, "reason": "rate_limit_exceeded", "retry_after_ms": wait }),
            5 => json!({ "lease": id, "reason": "rate_limit_exceeded" }),
            6 => json!({ "lease": id, "status": 401, "body": "{\"error\":{\"type\":\"authentication_error\"}}" }),
            _ => json!({ "lease": id, "reason": "server_error" }),
        };
        let account = self.daemon().state().pool.lease(crate::pool::Fence(fence)).map(|lease| lease.account);
        self.call(client, "lease.report", report, Asked::Report { client, fence, account });
    }

    fn change_account(&mut self) {
        let ids: Vec<AccountId> =
            self.daemon().state().pool.accounts().iter().map(|account| account.record.id).collect();
        let Some(account) = self.chance.pick(&ids) else { return };
        let name = account.to_string();
        let (method, params) = match self.chance.below(12) {
            0..3 => ("account.clear_limits", json!({ "account": name })),
            3 => ("account.disable", json!({ "account": name, "reason": "tired" })),
            4..7 => ("account.enable", json!({ "account": name })),
            7..9 => ("account.set", json!({ "account": name, "label": format!("label {}", self.chance.below(1000)) })),
            9 => ("account.set", json!({ "account": name, "max_leases": self.chance.below(4) })),
            10 => ("account.set", json!({ "account": name, "priority": self.chance.below(3) })),
            _ if self.chance.one_in(3) => ("account.remove", json!({ "account": name })),
            _ => ("account.list", json!({})),
        };
        let asked = if method == "account.list" { Asked::Other } else { Asked::Change { account } };
        let client = self.chance.below(CLIENTS);
        self.call(client, method, params, asked);
    }

    /// A client closes its connection and opens another.
    fn reconnect(&mut self) {
        let client = self.chance.below(CLIENTS);
        let closed = self.clients[client].session.connection;
        self.daemon().connection_ended(closed);
        assert!(self.daemon().state().pool.held_by_connection(closed).is_empty(), "leases of a closed connection (I3)");
        self.clients[client] = self.calls.connect();
    }

    fn answer_refresh(&mut self) {
        let sent = self.endpoint.sent();
        if sent == 0 {
            return;
        }
        let which = self.chance.below(sent);
        match self.chance.below(10) {
            0 => self.endpoint.lose(which),
            1 => self.endpoint.refuse(which),
            _ => self.endpoint.deliver(which),
        }
    }

    /// Reads what has been answered; returns what these answers promise.
    pub(super) fn read_answers(&mut self) -> Vec<Promise> {
        let mut promised = Vec::new();
        for client in &mut self.clients {
            client.session.outbox.drain_into(&mut client.out);
            let lines = String::from_utf8(std::mem::take(&mut client.out)).unwrap();
            assert!(!lines.contains("refresh-"), "a refresh token is answered (I10): {lines}");
            for line in lines.lines() {
                let answer: Value = serde_json::from_str(line).unwrap();
                promised.extend(self.calls.answered(&answer, &mut self.figures.grants));
            }
        }
        promised
    }
}

impl OpenCalls {
    fn connect(&mut self) -> Client {
        self.next_connection += 1;
        let session = Session {
            connection: ConnectionId(self.next_connection),
            pid: None,
            codec: Codec::Json,
            outbox: Arc::default(),
            holder: None,
            greeted: true,
            guest: None,
            issued: IssuedLeases::default(),
        };
        Client { session, is_closed: false, out: Vec::new() }
    }

    fn answered(&mut self, answer: &Value, grants: &mut u64) -> Vec<Promise> {
        let Some(asked) = answer["id"].as_u64().and_then(|id| self.asked.remove(&id)) else { return Vec::new() };
        let (result, error) = (&answer["result"], &answer["error"]);
        if error.is_object() {
            // what is in memory and could not be saved is answered with such an error
            let message = error["message"].as_str().unwrap_or_default();
            assert!(error["data"]["kind"] != "internal" || message.contains("saved"), "{answer}");
            return Vec::new();
        }
        let lease = |of: &Value| Some((of["fence"].as_u64()?, of["lease"].as_str()?.to_owned()));
        match asked {
            Asked::Acquire { client } => {
                let (fence, id) = lease(result).unwrap();
                assert!(self.fences.insert(fence), "fence {fence} is granted twice (I4)");
                *grants += 1;
                self.held.push(HeldLease { client, id, fence });
                vec![Promise::Lease(fence)]
            }
            Asked::Resume { fence } => vec![Promise::Lease(fence)],
            Asked::Release { fence } => vec![Promise::Lease(fence)],
            Asked::Report { client, fence, account } => {
                let mut promised = vec![Promise::Lease(fence)];
                promised.extend(account.map(Promise::Account));
                if let Some((new, id)) = lease(&result["lease"]) {
                    assert!(self.fences.insert(new), "fence {new} is granted twice (I4)");
                    self.held.retain(|held| held.fence != fence);
                    self.held.push(HeldLease { client, id, fence: new });
                    promised.push(Promise::Lease(new));
                }
                promised
            }
            Asked::Change { account } => vec![Promise::Account(account)],
            Asked::Other => Vec::new(),
        }
    }
}
