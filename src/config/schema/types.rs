//! Types of single values: log level, listening address, the gateway's socket, the sealing key's location.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Failures.
    Error,
    /// Also what a user should look at.
    Warn,
    /// Also what happens.
    #[default]
    Info,
    /// Also why.
    Debug,
    /// Also every step.
    Trace,
}

/// A listening address; port 0 means any free one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listen(pub SocketAddr);

impl Default for Listen {
    fn default() -> Self {
        Self(SocketAddr::from(([127, 0, 0, 1], 0)))
    }
}

impl Listen {
    /// Reads `ADDRESS:PORT`; `localhost` is the IPv4 one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let port = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        port.as_deref().unwrap_or(text).parse().ok().map(Self)
    }
}

/// The gateway's Unix socket.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum GatewaySocket {
    /// `gateway.sock` beside the lease socket.
    #[default]
    Beside,
    /// None.
    Off,
    /// At this path.
    At(PathBuf),
}

/// When a conversation may move between logins and API keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KindMix {
    /// Never: what a gateway key begins on, all its requests stay on.
    Never,
    /// A new conversation may begin on either; one that has begun stays.
    #[default]
    NewSessions,
    /// At any request.
    Always,
}

/// Where the key that seals secrets is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyLocation {
    /// A file in the state directory.
    #[default]
    File,
    /// The system's keyring.
    Keyring,
}
