//! Where the gateway listens: one address on loopback, and a Unix socket of the user's own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::config::GatewaySocket;
use crate::daemon::{GatewayHandle, GatewayState};

#[cfg(unix)]
use crate::daemon::{LocalStream, Socket, admit, prepare_place};

/// Ports to choose from: above the well-known ones, and below those that systems give to outgoing connections, so that a
/// kept one is hardly ever taken by chance.
const PORTS: std::ops::Range<u16> = 17_000..32_000;
/// How many are tried.
const TRIES: usize = 64;
/// How long to accept nobody when no descriptor is left.
const PAUSE: Duration = Duration::from_millis(100);

/// All that is open.
#[derive(Debug, Default)]
pub(super) struct Doors {
    tcp: Option<TcpListener>,
    /// The port that was chosen, where the configuration leaves it open.
    chosen: Option<u16>,
    #[cfg(unix)]
    local: Option<(std::path::PathBuf, Socket)>,
    troubles: Vec<String>,
}

/// One that came in.
#[derive(Debug)]
pub(super) enum Guest {
    Tcp(TcpStream),
    #[cfg(unix)]
    Local(LocalStream),
}

impl Doors {
    /// Listens where the configuration says, and says where that is; what is open already and stays is not touched.
    pub(super) fn open(&mut self, desk: &GatewayHandle) {
        let config = desk.config().gateway;
        self.troubles.clear();
        self.open_tcp(desk, config.enabled.then_some(config.listen.0));
        self.open_local(desk, config.enabled.then_some(&config.socket));
        let url = self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok()).map(url);
        #[cfg(unix)]
        let socket = self.local.as_ref().map(|(path, _)| path.display().to_string());
        #[cfg(not(unix))]
        let socket = None;
        let trouble = (!self.troubles.is_empty()).then(|| self.troubles.join("; "));
        desk.listens(GatewayState { url, socket, trouble });
    }

    /// Whether something is not open that should be.
    pub(super) fn in_trouble(&self) -> bool {
        !self.troubles.is_empty()
    }

    /// Lets nobody in any more.
    pub(super) fn close(&mut self) {
        self.tcp = None;
        #[cfg(unix)]
        if let Some((_, socket)) = self.local.take() {
            socket.remove();
        }
    }

    fn open_tcp(&mut self, desk: &GatewayHandle, wanted: Option<SocketAddr>) {
        let Some(mut wanted) = wanted else {
            self.tcp = None;
            return;
        };
        let leaves_open = wanted.port() == 0;
        if leaves_open {
            wanted.set_port(self.chosen.or_else(|| desk.kept_port()).unwrap_or(0));
        }
        if self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok()) == Some(wanted) {
            return;
        }
        // one on the same port may have to go first
        self.tcp = None;
        let bound = if wanted.port() == 0 { bind_any(wanted.ip()) } else { bind(wanted) };
        match bound {
            Ok(listener) => {
                let port = listener.local_addr().map(|at| at.port()).ok().filter(|_| leaves_open);
                if let Some(port) = port.filter(|port| self.chosen != Some(*port)) {
                    self.chosen = Some(port);
                    desk.keep_port(port);
                }
                self.tcp = Some(listener);
            }
            Err(error) => self.troubles.push(format!("{wanted} cannot be listened at ({error}); {}", remedy(&error))),
        }
    }

    #[cfg(unix)]
    fn open_local(&mut self, desk: &GatewayHandle, wanted: Option<&GatewaySocket>) {
        let path = match wanted {
            None | Some(GatewaySocket::Off) => None,
            Some(GatewaySocket::Beside) => Some(desk.socket_beside()),
            Some(GatewaySocket::At(path)) => Some(path.clone()),
        };
        let stays = self.local.as_ref().is_some_and(|(at, socket)| Some(at) == path.as_ref() && socket.is_in_place());
        if stays {
            return;
        }
        if let Some((_, socket)) = self.local.take() {
            socket.remove();
        }
        let Some(path) = path else { return };
        match prepare_place(&path).and_then(|()| Socket::bind(&path)) {
            Ok(socket) => self.local = Some((path, socket)),
            Err(error) => self.troubles.push(error.to_string()),
        }
    }

    #[cfg(not(unix))]
    fn open_local(&mut self, _desk: &GatewayHandle, wanted: Option<&GatewaySocket>) {
        if let Some(GatewaySocket::At(path)) = wanted {
            let path = path.display();
            self.troubles.push(format!("{path} cannot be listened at: gateway.socket is for Unix; use the address"));
        }
    }

    /// The next one that is let in.
    pub(super) async fn next(&self) -> Guest {
        loop {
            let accepted = tokio::select! {
                accepted = accept_tcp(self.tcp.as_ref()) => accepted,
                accepted = self.accept_local() => accepted,
            };
            match accepted {
                Ok(Some(guest)) => return guest,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!("the gateway can accept nobody for a moment: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    #[cfg(unix)]
    async fn accept_local(&self) -> io::Result<Option<Guest>> {
        let Some((_, socket)) = &self.local else { return std::future::pending().await };
        let stream = socket.accept().await?;
        Ok(admit(&stream).map(|_| Guest::Local(stream)))
    }

    #[cfg(not(unix))]
    async fn accept_local(&self) -> io::Result<Option<Guest>> {
        std::future::pending().await
    }
}

async fn accept_tcp(listener: Option<&TcpListener>) -> io::Result<Option<Guest>> {
    let Some(listener) = listener else { return std::future::pending().await };
    let (stream, _) = listener.accept().await?;
    // an event of a stream is not to wait for the next one
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a client left before it was known");
        return Ok(None);
    }
    Ok(Some(Guest::Tcp(stream)))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn bind_any(ip: IpAddr) -> io::Result<TcpListener> {
    for _ in 0..TRIES {
        let Ok(random) = getrandom::u32() else { break };
        let port = PORTS.start + (random % u32::from(PORTS.end - PORTS.start)) as u16;
        match bind(SocketAddr::new(ip, port)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {}
            bound => return bound,
        }
    }
    bind(SocketAddr::new(ip, 0))
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "end the program that has the port, or set gateway.listen to another one",
        _ => "set gateway.listen to an address of this machine",
    }
}

/// How clients reach an address that is listened at; every address is reached by loopback.
fn url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}
