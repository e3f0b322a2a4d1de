//! `[join]`: this daemon uses the accounts of another one, its host, over a link of ssh. It passes on what its clients and
//! its gateway's clients send, keeps nothing of it, and vouches for the processes and connections here that hold leases
//! there: it watches them, and says when they end.

mod gateway;
mod link;
pub(crate) mod relay;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::os::clock;
use super::state::Daemon;
use super::state::host_link::HostState;
use crate::config::JoinSection;
use crate::pool::millis;
use crate::protocol::{GuestAddresses, GuestGreeting, GuestRole};

/// The name of a guest when the system does not tell.
const NAMELESS: &str = "a guest";

impl Daemon {
    /// Starts or ends the link, as the configuration has it now.
    pub(crate) fn configure_host_link(self: &Arc<Self>) {
        let host = self.join_section().host;
        self.host_link.is_joined.store(host.is_some(), Ordering::Relaxed);
        if host.is_none() || self.host_link.is_running.swap(true, Ordering::Relaxed) {
            // the thread looks at the configuration itself
            return;
        }
        let since = clock::now();
        self.host_link.state.send_replace(HostState::Down { since, why: None, is_over: false });
        if let Err(error) = link::start(self) {
            self.host_link.is_running.store(false, Ordering::Relaxed);
            let why = Some(format!("no thread can be started: {error}").into());
            self.host_link.state.send_replace(HostState::Down { since, why, is_over: true });
        }
    }

    fn join_section(&self) -> JoinSection {
        self.state().config.config.join.clone()
    }

    /// What a connection says of this guest to the host.
    fn guest_greeting(&self, role: GuestRole) -> GuestGreeting {
        let (join, gateway) = {
            let state = &*self.state();
            (state.config.config.join.clone(), state.gateway.clone())
        };
        let secure = gateway.secure.as_ref();
        let addresses = GuestAddresses {
            socket: self.run.socket.clone(),
            gateway_url: gateway.url.clone(),
            gateway_socket: None,
            secure_url: secure.map(|secure| secure.url.clone()),
            ca_file: secure.map(|secure| secure.ca_file.clone()),
            ca_bundle: secure.map(|secure| secure.ca_bundle.clone()),
        };
        GuestGreeting {
            link: self.host_link.id.clone(),
            name: guest_name(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: join.host.unwrap_or_default(),
            grace_ms: millis(join.grace),
            only: None,
            max_leases: None,
            policy: None,
            role,
            addresses,
        }
    }
}

/// User and name of this machine, for people.
fn guest_name() -> String {
    let user = super::os::host::user_name();
    let host = super::os::host::name().filter(|name| !name.is_empty());
    match (user, host) {
        (Some(user), Some(host)) => format!("{user}@{host}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => NAMELESS.to_owned(),
    }
}
