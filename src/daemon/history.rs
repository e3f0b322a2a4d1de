//! The history, as the daemon keeps it.

use super::handle::GatewayHandle;
use crate::protocol::RequestRow;

impl GatewayHandle {
    /// Records a request that has ended. Never waits: what finds no room in the queue is dropped and counted.
    pub fn record(&self, row: RequestRow) {
        self.history().request(row);
    }
}
