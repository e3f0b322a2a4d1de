//! Everything of a provider is reached in the way that its section says: its API, its usage and its OAuth server.

use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use crate::harness::{HttpClient, messages};
use crate::support::{Home, wait_until};
use crate::upstream::{Message, Upstream, respond};

/// An upstream behind a proxy, as nothing listens at the addresses of `config`: it is a token endpoint, a usage API and an API.
fn provider() -> Upstream {
    Upstream::start(|received, stream| {
        let token = r#"{"access_token":"t-new","refresh_token":"r-2","token_type":"Bearer","expires_in":36000}"#;
        let body = if received.target().ends_with("/token") { token } else { "{}" };
        respond(stream, 200, "content-type: application/json\r\n", body)
    })
}

fn config(reach: &str) -> String {
    format!(
        "[quota]\npoll = \"1s\"\n[providers.anthropic]\nbase_url = \"http://localhost:2\"\n{reach}\n\
         [providers.anthropic.oauth]\nauthorize_url = \"http://localhost:1/authorize\"\n\
         token_url = \"http://localhost:1/token\"\nclient_id = \"c\"\n"
    )
}

/// Refreshes, reads usage, forwards a request, and logs in.
fn use_everything(home: &Home) -> Message {
    let mut client = home.client();
    let account = json!({ "provider": "anthropic", "kind": "oauth", "secret": "t-old", "refresh_token": "r-1",
        "expires_at": 1_000, "label": "login" });
    client.call("account.add", account);
    let access = client.call("gateway.key", json!({ "agent": "claude" }));
    let port = access["url"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    let response = HttpClient::connect(port).send(&messages(access["key"].as_str().unwrap(), r#"{"model":"m"}"#));
    let mut login = Command::new(env!("CARGO_BIN_EXE_lessor"));
    login.args(["login", "anthropic", "--paste", "--no-browser", "--json"]).env("LESSOR_HOME", home.path());
    let mut login = login.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    login.stdin.take().unwrap().write_all(b"code\n").unwrap();
    let done = login.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    response
}

#[test]
fn refresh_usage_login_and_requests_go_through_the_provider_s_proxy() {
    let proxy = provider();
    let mut home = Home::new(&config(&format!("proxy = \"{}\"", proxy.url())));
    home.start();
    assert_eq!(use_everything(&home).status(), 200);
    let targets = || proxy.received().iter().map(|request| request.target().to_owned()).collect::<BTreeSet<_>>();
    wait_until("the usage is read", || targets().len() >= 3);
    let expected = ["http://localhost:2/api/oauth/usage", "http://localhost:2/v1/messages", "http://localhost:1/token"];
    assert_eq!(targets(), expected.map(str::to_owned).into());
    let tokens = proxy.received().iter().filter(|request| request.target().ends_with("/token")).count();
    assert_eq!(tokens, 2, "of the refresh and of the login");
}

/// A SOCKS5 proxy without authentication: it connects everything to one upstream, and records what was wanted.
fn socks5(upstream: u16) -> (u16, Arc<Mutex<BTreeSet<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let wanted: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let all = wanted.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let all = all.clone();
            std::thread::spawn(move || {
                // a connection that breaks off ends its thread
                let _ended = connect(client, upstream, &all);
            });
        }
    });
    (port, wanted)
}

fn connect(mut client: TcpStream, upstream: u16, wanted: &Mutex<BTreeSet<String>>) -> std::io::Result<()> {
    let mut read = |length: usize| {
        let mut bytes = vec![0; length];
        client.read_exact(&mut bytes).map(|()| bytes)
    };
    let methods = read(2)?[1];
    read(methods.into())?;
    client.write_all(&[5, 0])?;
    let mut read = |length: usize| {
        let mut bytes = vec![0; length];
        client.read_exact(&mut bytes).map(|()| bytes)
    };
    let host = match read(4)?[3] {
        3 => {
            let length = read(1)?[0];
            String::from_utf8_lossy(&read(length.into())?).into_owned()
        }
        _ => format!("{:?}", read(4)?),
    };
    let port = read(2)?;
    wanted.lock().unwrap().insert(format!("{host}:{}", u16::from_be_bytes([port[0], port[1]])));
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let upstream = TcpStream::connect(("127.0.0.1", upstream))?;
    let (mut from, mut to) = (client.try_clone()?, upstream.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let (mut from, mut to) = (upstream, client);
    std::io::copy(&mut from, &mut to)?;
    Ok(())
}

#[test]
fn a_socks_proxy_is_spoken_to_as_such_and_looks_names_up() {
    let upstream = provider();
    let (port, wanted) = socks5(upstream.port);
    let mut home = Home::new(&config(&format!("proxy = \"socks5h://127.0.0.1:{port}\"")));
    home.start();
    assert_eq!(use_everything(&home).status(), 200);
    let targets = || upstream.received().iter().map(|request| request.target().to_owned()).collect::<BTreeSet<_>>();
    wait_until("the usage is read", || targets().len() >= 3);
    assert_eq!(targets(), ["/api/oauth/usage", "/token", "/v1/messages"].map(str::to_owned).into());
    assert_eq!(*wanted.lock().unwrap(), ["localhost:1", "localhost:2"].map(str::to_owned).into());
}

#[test]
fn an_unreadable_certificate_file_is_named_by_a_refresh_and_a_login() {
    let mut home = Home::new(&config("ca_file = \"/nowhere/ca.pem\""));
    home.start();
    let mut client = home.client();
    let account = json!({ "provider": "anthropic", "kind": "oauth", "secret": "t-old", "refresh_token": "r-1",
        "expires_at": 1_000, "label": "login" });
    client.call("account.add", account);
    wait_until("the refresh has failed", || {
        client.call("account.list", json!({})).to_string().contains("/nowhere/ca.pem")
    });
    let mut login = Command::new(env!("CARGO_BIN_EXE_lessor"));
    let login = login.args(["login", "anthropic", "--paste"]).env("LESSOR_HOME", home.path()).stdin(Stdio::null());
    let done = login.output().unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && stderr.contains("/nowhere/ca.pem"), "{stderr}");
}

#[test]
fn a_proxy_that_cannot_be_used_is_a_clear_error_of_the_configuration() {
    let home = Home::new("");
    let check = |proxy: &str| {
        let text = format!("[providers.anthropic]\nproxy = \"{proxy}\"\n");
        std::fs::write(home.path().join("config.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lessor"));
        let done = command.args(["config", "check"]).env("LESSOR_HOME", home.path()).output().unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    for proxy in ["http://h:1", "https://h", "socks5://h:1080", "socks5h://h", "socks4://h", "socks4a://h", ""] {
        let (is_valid, stderr) = check(proxy);
        assert!(is_valid, "{proxy}: {stderr}");
    }
    for proxy in ["ftp://h", "h:1", "socks://h", "http://user:canary@h"] {
        let (is_valid, stderr) = check(proxy);
        assert!(
            !is_valid && stderr.contains("providers.anthropic.proxy") && stderr.contains("socks5h"),
            "{proxy}: {stderr}"
        );
        assert!(!stderr.contains("canary"), "{stderr}");
    }
}

/// The same over TLS, with a certificate that only `tls/ca.pem` vouches for; records the targets of requests.
fn provider_with_tls() -> (u16, Arc<Mutex<BTreeSet<String>>>) {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(include_bytes!("tls/server.pem")).collect();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(crypto).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(certificates.unwrap(), key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let targets: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let all = targets.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, all) = (config.clone(), all.clone());
            std::thread::spawn(move || {
                let connection = rustls::ServerConnection::new(config).unwrap();
                let mut stream = BufReader::new(rustls::StreamOwned::new(connection, stream));
                while let Some(request) = Message::read(&mut stream, false) {
                    all.lock().unwrap().insert(request.target().to_owned());
                    let token =
                        r#"{"access_token":"t-new","refresh_token":"r-2","token_type":"Bearer","expires_in":36000}"#;
                    let body = if request.target().ends_with("/token") { token } else { "{}" };
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    let sent = stream.get_mut().write_all(format!("{head}{body}").as_bytes());
                    if sent.and_then(|()| stream.get_mut().flush()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, targets)
}

#[test]
fn refresh_usage_login_and_requests_trust_the_provider_s_certificates() {
    let (port, targets) = provider_with_tls();
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/tls/ca.pem");
    let config = config(&format!("ca_file = \"{authority}\""));
    let config = config.replace("http://localhost:1", &format!("https://localhost:{port}"));
    let mut home = Home::new(&config.replace("http://localhost:2", &format!("https://localhost:{port}")));
    home.start();
    assert_eq!(use_everything(&home).status(), 200);
    wait_until("the usage is read", || targets.lock().unwrap().len() >= 3);
    assert_eq!(*targets.lock().unwrap(), ["/api/oauth/usage", "/token", "/v1/messages"].map(str::to_owned).into());
}

#[test]
fn a_proxy_can_be_reached_with_tls() {
    let (port, targets) = provider_with_tls();
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/tls/ca.pem");
    let reach = format!("ca_file = \"{authority}\"\nproxy = \"https://localhost:{port}\"");
    let mut home = Home::new(&config(&reach));
    home.start();
    assert_eq!(use_everything(&home).status(), 200);
    wait_until("the usage is read", || targets.lock().unwrap().len() >= 3);
    let expected = ["http://localhost:1/token", "http://localhost:2/api/oauth/usage", "http://localhost:2/v1/messages"];
    assert_eq!(*targets.lock().unwrap(), expected.map(str::to_owned).into());
}
