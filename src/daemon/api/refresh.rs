//! `account.refresh`: the user wants a new token, now.

use std::sync::Arc;
use std::time::Duration;

use crate::credential::refresh::{Want, Wanted};
use crate::protocol::{AccountRef, Answer, ErrorInfo};

use crate::daemon::api::account::find;
use crate::daemon::os::clock;
use crate::daemon::refresh::{never, not_now};
use crate::daemon::state::Daemon;
use crate::daemon::view;

/// Longer than one attempt takes.
const PATIENCE: Duration = Duration::from_secs(45);

/// Refreshes, and answers the account.
pub(crate) async fn refresh(daemon: Arc<Daemon>, params: AccountRef) -> Result<Answer<'static>, ErrorInfo> {
    let (id, before, told) = {
        let state = &mut *daemon.state();
        let id = find(state, &params.account)?;
        match state.refreshing.want(id, Want::User, clock::now()) {
            Wanted::Coming => {}
            Wanted::NotBefore(at) => return Err(not_now(state, id, Some(at))),
            Wanted::JustRenewed | Wanted::Never => return Err(never(state, id)),
        }
        (id, state.refreshing.generation(id), state.refreshing.waits(id))
    };
    let _told_or_not = tokio::time::timeout(PATIENCE, told).await;
    let state = &*daemon.state();
    let gone = || ErrorInfo::new("unknown_account", "the account was removed meanwhile");
    let account = state.pool.account(id).ok_or_else(gone)?;
    if state.refreshing.generation(id) > before {
        return Ok(Answer::Account(Box::new(view::account_info(state, clock::now(), account))));
    }
    if let crate::pool::LoginState::NeedsLogin(_) = &account.record.login_state {
        let why = view::state_reason(state, clock::now(), account).unwrap_or_default();
        let message = format!("{} needs a new login: {why}", account.display_name());
        return Err(ErrorInfo::new("needs_login", message).hint(format!("lessor login {}", account.record.provider)));
    }
    Err(not_now(state, id, None))
}
