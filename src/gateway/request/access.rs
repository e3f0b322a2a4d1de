//! Rejects requests that a web page may have sent, and those that mean another thing than they say. The client's key is
//! checked elsewhere.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap, ORIGIN, UPGRADE};
use hyper::{StatusCode, Uri};

use super::dot_segment::has_dot_segment;

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
/// Status and message for the client.
pub(crate) fn check(
    origin: ConnectionOrigin,
    uri: &Uri,
    headers: &HeaderMap,
    allow_remote: bool,
) -> Result<(), (StatusCode, &'static str)> {
    if headers.contains_key(ORIGIN) {
        return Err((StatusCode::FORBIDDEN, "lessor: requests from web pages are rejected"));
    }
    match origin {
        ConnectionOrigin::Tcp => check_address(uri, headers, allow_remote),
        ConnectionOrigin::Local => check_one_host(headers).and_then(|()| check_path(uri)),
    }
}

/// Whether a request names this machine, once, and a path without segments that lead elsewhere.
///
/// # Errors
/// Status and message for the client.
pub(crate) fn check_address(
    uri: &Uri,
    headers: &HeaderMap,
    allow_remote: bool,
) -> Result<(), (StatusCode, &'static str)> {
    check_one_host(headers)?;
    check_host(uri, headers, allow_remote)?;
    check_path(uri)
}

fn check_one_host(headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
    match headers.get_all(HOST).iter().nth(1) {
        Some(_) => Err((StatusCode::BAD_REQUEST, "lessor: the request has more than one Host header")),
        None => Ok(()),
    }
}

fn check_host(uri: &Uri, headers: &HeaderMap, allow_remote: bool) -> Result<(), (StatusCode, &'static str)> {
    let hosts = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let mut hosts = hosts.chain(uri.authority().map(|authority| authority.as_str())).peekable();
    if hosts.peek().is_some() && hosts.all(|host| is_this_machine(host, allow_remote)) {
        return Ok(());
    }
    Err((StatusCode::FORBIDDEN, "lessor: the Host header must name this machine by its IP address or localhost"))
}

fn check_path(uri: &Uri) -> Result<(), (StatusCode, &'static str)> {
    if has_dot_segment(uri.path()) {
        let message = "lessor: the path has a segment \".\" or \"..\", plain or encoded; paths are forwarded as they are, \
                       so send the path that is meant";
        return Err((StatusCode::BAD_REQUEST, message));
    }
    Ok(())
}

/// Whether a host can only mean this machine: any other name could be rebound by an attacker's DNS server.
fn is_this_machine(host: &str, allow_remote: bool) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, rest)) => (name, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some(""))),
        None => host.split_once(':').map_or((host, Some("")), |(name, port)| (name, Some(port))),
    };
    let is_port = port.is_some_and(|port| port.bytes().all(|digit| digit.is_ascii_digit()));
    let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
    let is_ours = match name.parse::<IpAddr>() {
        Ok(ip) => (ip.is_ipv6() == host.starts_with('[')) && (allow_remote || is_loopback(ip)),
        Err(_) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            let last = name.rsplit_once('.').map_or(name, |(_, last)| last);
            // names below it mean this machine too
            last.eq_ignore_ascii_case("localhost") && !host.starts_with('[')
        }
    };
    is_port && is_ours
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
            ("[::ffff:127.0.0.1]:80", false, true),
            ("localhost.", false, true),
            ("agent.localhost:80", false, true),
            ("localhost:", false, true),
            ("notlocalhost", false, false),
            ("localhost:x", false, false),
            ("localhost:1:2", false, false),
            ("user@localhost", false, false),
            ("[::1].evil.example", false, false),
            ("[::1]evil.example:80", false, false),
            ("[127.0.0.1]", false, false),
            ("[localhost]", false, false),
            ("::1", false, false),
            ("127.1", false, false),
            ("2130706433", false, false),
            ("0x7f.0.0.1", false, false),
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
