//! Ctrl-C, Ctrl-Break, closing the console, logging off and shutting down stop the daemon.

use std::io;
use std::sync::{Arc, atomic::AtomicBool};

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown,
};

use super::SignalRequest;

/// Receives the console's events until it is dropped.
#[derive(Debug)]
pub struct SignalListener {
    interrupt: CtrlC,
    break_off: CtrlBreak,
    close: CtrlClose,
    logoff: CtrlLogoff,
    shutdown: CtrlShutdown,
}

impl SignalListener {
    /// Starts to receive events.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn begin() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            break_off: ctrl_break()?,
            close: ctrl_close()?,
            logoff: ctrl_logoff()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// Whether a stop was ever requested; it is not known on this system.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::default()
    }

    /// The next request.
    pub async fn next(&mut self) -> Option<SignalRequest> {
        let came = tokio::select! {
            came = self.interrupt.recv() => came,
            came = self.break_off.recv() => came,
            came = self.close.recv() => came,
            came = self.logoff.recv() => came,
            came = self.shutdown.recv() => came,
        };
        came.map(|()| SignalRequest::Stop)
    }
}
