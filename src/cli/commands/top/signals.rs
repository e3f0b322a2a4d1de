//! Signals: they end or suspend the program only after the terminal was given back.

use std::io;
use std::sync::mpsc::SyncSender;

use super::message::ScreenMessage;

/// Sends a message for each signal that would end or suspend the program.
#[cfg(unix)]
pub(super) fn forward(into: &SyncSender<ScreenMessage>) -> io::Result<()> {
    use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};

    use super::message::Stop;

    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT])?;
    let into = into.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let stop = match signal {
                SIGTSTP => Stop::Suspend,
                SIGCONT => Stop::Continued,
                other => Stop::End(other),
            };
            if into.send(ScreenMessage::Signal(stop)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// The console of Windows sends keys instead, and ends the program when its window is closed.
#[cfg(windows)]
pub(super) fn forward(_into: &SyncSender<ScreenMessage>) -> io::Result<()> {
    Ok(())
}

/// Ends the process as by this signal, so that its parent sees why.
#[cfg(unix)]
pub(super) fn end_by(signal: i32) {
    let _does_not_return = signal_hook::low_level::emulate_default_handler(signal);
}

#[cfg(windows)]
pub(super) fn end_by(_signal: i32) {}
