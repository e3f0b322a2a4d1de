//! Where the pool's database is: URLs as libpq reads them, but without a password.

use std::net::IpAddr;
use std::path::PathBuf;

use super::error::{SharedPoolError, SharedPoolErrorKind};
use crate::credential::Secret;

/// Where the database is, and how to get in.
#[derive(PartialEq, Eq, Debug)]
pub struct PoolAddress {
    /// Its URL with the name of the user, without a password:
    /// `postgres://USER@HOST[:PORT][,HOST[:PORT]…]/DATABASE[?sslmode=…&sslrootcert=…]`.
    pub url: String,
    /// The user's password, if it needs one.
    pub password: Option<Secret>,
    /// A PEM file with the certificates to trust, instead of those of the system.
    pub root_certificate: Option<PathBuf>,
}

/// How the connection is protected, as in libpq.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum TlsMode {
    /// Without TLS.
    Disable,
    /// With TLS if the server has it, whatever its certificate.
    Prefer,
    /// With TLS, whatever its certificate.
    Require,
    /// The certificate is one of a named root, for whatever name.
    VerifyChain,
    /// The certificate is trusted and for this host.
    VerifyFull,
}

/// What a URL says.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct ParsedAddress {
    pub(super) user: String,
    pub(super) database: String,
    /// A path is the directory of a Unix socket.
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) tls: TlsMode,
    pub(super) root_certificate: Option<PathBuf>,
}

const DEFAULT_PORT: u16 = 5432;

impl PoolAddress {
    /// A deliberate copy, with the password.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            url: self.url.clone(),
            password: self.password.as_ref().map(Secret::duplicate),
            root_certificate: self.root_certificate.clone(),
        }
    }

    /// Checks a URL without connecting, as [`PoolClient::connect`](crate::shared_pool::PoolClient::connect) does.
    ///
    /// # Errors
    /// When it is not a URL of a PostgreSQL database, contains a password, or allows connections to other machines without
    /// TLS.
    pub fn check(&self) -> Result<(), SharedPoolError> {
        self.parse().map(drop)
    }

    pub(super) fn parse(&self) -> Result<ParsedAddress, SharedPoolError> {
        let parsed = parse(&self.url, self.root_certificate.clone());
        parsed.map_err(|what| SharedPoolError::new(SharedPoolErrorKind::Address, without_password(&self.url), what))
    }
}

impl ParsedAddress {
    /// Hosts, ports and database, for people.
    pub(super) fn place(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        format!("{}/{}", hosts.join(","), self.database)
    }
}

fn parse(url: &str, root_certificate: Option<PathBuf>) -> Result<ParsedAddress, String> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let rest = rest.ok_or("the URL does not begin with postgres://")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.contains(':') {
        return Err("the URL contains a password, which others on this machine could read".to_owned());
    }
    let (mut user, mut database) = (decoded(user)?, decoded(database)?);
    let mut hosts =
        hosts.split(',').filter(|host| !host.is_empty()).map(host_and_port).collect::<Result<Vec<_>, _>>()?;
    let (mut mode, mut root_certificate) = (None, root_certificate);
    for (name, value) in
        query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    {
        let value = decoded(value)?;
        match name {
            "user" => user = value,
            "dbname" => database = value,
            "host" => hosts = value.split(',').map(|host| (host.to_owned(), DEFAULT_PORT)).collect(),
            "port" => {
                let port = value.parse().map_err(|_| format!("the port {value:?} is not a number from 1 to 65535"))?;
                hosts.iter_mut().for_each(|host| host.1 = port);
            }
            "sslmode" => mode = Some(mode_named(&value)?),
            "sslrootcert" => root_certificate = Some(value.into()),
            "password" => return Err("the URL contains a password, which others on this machine could read".to_owned()),
            other => return Err(format!("lessor does not know the parameter {other:?} of the URL")),
        }
    }
    for (what, text) in [("a user", &user), ("a database", &database)] {
        if text.is_empty() {
            return Err(format!("the URL does not name {what}"));
        }
    }
    if hosts.is_empty() {
        return Err("the URL does not name a host".to_owned());
    }
    let is_near = hosts.iter().all(|(host, _)| is_near(host));
    let tls = match (mode, is_near) {
        (None, true) => TlsMode::Prefer,
        (None, false) => TlsMode::VerifyFull,
        // stricter than libpq, which checks no certificate then
        (Some(TlsMode::Require), false) => TlsMode::VerifyFull,
        (Some(TlsMode::Disable | TlsMode::Prefer), false) => {
            return Err("connections to other machines need TLS with a verified certificate; remove sslmode".to_owned());
        }
        (Some(mode), _) => mode,
    };
    if tls == TlsMode::VerifyChain && root_certificate.is_none() {
        return Err("sslmode=verify-ca needs sslrootcert: any public certificate would do otherwise".to_owned());
    }
    Ok(ParsedAddress { user, database, hosts, tls, root_certificate })
}

fn mode_named(name: &str) -> Result<TlsMode, String> {
    Ok(match name {
        "disable" => TlsMode::Disable,
        "allow" | "prefer" => TlsMode::Prefer,
        "require" => TlsMode::Require,
        "verify-ca" => TlsMode::VerifyChain,
        "verify-full" => TlsMode::VerifyFull,
        other => return Err(format!("sslmode is not one of libpq's: {other:?}")),
    })
}

/// A host with or without a port; an IPv6 address is in brackets.
fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(DEFAULT_PORT), str::parse);
    let port = port.ok().filter(|port| *port > 0);
    Ok((decoded(host)?, port.ok_or_else(|| format!("the port in {text:?} is not a number from 1 to 65535"))?))
}

/// Whether it is this machine: packets to it cannot be read by others.
fn is_near(host: &str) -> bool {
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    host.starts_with('/') || host == "localhost" || is_loopback
}

/// Without its `%` escapes.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let code = digit().zip(digit()).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        bytes.push(code.ok_or("a % in the URL is not followed by two hexadecimal digits")?);
    }
    String::from_utf8(bytes).map_err(|_| "the URL is not UTF-8".to_owned())
}

/// The URL for messages: what may be a password is left out.
fn without_password(url: &str) -> String {
    let (url, query) = url.split_once('?').unwrap_or((url, ""));
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let shown = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    if query.is_empty() { shown.to_owned() } else { format!("{shown}?…") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<ParsedAddress, String> {
        parse(url, None)
    }

    /// A URL, and its user, database, servers and use of TLS.
    type AddressRow = (&'static str, &'static str, &'static str, &'static [(&'static str, u16)], TlsMode);

    #[test]
    fn urls_are_read_as_libpq_does() {
        let rows: &[AddressRow] = &[
            ("postgres://u@db.example/pool", "u", "pool", &[("db.example", 5432)], TlsMode::VerifyFull),
            ("postgresql://u@db:6000/pool", "u", "pool", &[("db", 6000)], TlsMode::VerifyFull),
            ("postgres://u@a,b:1/p", "u", "p", &[("a", 5432), ("b", 1)], TlsMode::VerifyFull),
            ("postgres://u@[::1]:5/p", "u", "p", &[("::1", 5)], TlsMode::Prefer),
            ("postgres://u%40x@127.0.0.1/p%2Fq", "u@x", "p/q", &[("127.0.0.1", 5432)], TlsMode::Prefer),
            ("postgres://u@localhost/p?sslmode=disable", "u", "p", &[("localhost", 5432)], TlsMode::Disable),
            ("postgres:///p?host=/run/pg&port=9&user=u", "u", "p", &[("/run/pg", 9)], TlsMode::Prefer),
            ("postgres://u@%2Frun%2Fpg/p", "u", "p", &[("/run/pg", 5432)], TlsMode::Prefer),
            // stricter than libpq
            ("postgres://u@db/p?sslmode=require", "u", "p", &[("db", 5432)], TlsMode::VerifyFull),
            ("postgres://u@db/p?sslmode=verify-ca&sslrootcert=%2Fca", "u", "p", &[("db", 5432)], TlsMode::VerifyChain),
            // one host elsewhere is enough
            ("postgres://u@127.0.0.1,db/p", "u", "p", &[("127.0.0.1", 5432), ("db", 5432)], TlsMode::VerifyFull),
        ];
        for (url, user, database, hosts, tls) in rows {
            let found = parsed(url).unwrap();
            assert_eq!((found.user.as_str(), found.database.as_str(), found.tls), (*user, *database, *tls), "{url}");
            let hosts: Vec<_> = hosts.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
            assert_eq!(found.hosts, hosts, "{url}");
        }
    }

    #[test]
    fn what_is_not_accepted_is_named() {
        for (url, why) in [
            ("mysql://u@h/p", "postgres://"),
            ("postgres://u:canary@h/p", "password"),
            ("postgres://u@h/p?password=canary", "password"),
            ("postgres://h/p", "a user"),
            ("postgres://u@h", "a database"),
            ("postgres://u@/p", "a host"),
            ("postgres://u@h:x/p", "port"),
            ("postgres://u@h:0/p", "port"),
            ("postgres://u@h/p?sslmode=disable", "TLS"),
            ("postgres://u@h/p?sslmode=prefer", "TLS"),
            ("postgres://u@127.0.0.1,h/p?sslmode=disable", "TLS"),
            ("postgres://u@h/p?sslmode=verify-ca", "sslrootcert"),
            ("postgres://u@h/p?sslmode=maybe", "sslmode"),
            ("postgres://u@h/p?gssencmode=x", "gssencmode"),
            ("postgres://u%4@h/p", "%"),
        ] {
            let address = PoolAddress { url: url.to_owned(), password: None, root_certificate: None };
            let error = address.check().unwrap_err();
            assert_eq!(error.kind(), SharedPoolErrorKind::Address);
            assert!(error.to_string().contains(why), "{url}: {error}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }
}
