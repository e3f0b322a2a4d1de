//! The end of the daemon waits for refreshes that were sent: the server may have replaced their refresh tokens, and only
//! the answers contain the new ones.

use std::time::Duration;

use crate::credential::oauth::REQUEST_TIMEOUT;
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, State};
use crate::pool::{AccountId, Mono, Now};
use crate::protocol::ENDING;

/// How long an answer may take to be saved, and to be written to the file of the tool that shares the login.
const SAVE_TIME: Duration = Duration::from_secs(5);
/// How long a refresh may take from the moment when it is sent.
pub(crate) const LONGEST_ATTEMPT: Duration = REQUEST_TIMEOUT.saturating_add(SAVE_TIME);
/// The most accounts that the message names.
const MOST_NAMES: usize = 3;

impl Daemon {
    /// From now on no refresh is sent. Returns what is waited for, for people; `None` if nothing is.
    pub(crate) fn end_refreshing(&self) -> Option<String> {
        let words = {
            let state = &mut *self.state();
            state.logins.end_requests();
            awaited_refreshes(state, clock::now())
        };
        self.mailboxes.refresh.wake();
        words
    }

    /// Waits until each refresh that was sent is answered and saved; `false` if one takes longer than it may.
    pub(crate) async fn refreshes_answered(&self) -> bool {
        loop {
            let mut ended = std::pin::pin!(self.refresh_ended.notified());
            // an attempt that ends from here on is noticed
            ended.as_mut().enable();
            let left = {
                let (state, now) = (&*self.state(), clock::now());
                match state.logins.requests().map(|(_, since)| left_of(since, now)).max() {
                    None => return true,
                    Some(left) if left.is_zero() => return false,
                    Some(left) => left,
                }
            };
            // the clock of this timer stops in suspend: it is looked at again
            let _ended_or_late = tokio::time::timeout(left.min(Duration::from_secs(1)), ended).await;
        }
    }

    /// The names of the accounts whose refresh was sent and is not answered, each with what may follow.
    pub(crate) fn unanswered_words(&self) -> Option<String> {
        let state = &*self.state();
        let names = names(state, state.logins.requests().map(|(id, _)| id))?;
        Some(format!(
            "the refresh of {names} was sent and its answer is given up: if the server has replaced the refresh token, \
             the new one is lost, and a new login is needed"
        ))
    }
}

/// What the ending daemon waits for, for people.
pub(crate) fn awaited_refreshes(state: &State, now: Now) -> Option<String> {
    if !state.logins.is_ending() {
        return None;
    }
    let left = state.logins.requests().map(|(_, since)| left_of(since, now)).max()?;
    let names = names(state, state.logins.requests().map(|(id, _)| id))?;
    Some(format!("{ENDING}waiting for the refresh of {names}, at most {} s", left.as_secs().max(1)))
}

fn left_of(since: Mono, now: Now) -> Duration {
    LONGEST_ATTEMPT.saturating_sub(now.mono.since(since))
}

fn names(state: &State, accounts: impl Iterator<Item = AccountId>) -> Option<String> {
    let mut names: Vec<String> = accounts.map(|id| state.account_name(id)).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(MOST_NAMES);
    names.truncate(MOST_NAMES);
    let names = names.join(", ");
    match more {
        _ if names.is_empty() => None,
        0 => Some(names),
        more => Some(format!("{names} and {more} more")),
    }
}
