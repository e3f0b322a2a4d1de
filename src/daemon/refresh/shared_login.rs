//! Logins that another tool has, too: what it has rotated is taken over, never raced; one that is shared is refreshed
//! under the tool's own locks, and the tool gets what comes of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, spawn_blocking};

use crate::credential::share::{self, ClaudeCodeLocks, TOUCH};
use crate::credential::{Credential, Link, LinkMode};
use crate::pool::AccountId;

use crate::daemon::linked_logins::{adopt_for_refresh, is_tool_behind};
use crate::daemon::state::{Daemon, is_ours_to_refresh};

/// How often a lock is asked for that somebody has.
const TRIES: u32 = 5;

/// What there is to be done before a refresh.
pub(crate) enum Before {
    /// The tool has a newer login, which is taken over: nothing.
    Newer,
    /// Refresh, while this is held.
    Go(Option<Locked>),
    /// It cannot be refreshed now.
    Busy(String),
}

/// The tool's locks, touched as long as they are held.
pub(crate) struct Locked {
    toucher: AbortHandle,
    /// Given back when the toucher has gone, too.
    _held: Arc<ClaudeCodeLocks>,
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.toucher.abort();
    }
}

/// Looks at the tool's file first.
pub(crate) async fn before(daemon: &Arc<Daemon>, id: AccountId, link: &Link) -> Before {
    let locked = if link.mode == LinkMode::Share {
        match locked(link).await {
            Ok(locked) => Some(locked),
            Err(why) => return Before::Busy(why),
        }
    } else {
        None
    };
    if has_newer(daemon, id, link).await { Before::Newer } else { Before::Go(locked) }
}

async fn locked(link: &Link) -> Result<Locked, String> {
    for tried in 1..=TRIES {
        let file = PathBuf::from(&link.path);
        let taken = spawn_blocking(move || share::lock(&file)).await.map_err(|error| error.to_string())?;
        match taken.map_err(|error| format!("the locks of {} cannot be taken: {error}", link.tool))? {
            Some(held) => {
                let held = Arc::new(held);
                let touched = held.clone();
                let toucher = tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(TOUCH).await;
                        touched.touch();
                    }
                });
                return Ok(Locked { toucher: toucher.abort_handle(), _held: held });
            }
            // as the tool itself does: some seconds, not all at the same moment
            None if tried < TRIES => tokio::time::sleep(Duration::from_secs(1).mul_f64(1.0 + random_fraction())).await,
            None => {}
        }
    }
    Err(format!("{} refreshes just now, or holds its locks for another reason", link.tool))
}

/// Whether the tool has a newer login; it is taken over.
pub(crate) async fn has_newer(daemon: &Arc<Daemon>, id: AccountId, link: &Link) -> bool {
    let (daemon, path) = (daemon.clone(), link.path.clone());
    let before = daemon.state().logins.generation(id);
    let looked = spawn_blocking(move || {
        adopt_for_refresh(&daemon, &path);
        daemon.state().logins.generation(id)
    });
    looked.await.is_ok_and(|after| after > before)
}

/// Gives the tool what was renewed, where the login is shared. To be called with its locks held.
pub(crate) async fn after(daemon: &Arc<Daemon>, id: AccountId, link: Link, credential: Credential) {
    if link.mode != LinkMode::Share {
        return;
    }
    let theirs = daemon.clone();
    let file = PathBuf::from(&link.path);
    let given = spawn_blocking(move || {
        // any token that was this account's may be replaced; any other belongs to a login of the tool's own
        share::write_back(&file, &credential, |before| {
            let state = &*theirs.state();
            state.credentials.fingerprints.known_since(id, state.credentials.fingerprints.of_refresh(before)).is_some()
        })
    });
    let why = match given.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    let name = daemon.state().pool.account(id).map_or_else(|| id.to_string(), |account| account.display_name());
    let why = format!("{} does not get its renewed login, and has to log in again: {why}", link.tool);
    tracing::error!(account = %id, path = link.path, "{name}: {why}");
    daemon.state().links.set_problem(id, Some(why));
}

/// After a start: gives the tool what was renewed when the last run ended before the tool had it.
pub(crate) async fn catch_up(daemon: Arc<Daemon>, id: AccountId) {
    let shared = {
        let state = &*daemon.state();
        let link = state.links.get(id).filter(|link| link.mode == LinkMode::Share && is_ours_to_refresh(link));
        link.cloned().zip(state.credentials.get(id).map(Credential::duplicate))
    };
    let Some((link, credential)) = shared else { return };
    let Ok(Before::Go(Some(_locked))) = tokio::time::timeout(Duration::from_secs(30), before(&daemon, id, &link)).await
    else {
        return;
    };
    let daemon_of = daemon.clone();
    let path = link.path.clone();
    // it holds an older one of ours
    let is_behind = spawn_blocking(move || is_tool_behind(&daemon_of, id, &path)).await.unwrap_or_default();
    if is_behind {
        after(&daemon, id, link, credential).await;
    }
}

/// From 0 to 1; without random bits from the system always the middle.
fn random_fraction() -> f64 {
    getrandom::u32().map_or(0.5, |bits| f64::from(bits) / f64::from(u32::MAX))
}
