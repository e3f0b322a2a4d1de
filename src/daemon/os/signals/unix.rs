//! SIGTERM and SIGINT end, SIGHUP reloads.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use tokio::sync::mpsc;

use super::SignalRequest;

/// Listens to signals as long as it lives.
#[derive(Debug)]
pub struct Listening {
    handle: Handle,
    asked: mpsc::UnboundedReceiver<SignalRequest>,
}

impl Listening {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn begin() -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let handle = signals.handle();
        let (tell, asked) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                let what = if signal == SIGHUP { SignalRequest::Reload } else { SignalRequest::Stop };
                if tell.send(what).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { handle, asked })
    }

    /// The next thing asked for.
    pub async fn next(&mut self) -> Option<SignalRequest> {
        self.asked.recv().await
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.handle.close();
    }
}
