//! Calls that a host serves, whose accounts this daemon uses: they are passed on to it.

use std::sync::Arc;

use super::{Connection, ConnectionStep};
use crate::daemon::api::dispatch::is_pointless;
use crate::daemon::api::lease;
use crate::daemon::api::session::overloaded;
use crate::daemon::host_link::relay::{HostRelay, RelayedCall};
use crate::daemon::state::Daemon;
use crate::guest::{GuestAccess, guest_access};
use crate::protocol::{Call, Incoming};

impl Connection {
    /// Passes a call on to the host, if it is one that the host serves.
    pub(super) fn relay_or_serve(&mut self, daemon: &Arc<Daemon>, incoming: Incoming, length: usize) -> ConnectionStep {
        let Incoming { id, call } = incoming;
        let call = match call {
            Ok(call) if is_for_host(daemon, &call) => call,
            call => return self.plan_or_serve(daemon, Incoming { id, call }, length),
        };
        if is_pointless(id.as_ref(), &call) {
            return ConnectionStep::Serve;
        }
        if !self.session.outbox.has_room() {
            self.refuse(id, &overloaded("too many calls of this connection are waiting already"));
            return ConnectionStep::Serve;
        }
        match lease::local_holder(&mut self.session, daemon, &call) {
            Ok(holder) => {
                let (codec, outbox) = (self.session.codec, &self.session.outbox);
                let relay = self.relay.get_or_insert_with(|| HostRelay::begin(daemon, codec, outbox));
                relay.send(RelayedCall { id, call, holder }, outbox);
            }
            Err(error) => self.session.refuse(id, &error, &mut self.out),
        }
        ConnectionStep::Serve
    }
}

/// Whether a call goes to the host. The status says why, while there is no link.
fn is_for_host(daemon: &Daemon, call: &Call) -> bool {
    let is_hosts = guest_access(call) == GuestAccess::Host;
    is_hosts && (daemon.host_link.is_up() || !matches!(call, Call::Status(_)))
}
