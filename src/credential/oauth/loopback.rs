//! The redirect to this machine: a listener that takes one answer, and is closed.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::credential::Secret;

use super::code::{Arrival, Request};
use super::server::Server;

/// No request of a browser's is longer.
const LONGEST_HEAD: usize = 16 * 1024;
/// A browser that connects asks at once, or it only connects in case it will.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections at a time.
const MOST: usize = 16;

/// Where a login comes back to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    host: String,
    port: u16,
    path: String,
}

/// A listener at a redirect.
#[derive(Debug)]
pub struct Loopback {
    listeners: Vec<TcpListener>,
    redirect: Redirect,
}

impl Server {
    /// Where a login comes back to on this machine.
    #[must_use]
    pub fn redirect(&self) -> Redirect {
        let (host, port, path) = self.settings.built_in.map_or(("127.0.0.1", 0, "/callback"), |server| server.redirect);
        let port = Some(self.settings.given.redirect_port).filter(|port| *port != 0).unwrap_or(port);
        Redirect { host: host.to_owned(), port, path: path.to_owned() }
    }

    /// A page of the server's own that shows the code.
    #[must_use]
    pub fn paste_page(&self) -> Option<&'static str> {
        self.settings.built_in.and_then(|server| server.paste_page)
    }
}

impl Redirect {
    /// As the server is told.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("http://{}:{}{}", self.host, self.port, self.path)
    }

    /// Its port; 0 until there is a listener.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Loopback {
    /// Listens; a port of 0 becomes a free one.
    ///
    /// # Errors
    /// When the port is in use.
    pub async fn open(redirect: Redirect) -> std::io::Result<Self> {
        let first = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, redirect.port))).await?;
        let port = first.local_addr()?.port();
        let mut listeners = vec![first];
        if redirect.host == "localhost" {
            // a browser may take the name for either; without the second one the first serves
            let second = TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await;
            listeners.extend(second.ok());
        }
        Ok(Self { listeners, redirect: Redirect { port, ..redirect } })
    }

    /// Where it listens.
    #[must_use]
    pub fn redirect(&self) -> &Redirect {
        &self.redirect
    }

    /// Waits for the answer to `request`; what is none is turned away, and waited on for.
    ///
    /// # Errors
    /// When the login was refused: the server's word.
    pub async fn answer(self, request: &Request) -> Result<Secret, String> {
        let (tell, mut asked) = mpsc::channel(MOST);
        let mut tasks = JoinSet::new();
        for listener in self.listeners {
            tasks.spawn(listen(listener, tell.clone()));
        }
        // when this returns, the tasks end, and with them the listeners
        loop {
            let Some((target, mut stream)) = asked.recv().await else { return Err("nobody listens".to_owned()) };
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            let arrival = if path == self.redirect.path { request.read(query) } else { None };
            match arrival {
                Some(Arrival::Code(code)) => {
                    drop(tasks);
                    say(
                        &mut stream,
                        "200 OK",
                        "The login has arrived. Go on in the terminal; this page can be closed.",
                    )
                    .await;
                    return Ok(code);
                }
                Some(Arrival::Refused(why)) => {
                    drop(tasks);
                    say(&mut stream, "200 OK", "The login was refused. The terminal says more.").await;
                    return Err(why);
                }
                Some(Arrival::Foreign) => {
                    say(&mut stream, "400 Bad Request", "This answer belongs to another login.").await;
                }
                None => say(&mut stream, "404 Not Found", "There is nothing here.").await,
            }
        }
    }
}

/// Takes connections, several at a time: browsers open some only to have them.
async fn listen(listener: TcpListener, tell: mpsc::Sender<(String, TcpStream)>) {
    let mut visitors = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if visitors.len() < MOST => {
                let Ok((stream, _)) = accepted else { continue };
                let tell = tell.clone();
                visitors.spawn(async move {
                    if let Ok(Some(heard)) = tokio::time::timeout(PATIENCE, hear(stream)).await {
                        // nobody waits any more: the login is over
                        let _over = tell.send(heard).await;
                    }
                });
            }
            Some(_) = visitors.join_next() => {}
        }
    }
}

/// What a browser asks for: the target of its request.
async fn hear(mut stream: TcpStream) -> Option<(String, TcpStream)> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if head.len() > LONGEST_HEAD || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let line = str::from_utf8(&head).ok()?.lines().next()?;
    let target = line.strip_prefix("GET ")?.split(' ').next()?.to_owned();
    Some((target, stream))
}

async fn say(stream: &mut TcpStream, status: &str, text: &str) {
    let page = format!("<!doctype html><meta charset=utf-8><title>lessor</title><p>{text}</p>\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         content-security-policy: default-src 'none'\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n{page}",
        page.len()
    );
    // a browser that has gone has no need of it
    let _gone = stream.write_all(answer.as_bytes()).await;
    let _gone = stream.shutdown().await;
}
