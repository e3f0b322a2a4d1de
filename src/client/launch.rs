//! `lessor daemon --launch`: starts the daemon itself, and returns as soon as it serves.

use std::io;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::config::AppPaths;

use super::RetryTimer;
use super::connection::Client;
use super::error::ClientError;
use super::spawn;
use super::start::DaemonStarter;

/// How long a daemon may take until it serves.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long to wait for another daemon after ours exited because of it, before ours is started again: the other one may
/// be shutting down.
const RESTART_DELAY: Duration = Duration::from_millis(250);

/// Starts a daemon in the background and returns the launcher's exit status, 0 once a daemon serves.
///
/// # Errors
/// When the program could not be started at all.
pub fn launch(paths: &AppPaths, starter: &DaemonStarter) -> io::Result<u8> {
    let mut child = spawn::daemon(starter, paths)?;
    let mut exited_at = None;
    let mut backoff = RetryTimer::until(Instant::now() + DEADLINE);
    loop {
        match Client::connect(paths) {
            Ok(client) => {
                if client.server().pid != child.id() {
                    let _later = reap(&mut child);
                }
                return Ok(0);
            }
            Err(ClientError::NoDaemon(_)) => {}
            // the client that needs the daemon reports this to the user
            Err(_) => return Ok(0),
        }
        if let Some(status) = child.try_wait()? {
            match status.code() {
                // another daemon has locked the data directory: it is about to serve, or about to end
                Some(0) => {
                    let since = *exited_at.get_or_insert_with(Instant::now);
                    if since.elapsed() >= RESTART_DELAY {
                        child = spawn::daemon(starter, paths)?;
                        exited_at = None;
                    }
                }
                Some(code) => return Ok(u8::try_from(code).unwrap_or(1)),
                None => {
                    spawn::say(paths, &format!("the daemon was ended by {status}"));
                    return Ok(1);
                }
            }
        }
        if !backoff.wait() {
            let seconds = DEADLINE.as_secs();
            spawn::say(paths, &format!("the daemon was started, but does not accept connections after {seconds} s"));
            return Ok(1);
        }
    }
}

/// Waits a moment for a daemon that started too late, so that it does not stay a zombie where process 1 does not reap
/// processes, as in many containers.
fn reap(child: &mut Child) -> io::Result<()> {
    let mut backoff = RetryTimer::until(Instant::now() + RESTART_DELAY);
    while child.try_wait()?.is_none() && backoff.wait() {}
    Ok(())
}
