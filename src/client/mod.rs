//! The Rust client: finds or starts the daemon, calls it, and holds leases.
//!
//! Blocking, one call at a time per connection; for concurrent calls, open more connections.
//!
//! ```no_run
//! use lessor::client;
//! use lessor::protocol::{AcquireParams, ReportParams};
//!
//! # fn send(_name: &str, _value: &str) -> (u16, [(&'static str, &'static str); 0], &'static str) { (200, [], "") }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut lease = client::acquire(AcquireParams::new("anthropic"))?;
//! let credential = lease.credential(false)?;
//! let (status, headers, body) = send(&credential.header, &credential.header_value());
//! let decision = lease.report(ReportParams::response(status, headers, body))?;
//! println!("{}, on {}", decision.action, lease.lease().account.id);
//! # Ok(())
//! # }
//! ```
//!
//! `examples/lease.rs` is a whole program, `examples/orchestrator.rs` one that keeps several agents at work.

mod calls;
mod connect;
mod connection;
mod environment;
mod error;
mod guard;
#[cfg(windows)]
mod identity;
#[cfg_attr(unix, path = "spawn/unix.rs")]
#[cfg_attr(windows, path = "spawn/windows.rs")]
mod spawn;
mod start;
#[cfg_attr(unix, path = "transport/unix.rs")]
#[cfg_attr(windows, path = "transport/windows.rs")]
mod transport;

pub use calls::EventStream;
pub use connect::{EndingCall, end_other_version};
pub use connection::Client;
pub(crate) use connection::greeting;
pub use environment::{acquire, connect};
pub use error::{ClientError, NoDaemon};
pub use guard::LeaseGuard;
pub(crate) use start::RUN;
pub use start::{DaemonStarter, SERVICE_MANAGER_VARIABLES, launch};

#[cfg(windows)]
pub(crate) use identity::this_user;
#[cfg(windows)]
pub(crate) use spawn::find_program;

use std::time::{Duration, Instant};

/// Waits between two attempts: short at first, because most resources are ready immediately.
struct RetryTimer {
    next: Duration,
    deadline: Instant,
}

impl RetryTimer {
    const FIRST: Duration = Duration::from_millis(2);
    const LONGEST: Duration = Duration::from_millis(50);

    fn until(deadline: Instant) -> Self {
        Self { next: Self::FIRST, deadline }
    }

    /// Sleeps; `false`, without sleeping, after the deadline.
    fn wait(&mut self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(self.next.min(left));
        self.next = (self.next * 2).min(Self::LONGEST);
        true
    }
}
