//! SIGTERM and SIGINT stop the daemon, SIGHUP reloads the configuration.

use std::io;
use std::sync::{Arc, atomic::AtomicBool};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals};
use tokio::sync::mpsc;

use super::SignalRequest;

/// Receives signals until it is dropped.
#[derive(Debug)]
pub struct SignalListener {
    handle: Handle,
    requests: mpsc::UnboundedReceiver<SignalRequest>,
    is_stop_requested: Arc<AtomicBool>,
}

impl SignalListener {
    /// Starts to receive signals.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn begin() -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let is_stop_requested = Arc::default();
        for signal in [SIGTERM, SIGINT] {
            flag::register(signal, Arc::clone(&is_stop_requested))?;
        }
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
        Ok(Self { handle, requests, is_stop_requested })
    }

    /// The next request.
    pub async fn next(&mut self) -> Option<SignalRequest> {
        self.requests.recv().await
    }

    /// Whether a stop was ever requested. Unlike [`Self::next`], it knows of a signal at the moment it arrives.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.is_stop_requested.clone()
    }
}

impl Drop for SignalListener {
    fn drop(&mut self) {
        self.handle.close();
    }
}
