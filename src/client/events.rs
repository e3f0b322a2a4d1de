//! Events as an iterator.

use crate::protocol::EventInfo;

use super::connection::Client;
use super::error::ClientError;

/// The daemon's events. Ends with the connection, after an error that says why.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    ended: bool,
}

impl EventStream {
    pub(super) fn new(client: Client) -> Self {
        Self { client, ended: false }
    }
}

impl Iterator for EventStream {
    type Item = Result<EventInfo, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let event = self.client.next_event();
        self.ended = event.is_err();
        Some(event)
    }
}
