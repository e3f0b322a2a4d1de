//! Sends one turn to an account: over the connection that there is, if it is the account's, or over a new one.

use hyper::StatusCode;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::upstream_socket::UpstreamSocket;
use crate::daemon::LeasedAccount;
use crate::gateway::forward::upstream::UpstreamClients;
use crate::gateway::forward::{AttemptOutcome, UpgradeRequest, UpstreamTransport};
use crate::gateway::request::RequestParts;

pub(super) struct TurnTransport<'a> {
    pub(super) upgrade: &'a UpgradeRequest,
    pub(super) upstream: &'a mut Option<UpstreamSocket>,
    pub(super) text: Utf8Bytes,
    /// It continues a conversation that only this connection has.
    pub(super) is_continued: bool,
}

impl UpstreamTransport for TurnTransport<'_> {
    type Rest = ();

    fn can_send_to(&self, account: &LeasedAccount) -> bool {
        !self.is_continued || self.upstream.as_ref().is_some_and(|upstream| upstream.account == account.id)
    }

    fn can_send_again(&self) -> bool {
        !self.is_continued
    }

    async fn send(
        &mut self,
        upstreams: &UpstreamClients,
        request: &mut RequestParts,
        account: &LeasedAccount,
    ) -> Result<AttemptOutcome<()>, String> {
        request.buffered.message_sent();
        if let Some(mut open) = self.upstream.take().filter(|upstream| upstream.account == account.id) {
            match open.begin_turn(self.text.clone()).await {
                Ok(outcome) => {
                    *self.upstream = Some(open);
                    return Ok(outcome);
                }
                Err(reason) => tracing::debug!("a socket to {} has ended: {reason}", request.route.provider),
            }
            if self.is_continued {
                return Ok(AttemptOutcome::Disconnected);
            }
            // it may have ended while it was idle
        }
        let mut new = match open_socket(self.upgrade, upstreams, account).await? {
            Ok(opened) => opened,
            Err(outcome) => return Ok(outcome),
        };
        Ok(match new.begin_turn(self.text.clone()).await {
            Ok(outcome) => {
                *self.upstream = Some(new);
                outcome
            }
            Err(reason) => AttemptOutcome::Failed(reason),
        })
    }
}

/// Opens a socket for a turn; `Err` is the outcome if there is none.
async fn open_socket(
    upgrade: &UpgradeRequest,
    upstreams: &UpstreamClients,
    account: &LeasedAccount,
) -> Result<Result<UpstreamSocket, AttemptOutcome<()>>, String> {
    Ok(match upgrade.send(upstreams, account).await? {
        AttemptOutcome::Response(mut head, ..) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
            UpstreamSocket::of(&mut head, &upgrade.headers, account).await.map_err(AttemptOutcome::Failed)
        }
        AttemptOutcome::Response(head, ..) => {
            Err(AttemptOutcome::Failed(format!("status {} instead of a WebSocket", head.status.as_u16())))
        }
        AttemptOutcome::Refused(refused) => Err(AttemptOutcome::Refused(Box::new(refused.without_rest()))),
        AttemptOutcome::Failed(reason) => Err(AttemptOutcome::Failed(reason)),
        AttemptOutcome::Disconnected => Err(AttemptOutcome::Disconnected),
        AttemptOutcome::TooLarge(message) => Err(AttemptOutcome::TooLarge(message)),
        AttemptOutcome::Overloaded(message) => Err(AttemptOutcome::Overloaded(message)),
    })
}
