//! Rejects requests that a web page may have sent. The client's key is checked elsewhere.

use std::net::IpAddr;

use hyper::Uri;
use hyper::header::{HOST, HeaderMap, ORIGIN, UPGRADE};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConnectionOrigin {
    /// Over TCP: it needs a key.
    Tcp,
    /// Over the Unix socket: only the user's own programs can open it.
    Local,
}

/// Whether a request may come in.
///
/// # Errors
/// The message for the client.
pub(crate) fn check(
    origin: ConnectionOrigin,
    uri: &Uri,
    headers: &HeaderMap,
    allow_remote: bool,
) -> Result<(), &'static str> {
    if headers.contains_key(ORIGIN) {
        return Err("lessor: requests from web pages are rejected");
    }
    if origin == ConnectionOrigin::Local {
        return Ok(());
    }
    let hosts = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let mut hosts: Vec<&str> = hosts.chain(uri.authority().map(|authority| authority.as_str())).collect();
    hosts.dedup();
    let is_ours = !hosts.is_empty() && hosts.iter().all(|host| is_this_machine(host, allow_remote));
    if is_ours { Ok(()) } else { Err("lessor: the Host header must name this machine by its IP address or localhost") }
}

/// Whether a host can only mean this machine: any other name could be rebound by an attacker's DNS server.
fn is_this_machine(host: &str, allow_remote: bool) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| allow_remote || ip.is_loopback())
}

pub(crate) fn wants_websocket(headers: &HeaderMap) -> bool {
    let mut upgrades = headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    upgrades.any(|value| value.to_ascii_lowercase().contains("websocket"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_name_this_machine() {
        for (host, allow_remote, expected) in [
            ("127.0.0.1:80", false, true),
            ("localhost", false, true),
            ("LocalHost:1", false, true),
            ("[::1]:80", false, true),
            ("[::1]", false, true),
            ("127.0.0.2", false, true),
            ("192.168.0.1:80", false, false),
            ("192.168.0.1:80", true, true),
            ("evil.example", false, false),
            ("evil.example", true, false),
            ("127.0.0.1.evil.example", false, false),
            ("localhost.evil.example:80", false, false),
            ("", false, false),
        ] {
            assert_eq!(is_this_machine(host, allow_remote), expected, "{host} {allow_remote}");
        }
    }
}
