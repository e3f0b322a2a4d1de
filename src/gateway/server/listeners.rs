//! Where the gateway listens: a TCP address, on loopback by default, and a Unix socket that only its user can open.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::{io, time::Duration};

use rustls::ServerConfig;
use tokio::net::TcpStream;

use super::port::TcpPort;
use crate::config::GatewaySocket;
use crate::daemon::{GatewayHandle, GatewayListeners, GatewayPort, GatewayState, clock};
use crate::gateway::admission::PeerClass;
use crate::gateway::tls::TlsCertificates;

#[cfg(unix)]
use crate::daemon::{LocalStream, Socket, admit, prepare_directory};

/// How long to wait after a failed accept, such as when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Listeners {
    http: TcpPort,
    https: TcpPort,
    /// What the https port shows, while it is open.
    certificates: Option<TlsCertificates>,
    #[cfg(unix)]
    local: Option<(std::path::PathBuf, Socket)>,
    /// The Unix socket of the last run of this process, until it is taken.
    #[cfg(unix)]
    inherited: Option<std::os::fd::OwnedFd>,
    failures: Vec<String>,
}

#[derive(Debug)]
pub(super) enum AcceptedStream {
    Tcp(TcpStream),
    /// The client begins with a TLS handshake.
    Tls(TcpStream, Arc<ServerConfig>),
    /// With the process that has connected.
    #[cfg(unix)]
    Local(tokio::net::UnixStream, Option<u32>),
}

impl AcceptedStream {
    /// Who is at the other end.
    pub(super) fn peer_class(&self) -> PeerClass {
        match self {
            Self::Tcp(stream) | Self::Tls(stream, _) => PeerClass::of(stream),
            #[cfg(unix)]
            Self::Local(..) => PeerClass::Local,
        }
    }

    /// Closes a connection that has no place, with an answer if it can be sent at once.
    pub(super) fn refuse(self, answer: &[u8]) {
        match self {
            Self::Tcp(stream) => _ = stream.try_write(answer),
            Self::Tls(..) => {}
            #[cfg(unix)]
            Self::Local(..) => {}
        }
    }
}

impl Listeners {
    /// With the listeners of the last run, if this process was restarted.
    pub(super) fn of_last_run(handle: &GatewayHandle) -> Self {
        let inherited = handle.take_listeners();
        Self {
            http: TcpPort::new(GatewayPort::Http, inherited.tcp),
            https: TcpPort::new(GatewayPort::Https, inherited.tls),
            certificates: None,
            #[cfg(unix)]
            local: None,
            #[cfg(unix)]
            inherited: inherited.local,
            failures: Vec::new(),
        }
    }

    /// Opens what the configuration names, closes the rest, and publishes the addresses; a listener whose address has
    /// not changed is left alone.
    pub(super) fn open(&mut self, handle: &GatewayHandle) {
        let config = handle.config().gateway;
        self.failures.clear();
        let listen = config.listen.0;
        if config.enabled {
            self.failures.extend(self.http.open(handle, listen).err());
        } else {
            self.http.close();
        }
        self.open_https(handle, (config.enabled && config.tls).then_some(listen));
        self.open_local(handle, config.enabled.then_some(&config.socket));
        // what the configuration does not name any more is closed
        #[cfg(unix)]
        drop(self.inherited.take());
        let url = self.http.address().map(|address| format!("http://{}", reachable(address)));
        #[cfg(unix)]
        let socket = self.local.as_ref().map(|(path, _)| path.display().to_string());
        #[cfg(not(unix))]
        let socket = None;
        let secure = self.certificates.as_ref().zip(self.https.address());
        let secure = secure.map(|(certificates, address)| certificates.published(format!("https://{address}")));
        let trouble = self.have_failed().then(|| self.failures.join("; "));
        handle.publish(GatewayState { url, socket, trouble, secure });
    }

    pub(super) fn have_failed(&self) -> bool {
        !self.failures.is_empty()
    }

    pub(super) fn close(&mut self) {
        self.http.close();
        self.https.close();
        #[cfg(unix)]
        if let Some((_, socket)) = self.local.take() {
            socket.remove();
        }
    }

    /// The listeners for the next run of this process; connections wait in their queues until then.
    #[cfg(unix)]
    pub(super) fn hand_over(&self) -> GatewayListeners {
        let local = self.local.as_ref().and_then(|(_, socket)| socket.descriptor().ok());
        GatewayListeners { tcp: self.http.hand_over(), tls: self.https.hand_over(), local }
    }

    /// The next process opens them again.
    #[cfg(windows)]
    pub(super) fn hand_over(&self) -> GatewayListeners {
        GatewayListeners::default()
    }

    /// Opens the port for TLS: on loopback only, because the certificate is for loopback names.
    fn open_https(&mut self, handle: &GatewayHandle, listen: Option<SocketAddr>) {
        let Some(listen) = listen else {
            self.https.close();
            self.certificates = None;
            return;
        };
        if self.is_certificate_due() || self.certificates.is_none() {
            match TlsCertificates::open(&handle.tls_directory(), clock::now().wall) {
                Ok(certificates) => self.certificates = Some(certificates),
                Err(error) => self.failures.push(format!("gateway.tls: {error}")),
            }
        }
        if self.certificates.is_none() {
            return self.https.close();
        }
        let ip = if listen.is_ipv4() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::LOCALHOST.into() };
        let opened = self.https.open(handle, SocketAddr::new(ip, 0));
        self.failures.extend(opened.err().map(|why| format!("gateway.tls: {why}")));
    }

    /// Whether another certificate has to be made or shown.
    pub(super) fn is_certificate_due(&self) -> bool {
        self.certificates.as_ref().is_some_and(|certificates| certificates.is_due(clock::now().wall))
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
        let bound = match self.inherited.take() {
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
                accepted = self.http.accept() => accepted.map(|stream| stream.map(AcceptedStream::Tcp)),
                accepted = self.accept_https() => accepted,
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

    async fn accept_https(&self) -> io::Result<Option<AcceptedStream>> {
        let Some(certificates) = &self.certificates else { return std::future::pending().await };
        let stream = self.https.accept().await?;
        Ok(stream.map(|stream| AcceptedStream::Tls(stream, certificates.config())))
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

/// The address for clients on this machine: an unspecified one is reached through loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
