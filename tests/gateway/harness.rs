//! A daemon with accounts, an upstream behind it, and clients that send raw HTTP.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Home, PATIENCE};
use crate::upstream::{Message, Upstream};

/// A daemon whose gateway forwards to a test's upstream.
pub struct TestGateway {
    pub home: Home,
    pub upstream: Upstream,
    pub port: u16,
    /// A key without a lease.
    pub key: String,
}

impl TestGateway {
    /// With Anthropic accounts `a`, `b`, … whose keys are `k-a`, `k-b`, …
    pub fn new(accounts: &str, upstream: Upstream) -> Self {
        Self::with("", accounts, upstream)
    }

    /// The same with a configuration; `URL` in it stands for the upstream.
    pub fn with(config: &str, accounts: &str, upstream: Upstream) -> Self {
        let url = upstream.url();
        let providers =
            ["anthropic", "openai", "google"].map(|name| format!("[providers.{name}]\nbase_url = \"{url}\"\n"));
        let config = config.replace("URL", &url);
        // no usage polls at the upstream
        let mut home = Home::new(&format!("[quota]\npoll = \"off\"\n{config}\n{}", providers.concat()));
        home.start();
        let mut gateway = Self { home, upstream, port: 0, key: String::new() };
        for account in accounts.chars() {
            gateway.add("anthropic", "api_key", &account.to_string());
        }
        gateway.connect();
        gateway
    }

    /// Reads the gateway's port and creates a key.
    pub fn connect(&mut self) {
        let access = self.home.client().call("gateway.key", json!({ "agent": "test" }));
        self.key = access["key"].as_str().unwrap().to_owned();
        let url = access["url"].as_str().unwrap_or_else(|| panic!("no gateway: {access}"));
        self.port = url.rsplit(':').next().unwrap().parse().unwrap();
    }

    pub fn add(&self, provider: &str, kind: &str, label: &str) {
        let account = json!({ "provider": provider, "kind": kind, "secret": format!("k-{label}"), "label": label });
        self.home.client().call("account.add", account);
    }

    pub fn http_client(&self) -> HttpClient {
        HttpClient::connect(self.port)
    }

    /// Sends a messages request with the key that has no lease.
    pub fn send(&self) -> Message {
        self.send_with(&self.key)
    }

    pub fn send_with(&self, key: &str) -> Message {
        self.http_client().send(&messages(key, r#"{"model":"claude-sonnet-4-5","messages":[]}"#))
    }

    /// Adds an Anthropic login; returns a key for its agent.
    pub fn login(&self, access: &str, expires_at: u64) -> String {
        let mut client = self.home.client();
        let account = json!({ "provider": "anthropic", "kind": "oauth", "secret": access, "refresh_token": "r-1",
            "expires_at": expires_at, "label": "login" });
        client.call("account.add", account);
        client.call("gateway.key", json!({ "agent": "claude" }))["key"].as_str().unwrap().to_owned()
    }

    /// An account as `account.list` shows it.
    pub fn account(&self, label: &str) -> Value {
        let accounts = self.home.client().call("account.list", json!({}));
        let found = accounts.as_array().unwrap().iter().find(|account| account["label"] == label);
        found.unwrap_or_else(|| panic!("no {label} in {accounts}")).clone()
    }

    pub fn metrics(&self) -> String {
        let request = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\n\r\n", self.key);
        self.http_client().send(request.as_bytes()).text()
    }

    /// A lease and the key for it.
    pub fn lease(&self, client: &mut Client) -> (Value, String) {
        let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 0 }));
        let access = client.call("gateway.key", json!({ "lease": lease["lease"], "directory": "/work" }));
        (lease, access["key"].as_str().unwrap().to_owned())
    }
}

/// An Anthropic messages request.
pub fn messages(key: &str, body: &str) -> Vec<u8> {
    request("POST /anthropic/v1/messages", &format!("x-api-key: {key}\r\ncontent-type: application/json\r\n"), body)
}

/// A request with a body.
pub fn request(line: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// One connection to the gateway.
pub struct HttpClient {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl HttpClient {
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // a request waits for up to half a minute while its provider refuses every account
        stream.set_read_timeout(Some(PATIENCE.max(Duration::from_secs(45)))).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn receive(&mut self) -> Message {
        self.try_receive().expect("a response")
    }

    pub fn try_receive(&mut self) -> Option<Message> {
        Message::read(&mut self.reader, false)
    }

    pub fn send(&mut self, bytes: &[u8]) -> Message {
        self.write(bytes);
        self.receive()
    }

    /// The response's head; its body is not read.
    pub fn send_for_head(&mut self, bytes: &[u8]) -> Message {
        self.write(bytes);
        Message::read(&mut self.reader, true).expect("a head")
    }

    /// Reads until it has received `part`.
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
