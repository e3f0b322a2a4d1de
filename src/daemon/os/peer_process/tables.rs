//! What `lsof` (macOS) and `netstat` (Windows) print of TCP connections.

use std::net::SocketAddr;

/// The process that has the other end of a connection, in the output of `lsof -nP -Fpn`: for each process a line `pPID`,
/// and for each of its connections a line `nLOCAL->REMOTE`.
#[cfg(any(target_os = "macos", test))]
pub(super) fn in_lsof(output: &str, own: SocketAddr, peer: SocketAddr) -> Option<u32> {
    let mut pid = None;
    for line in output.lines() {
        if let Some(found) = line.strip_prefix('p') {
            pid = found.parse().ok();
        } else if let Some((local, remote)) = line.strip_prefix('n').and_then(|name| name.split_once("->"))
            && local.parse() == Ok(peer)
            && remote.parse() == Ok(own)
        {
            return pid;
        }
    }
    None
}

/// The same in the output of `netstat -n -o`: protocol, local and remote address, state (in the user's language), pid.
#[cfg(any(windows, test))]
pub(super) fn in_netstat(output: &str, own: SocketAddr, peer: SocketAddr) -> Option<u32> {
    output.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (columns.next()?, columns.next()?);
        let is_it = local.parse() == Ok(peer) && remote.parse() == Ok(own);
        columns.last().filter(|_| is_it)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_of_a_connection_is_found() {
        let (own, peer) = ("127.0.0.1:17000".parse().unwrap(), "127.0.0.1:50123".parse().unwrap());
        let lsof =
            "p7\nf3\nn127.0.0.1:17000->127.0.0.1:50123\np81\nf9\nn*:50123\nf12\nn127.0.0.1:50123->127.0.0.1:17000\n";
        assert_eq!(in_lsof(lsof, own, peer), Some(81));
        assert_eq!(in_lsof(lsof, peer, own), Some(7));
        assert_eq!(in_lsof("p81\nn127.0.0.1:50124->127.0.0.1:17000\n", own, peer), None);
        let v6 = "p9\nn[::1]:50123->[::1]:17000\n";
        assert_eq!(in_lsof(v6, "[::1]:17000".parse().unwrap(), "[::1]:50123".parse().unwrap()), Some(9));
        let netstat = "\r\nAktive Verbindungen\r\n\r\n  Proto  Lokale Adresse  Remoteadresse  Status  PID\r\n  TCP    \
                       127.0.0.1:17000  127.0.0.1:50123  HERGESTELLT  4\r\n  TCP    127.0.0.1:50123  127.0.0.1:17000  \
                       HERGESTELLT  4711\r\n";
        assert_eq!(in_netstat(netstat, own, peer), Some(4711));
        assert_eq!(in_netstat(netstat, peer, own), Some(4));
        assert_eq!(in_netstat("", own, peer), None);
    }
}
