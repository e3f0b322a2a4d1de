//! Connections to this gateway, whose requests the host's gateway serves. A request that has no answer yet when the link
//! ends is sent again over the next link; an answer under way ends there, and its agent sends the request again.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};

use crate::daemon::GatewayHandle;
use crate::daemon::state::host_link::unreachable_host;
use crate::guest::LinkChannel;
use crate::protocol::ErrorInfo;

/// The most bytes of requests without an answer that are kept on a connection, to be sent again.
const MOST_KEPT: usize = 1 << 20;
/// The bytes that are read at once.
const CHUNK: usize = 32 * 1024;
/// A pause before a channel is opened again.
const PAUSE: Duration = Duration::from_millis(100);
/// So many channels may end without an answer before the client gets one.
const MOST_FAILURES: u32 = 20;

/// What is known of the requests on a connection.
#[derive(Default)]
struct Unanswered {
    /// What the client has sent since the last byte of an answer.
    bytes: Vec<u8>,
    /// Some of it is not kept.
    is_cut: bool,
    /// The last that passed was a part of an answer.
    is_answering: bool,
}

impl Unanswered {
    fn sent(&mut self, chunk: &[u8]) {
        if std::mem::take(&mut self.is_answering) {
            self.clear();
        }
        self.is_cut |= self.bytes.len() + chunk.len() > MOST_KEPT;
        if self.is_cut {
            zeroize::Zeroize::zeroize(&mut self.bytes);
        } else {
            self.bytes.extend_from_slice(chunk);
        }
    }

    fn answered(&mut self) {
        self.is_answering = true;
    }

    fn clear(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.bytes);
        self.is_cut = false;
    }

    /// Whether a request may be sent again: nothing of its answer has come.
    fn may_be_repeated(&self) -> bool {
        !self.is_answering && !self.is_cut
    }
}

impl Drop for Unanswered {
    /// Requests hold the key of their lease.
    fn drop(&mut self) {
        self.clear();
    }
}

impl GatewayHandle {
    /// Whether the requests of this gateway are served by a host.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.daemon().host_link.is_joined()
    }

    /// Passes the bytes of a connection on to the host's gateway, and the answers back, until either side ends it.
    pub async fn relay_to_host<S: AsyncRead + AsyncWrite + Unpin>(&self, client: S) {
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let mut unanswered = Unanswered::default();
        let mut chunk = vec![0; CHUNK];
        let mut failures = 0;
        // a connection without a request needs no channel
        match from_client.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(length) => unanswered.sent(&chunk[..length]),
        }
        loop {
            let opened = if failures < MOST_FAILURES {
                self.open_gateway_channel(failures).await
            } else {
                Err(unreachable_host(Some("the host has no gateway")))
            };
            let mut host = match opened {
                Ok(host) => host,
                Err(error) => {
                    let _gone = to_client.write_all(&refusal(&error)).await;
                    let _gone = to_client.shutdown().await;
                    return;
                }
            };
            if host.write_all(&unanswered.bytes).await.is_ok()
                && copy(&mut from_client, &mut to_client, &mut host, &mut unanswered).await
            {
                return;
            }
            if !unanswered.may_be_repeated() {
                return;
            }
            failures += 1;
        }
    }

    async fn open_gateway_channel(&self, failures: u32) -> Result<DuplexStream, ErrorInfo> {
        if failures > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        loop {
            let link = self.daemon().host_link.when_up().await?;
            if let Some(stream) = link.open(&LinkChannel::Gateway).await {
                return Ok(stream);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Copies in both directions; `true` when the client has ended the connection, `false` when the host has.
async fn copy(
    from_client: &mut (impl AsyncRead + Unpin),
    to_client: &mut (impl AsyncWrite + Unpin),
    host: &mut DuplexStream,
    unanswered: &mut Unanswered,
) -> bool {
    let (mut from_host, mut to_host) = tokio::io::split(host);
    let (mut sent, mut answer) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut is_sending = true;
    loop {
        tokio::select! {
            read = from_client.read(&mut sent), if is_sending => match read {
                Ok(0) => {
                    is_sending = false;
                    let _gone = to_host.shutdown().await;
                }
                Err(_) => return true,
                Ok(length) => {
                    unanswered.sent(&sent[..length]);
                    if to_host.write_all(&sent[..length]).await.is_err() {
                        return false;
                    }
                }
            },
            read = from_host.read(&mut answer) => match read {
                Ok(0) | Err(_) => return !is_sending,
                Ok(length) => {
                    unanswered.answered();
                    if to_client.write_all(&answer[..length]).await.is_err() || to_client.flush().await.is_err() {
                        return true;
                    }
                }
            },
        }
    }
}

/// The answer to a request that waits for the host in vain.
fn refusal(error: &ErrorInfo) -> Vec<u8> {
    let hint = error.data.hint.as_deref().unwrap_or_default();
    let message = format!("lessor: {}; {hint}", error.message);
    let body = serde_json::json!({
        "type": "error",
        "error": { "type": "host_unreachable", "code": "host_unreachable", "message": message },
    })
    .to_string();
    let length = body.len();
    let head =
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 5\r\nconnection: close\r\n";
    format!("{head}content-length: {length}\r\n\r\n{body}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_kept_until_its_answer_begins() {
        let mut unanswered = Unanswered::default();
        unanswered.sent(b"GET / ");
        unanswered.sent(b"HTTP/1.1\r\n\r\n");
        assert!(unanswered.may_be_repeated());
        assert_eq!(unanswered.bytes, b"GET / HTTP/1.1\r\n\r\n");
        unanswered.answered();
        assert!(!unanswered.may_be_repeated(), "an answer has begun");
        unanswered.sent(b"GET /2");
        assert!(unanswered.may_be_repeated());
        assert_eq!(unanswered.bytes, b"GET /2");
        unanswered.sent(&vec![0; MOST_KEPT]);
        assert!(!unanswered.may_be_repeated() && unanswered.bytes.is_empty(), "it is too long");
    }
}
