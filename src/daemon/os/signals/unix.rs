//! SIGTERM and SIGINT stop the daemon, SIGHUP reloads the configuration.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use tokio::sync::mpsc;

use super::SignalRequest;

/// Receives signals until it is dropped.
#[derive(Debug)]
pub struct SignalListener {
    handle: Handle,
    requests: mpsc::UnboundedReceiver<SignalRequest>,
}

impl SignalListener {
    /// Starts to receive signals.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn begin() -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let handle = signals.handle();
        let (sender, requests) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                let request = if signal == SIGHUP { SignalRequest::Reload } else { SignalRequest::Stop };
                if sender.send(request).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { handle, requests })
    }

    /// The next request.
    pub async fn next(&mut self) -> Option<SignalRequest> {
        self.requests.recv().await
    }

    /// Whether a stop was requested that [`Self::next`] has not returned.
    pub fn stop_requested(&mut self) -> bool {
        std::iter::from_fn(|| self.requests.try_recv().ok()).any(|request| request == SignalRequest::Stop)
    }
}

impl Drop for SignalListener {
    fn drop(&mut self) {
        self.handle.close();
    }
}
