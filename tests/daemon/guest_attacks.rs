//! What a guest can do that keeps to no rule: it speaks to `lessor share --stdio` itself, frame by frame.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Client, Home, reference, wait_until};

const WAIT: &str = "[leases]\nper_account = 1\noverflow = \"wait\"\n[selection]\nreuse_window = \"0s\"\n";
const OPEN: u8 = 1;
const DATA: u8 = 2;
const CLOSE: u8 = 5;
const PING: u8 = 6;
const PONG: u8 = 7;

/// A link, of which this test is the guest.
struct Link {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    number: String,
    next: u32,
    lines: HashMap<u32, Vec<u8>>,
    /// The channels that the host has closed.
    closed: HashSet<u32>,
}

fn frame(kind: u8, channel: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&channel.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(data);
    bytes
}

impl Link {
    /// With this random number, and more words for the host's command.
    fn begin(host: &Home, number: u64, words: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lessor"));
        command.env("LESSOR_HOME", host.path()).env_remove("LESSOR_SOCKET").env_remove("LESSOR_CONFIG");
        command.args(["share", "--stdio"]).args(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut head = [0; 9];
        output.read_exact(&mut head).unwrap();
        let mut greeting = vec![0; u32::from_le_bytes(head[5..].try_into().unwrap()) as usize];
        output.read_exact(&mut greeting).unwrap();
        let mut link = Self {
            child,
            input,
            output,
            number: format!("{number:016x}"),
            next: 0,
            lines: HashMap::new(),
            closed: HashSet::new(),
        };
        // it has the host's version
        link.send(&frame(0, 0, &greeting));
        let control = link.open("link");
        // its clients are served once it is known
        let stated = link.ask(control, "guest.holders", &json!({ "all": true }));
        assert!(control == 0 && stated["error"].is_null(), "{stated}");
        link
    }

    fn send(&mut self, bytes: &[u8]) {
        // the host may have ended the link
        let _ended = self.input.write_all(bytes);
    }

    /// A connection to the daemon.
    fn open(&mut self, role: &str) -> u32 {
        let channel = self.next;
        self.next += 1;
        let greeting = json!({ "link": self.number, "name": "me@build", "version": "0", "host": "h",
                               "grace_ms": 0, "role": role, "only": null, "max_leases": null, "policy": null });
        self.send(&frame(OPEN, channel, json!({ "socket": greeting }).to_string().as_bytes()));
        channel
    }

    fn ask(&mut self, channel: u32, method: &str, params: &Value) -> Value {
        self.ask_open(channel, method, params).expect("the channel is open")
    }

    /// The same, unless the host has closed the channel.
    fn ask_open(&mut self, channel: u32, method: &str, params: &Value) -> Option<Value> {
        let line = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.send(&frame(DATA, channel, format!("{line}\n").as_bytes()));
        self.answer(channel)
    }

    fn kind(&mut self, channel: u32, method: &str, params: &Value) -> String {
        let answer = self.ask(channel, method, params);
        answer["error"]["data"]["kind"].as_str().unwrap_or_else(|| panic!("{method}: {answer}")).to_owned()
    }

    fn answer(&mut self, channel: u32) -> Option<Value> {
        loop {
            let lines = self.lines.entry(channel).or_default();
            if let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = lines.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            if self.closed.contains(&channel) {
                return None;
            }
            assert!(self.receive().is_some(), "the link has ended");
        }
    }

    /// The kind of the next frame.
    fn receive(&mut self) -> Option<u8> {
        let mut head = [0; 9];
        self.output.read_exact(&mut head).ok()?;
        let channel = u32::from_le_bytes(head[1..5].try_into().unwrap());
        let mut data = vec![0; u32::from_le_bytes(head[5..].try_into().unwrap()) as usize];
        self.output.read_exact(&mut data).ok()?;
        if head[0] == DATA {
            self.lines.entry(channel).or_default().extend_from_slice(&data);
        } else if head[0] == CLOSE {
            self.closed.insert(channel);
        }
        Some(head[0])
    }

    /// A connection that acquires for this holder from now on.
    fn holder(&mut self, number: u32) -> u32 {
        self.holder_if_room(number).expect("the host has room for a channel")
    }

    /// The same, unless the host has no room for another channel yet: those that were closed before it may be ending.
    fn holder_if_room(&mut self, number: u32) -> Option<u32> {
        let channel = self.open("client");
        let stated = json!({ "begun": [{ "number": number, "pid": 1, "program": "agent" }], "holds": number });
        let answer = self.ask_open(channel, "guest.holders", &stated)?;
        assert!(answer["error"].is_null(), "{answer}");
        Some(channel)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _dead = self.child.kill();
        let _dead = self.child.wait();
    }
}

fn leases(client: &mut Client) -> usize {
    client.call("lease.list", json!({})).as_array().unwrap().len()
}

fn acquire() -> Value {
    json!({ "provider": "anthropic", "wait_ms": 0 })
}

#[test]
fn calls_that_are_not_for_guests_and_holders_that_are_not_its_own_are_refused() {
    let host = Home::with_accounts(WAIT, 3);
    let mut link = Link::begin(&host, 1, &[]);
    let channel = link.open("client");
    for method in
        ["account.export", "account.remove", "config.get", "secrets.list", "daemon.stop", "gateway.keys", "pool.status"]
    {
        let golden = format!("{}/tests/golden/call-{method}.json", env!("CARGO_MANIFEST_DIR"));
        let sample: Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
        assert_eq!(link.kind(channel, method, &sample["params"]), "not_allowed", "{method}");
    }
    assert_eq!(link.kind(channel, "lease.acquire", &acquire()), "bad_request", "for no holder");
    let other = json!({ "begun": [], "holds": 4711 });
    link.ask(channel, "guest.holders", &other);
    assert_eq!(link.kind(channel, "lease.acquire", &acquire()), "bad_request", "for one that it never stated");
    let process = json!({ "provider": "anthropic", "bind": { "pid": host.pid() } });
    assert_eq!(link.kind(channel, "lease.acquire", &process), "bad_request", "for a process of the host");
    for over in [json!({ "ended": [1] }), json!({ "all": true })] {
        assert_eq!(link.kind(channel, "guest.holders", &over), "bad_request", "only its link says that");
    }
    assert_eq!(link.kind(0, "guest.holders", &json!({ "ended": vec![1; 5000] })), "overloaded");
    // another guest states the same number, and ends it: this one's lease goes on
    let mine = link.holder(7);
    let lease = link.ask(mine, "lease.acquire", &acquire())["result"].clone();
    let mut second = Link::begin(&host, 2, &[]);
    second.holder(7);
    second.ask(0, "guest.holders", &json!({ "ended": [7] }));
    second.ask(0, "guest.holders", &json!({ "all": true }));
    assert!(link.ask(mine, "lease.renew", &reference(&lease))["error"].is_null());
    assert_eq!(leases(&mut host.client()), 1);
}

#[test]
fn leases_of_others_cannot_be_had_by_their_request_ids_or_seen() {
    let host = Home::with_accounts(WAIT, 3);
    let mut owner = host.client();
    let with_id = json!({ "provider": "anthropic", "wait_ms": 0, "request_id": "r" });
    let own = owner.call("lease.acquire", with_id.clone());
    let mut link = Link::begin(&host, 1, &[]);
    let channel = link.holder(1);
    let got = link.ask(channel, "lease.acquire", &with_id)["result"].clone();
    assert_ne!(got["fence"], own["fence"], "{got}");
    assert_eq!(link.kind(channel, "lease.resume", &reference(&own)), "stale_lease");
    let move_it = json!({ "lease": own["lease"], "to": "a2" });
    assert_eq!(link.kind(channel, "lease.move", &move_it), "unknown_lease");
    assert_eq!(link.kind(channel, "explain", &json!({ "what": own["lease"] })), "unknown_lease");
    let listed = link.ask(channel, "lease.list", &json!({}))["result"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    owner.call("lease.renew", reference(&own));
}

#[test]
fn bounds_count_over_all_links_of_a_name_and_end_with_them() {
    let host = Home::with_accounts(WAIT, 5);
    let words = ["--name", "build", "--max-leases", "2"];
    let mut links: Vec<Link> = (1..4).map(|number| Link::begin(&host, number, &words)).collect();
    for (at, link) in links.iter_mut().enumerate() {
        let channel = link.holder(1);
        let answer = link.ask(channel, "lease.acquire", &acquire());
        assert_eq!(answer["error"].is_null(), at < 2, "{answer}");
    }
    let mut owner = host.client();
    assert_eq!(leases(&mut owner), 2);
    links.clear();
    wait_until("nothing of the guest is left", || {
        leases(&mut owner) == 0 && owner.call("status", json!({}))["guests"] == json!([])
    });
}

#[test]
fn what_is_no_frame_ends_the_link_and_nothing_else() {
    let host = Home::with_accounts(WAIT, 2);
    let mut owner = host.client();
    let kept = owner.acquire();
    let too_long = [&[DATA, 0, 0, 0, 0][..], &u32::MAX.to_le_bytes()].concat();
    for (what, bytes) in [
        ("text", b"Welcome to the machine\n".to_vec()),
        ("a frame that is too long", too_long),
        ("a ping with content", frame(PING, 0, b"x")),
        ("a window of three bytes", frame(3, 0, b"abc")),
        ("no purpose", frame(OPEN, 9, b"{\"socket\":{\"unknown\":1}}")),
        ("more than a window", vec![frame(DATA, 0, &[b' '; 30_000]); 40].concat()),
    ] {
        let mut link = Link::begin(&host, 1, &[]);
        let channel = link.holder(1);
        let lease = link.ask(channel, "lease.acquire", &acquire());
        assert!(lease["error"].is_null(), "{what}: {lease}");
        link.send(&bytes);
        if what == "more than a window" {
            // the daemon may read it as fast as it comes; a line without an end is refused then
            link.send(&frame(255, 0, b""));
        }
        while link.receive().is_some() {}
        wait_until("its lease ends", || leases(&mut owner) == 1);
    }
    owner.call("lease.renew", reference(&kept));
}

#[test]
fn a_flood_of_channels_and_frames_does_not_hold_up_the_owner() {
    let host = Home::with_accounts(WAIT, 2);
    let mut link = Link::begin(&host, 1, &[]);
    let mut bytes = Vec::new();
    for number in 1000..4000_u32 {
        let greeting = json!({ "socket": { "link": link.number, "role": "client" } }).to_string();
        bytes.extend(frame(OPEN, number, greeting.as_bytes()));
        bytes.extend(frame(DATA, number, b""));
        bytes.extend(frame(DATA, number, b"{"));
        bytes.extend(frame(CLOSE, number, b""));
    }
    link.send(&bytes);
    // a ping is not answered while many answers are unread
    link.send(&frame(PING, 0, b""));
    while link.receive() != Some(PONG) {
        link.send(&frame(PING, 0, b""));
    }
    let mut owner = host.client();
    let lease = owner.acquire();
    owner.call("lease.release", reference(&lease));
    // the link itself goes on
    let mut channel = None;
    wait_until("a channel is free", || {
        channel = link.holder_if_room(1);
        channel.is_some()
    });
    let channel = channel.unwrap();
    assert!(link.ask(channel, "lease.acquire", &acquire())["error"].is_null());
}
