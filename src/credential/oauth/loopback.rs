//! The redirect to this machine: a listener that takes one response and closes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::code::{AuthorizationCode, AuthorizationRequest, AuthorizationResponse};
use super::server::AuthorizationServer;

/// The maximum length of a browser's request head.
const LONGEST_HEAD: usize = 16 * 1024;
/// A browser that connects sends its request at once, or only opened the connection in advance.
const PATIENCE: Duration = Duration::from_secs(60);
/// The maximum number of connections at a time.
const MOST: usize = 16;

/// The redirect URI on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    host: String,
    port: u16,
    path: String,
}

/// A listener at a redirect URI.
#[derive(Debug)]
pub struct Loopback {
    listeners: Vec<TcpListener>,
    redirect: Redirect,
}

impl AuthorizationServer {
    /// The redirect URI on this machine.
    #[must_use]
    pub fn redirect(&self) -> Redirect {
        let (host, port, path) = self.settings.built_in.map_or(("127.0.0.1", 0, "/callback"), |server| server.redirect);
        let port = Some(self.settings.given.redirect_port).filter(|port| *port != 0).unwrap_or(port);
        Redirect { host: host.to_owned(), port, path: path.to_owned() }
    }

    /// The server's page that shows the code for pasting.
    #[must_use]
    pub fn paste_page(&self) -> Option<&'static str> {
        self.settings.built_in.and_then(|server| server.paste_page)
    }
}

impl Redirect {
    /// The URI that is sent to the server.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("http://{}:{}{}", self.host, self.port, self.path)
    }

    /// The response to `request` in the target of a browser's request; `None` if it is another request.
    pub(super) fn response(&self, request: &AuthorizationRequest, target: &str) -> Option<AuthorizationResponse> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == self.path { request.read(query) } else { None }
    }

    /// Its port; 0 before a listener is open.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Loopback {
    /// Opens the listener; port 0 selects a free port.
    ///
    /// # Errors
    /// When the port is in use.
    pub async fn open(redirect: Redirect) -> std::io::Result<Self> {
        let first = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, redirect.port))).await?;
        let port = first.local_addr()?.port();
        let mut listeners = vec![first];
        if redirect.host == "localhost" {
            // a browser may resolve the name to either address; without the second listener the first one serves
            let second = TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await;
            listeners.extend(second.ok());
        }
        Ok(Self { listeners, redirect: Redirect { port, ..redirect } })
    }

    /// The redirect URI that it listens at.
    #[must_use]
    pub fn redirect(&self) -> &Redirect {
        &self.redirect
    }

    /// Waits for the response to `request`; other requests are answered with an error page.
    ///
    /// # Errors
    /// When the login was refused: the server's error code.
    pub async fn answer(self, request: &AuthorizationRequest) -> Result<AuthorizationCode, String> {
        let (tell, mut asked) = mpsc::channel(MOST);
        let mut tasks = JoinSet::new();
        for listener in self.listeners {
            tasks.spawn(listen(listener, tell.clone()));
        }
        // the end of the tasks is the end of the listeners
        loop {
            let Some((target, mut stream)) = asked.recv().await else {
                return Err("the listener has ended".to_owned());
            };
            let (status, text, ended) = match self.redirect.response(request, &target) {
                Some(AuthorizationResponse::Code(code)) => {
                    let text = "The login was received. Continue in the terminal; you can close this page.";
                    ("200 OK", text, Some(Ok(code)))
                }
                Some(AuthorizationResponse::Refused(why)) => {
                    ("200 OK", "The login was refused. See the terminal for details.", Some(Err(why)))
                }
                Some(AuthorizationResponse::Foreign) => {
                    ("400 Bad Request", "This response belongs to another login.", None)
                }
                None => ("404 Not Found", "There is nothing here.", None),
            };
            if ended.is_some() {
                tasks.shutdown().await;
            }
            say(&mut stream, status, text).await;
            if let Some(ended) = ended {
                return ended;
            }
        }
    }
}

/// Accepts several connections at a time: browsers open some in advance.
async fn listen(listener: TcpListener, tell: mpsc::Sender<(String, TcpStream)>) {
    let mut visitors = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if visitors.len() < MOST => {
                let Ok((stream, _)) = accepted else { continue };
                let tell = tell.clone();
                visitors.spawn(async move {
                    if let Ok(Some(heard)) = tokio::time::timeout(PATIENCE, hear(stream)).await {
                        // the login may have ended already
                        let _over = tell.send(heard).await;
                    }
                });
            }
            Some(_) = visitors.join_next() => {}
        }
    }
}

/// Reads a browser's request and returns its target.
async fn hear(mut stream: TcpStream) -> Option<(String, TcpStream)> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if head.len() > LONGEST_HEAD || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some((target(&head)?, stream))
}

/// The target of a browser's request.
pub(super) fn target(head: &[u8]) -> Option<String> {
    let line = str::from_utf8(head).ok()?.lines().next()?;
    Some(line.strip_prefix("GET ")?.split(' ').next()?.to_owned())
}

async fn say(stream: &mut TcpStream, status: &str, text: &str) {
    let page = format!("<!doctype html><meta charset=utf-8><title>lessor</title><p>{text}</p>\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         content-security-policy: default-src 'none'\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n{page}",
        page.len()
    );
    // the browser may have closed the connection
    let _gone = stream.write_all(answer.as_bytes()).await;
    let _gone = stream.shutdown().await;
}
