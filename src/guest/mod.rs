//! Guests: other machines that use the accounts of this one over the user's own ssh.
//!
//! A link is one stream of bytes in each direction, the standard input and output of `ssh HOST lessor share --stdio`. The
//! guest's daemon opens channels on it: one for the link itself, one for each client of its socket, one for each
//! connection to its gateway (`mux`). At the host's end each channel becomes a connection to the daemon there
//! (`share`), which knows by a greeting that it is a guest's, and answers the calls of `access` only.

mod access;
mod frame;
mod mux;
#[cfg(unix)]
mod share;

pub use access::{GuestAccess, guest_access};
pub use mux::{LinkChannel, LinkEnd, LinkGreeting, LinkHandle, OpenedChannel, begin_link};
#[cfg(unix)]
pub use share::{SharePolicy, share_over_stdio};
