//! TLS on loopback (`gateway.tls`): who trusts the port, what it serves, and that its certificate, port and connections
//! outlive a reload and a restart.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::harness::{TestGateway, messages, request};
use crate::support::{PATIENCE, wait_until};
use crate::upstream::{Message, Upstream};

const ON: &str = "[gateway]\ntls = true\n";

fn gateway(config: &str) -> TestGateway {
    TestGateway::with(config, "a", Upstream::by_key(|_| (200, "", "{}")))
}

fn access(gateway: &TestGateway) -> Value {
    gateway.home.client().call("status", json!({}))["gateway"].clone()
}

fn secure_port(gateway: &TestGateway) -> u16 {
    let access = access(gateway);
    let url = access["secure_url"].as_str().unwrap_or_else(|| panic!("no TLS: {access}"));
    url.strip_prefix("https://127.0.0.1:").unwrap().parse().unwrap()
}

/// One connection, of a client that trusts only the certificates in one file.
pub struct TlsClient(pub BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl TlsClient {
    fn connect(port: u16, trusted: &Path, name: &str) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(trusted).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(crypto).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
        }
        Ok(Self(BufReader::new(stream)))
    }

    pub fn of(gateway: &TestGateway) -> Self {
        let authority = access(gateway)["ca_file"].as_str().unwrap().to_owned();
        Self::connect(secure_port(gateway), Path::new(&authority), "127.0.0.1").unwrap()
    }

    fn send(&mut self, bytes: &[u8]) -> Message {
        self.0.get_mut().write_all(bytes).unwrap();
        self.0.get_mut().flush().unwrap();
        self.receive(false)
    }

    /// The next response; only its head, if that is all that matters.
    pub fn receive(&mut self, is_head: bool) -> Message {
        Message::read(&mut self.0, is_head).expect("a response")
    }
}

#[test]
fn the_https_port_serves_what_the_http_port_serves_and_rejects_the_same() {
    let gateway = gateway(ON);
    let key = &gateway.key;
    assert_eq!(TlsClient::of(&gateway).send(&messages(key, "{}")).status(), 200);
    let port = secure_port(&gateway);
    let own = format!("https://127.0.0.1:{port}");
    for (line, host, headers, status) in [
        ("GET /healthz", "127.0.0.1", "", 200),
        ("GET /healthz", "evil.example", "", 403),
        ("GET /healthz", "127.0.0.1", "origin: https://evil.example\r\n", 403),
        ("POST /anthropic/v1/messages", "127.0.0.1", "", 401),
        ("POST /anthropic/v1/messages", "127.0.0.1", "x-api-key: lk_wrong\r\n", 401),
        ("GET /anthropic/../x", "127.0.0.1", "", 400),
        ("GET /ui", "127.0.0.1", "", 200),
        ("GET /ui", "127.0.0.1", "origin: https://evil.example\r\n", 403),
    ] {
        let request = format!("{line} HTTP/1.1\r\nhost: {host}:{port}\r\n{headers}content-length: 0\r\n\r\n");
        let response = TlsClient::of(&gateway).send(request.as_bytes());
        assert_eq!(response.status(), status, "{line} {host} {headers}: {response:?}");
    }
    let from_itself =
        format!("GET /ui HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\norigin: {own}\r\nsec-fetch-site: same-origin\r\n\r\n");
    assert_eq!(TlsClient::of(&gateway).send(from_itself.as_bytes()).status(), 200);
    // one connection, several requests
    let mut client = TlsClient::of(&gateway);
    assert!((0..3).all(|_| client.send(&messages(key, "{}")).status() == 200));
    assert!(gateway.http_client().send(&messages(key, "{}")).status() == 200, "the http port stays");
}

#[test]
fn a_client_trusts_the_port_only_by_its_ca_and_only_under_a_loopback_name() {
    let gateway = gateway(ON);
    let (port, access) = (secure_port(&gateway), access(&gateway));
    let path = |name: &str| PathBuf::from(access[name].as_str().unwrap());
    for name in ["127.0.0.1", "localhost"] {
        for trusted in [path("ca_file"), path("ca_bundle")] {
            assert!(TlsClient::connect(port, &trusted, name).is_ok(), "{name} {}", trusted.display());
        }
    }
    let refused = |trusted: &Path, name| TlsClient::connect(port, trusted, name).map(drop).unwrap_err();
    assert!(refused(&path("ca_file"), "api.openai.com").contains("not valid for name"));
    let other = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/tls/ca.pem"));
    assert!(refused(other, "127.0.0.1").contains("UnknownIssuer"));
    // a client without TLS gets no answer in the clear
    let mut plain = crate::harness::HttpClient::connect(port);
    plain.write(&request("GET /healthz", "", ""));
    assert!(plain.try_receive().is_none_or(|message| !message.text().contains("ok")));
}

#[test]
fn the_files_are_their_user_s_alone_and_the_ca_s_key_is_nowhere() {
    let gateway = gateway(ON);
    let directory = PathBuf::from(access(&gateway)["ca_file"].as_str().unwrap()).parent().unwrap().to_owned();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let mut keys = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        keys += std::fs::read_to_string(&path).unwrap().matches("BEGIN PRIVATE KEY").count();
    }
    assert_eq!(keys, 1, "the key of the gateway's certificate");
}

#[test]
fn tls_is_switched_while_the_daemon_runs_and_keeps_its_port_and_ca() {
    let gateway = gateway("");
    assert!(access(&gateway)["secure_url"].is_null(), "off by default");
    let config = gateway.home.path().join("config.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    let switch = |on: bool| {
        std::fs::write(&config, format!("{}{before}", if on { ON } else { "" })).unwrap();
        gateway.home.client().call("config.reload", json!({}));
        wait_until("TLS is switched", || access(&gateway)["secure_url"].is_string() == on);
    };
    switch(true);
    let (port, authority) = (secure_port(&gateway), access(&gateway)["ca_file"].as_str().unwrap().to_owned());
    let made = std::fs::read(&authority).unwrap();
    let mut open = TlsClient::of(&gateway);
    assert_eq!(open.send(&messages(&gateway.key, "{}")).status(), 200);
    switch(false);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is closed");
    assert_eq!(open.send(&messages(&gateway.key, "{}")).status(), 200, "existing connections stay open");
    switch(true);
    assert_eq!((secure_port(&gateway), std::fs::read(&authority).unwrap()), (port, made));
    assert_eq!(TlsClient::of(&gateway).send(&messages(&gateway.key, "{}")).status(), 200);
}

#[test]
fn port_and_certificate_outlive_the_daemon() {
    let mut gateway = gateway(ON);
    let (port, authority) = (secure_port(&gateway), access(&gateway)["ca_file"].as_str().unwrap().to_owned());
    let made = std::fs::read(&authority).unwrap();
    gateway.home.client().restart(1000);
    let mut kept = TlsClient::of(&gateway);
    assert_eq!(kept.send(&messages(&gateway.key, "{}")).status(), 200);
    assert_eq!((secure_port(&gateway), std::fs::read(&authority).unwrap()), (port, made.clone()), "after a restart");
    gateway.home.kill();
    gateway.home.start();
    assert_eq!((secure_port(&gateway), std::fs::read(&authority).unwrap()), (port, made), "after a crash");
    assert_eq!(TlsClient::of(&gateway).send(&messages(&gateway.key, "{}")).status(), 200);
}

#[test]
fn a_directory_that_cannot_be_made_is_reported_and_http_goes_on() {
    let mut gateway = gateway("");
    gateway.home.stop();
    let state = gateway.home.path().join("state");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("tls"), "in the way").unwrap();
    let config = gateway.home.path().join("config.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{ON}{before}")).unwrap();
    gateway.home.start();
    let status = gateway.home.client().call("status", json!({}));
    let trouble = status["gateway_trouble"].as_str().unwrap();
    assert!(trouble.contains("gateway.tls: ") && trouble.contains("state/tls"), "{trouble}");
    assert!(status["gateway"]["secure_url"].is_null());
    assert_eq!(gateway.http_client().send(&messages(&gateway.key, "{}")).status(), 200);
    std::fs::remove_file(state.join("tls")).unwrap();
    gateway.home.client().call("config.reload", json!({}));
    std::fs::write(&config, format!("{ON}{before}\n")).unwrap();
    wait_until("it is tried again", || access(&gateway)["secure_url"].is_string());
}

/// A stand-in for agy, which cannot be installed here: it prints what it has been given, and waits.
const AGY: &str = "#!/bin/sh\nenv | grep ^AGY_\necho end\nread line\n";

fn stand_in(gateway: &TestGateway) -> PathBuf {
    let agy = gateway.home.path().join("agy");
    std::fs::write(&agy, AGY).unwrap();
    std::fs::set_permissions(&agy, std::fs::Permissions::from_mode(0o700)).unwrap();
    agy
}

/// What `lessor run` gives to agy, and the run, which waits for a line.
fn run_agy(gateway: &TestGateway) -> (std::collections::BTreeMap<String, String>, Child) {
    let mut run = Command::new(env!("CARGO_BIN_EXE_lessor"));
    run.args(["run", "--"]).arg(stand_in(gateway)).env("LESSOR_HOME", gateway.home.path()).stdin(Stdio::piped());
    let mut run = run.stdout(Stdio::piped()).spawn().unwrap();
    let mut given = std::collections::BTreeMap::new();
    for line in BufReader::new(run.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((name, value)) = line.split_once('=') else { break };
        given.insert(name.to_owned(), value.to_owned());
    }
    (given, run)
}

#[test]
fn agy_is_given_an_address_a_key_and_a_certificate_that_serve_it() {
    let gateway = gateway(ON);
    gateway.add("google", "api_key", "g");
    let (given, mut run) = run_agy(&gateway);
    assert_eq!(given["AGY_LLM_GATEWAY_WIRE_PROTOCOL"], "genai");
    let rest = given["AGY_LLM_GATEWAY_URL"].strip_prefix("https://127.0.0.1:").unwrap();
    let (port, path) = rest.split_once('/').unwrap();
    let trusted = Path::new(&given["AGY_LLM_GATEWAY_CA_CERT"]);
    let mut client = TlsClient::connect(port.parse().unwrap(), trusted, "127.0.0.1").unwrap();
    let key = format!("x-goog-api-key: {}\r\n", given["AGY_LLM_GATEWAY_API_KEY"]);
    let line = format!("POST /{path}/v1beta/models/gemini-2.5-pro:generateContent");
    assert_eq!(client.send(&request(&line, &key, "{}")).status(), 200);
    assert_eq!(gateway.upstream.keys(), ["k-g"]);
    run.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(run.wait().unwrap().success());
}

/// The daemon reads a changed file only 50 ms after it was written, so `run` asks before the port is open.
#[test]
fn run_waits_for_an_https_port_that_opens_in_a_moment() {
    let gateway = gateway("");
    gateway.add("google", "api_key", "g");
    let config = gateway.home.path().join("config.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{ON}{before}\n")).unwrap();
    let (given, mut run) = run_agy(&gateway);
    assert!(given["AGY_LLM_GATEWAY_URL"].starts_with("https://127.0.0.1:"), "{given:?}");
    run.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(run.wait().unwrap().success());
}

#[test]
fn agy_names_the_setting_that_it_needs_before_an_account_is_leased() {
    let gateway = gateway("");
    let program = stand_in(&gateway);
    let agy = |options: &[&str]| {
        let mut run = Command::new(env!("CARGO_BIN_EXE_lessor"));
        run.arg("run").args(options).arg("--").arg(&program).env("LESSOR_HOME", gateway.home.path());
        let output = run.output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(agy(&[]).contains("lessor config set gateway.tls true"));
    assert!(agy(&["--direct"]).contains("through the gateway only"));
}
