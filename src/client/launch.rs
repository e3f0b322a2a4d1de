//! What `lessor daemon --launch` does: starts the daemon proper, and returns as soon as it serves.

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
/// How long a daemon that another one sent away may be the last that was seen: the other may have been about to end.
const ANEW: Duration = Duration::from_millis(250);

/// Starts a daemon in the background; answers the exit status for the launcher, 0 once a daemon serves.
///
/// # Errors
/// When the program could not be started at all.
pub fn launch(places: &AppPaths, how: &DaemonStarter) -> io::Result<u8> {
    let mut child = spawn::daemon(how, places)?;
    let mut sent_away = None;
    let mut backoff = RetryTimer::until(Instant::now() + DEADLINE);
    loop {
        match Client::connect(places) {
            Ok(client) => {
                if client.server().pid != child.id() {
                    let _later = reap(&mut child);
                }
                return Ok(0);
            }
            Err(ClientError::NoDaemon(_)) => {}
            // whoever asked for a daemon says the same to the user, better than we could here
            Err(_) => return Ok(0),
        }
        if let Some(status) = child.try_wait()? {
            match status.code() {
                // another daemon has the data directory: it is about to serve, or about to end
                Some(0) => {
                    let since = *sent_away.get_or_insert_with(Instant::now);
                    if since.elapsed() >= ANEW {
                        child = spawn::daemon(how, places)?;
                        sent_away = None;
                    }
                }
                Some(code) => return Ok(u8::try_from(code).unwrap_or(1)),
                None => {
                    spawn::say(places, &format!("the daemon was ended by {status}"));
                    return Ok(1);
                }
            }
        }
        if !backoff.wait() {
            let seconds = DEADLINE.as_secs();
            spawn::say(places, &format!("the daemon has been started, but does not serve after {seconds} s"));
            return Ok(1);
        }
    }
}

/// Waits a moment for a daemon that came too late, so that it does not stay behind as a zombie where process 1 reaps
/// nobody, as in many containers.
fn reap(child: &mut Child) -> io::Result<()> {
    let mut backoff = RetryTimer::until(Instant::now() + ANEW);
    while child.try_wait()?.is_none() && backoff.wait() {}
    Ok(())
}
