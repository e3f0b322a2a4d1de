//! The daemon: one per data directory, one thread for sockets, one for the disk.

mod api;
mod attest;
mod config;
mod event_queue;
mod handle;
mod history;
mod host_link;
mod linked_logins;
pub mod log;
mod many_hosts;
mod memory;
mod notification;
mod os;
mod page_sessions;
mod refresh;
mod run;
#[cfg(unix)]
mod shares;
mod state;
#[cfg(test)]
mod tests;
mod usage;
mod view;
mod worker;

pub use handle::AccountNames;
pub use handle::client::GatewayClient;
pub(crate) use handle::client::KeyRevoked;
pub use handle::lease::LeaseStep;
pub use handle::login_owner::LoginOwner;
pub use handle::needs::RouteRequest;
pub use handle::no_account::{NoAccount, UnavailableAccount};
pub use handle::page::PageEvents;
pub use handle::peer::{GatewayPeer, RequestSender};
pub use handle::request_lease::{LeasedAccount, NoLeaseReason, RequestLease, UnreportedRefusal};
pub use handle::sender::{KeyHolderFacts, SenderLookup};
pub use handle::{GatewayConfig, GatewayHandle, GatewayPort, PoolStats, RunningGateway, StartGateway};
pub use many_hosts::seats::RequestSeats;
pub(crate) use os::handover::GatewayListeners;
#[cfg(target_os = "linux")]
pub(crate) use os::process::read_file as read_process_file;
pub use os::process::{find as find_process, wait_for_end as wait_for_process, watch as watch_process};
#[cfg(unix)]
pub use os::socket::{LocalStream, Socket, admit, prepare_directory};
pub use os::socket::{SocketError, private_directory};
pub use os::tcp_peer::{TcpPeer, find_tcp_peer};
pub use os::{clock, lock};
pub use page_sessions::{CodeRefused, OpenedSession, PageSession};
pub use run::{Ended, LONGEST_END, Options, StartError, run};
pub use state::events::{DEFAULT_KINDS, KINDS, REPLAY_END};
pub(crate) use state::key_location;
pub use state::{
    AccountInFlight, CredentialUse, Daemon, GatewayShortage, GatewayState, KeyUse, LastingKey, ReportOutcome,
    RequestTurn, SavedSignal, SecureGateway, UpstreamOutcome, connect_options, credential_check, direct_settings,
    oauth_given,
};
pub use view::renewal_command;
