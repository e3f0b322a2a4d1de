//! What differs between operating systems, one subject per file.

pub(crate) mod allocator;
pub(crate) mod blocking;
pub mod clock;
#[cfg_attr(windows, path = "handover/windows.rs")]
pub(crate) mod handover;
pub(crate) mod host;
pub mod lock;
pub(crate) mod opened_process;
pub(crate) mod peer_process;
pub mod process;
#[cfg_attr(windows, path = "service_manager/windows.rs")]
pub(crate) mod service_manager;
pub(crate) mod signals;
pub(crate) mod socket;
#[cfg_attr(windows, path = "socket_activation/windows.rs")]
pub(crate) mod socket_activation;
pub(crate) mod tcp_peer;
