//! The first message of each side of a link: which version of lessor is there.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::LinkEnd;
use crate::guest::frame::{FrameDecoder, LinkFrame};
use crate::protocol::PROTOCOL;

/// How long the greeting of the other side may take: ssh may ask for a key's passphrase, a daemon may start.
const GREETING: Duration = Duration::from_secs(60);
/// The version of frames and of what they carry.
const LINK_VERSION: u32 = 1;

/// The first message of each side.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkGreeting {
    /// The version of this protocol.
    pub link: u32,
    /// That of the calls within.
    pub protocol: u32,
    /// That of lessor.
    pub version: String,
    /// Of a host that cannot serve: why.
    pub refusal: Option<String>,
}

impl LinkGreeting {
    /// The greeting of this version.
    #[must_use]
    pub fn own() -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { link: LINK_VERSION, protocol: PROTOCOL, version, refusal: None }
    }
}

/// Greets the other side, and answers its greeting, if it has the same version.
pub(super) async fn greet<R, W>(
    reader: &mut R,
    writer: &mut W,
    decoder: &mut FrameDecoder,
    own: &LinkGreeting,
) -> Result<LinkGreeting, LinkEnd>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let greeted = tokio::time::timeout(GREETING, exchange(reader, writer, decoder, own)).await;
    greeted.unwrap_or(Err(LinkEnd::Silent))
}

async fn exchange<R, W>(
    reader: &mut R,
    writer: &mut W,
    decoder: &mut FrameDecoder,
    own: &LinkGreeting,
) -> Result<LinkGreeting, LinkEnd>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    LinkFrame::Greeting(serde_json::to_vec(own).unwrap_or_default()).encode(&mut bytes);
    writer.write_all(&bytes).await.map_err(|_| LinkEnd::Closed)?;
    writer.flush().await.map_err(|_| LinkEnd::Closed)?;
    let mut chunk = vec![0; 4096];
    let frame = loop {
        if let Some(frame) = decoder.take().map_err(|_| LinkEnd::Broken)? {
            break frame;
        }
        match reader.read(&mut chunk).await {
            Ok(0) | Err(_) => return Err(LinkEnd::Closed),
            Ok(length) => decoder.push(&chunk[..length]),
        }
    };
    let LinkFrame::Greeting(document) = frame else { return Err(LinkEnd::Broken) };
    let greeting: LinkGreeting = serde_json::from_slice(&document).map_err(|_| LinkEnd::Broken)?;
    if let Some(refusal) = greeting.refusal {
        return Err(LinkEnd::Refused(refusal));
    }
    // the binary encoding of calls is that of one version
    if (greeting.link, greeting.protocol, &greeting.version) != (own.link, own.protocol, &own.version) {
        let (theirs, ours) = (&greeting.version, &own.version);
        let words = format!("the other end has lessor {theirs}, this one {ours}: install the same version on both");
        return Err(LinkEnd::Refused(words));
    }
    Ok(greeting)
}
