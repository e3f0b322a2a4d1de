//! Sessions that wait for an account over several requests: since when, and which account kept one waiting in silence.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::pool::{AccountId, ConnectionId};

/// A session that has not asked again for this long has given up: its next request begins a new wait.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);
/// Most sessions kept; beyond it, the one that was refused longest ago is dropped.
const MOST_SESSIONS: usize = 4096;

/// A session at a provider, with its model: other models have other limits.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::gateway) struct WaitKey {
    pub(in crate::gateway) provider: Arc<str>,
    pub(in crate::gateway) model: Option<Arc<str>>,
    pub(in crate::gateway) session: WaitSession,
}

/// Which requests belong together.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::gateway) enum WaitSession {
    Named(Arc<str>),
    /// Those that name no session are one for each connection.
    Of(ConnectionId),
}

#[derive(Clone, Copy, Debug)]
struct SessionWait {
    first_refusal: Option<Instant>,
    /// Did not respond for as long as the program waits.
    silent: Option<AccountId>,
    last: Instant,
}

#[derive(Debug, Default)]
pub(in crate::gateway) struct WaitingSessions(Mutex<FxHashMap<WaitKey, SessionWait>>);

impl WaitingSessions {
    /// When the session was first refused since its last success.
    pub(in crate::gateway) fn first_refusal(&self, key: &WaitKey, now: Instant) -> Option<Instant> {
        self.get(key, now)?.first_refusal
    }

    /// The account that did not respond to the session's last request.
    pub(in crate::gateway) fn silent_account(&self, key: &WaitKey, now: Instant) -> Option<AccountId> {
        self.get(key, now)?.silent
    }

    /// The session was refused again; `first` is its first refusal.
    pub(in crate::gateway) fn refused(&self, key: &WaitKey, first: Instant, now: Instant) {
        self.change(key, now, |wait| wait.first_refusal = Some(first));
    }

    /// The client gave up a request while this account was silent.
    pub(in crate::gateway) fn was_silent(&self, key: &WaitKey, account: AccountId, now: Instant) {
        self.change(key, now, |wait| wait.silent = Some(account));
    }

    /// A request of the session succeeded.
    pub(in crate::gateway) fn served(&self, key: &WaitKey) {
        let mut sessions = self.lock();
        if !sessions.is_empty() {
            sessions.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<WaitKey, SessionWait>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &WaitKey, now: Instant) -> Option<SessionWait> {
        self.lock().get(key).filter(|wait| now.duration_since(wait.last) < FORGOTTEN_AFTER).copied()
    }

    fn change(&self, key: &WaitKey, now: Instant, change: impl FnOnce(&mut SessionWait)) {
        let mut sessions = self.lock();
        if sessions.len() >= MOST_SESSIONS && !sessions.contains_key(key) {
            sessions.retain(|_, wait| now.duration_since(wait.last) < FORGOTTEN_AFTER);
            let oldest = sessions.iter().min_by_key(|(_, wait)| wait.last).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest.filter(|_| sessions.len() >= MOST_SESSIONS) {
                sessions.remove(&oldest);
            }
        }
        let begun = SessionWait { first_refusal: None, silent: None, last: now };
        let wait = sessions.entry(key.clone()).or_insert(begun);
        if now.duration_since(wait.last) >= FORGOTTEN_AFTER {
            *wait = begun;
        }
        wait.last = now;
        change(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(session: usize) -> WaitKey {
        WaitKey { provider: "anthropic".into(), model: None, session: WaitSession::Of(ConnectionId(session as u64)) }
    }

    #[expect(clippy::disallowed_methods, reason = "a starting point for times")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_wait_counts_from_the_first_refusal_to_a_success() {
        let (sessions, start) = (WaitingSessions::default(), start());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(sessions.first_refusal(&key(1), start), None);
        sessions.refused(&key(1), start, after(50));
        sessions.refused(&key(1), start, after(120));
        assert_eq!(sessions.first_refusal(&key(1), after(200)), Some(start));
        assert_eq!(sessions.first_refusal(&key(2), after(200)), None);
        sessions.served(&key(1));
        assert_eq!(sessions.first_refusal(&key(1), after(200)), None);
    }

    #[test]
    fn a_session_that_gave_up_begins_a_new_wait() {
        let (sessions, start) = (WaitingSessions::default(), start());
        let account = AccountId::from_bits(7);
        sessions.refused(&key(1), start, start);
        sessions.was_silent(&key(1), account, start);
        let later = start + FORGOTTEN_AFTER;
        assert_eq!((sessions.first_refusal(&key(1), later), sessions.silent_account(&key(1), later)), (None, None));
        assert_eq!(sessions.silent_account(&key(1), start), Some(account));
        sessions.refused(&key(1), later, later);
        assert_eq!(
            (sessions.first_refusal(&key(1), later), sessions.silent_account(&key(1), later)),
            (Some(later), None)
        );
    }

    #[test]
    fn the_number_of_sessions_is_bounded_and_the_oldest_is_dropped() {
        let (sessions, start) = (WaitingSessions::default(), start());
        for session in 0..=MOST_SESSIONS {
            let now = start + Duration::from_millis(session as u64);
            sessions.refused(&key(session), now, now);
        }
        let now = start + Duration::from_secs(10);
        assert_eq!(sessions.lock().len(), MOST_SESSIONS);
        assert!(sessions.first_refusal(&key(0), now).is_none() && sessions.first_refusal(&key(1), now).is_some());
    }
}
