//! Which user has the other end of a TCP connection within this machine. Linux tells; elsewhere it is unknown.

use std::net::SocketAddr;

/// The socket at the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpPeer {
    /// The user who has created it.
    pub uid: u32,
    /// Its number: in `/proc/PID/fd` of a process that has it, a link names `socket:[INODE]`.
    pub inode: u64,
}

impl TcpPeer {
    /// Whether a program of this user has created it.
    #[must_use]
    pub fn is_of_this_user(self) -> bool {
        #[cfg(unix)]
        let own = Some(rustix::process::geteuid().as_raw());
        #[cfg(not(unix))]
        let own = None;
        Some(self.uid) == own
    }
}

/// Finds the other end of a connection by the two addresses of this end; `None` if it is closed, on another machine, or
/// the system does not tell.
#[cfg(target_os = "linux")]
#[must_use]
pub fn find_tcp_peer(own: SocketAddr, peer: SocketAddr) -> Option<TcpPeer> {
    let (own, peer) = (canonical(own), canonical(peer));
    match diag::find(own, peer) {
        Ok(found) => found,
        // a kernel or a container without this interface
        Err(_) => table::find(own, peer),
    }
}

/// Other systems do not tell.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn find_tcp_peer(_own: SocketAddr, _peer: SocketAddr) -> Option<TcpPeer> {
    None
}

/// An IPv4 address as such, also where an IPv6 socket has it.
#[cfg(target_os = "linux")]
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The kernel's answer for one connection; it takes the same time however many connections there are.
#[cfg(target_os = "linux")]
mod diag {
    use std::io;
    use std::net::{IpAddr, SocketAddr};

    use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

    use super::TcpPeer;

    /// `SOCK_DIAG_BY_FAMILY`, and the type of an error.
    const BY_FAMILY: u16 = 20;
    const ERROR: u16 = 2;
    const REQUEST: u16 = 1;
    const TCP: u8 = 6;
    const NO_COOKIE: [u8; 8] = [0xff; 8];
    /// The length of a message's header, and where `struct inet_diag_msg` has uid and inode.
    const HEADER: usize = 16;
    const UID: usize = HEADER + 64;
    const INODE: usize = HEADER + 68;

    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) fn find(own: SocketAddr, peer: SocketAddr) -> io::Result<Option<TcpPeer>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(SOCK_DIAG))?;
        sendto(&socket, &request(own, peer), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        // the kernel has answered when the message is sent
        let mut answer = [0; 1024];
        let (_, length) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
        parse(&answer[..length.min(answer.len())])
    }

    /// `struct nlmsghdr` and `struct inet_diag_req_v2`, seen from the other end.
    fn request(own: SocketAddr, peer: SocketAddr) -> Vec<u8> {
        let family = if peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let mut body = vec![family.as_raw() as u8, TCP, 0, 0];
        body.extend_from_slice(&u32::MAX.to_ne_bytes());
        body.extend_from_slice(&peer.port().to_be_bytes());
        body.extend_from_slice(&own.port().to_be_bytes());
        for address in [peer.ip(), own.ip()] {
            let mut bytes = [0; 16];
            match address {
                IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
                IpAddr::V6(ip) => bytes = ip.octets(),
            }
            body.extend_from_slice(&bytes);
        }
        // any interface
        body.extend_from_slice(&0_u32.to_ne_bytes());
        body.extend_from_slice(&NO_COOKIE);
        let mut message = u32::try_from(HEADER + body.len()).unwrap_or_default().to_ne_bytes().to_vec();
        message.extend_from_slice(&BY_FAMILY.to_ne_bytes());
        message.extend_from_slice(&REQUEST.to_ne_bytes());
        // number of the message, and the sender, whom the kernel knows
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(&body);
        message
    }

    fn parse(answer: &[u8]) -> io::Result<Option<TcpPeer>> {
        let number =
            |at: usize| answer.get(at..at + 4).and_then(|bytes| Some(u32::from_ne_bytes(bytes.try_into().ok()?)));
        let kind = answer.get(4..6).and_then(|bytes| Some(u16::from_ne_bytes(bytes.try_into().ok()?)));
        match kind {
            Some(BY_FAMILY) => {
                let (Some(uid), Some(inode)) = (number(UID), number(INODE)) else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                // a closed socket has no inode, and its user is not known any more
                Ok((inode != 0).then_some(TcpPeer { uid, inode: inode.into() }))
            }
            Some(ERROR) => {
                let code = number(HEADER).map_or(0, |code| (code as i32).wrapping_neg());
                let error = io::Error::from_raw_os_error(code);
                if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) }
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The tables of all connections in `/proc`.
#[cfg(target_os = "linux")]
mod table {
    use std::io::{BufRead, BufReader};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    use super::{TcpPeer, canonical};

    pub(super) fn find(own: SocketAddr, peer: SocketAddr) -> Option<TcpPeer> {
        // an IPv4 connection of an IPv6 socket is in the other table
        ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().find_map(|path| {
            let file = std::fs::File::open(path).ok()?;
            let rows = BufReader::new(file).lines().map_while(Result::ok);
            rows.filter_map(|row| parse(&row)).find(|row| row.0 == peer && row.1 == own).map(|row| row.2)
        })
    }

    /// Both addresses of a row, and what it says of its socket.
    pub(super) fn parse(row: &str) -> Option<(SocketAddr, SocketAddr, TcpPeer)> {
        let mut columns = row.split_ascii_whitespace();
        let (local, remote) = (address(columns.nth(1)?)?, address(columns.next()?)?);
        let uid = columns.nth(4)?.parse().ok()?;
        let inode = columns.nth(1)?.parse().ok().filter(|inode| *inode != 0)?;
        Some((local, remote, TcpPeer { uid, inode }))
    }

    /// An address in the byte order of the machine, in pieces of four bytes, and its port.
    fn address(text: &str) -> Option<SocketAddr> {
        let (ip, port) = text.split_once(':')?;
        let piece = |at: usize| Some(u32::from_str_radix(ip.get(8 * at..8 * at + 8)?, 16).ok()?.to_ne_bytes());
        let ip = match ip.len() {
            8 => IpAddr::V4(Ipv4Addr::from(piece(0)?)),
            32 => {
                let mut bytes = [0; 16];
                for at in 0..4 {
                    bytes[4 * at..4 * at + 4].copy_from_slice(&piece(at)?);
                }
                IpAddr::V6(Ipv6Addr::from(bytes))
            }
            _ => return None,
        };
        Some(canonical(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?)))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt;

    use rustix::process::geteuid;

    use super::*;

    fn inode(stream: &TcpStream) -> u64 {
        use std::os::fd::AsRawFd;
        std::fs::metadata(format!("/proc/self/fd/{}", stream.as_raw_fd())).map_or(0, |socket| socket.ino())
    }

    #[test]
    fn the_other_end_of_a_connection_is_found_by_both_interfaces() {
        for listen in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(listen).unwrap();
            let port = listener.local_addr().unwrap().port();
            let to = if listen == "[::1]:0" { "[::1]" } else { "127.0.0.1" };
            let client = TcpStream::connect(format!("{to}:{port}")).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let (own, peer) = (accepted.local_addr().unwrap(), accepted.peer_addr().unwrap());
            let expected = TcpPeer { uid: geteuid().as_raw(), inode: inode(&client) };
            assert_eq!(find_tcp_peer(own, peer), Some(expected), "{listen}");
            assert_eq!(table::find(canonical(own), canonical(peer)), Some(expected), "{listen}");
            let other = SocketAddr::new(peer.ip(), peer.port() ^ 1);
            assert_eq!(find_tcp_peer(own, other), None, "{listen}");
            drop(client);
            assert_eq!(find_tcp_peer(own, peer), None, "{listen}: a closed end belongs to no user");
            assert_eq!(table::find(canonical(own), canonical(peer)), None, "{listen}");
        }
    }

    #[test]
    fn damaged_rows_of_the_table_are_skipped() {
        for row in
            ["", "sl local_address rem_address", "0: 0100007F 0100007F:1 01", "0: zz00007F:1 0100007F:1 01 a b c 0 0 5"]
        {
            assert_eq!(table::parse(row), None, "{row}");
        }
    }
}
