//! Where the gateway listens: a TCP address, on loopback by default, and a Unix socket that only its user can open.

use std::net::{IpAddr, SocketAddr};
use std::{io, time::Duration};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::config::GatewaySocket;
use crate::daemon::{GatewayHandle, GatewayListeners, GatewayState};
use crate::gateway::admission::PeerClass;

#[cfg(unix)]
use crate::daemon::{LocalStream, Socket, admit, prepare_directory};

/// Ports to choose from: above the well-known ones and below those that systems give to outgoing connections, so that
/// another program rarely takes a kept port.
const PORTS: std::ops::Range<u16> = 17_000..32_000;
/// How many of them are tried.
const PORT_TRIES: usize = 64;
/// How long to wait after a failed accept, such as when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections may wait until they are accepted: a system drops further ones, and they are tried again after 1 s.
const BACKLOG: u32 = 1024;

#[derive(Debug, Default)]
pub(super) struct Listeners {
    tcp: Option<TcpListener>,
    /// The port that was chosen, if the configuration does not name one.
    chosen_port: Option<u16>,
    #[cfg(unix)]
    local: Option<(std::path::PathBuf, Socket)>,
    failures: Vec<String>,
    /// What the last run of this process has handed over, until it is taken.
    inherited: GatewayListeners,
}

#[derive(Debug)]
pub(super) enum AcceptedStream {
    Tcp(TcpStream),
    /// With the process that has connected.
    #[cfg(unix)]
    Local(tokio::net::UnixStream, Option<u32>),
}

impl AcceptedStream {
    /// Who is at the other end.
    pub(super) fn peer_class(&self) -> PeerClass {
        match self {
            Self::Tcp(stream) => PeerClass::of(stream),
            #[cfg(unix)]
            Self::Local(..) => PeerClass::Local,
        }
    }

    /// Closes a connection that has no place, with an answer if it can be sent at once.
    pub(super) fn refuse(self, answer: &[u8]) {
        match self {
            Self::Tcp(stream) => _ = stream.try_write(answer),
            #[cfg(unix)]
            Self::Local(..) => {}
        }
    }
}

impl Listeners {
    /// With the listeners of the last run, if this process was restarted.
    pub(super) fn of_last_run(handle: &GatewayHandle) -> Self {
        Self { inherited: handle.take_listeners(), ..Self::default() }
    }

    /// Opens what the configuration names, closes the rest, and publishes the addresses; a listener whose address has
    /// not changed is left alone.
    pub(super) fn open(&mut self, handle: &GatewayHandle) {
        let config = handle.config().gateway;
        self.failures.clear();
        self.open_tcp(handle, config.enabled.then_some(config.listen.0));
        self.open_local(handle, config.enabled.then_some(&config.socket));
        // what the configuration does not name any more is closed
        self.inherited = GatewayListeners::default();
        let url = self.tcp_address().map(url);
        #[cfg(unix)]
        let socket = self.local.as_ref().map(|(path, _)| path.display().to_string());
        #[cfg(not(unix))]
        let socket = None;
        let trouble = self.have_failed().then(|| self.failures.join("; "));
        handle.publish(GatewayState { url, socket, trouble });
    }

    pub(super) fn have_failed(&self) -> bool {
        !self.failures.is_empty()
    }

    pub(super) fn close(&mut self) {
        self.tcp = None;
        #[cfg(unix)]
        if let Some((_, socket)) = self.local.take() {
            socket.remove();
        }
    }

    /// The listeners for the next run of this process; connections wait in their queues until then.
    #[cfg(unix)]
    pub(super) fn hand_over(&self) -> GatewayListeners {
        use std::os::fd::AsFd;
        let tcp = self.tcp.as_ref().and_then(|tcp| tcp.as_fd().try_clone_to_owned().ok());
        let local = self.local.as_ref().and_then(|(_, socket)| socket.descriptor().ok());
        GatewayListeners { tcp: tcp.map(std::net::TcpListener::from), local }
    }

    /// The next process opens them again.
    #[cfg(windows)]
    pub(super) fn hand_over(&self) -> GatewayListeners {
        GatewayListeners::default()
    }

    fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }

    fn open_tcp(&mut self, handle: &GatewayHandle, configured: Option<SocketAddr>) {
        let Some(mut address) = configured else {
            self.tcp = None;
            return;
        };
        let is_port_open = address.port() == 0;
        if is_port_open {
            address.set_port(self.chosen_port.or_else(|| handle.kept_port()).unwrap_or(0));
        }
        if self.tcp_address() == Some(address) {
            return;
        }
        // the old listener may hold the same port on another address
        self.tcp = None;
        let bound = match self.inherited.tcp.take().filter(|listener| listens_on(listener, address)) {
            Some(listener) => TcpListener::from_std(listener),
            None if address.port() == 0 => bind_any(address.ip()),
            None => bind(address),
        };
        match bound {
            Ok(listener) => {
                let port = listener.local_addr().map(|at| at.port()).ok().filter(|_| is_port_open);
                if let Some(port) = port.filter(|port| self.chosen_port != Some(*port)) {
                    self.chosen_port = Some(port);
                    handle.keep_port(port);
                }
                self.tcp = Some(listener);
            }
            Err(error) => self.failures.push(format!("cannot listen on {address} ({error}); {}", remedy(&error))),
        }
    }

    #[cfg(unix)]
    fn open_local(&mut self, handle: &GatewayHandle, configured: Option<&GatewaySocket>) {
        let path = match configured {
            None | Some(GatewaySocket::Off) => None,
            Some(GatewaySocket::Beside) => Some(handle.socket_beside()),
            Some(GatewaySocket::At(path)) => Some(path.clone()),
        };
        if self.local.as_ref().is_some_and(|(at, socket)| Some(at) == path.as_ref() && socket.is_in_place()) {
            return;
        }
        if let Some((_, socket)) = self.local.take() {
            socket.remove();
        }
        let Some(path) = path else { return };
        let bound = match self.inherited.local.take() {
            Some(listener) => Socket::take_over(listener, &path, false).or_else(|_| Socket::bind(&path)),
            None => prepare_directory(&path).and_then(|()| Socket::bind(&path)),
        };
        match bound {
            Ok(socket) => self.local = Some((path, socket)),
            Err(error) => self.failures.push(error.to_string()),
        }
    }

    #[cfg(not(unix))]
    fn open_local(&mut self, _handle: &GatewayHandle, configured: Option<&GatewaySocket>) {
        if let Some(GatewaySocket::At(path)) = configured {
            let path = path.display();
            self.failures.push(format!("cannot listen on {path}: gateway.socket needs Unix; use gateway.listen"));
        }
    }

    /// Waits for the next connection that is admitted.
    pub(super) async fn accept(&self) -> AcceptedStream {
        loop {
            let accepted = tokio::select! {
                accepted = accept_tcp(self.tcp.as_ref()) => accepted,
                accepted = self.accept_local() => accepted,
            };
            match accepted {
                Ok(Some(stream)) => return stream,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!("the gateway cannot accept a connection at the moment: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    #[cfg(unix)]
    async fn accept_local(&self) -> io::Result<Option<AcceptedStream>> {
        let Some((_, socket)) = &self.local else { return std::future::pending().await };
        let stream = socket.accept().await?;
        let Some(pid) = admit(&stream) else { return Ok(None) };
        Ok(Some(AcceptedStream::Local(whole(stream)?, pid)))
    }

    #[cfg(not(unix))]
    async fn accept_local(&self) -> io::Result<Option<AcceptedStream>> {
        std::future::pending().await
    }
}

/// The same connection, of which one direction can be closed: its client must see where an answer ends.
#[cfg(unix)]
fn whole(LocalStream::UdSocket(stream): LocalStream) -> io::Result<tokio::net::UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(std::os::fd::OwnedFd::try_from(stream)?);
    stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(stream)
}

async fn accept_tcp(listener: Option<&TcpListener>) -> io::Result<Option<AcceptedStream>> {
    let Some(listener) = listener else { return std::future::pending().await };
    let (stream, _) = listener.accept().await?;
    // so that an event of a stream is not held back until the next one
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a client closed its connection at once");
        return Ok(None);
    }
    Ok(Some(AcceptedStream::Tcp(stream)))
}

/// Whether a listener has this address; a port 0 stands for any.
fn listens_on(listener: &std::net::TcpListener, address: SocketAddr) -> bool {
    let listens = listener.local_addr().ok();
    listens.is_some_and(|at| at.ip() == address.ip() && (address.port() == 0 || at.port() == address.port()))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // on Windows this would let another program take the port
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn bind_any(ip: IpAddr) -> io::Result<TcpListener> {
    for _ in 0..PORT_TRIES {
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
        io::ErrorKind::AddrInUse => "stop the program that uses the port, or set gateway.listen to another one",
        _ => "set gateway.listen to an address of this machine",
    }
}

/// The URL for clients on this machine: an unspecified address is reached through loopback.
fn url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}
