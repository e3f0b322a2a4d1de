//! A daemon with accounts, an upstream behind it, and clients that speak HTTP by hand.

use std::io::{BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::{Client, Home, PATIENCE};
use crate::upstream::{Message, Upstream};

/// What a test plays in.
pub struct Scene {
    pub home: Home,
    pub upstream: Upstream,
    pub port: u16,
    /// A key that lasts.
    pub key: String,
}

impl Scene {
    /// With accounts `a`, `b`, … of Anthropic's, whose keys are `k-a`, `k-b`, …
    pub fn new(accounts: &str, upstream: Upstream) -> Self {
        Self::with("", accounts, upstream)
    }

    /// With a configuration, too; `URL` in it is the upstream.
    pub fn with(config: &str, accounts: &str, upstream: Upstream) -> Self {
        let url = upstream.url();
        let providers =
            ["anthropic", "openai", "google"].map(|name| format!("[providers.{name}]\nbase_url = \"{url}\"\n"));
        let config = config.replace("URL", &url);
        // nobody else asks the upstream
        let mut home = Home::new(&format!("[quota]\npoll = \"off\"\n{config}\n{}", providers.concat()));
        home.start();
        let mut scene = Self { home, upstream, port: 0, key: String::new() };
        for account in accounts.chars() {
            scene.add("anthropic", "api_key", &account.to_string());
        }
        scene.meet();
        scene
    }

    /// Finds out where the gateway is, and gets a key.
    pub fn meet(&mut self) {
        let access = self.home.client().call("gateway.key", json!({ "agent": "test" }));
        self.key = access["key"].as_str().unwrap().to_owned();
        let url = access["url"].as_str().unwrap_or_else(|| panic!("no gateway: {access}"));
        self.port = url.rsplit(':').next().unwrap().parse().unwrap();
    }

    pub fn add(&self, provider: &str, kind: &str, label: &str) {
        let account = json!({ "provider": provider, "kind": kind, "secret": format!("k-{label}"), "label": label });
        self.home.client().call("account.add", account);
    }

    pub fn visitor(&self) -> Visitor {
        Visitor::connect(self.port)
    }

    /// Asks Anthropic's messages with the lasting key.
    pub fn ask(&self) -> Message {
        self.ask_with(&self.key)
    }

    pub fn ask_with(&self, key: &str) -> Message {
        self.visitor().ask(&messages(key, r#"{"model":"claude-sonnet-4-5","messages":[]}"#))
    }

    /// A login of Anthropic's, and a key for its agent.
    pub fn login(&self, access: &str, expires_at: u64) -> String {
        let mut client = self.home.client();
        let account = json!({ "provider": "anthropic", "kind": "oauth", "secret": access, "refresh_token": "r-1",
            "expires_at": expires_at, "label": "login" });
        client.call("account.add", account);
        client.call("gateway.key", json!({ "agent": "claude" }))["key"].as_str().unwrap().to_owned()
    }

    /// How an account stands: its state, and what it is limited for.
    pub fn account(&self, label: &str) -> Value {
        let accounts = self.home.client().call("account.list", json!({}));
        let found = accounts.as_array().unwrap().iter().find(|account| account["label"] == label);
        found.unwrap_or_else(|| panic!("no {label} in {accounts}")).clone()
    }

    pub fn metrics(&self) -> String {
        let request = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\n\r\n", self.key);
        self.visitor().ask(request.as_bytes()).text()
    }

    /// A lease, and a key that carries it.
    pub fn run(&self, client: &mut Client) -> (Value, String) {
        let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 0 }));
        let access = client.call("gateway.key", json!({ "lease": lease["lease"], "directory": "/work" }));
        (lease, access["key"].as_str().unwrap().to_owned())
    }
}

/// A request to Anthropic's messages.
pub fn messages(key: &str, body: &str) -> Vec<u8> {
    request("POST /anthropic/v1/messages", &format!("x-api-key: {key}\r\ncontent-type: application/json\r\n"), body)
}

/// A request with a body.
pub fn request(line: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// One connection to the gateway.
pub struct Visitor {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Visitor {
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn receive(&mut self) -> Message {
        self.try_receive().expect("an answer")
    }

    pub fn try_receive(&mut self) -> Option<Message> {
        Message::read(&mut self.reader, false)
    }

    pub fn ask(&mut self, bytes: &[u8]) -> Message {
        self.send(bytes);
        self.receive()
    }

    /// The answer's head; its body is left.
    pub fn ask_for_head(&mut self, bytes: &[u8]) -> Message {
        self.send(bytes);
        Message::read(&mut self.reader, true).expect("a head")
    }

    /// Reads until it has seen this.
    pub fn read_until(&mut self, part: &str) -> String {
        use std::io::Read;
        let (mut seen, mut byte) = (String::new(), [0]);
        while !seen.contains(part) {
            let read = self.reader.read(&mut byte).unwrap_or_else(|error| panic!("{error} after {seen:?}"));
            assert!(read > 0, "the end after {seen:?}");
            seen.push(byte[0] as char);
        }
        seen
    }
}
