//! Codex with a ChatGPT login, in each way in which it can be handed out: through the gateway by https (`gateway.tls`)
//! and without, with `--direct` and with `--profile`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::fleet::{Fleet, FleetConfig, check, wait};
use super::upstream::Limit;

const STEPS: u64 = 3;
const MODEL: &str = "gpt-5.1-codex";
/// For `localhost` and the loopback addresses.
const CA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/tls/ca.pem");
/// Another login of the user's own.
const OWN_LOGIN: &str = r#"{"auth_mode":"apikey","OPENAI_API_KEY":"sk-of-the-user"}"#;

/// What the access tokens of a login begin with: header and claims.
fn token(account: usize) -> String {
    let claims = json!({ "email": "me@example.com", "https://api.openai.com/auth": {
        "chatgpt_account_id": format!("00000000-0000-4000-8000-{account:012}"), "chatgpt_plan_type": "plus",
        "chatgpt_user_id": "user-1" } });
    format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn codex<'a>(more: &[&'a str], prompt: &'a str) -> Vec<&'a str> {
    let begin = ["codex", "exec", "--skip-git-repo-check", "-m", MODEL, "-s", "danger-full-access"];
    [&begin, more, &[prompt]].concat()
}

/// The upstream by https, and how many connections it was trusted on.
fn with_tls(upstream: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let certificates = CertificateDer::pem_slice_iter(include_bytes!("../gateway/tls/server.pem"));
    let certificates: Result<Vec<_>, _> = certificates.collect();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../gateway/tls/server.key")).unwrap();
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(crypto).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(certificates.unwrap(), key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let trusted = Arc::<AtomicUsize>::default();
    let count = trusted.clone();
    let serve = async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (acceptor, count) = (acceptor.clone(), count.clone());
            tokio::spawn(async move {
                // a client that disconnects is its own affair
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                count.fetch_add(1, Ordering::Relaxed);
                let Ok(mut server) = TcpStream::connect(upstream).await else { return };
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    };
    std::thread::spawn(move || runtime.block_on(serve));
    (address, trusted)
}

/// Codex believes in its login, although the user has another one and has restricted logins; what is the user's stays.
/// The first account's quota ends in the middle of the session, which goes on with the second one.
#[test]
fn codex_has_a_chatgpt_login_by_https_and_the_user_s_own_stays() {
    let logins = [(true, Limit::Requests(2)), (true, Limit::None)];
    let config = FleetConfig { text: "[gateway]\ntls = true\n", ..FleetConfig::default() };
    let fleet = Fleet::with("codex-tls", "openai", &logins, &config);
    let own_login = fleet.file_of("user", ".codex/auth.json");
    std::fs::write(&own_login, OWN_LOGIN).unwrap();
    std::fs::write(fleet.file_of("user", ".codex/config.toml"), "forced_login_method = \"api\"\n").unwrap();
    let prompt = fleet.prompt(1, STEPS);
    let ran = wait(vec![(1, fleet.start("user", &[], &codex(&[], &prompt)))]);
    check(&fleet, &ran, 1);
    // over a socket by https, one for each account
    assert_eq!(fleet.upstream.sockets(), 2, "{:#?}", fleet.upstream.seen());
    let text = &ran[0].text;
    assert!(text.contains("provider: openai"), "it is the built-in one: {text}");
    assert!(!text.contains("rmcp") && !text.contains("certificate"), "{text}");
    assert_eq!(std::fs::read_to_string(&own_login).unwrap(), OWN_LOGIN);
    let sessions = std::fs::read_dir(fleet.file_of("user", ".codex/sessions")).unwrap();
    assert!(sessions.count() > 0, "its sessions are in the user's home");
}

/// The user's own certificates are trusted as well.
#[test]
fn codex_trusts_the_user_s_certificates_beside_the_gateway_s() {
    let config = FleetConfig { text: "[gateway]\ntls = true\n", ..FleetConfig::default() };
    let fleet = Fleet::with("codex-ca", "openai", &[(true, Limit::None)], &config);
    // what codex asks of ChatGPT goes past the gateway here, to a server that only the user's file vouches for: there it
    // gets no answer with a key of the gateway
    let (secure, trusted) = with_tls(fleet.address);
    let past = format!("chatgpt_base_url=\"https://{secure}/openai/backend-api/\"");
    for (run, variable) in [(1, "CODEX_CA_CERTIFICATE"), (2, "SSL_CERT_FILE")] {
        let prompt = fleet.prompt(run, 1);
        let command = codex(&["-c", &past], &prompt);
        let ran = wait(vec![(run, fleet.start_with("user", &[(variable, CA)], &[], &command))]);
        assert!(trusted.swap(0, Ordering::Relaxed) > 0, "{variable}: {}", ran[0].text);
    }
}

#[test]
fn codex_has_a_chatgpt_login_without_https_by_a_configured_provider() {
    let fleet = Fleet::with("codex-http", "openai", &[(true, Limit::None)], &FleetConfig::default());
    let prompt = fleet.prompt(1, STEPS);
    let ran = wait(vec![(1, fleet.start("user", &[], &codex(&[], &prompt)))]);
    check(&fleet, &ran, 0);
    assert!(ran[0].text.contains("provider: lessor"), "{}", ran[0].text);
}

#[test]
fn codex_has_a_chatgpt_login_directly_and_in_a_profile() {
    let fleet = Fleet::with("codex-login", "openai", &[], &FleetConfig::default());
    fleet.add_login("openai", 0, &token(0));
    let (plain, (secure, _)) = (fleet.address, with_tls(fleet.address));
    let directly = format!("model_providers.lessor.base_url=\"http://{plain}/openai/backend-api/codex\"");
    let prompt = fleet.prompt(1, STEPS);
    let ran = wait(vec![(1, fleet.start("user", &["--direct"], &codex(&["-c", &directly], &prompt)))]);
    check(&fleet, &ran, 0);
    let chatgpt = format!("chatgpt_base_url=\"https://{secure}/openai/backend-api/\"");
    let responses = format!("openai_base_url=\"https://{secure}/openai/backend-api/codex\"");
    let prompt = fleet.prompt(2, STEPS);
    let command = codex(&["-c", &chatgpt, "-c", &responses], &prompt);
    let trusted = [("CODEX_CA_CERTIFICATE", CA)];
    let ran = wait(vec![(2, fleet.start_with("user", &trusted, &["--profile"], &command))]);
    // what is not sent to a model, codex asks with and without the login
    let seen: Vec<_> = fleet.upstream.seen().into_iter().filter(|seen| seen.run.is_some()).collect();
    assert!(ran[0].ok, "{}\n{seen:#?}", ran[0].text);
    assert!(seen.iter().all(|seen| seen.account == Some(0)), "{seen:#?}");
}
