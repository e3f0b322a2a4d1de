//! Ctrl-C, Ctrl-Break, the console's close, the end of the session and of the system: all end.

use std::io;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown,
};

use super::SignalRequest;

/// Listens to the console's events as long as it lives.
#[derive(Debug)]
pub struct Listening {
    interrupt: CtrlC,
    break_off: CtrlBreak,
    close: CtrlClose,
    logoff: CtrlLogoff,
    shutdown: CtrlShutdown,
}

impl Listening {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn begin() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            break_off: ctrl_break()?,
            close: ctrl_close()?,
            logoff: ctrl_logoff()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// The next thing asked for.
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
