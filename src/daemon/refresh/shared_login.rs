//! Logins that another tool uses, too: a token that the tool has rotated is adopted. A shared login is refreshed under the
//! tool's own locks, and the new token is written to the tool's file.

use std::path::{Path, PathBuf};
use std::{sync::Arc, time::Duration};

use tokio::task::{AbortHandle, spawn_blocking};

use crate::credential::share::{self, ClaudeCodeLocks, SharedDocument, TOUCH, WriteBackError};
use crate::credential::{Credential, Link, LinkMode, import::Tool};
use crate::daemon::linked_logins::{adopt_for_refresh, is_tool_behind};
use crate::daemon::state::{Daemon, is_ours_to_refresh};
use crate::pool::AccountId;

/// How often lessor tries to take a lock that is held.
const TRIES: u32 = 5;

/// Whether a login can be refreshed now.
pub(super) enum Preparation {
    /// No refresh is needed: the tool had a newer login, which was adopted.
    Adopted,
    /// It can be refreshed while the locks are held.
    Ready(Option<ToolLocks>),
    /// It cannot be refreshed now.
    Busy(String),
}

/// The tool's locks, which a task touches regularly while they are held.
pub(super) struct ToolLocks {
    toucher: AbortHandle,
    /// Released when the task has ended, too.
    _locks: Arc<ClaudeCodeLocks>,
}

impl Drop for ToolLocks {
    fn drop(&mut self) {
        self.toucher.abort();
    }
}

/// Prepares a refresh: takes the tool's locks if the login is shared, and reads the tool's file.
pub(super) async fn prepare(daemon: &Arc<Daemon>, id: AccountId, link: &Link) -> Preparation {
    let locks = match link.mode {
        LinkMode::Share if has_locks(link) => match take_locks(link).await {
            Ok(locks) => Some(locks),
            Err(why) => return Preparation::Busy(why),
        },
        LinkMode::Share | LinkMode::Link | LinkMode::TakeOver | LinkMode::StartTool => None,
    };
    if adopt_newer(daemon, id, link).await { Preparation::Adopted } else { Preparation::Ready(locks) }
}

/// Whether the tool takes locks around its own refresh; where its directory is missing, no tool refreshes.
fn has_locks(link: &Link) -> bool {
    Tool::named(&link.tool).is_some_and(Tool::has_locks) && !share::is_directory_missing(Path::new(&link.path))
}

async fn take_locks(link: &Link) -> Result<ToolLocks, String> {
    for attempt in 1..=TRIES {
        let file = PathBuf::from(&link.path);
        let taken = spawn_blocking(move || share::lock(&file)).await.map_err(|error| error.to_string())?;
        match taken.map_err(|error| format!("the locks of {} cannot be taken: {error}", link.tool))? {
            Some(locks) => {
                let locks = Arc::new(locks);
                let touched = locks.clone();
                let toucher = tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(TOUCH).await;
                        touched.touch();
                    }
                });
                return Ok(ToolLocks { toucher: toucher.abort_handle(), _locks: locks });
            }
            // the tool waits as long, with a random part
            None if attempt < TRIES => {
                tokio::time::sleep(Duration::from_secs(1).mul_f64(1.0 + random_fraction())).await;
            }
            None => {}
        }
    }
    Err(format!("{} is refreshing, or holds its locks for another reason", link.tool))
}

/// Adopts a newer login of the tool; returns whether there was one.
pub(super) async fn adopt_newer(daemon: &Arc<Daemon>, id: AccountId, link: &Link) -> bool {
    let (daemon, path) = (daemon.clone(), link.path.clone());
    let before = daemon.state().logins.generation(id);
    let adopted = spawn_blocking(move || {
        adopt_for_refresh(&daemon, &path);
        daemon.state().logins.generation(id)
    });
    adopted.await.is_ok_and(|after| after > before)
}

/// Writes a refreshed login to the tool's file, if the login is shared. To be called with the tool's locks held.
pub(super) async fn write_back(daemon: &Arc<Daemon>, id: AccountId, link: Link, credential: Credential) {
    if link.mode != LinkMode::Share || share::is_directory_missing(Path::new(&link.path)) {
        return;
    }
    let daemon_of = daemon.clone();
    let (file, tool) = (PathBuf::from(&link.path), Tool::named(&link.tool));
    let written = spawn_blocking(move || {
        let document = tool.and_then(SharedDocument::of).ok_or(WriteBackError::NoLogin)?;
        // an earlier token of this account may be replaced; any other belongs to another login
        document.write_back(&file, &credential, |before| {
            let prints = &daemon_of.state().credentials.fingerprints;
            prints.known_since(id, prints.of_refresh(before)).is_some()
        })
    });
    let why = match written.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    let why = format!("the refreshed login could not be given to {}, which must log in again: {why}", link.tool);
    let name = daemon.state().account_name(id);
    tracing::error!(account = %id, path = link.path, "{name}: {why}");
    daemon.state().links.set_problem(id, Some(why));
}

/// After a start: writes a refreshed login to the tool's file if the last run ended before it could.
pub(super) async fn catch_up(daemon: Arc<Daemon>, id: AccountId) {
    let shared = {
        let state = &*daemon.state();
        let link = state.links.get(id).filter(|link| link.mode == LinkMode::Share && is_ours_to_refresh(link));
        link.cloned().zip(state.credentials.get(id).map(Credential::duplicate))
    };
    let Some((link, credential)) = shared else { return };
    let prepared = tokio::time::timeout(Duration::from_secs(30), prepare(&daemon, id, &link)).await;
    let Ok(Preparation::Ready(_locks)) = prepared else { return };
    let daemon_of = daemon.clone();
    let path = link.path.clone();
    let is_behind = spawn_blocking(move || is_tool_behind(&daemon_of, id, &path)).await.unwrap_or_default();
    if is_behind {
        write_back(&daemon, id, link, credential).await;
    }
}

/// From 0 to 1; without random bits from the system always the middle.
fn random_fraction() -> f64 {
    getrandom::u32().map_or(0.5, |bits| f64::from(bits) / f64::from(u32::MAX))
}
