//! A TCP port of the gateway: one that the configuration names, or one that is chosen once and then kept.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::daemon::{GatewayHandle, GatewayPort};

/// Ports to choose from: above the well-known ones and below those that systems give to outgoing connections, so that
/// another program rarely takes a kept port.
const PORTS: std::ops::Range<u16> = 17_000..32_000;
/// How many of them are tried.
const PORT_TRIES: usize = 64;
/// How many connections may wait until they are accepted: a system drops further ones, and they are tried again after 1 s.
const BACKLOG: u32 = 1024;

#[derive(Debug)]
pub(super) struct TcpPort {
    name: GatewayPort,
    listener: Option<TcpListener>,
    /// The port that was chosen, if the configuration does not name one.
    chosen: Option<u16>,
    /// The listener of the last run of this process, until it is taken.
    inherited: Option<std::net::TcpListener>,
}

impl TcpPort {
    /// Closed, with the listener of the last run.
    pub(super) fn new(name: GatewayPort, inherited: Option<std::net::TcpListener>) -> Self {
        Self { name, listener: None, chosen: None, inherited }
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    pub(super) fn close(&mut self) {
        (self.listener, self.inherited) = (None, None);
    }

    /// Listens at an address, of which port 0 stands for the chosen one; a listener that is there already is left alone.
    ///
    /// # Errors
    /// Why not, for people, with what to do about it.
    pub(super) fn open(&mut self, handle: &GatewayHandle, mut address: SocketAddr) -> Result<(), String> {
        let is_chosen = address.port() == 0;
        if is_chosen {
            address.set_port(self.chosen.or_else(|| handle.kept_port(self.name)).unwrap_or(0));
        }
        if self.address() == Some(address) {
            return Ok(());
        }
        // the old listener may hold the same port on another address
        self.listener = None;
        let bound = match self.inherited.take().filter(|listener| listens_on(listener, address)) {
            Some(listener) => TcpListener::from_std(listener),
            None if address.port() == 0 => bind_any(address.ip()),
            None => bind(address),
        };
        let failed = |error| format!("cannot listen on {address} ({error}); {}", remedy(self.name, &error));
        let listener = bound.map_err(failed)?;
        let port = listener.local_addr().map(|at| at.port()).ok().filter(|_| is_chosen);
        if let Some(port) = port.filter(|port| self.chosen != Some(*port)) {
            self.chosen = Some(port);
            handle.keep_port(self.name, port);
        }
        self.listener = Some(listener);
        Ok(())
    }

    /// The listener for the next run of this process.
    #[cfg(unix)]
    pub(super) fn hand_over(&self) -> Option<std::net::TcpListener> {
        use std::os::fd::AsFd;
        let listener = self.listener.as_ref().and_then(|listener| listener.as_fd().try_clone_to_owned().ok());
        listener.map(std::net::TcpListener::from)
    }

    /// Waits for the next connection; `None` if its client has closed it at once.
    pub(super) async fn accept(&self) -> io::Result<Option<TcpStream>> {
        let Some(listener) = &self.listener else { return std::future::pending().await };
        let (stream, _) = listener.accept().await?;
        // so that an event of a stream is not held back until the next one
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a client closed its connection at once");
            return Ok(None);
        }
        Ok(Some(stream))
    }
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

fn remedy(port: GatewayPort, error: &io::Error) -> &'static str {
    match (port, error.kind()) {
        (GatewayPort::Http, io::ErrorKind::AddrInUse) => {
            "stop the program that uses the port, or set gateway.listen to another one"
        }
        (GatewayPort::Https, io::ErrorKind::AddrInUse) => "stop the program that uses the port",
        _ => "set gateway.listen to an address of this machine",
    }
}
