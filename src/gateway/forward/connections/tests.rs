use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

use super::*;
use crate::gateway::forward::proxy::ProxyRules;
use crate::http::ConnectOptions;

/// An upstream that ends each connection after so many answers, without saying so.
struct Upstream {
    uri: Uri,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// It answers when so many requests have come.
    async fn start(answers: usize, together: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/v1/x?y", listener.local_addr().unwrap()).parse().unwrap();
        let (connections, barrier) = (Arc::<AtomicUsize>::default(), Arc::new(Barrier::new(together)));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, answers, barrier.clone()));
            }
        });
        Self { uri, connections }
    }
}

async fn serve(mut stream: TcpStream, answers: usize, barrier: Arc<Barrier>) {
    for _ in 0..answers {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if !matches!(stream.read(&mut byte).await, Ok(1)) {
                return;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("GET /v1/x?y HTTP/1.1\r\nhost: 127.0.0.1:"), "{head}");
        barrier.wait().await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    }
}

/// An upstream that speaks HTTP/2 and answers when so many requests have come, and the certificates by which it is
/// trusted.
async fn start_http2(together: usize) -> (Upstream, RootCertStore) {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut tls = tls.with_no_client_auth().with_single_cert(vec![issued.cert.der().clone()], key).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://localhost:{}/v1/x?y", listener.local_addr().unwrap().port()).parse().unwrap();
    let connections = Arc::<AtomicUsize>::default();
    let (count, barrier) = (connections.clone(), Arc::new(Barrier::new(together)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let (acceptor, barrier) = (acceptor.clone(), barrier.clone());
            tokio::spawn(async move {
                let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                let answer = service_fn(move |request: Request<Incoming>| {
                    let barrier = barrier.clone();
                    async move {
                        assert_eq!(request.uri().path_and_query().unwrap(), "/v1/x?y");
                        barrier.wait().await;
                        Ok::<_, Infallible>(Response::new("ok".to_owned()))
                    }
                });
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                _ = http.serve_connection(stream, answer).await;
            });
        }
    });
    (Upstream { uri, connections }, roots)
}

fn connections(roots: RootCertStore) -> KeptConnections {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(roots).with_no_client_auth();
    let proxies = Arc::new(ProxyRules::of(&ConnectOptions::default()));
    let connector = ProxyConnector::new(proxies, tls.clone(), true);
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().enable_http2();
    KeptConnections::new(builder.wrap_connector(connector))
}

async fn send(connections: &KeptConnections, uri: &Uri) {
    let mut request = Request::new(UpstreamBody::none());
    *request.uri_mut() = uri.clone();
    let response = connections.send(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
}

fn idle(connections: &KeptConnections) -> usize {
    lock(&connections.kept).iter().map(|origin| origin.idle.len()).sum()
}

/// Waits until so many connections are kept: they are when their response has ended.
async fn kept(connections: &KeptConnections, count: usize) {
    let all = async {
        while idle(connections) != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn requests_one_after_the_other_share_a_connection() {
    run(async {
        // it would answer once more: the last connection stays open
        let (upstream, connections) = (Upstream::start(11, 1).await, connections(RootCertStore::empty()));
        for _ in 0..10 {
            send(&connections, &upstream.uri).await;
            kept(&connections, 1).await;
        }
        assert_eq!(upstream.connections.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_request_that_meets_a_closed_connection_is_sent_on_another() {
    run(async {
        let (upstream, connections) = (Upstream::start(1, 1).await, connections(RootCertStore::empty()));
        for number in 1..=20 {
            send(&connections, &upstream.uri).await;
            assert_eq!(upstream.connections.load(Ordering::Relaxed), number);
        }
    });
}

#[test]
fn all_requests_share_a_connection_that_speaks_http2() {
    run(async {
        let (upstream, roots) = start_http2(1).await;
        let connections = connections(roots);
        send(&connections, &upstream.uri).await;
        tokio::join!(send(&connections, &upstream.uri), send(&connections, &upstream.uri));
        assert_eq!((upstream.connections.load(Ordering::Relaxed), idle(&connections)), (1, 0));
        let is_left = |at| lock(&connections.kept).iter_mut().any(|origin| origin.close_idle(at));
        assert!(is_left(now()) && !is_left(now() + LONGEST_IDLE + Duration::from_secs(1)));
        send(&connections, &upstream.uri).await;
        assert_eq!(upstream.connections.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn an_http2_connection_is_shared_before_its_first_response() {
    run(async {
        let (upstream, roots) = start_http2(2).await;
        let connections = Arc::new(connections(roots));
        let (of_first, uri) = (connections.clone(), upstream.uri.clone());
        let first = tokio::spawn(async move { send(&of_first, &uri).await });
        let shared = async {
            while !lock(&connections.kept).iter().any(|origin| origin.shared.is_some()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), shared).await.unwrap();
        send(&connections, &upstream.uri).await;
        first.await.unwrap();
        assert_eq!(upstream.connections.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn few_connections_are_kept_and_none_for_long() {
    run(async {
        let many = MOST_IDLE + 8;
        let (upstream, connections) = (Upstream::start(2, many).await, Arc::new(connections(RootCertStore::empty())));
        let requests = (0..many).map(|_| {
            let (connections, uri) = (connections.clone(), upstream.uri.clone());
            tokio::spawn(async move { send(&connections, &uri).await })
        });
        for request in requests.collect::<Vec<_>>() {
            request.await.unwrap();
        }
        assert_eq!(upstream.connections.load(Ordering::Relaxed), many);
        kept(&connections, MOST_IDLE).await;
        let now = now();
        let is_left = |at| lock(&connections.kept).iter_mut().any(|origin| origin.close_idle(at));
        assert!(is_left(now) && idle(&connections) == MOST_IDLE);
        assert!(!is_left(now + LONGEST_IDLE + Duration::from_secs(1)) && idle(&connections) == 0);
    });
}
