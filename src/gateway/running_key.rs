//! The key of the request that a connection serves: the connection is cut when that key is revoked.

use tokio::sync::watch;

use crate::daemon::{GatewayClient, KeyUse};

/// Turns true when a key is revoked.
type Revocation = Option<watch::Receiver<bool>>;

/// What a connection serves with which key.
#[derive(Clone, Debug)]
pub(super) struct RunningKey(watch::Sender<Revocation>);

/// Ends when the key is revoked.
pub(super) struct KeyCut(watch::Receiver<Revocation>);

/// A request that runs with a key: from its head until its response has ended.
#[derive(Debug)]
pub(super) struct KeyedRequest {
    connection: RunningKey,
    /// Counts it among the requests of the key.
    pub(super) key_use: Option<KeyUse>,
}

impl RunningKey {
    pub(super) fn new() -> (Self, KeyCut) {
        let (running, cut) = watch::channel(None);
        (Self(running), KeyCut(cut))
    }

    /// Begins a request; the connection serves one at a time.
    pub(super) fn begin(&self, client: &GatewayClient) -> KeyedRequest {
        self.0.send_replace(client.revocation());
        KeyedRequest { connection: self.clone(), key_use: None }
    }
}

impl Drop for KeyedRequest {
    fn drop(&mut self) {
        self.connection.0.send_replace(None);
    }
}

impl KeyCut {
    /// Waits until a key is revoked while a request with it runs.
    pub(super) async fn happens(&mut self) {
        loop {
            let revocation = self.0.borrow_and_update().clone();
            tokio::select! {
                // a request that has ended is not cut
                biased;
                changed = self.0.changed() => if changed.is_err() {
                    // no request can come any more
                    return std::future::pending().await;
                },
                () = is_revoked(revocation) => return,
            }
        }
    }
}

async fn is_revoked(revocation: Revocation) {
    match revocation {
        Some(mut revocation) => drop(revocation.wait_for(|is_revoked| *is_revoked).await),
        None => std::future::pending().await,
    }
}
