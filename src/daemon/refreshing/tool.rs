//! Logins that another tool has, too: what it has rotated is taken over, never raced.

use std::sync::Arc;

use crate::credential::{Credential, Link};
use crate::pool::AccountId;

use super::super::core::Daemon;

/// What there is to be done before a refresh.
pub(super) enum Before {
    /// The tool has a newer login, which is taken over: nothing.
    Newer,
    /// Refresh, while this is held.
    Go(Option<()>),
    /// The tool refreshes it just now.
    Busy(String),
}

/// Looks at the tool's file first.
pub(super) async fn before(daemon: &Arc<Daemon>, id: AccountId, link: &Link) -> Before {
    if has_newer(daemon, id, link).await { Before::Newer } else { Before::Go(None) }
}

/// Whether the tool has a newer login; it is taken over.
pub(super) async fn has_newer(daemon: &Arc<Daemon>, id: AccountId, link: &Link) -> bool {
    let (daemon, path) = (daemon.clone(), link.path.clone());
    let before = daemon.core().refreshing.generation(id);
    let looked = tokio::task::spawn_blocking(move || {
        daemon.look_at_tools_file(&path);
        daemon.core().refreshing.generation(id)
    });
    looked.await.is_ok_and(|after| after > before)
}

/// Gives the tool what was renewed.
pub(super) async fn after(_daemon: &Arc<Daemon>, _id: AccountId, _link: Link, _credential: Credential) {}
