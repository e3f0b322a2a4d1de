//! Runs a program that has the terminal for itself, and goes on when it ends.

use std::process::{Command, ExitStatus};

/// Runs a program to its end. Ctrl-C is for the program, and does not end this process.
pub(crate) fn run_in_foreground(command: &mut Command) -> std::io::Result<ExitStatus> {
    #[cfg(unix)]
    let _restored_when_dropped = IgnoredSignals::begin()?;
    command.status()
}

/// While it exists, Ctrl-C and Ctrl-\ do not end this process.
#[cfg(unix)]
struct IgnoredSignals(std::sync::Arc<std::sync::atomic::AtomicBool>);

#[cfg(unix)]
impl IgnoredSignals {
    fn begin() -> std::io::Result<Self> {
        use signal_hook::consts::{SIGINT, SIGQUIT};
        let ends = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        for signal in [SIGINT, SIGQUIT] {
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, ends.clone())?;
        }
        Ok(Self(ends))
    }
}

#[cfg(unix)]
impl Drop for IgnoredSignals {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}
