//! Who may use the gateway's page: codes that open it once, and the sessions that were opened. They are kept in memory
//! only, so all of them end with the daemon.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::pool::{Mono, Now, Wall};
use crate::protocol::key_hash;

/// How long a code can be used.
pub(crate) const CODE_LIFE: Duration = Duration::from_secs(60);
/// How long a session lasts.
const SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);
/// The most codes that can be used at a time; a further one ends the oldest.
const MOST_CODES: usize = 8;
/// The most sessions; a further one ends the oldest.
const MOST_SESSIONS: usize = 32;
/// The most ended codes that are remembered, for those that wait for them.
const MOST_ENDED: usize = 32;
/// How many wrong codes are looked at in a row before further ones have to wait.
const MOST_WRONG: u32 = 10;
/// How long it takes until one more wrong code is looked at.
const WRONG_INTERVAL: Duration = Duration::from_secs(6);
/// How many calls a session makes in a row before further ones have to wait; a page makes about eight a second at most.
const MOST_CALLS: u32 = 100;
/// How long it takes until one more call is served.
const CALL_INTERVAL: Duration = Duration::from_millis(25);
/// The random bytes of a code and of a session's key.
const RANDOM_BYTES: usize = 32;

/// The hash of a code or of a session's key: only hashes are kept and compared.
type Hash = [u8; 32];

/// The codes and the sessions.
#[derive(Debug, Default)]
pub(crate) struct PageSessions {
    table: Mutex<PageTable>,
    /// A code was used.
    used: Notify,
}

#[derive(Debug, Default)]
struct PageTable {
    codes: Vec<PageCode>,
    ended: Vec<(Hash, CodeState)>,
    sessions: Vec<OpenSession>,
    /// Wrong codes of this user, and of others.
    own: RecentCount,
    others: RecentCount,
}

#[derive(Debug)]
struct PageCode {
    hash: Hash,
    ends: Mono,
    may_act: bool,
}

#[derive(Debug)]
struct OpenSession {
    hash: Hash,
    ends: Mono,
    may_act: bool,
    calls: RecentCount,
}

/// How many of something have come lately: one is forgotten in each interval.
#[derive(Debug, Default)]
struct RecentCount {
    count: u32,
    since: Option<Mono>,
}

/// What became of a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CodeState {
    Open,
    Used,
    Ended,
}

/// A valid session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageSession {
    /// Whether it may also change something.
    pub may_act: bool,
    /// When it ends, ms since boot.
    pub(crate) ends: Mono,
}

/// A session that was opened.
#[derive(Debug)]
pub struct OpenedSession {
    /// Its key, which every request sends.
    pub key: Zeroizing<String>,
    /// Whether it may also change something.
    pub may_act: bool,
    /// When it ends.
    pub ends_at: Wall,
}

/// Why a code opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodeRefused {
    /// It was never made, was used, or has ended.
    Wrong,
    /// Too many wrong codes have come; in seconds, when the next one is looked at.
    TooMany(u64),
    /// The system has no random number.
    NoRandom,
}

impl PageSessions {
    /// Makes a code, which can be used once.
    ///
    /// # Errors
    /// When the system has no random number.
    pub(crate) fn make_code(&self, now: Now, may_act: bool) -> Result<(Zeroizing<String>, Wall), getrandom::Error> {
        let code = random_text()?;
        let table = &mut *self.table();
        table.tidy(now.mono);
        if table.codes.len() == MOST_CODES {
            let oldest = table.codes.remove(0);
            table.end_code(oldest.hash, CodeState::Ended);
        }
        table.codes.push(PageCode { hash: key_hash(&code), ends: now.mono.after(CODE_LIFE), may_act });
        Ok((code, now.wall.after(CODE_LIFE)))
    }

    /// What became of a code.
    pub(crate) fn state_of(&self, now: Now, code: &str) -> CodeState {
        let table = &mut *self.table();
        table.tidy(now.mono);
        let hash = key_hash(code);
        if table.codes.iter().any(|open| open.hash == hash) {
            return CodeState::Open;
        }
        let ended = table.ended.iter().find(|(ended, _)| *ended == hash);
        ended.map_or(CodeState::Ended, |(_, state)| *state)
    }

    /// Waits until a code was used.
    pub(crate) async fn code_used(&self) {
        self.used.notified().await;
    }

    /// Opens a session with a code. `is_own`: the code comes from a program of this user, or from one on this system
    /// whose user is not known; other users cannot use up the wrong codes that this user has.
    ///
    /// # Errors
    /// When the code is wrong, or too many wrong ones have come.
    pub(crate) fn open(&self, now: Now, code: &str, is_own: bool) -> Result<OpenedSession, CodeRefused> {
        let table = &mut *self.table();
        table.tidy(now.mono);
        let wrong = if is_own { &mut table.own } else { &mut table.others };
        if let Some(wait) = wrong.wait(now.mono, MOST_WRONG, WRONG_INTERVAL) {
            return Err(CodeRefused::TooMany(wait.as_secs() + 1));
        }
        let hash = key_hash(code);
        let Some(at) = table.codes.iter().position(|open| open.hash == hash) else {
            wrong.note(now.mono);
            return Err(CodeRefused::Wrong);
        };
        let key = random_text().map_err(|_| CodeRefused::NoRandom)?;
        let PageCode { may_act, .. } = table.codes.remove(at);
        table.end_code(hash, CodeState::Used);
        if table.sessions.len() == MOST_SESSIONS {
            table.sessions.remove(0);
        }
        let calls = RecentCount::default();
        table.sessions.push(OpenSession { hash: key_hash(&key), ends: now.mono.after(SESSION_LIFE), may_act, calls });
        self.used.notify_waiters();
        Ok(OpenedSession { key, may_act, ends_at: now.wall.after(SESSION_LIFE) })
    }

    /// The session of a key, if it is valid.
    pub(crate) fn find(&self, now: Now, key: &str) -> Option<PageSession> {
        let hash = key_hash(key);
        let table = self.table();
        let found = table.sessions.iter().find(|session| session.hash == hash && session.ends > now.mono)?;
        Some(PageSession { may_act: found.may_act, ends: found.ends })
    }

    /// Counts a call of a session; `false` if so many have come that it has to wait.
    pub(crate) fn count_call(&self, now: Now, key: &str) -> bool {
        let hash = key_hash(key);
        let mut table = self.table();
        let Some(session) = table.sessions.iter_mut().find(|session| session.hash == hash) else { return true };
        let may_call = session.calls.wait(now.mono, MOST_CALLS, CALL_INTERVAL).is_none();
        if may_call {
            session.calls.note(now.mono);
        }
        may_call
    }

    fn table(&self) -> MutexGuard<'_, PageTable> {
        // entries are added and removed in one step
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PageTable {
    fn tidy(&mut self, now: Mono) {
        let ended: Vec<PageCode> = self.codes.extract_if(.., |code| code.ends <= now).collect();
        for code in ended {
            self.end_code(code.hash, CodeState::Ended);
        }
        self.sessions.retain(|session| session.ends > now);
    }

    fn end_code(&mut self, hash: Hash, state: CodeState) {
        if self.ended.len() == MOST_ENDED {
            self.ended.remove(0);
        }
        self.ended.push((hash, state));
    }
}

impl RecentCount {
    /// How long no further one is taken, when at most so many are.
    fn wait(&mut self, now: Mono, most: u32, interval: Duration) -> Option<Duration> {
        let since = self.since?;
        let passed = now.since(since);
        let forgotten = u32::try_from(passed.as_millis() / interval.as_millis()).unwrap_or(u32::MAX);
        if forgotten > 0 {
            self.count = self.count.saturating_sub(forgotten);
            self.since = (self.count > 0).then(|| since.after(interval * forgotten));
        }
        let wait = interval.saturating_sub(now.since(self.since?));
        (self.count >= most).then_some(wait)
    }

    fn note(&mut self, now: Mono) {
        self.count += 1;
        self.since.get_or_insert(now);
    }
}

fn random_text() -> Result<Zeroizing<String>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
    getrandom::fill(&mut *bytes)?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono: Mono(1_000_000 + seconds * 1000), wall: Wall(1_000_000 + seconds * 1000) }
    }

    #[test]
    fn a_code_opens_one_session_within_a_minute() {
        let page = PageSessions::default();
        let (code, ends_at) = page.make_code(at(0), false).unwrap();
        assert_eq!((code.len(), ends_at), (43, Wall(1_060_000)));
        assert_eq!(page.state_of(at(59), &code), CodeState::Open);
        let session = page.open(at(59), &code, true).unwrap();
        assert!(!session.may_act);
        assert_eq!(page.open(at(59), &code, true).unwrap_err(), CodeRefused::Wrong, "it was used");
        assert_eq!(page.state_of(at(59), &code), CodeState::Used);
        let (late, _) = page.make_code(at(60), true).unwrap();
        assert_eq!(page.open(at(120), &late, true).unwrap_err(), CodeRefused::Wrong);
        assert_eq!(page.state_of(at(120), &late), CodeState::Ended);
    }

    #[test]
    fn a_session_ends_after_twelve_hours() {
        let page = PageSessions::default();
        let (code, _) = page.make_code(at(0), true).unwrap();
        let session = page.open(at(1), &code, true).unwrap();
        let end = 1 + 12 * 3600;
        assert!(page.find(at(end - 1), &session.key).unwrap().may_act);
        assert_eq!(page.find(at(end), &session.key), None);
        assert_eq!(page.find(at(1), &code), None, "a code is no key");
        assert_eq!(page.find(at(1), ""), None);
    }

    #[test]
    fn a_session_that_calls_without_end_has_to_wait_and_another_one_does_not() {
        let page = PageSessions::default();
        let open = || page.open(at(0), &page.make_code(at(0), false).unwrap().0, true).unwrap().key;
        let (eager, calm) = (open(), open());
        assert!((0..MOST_CALLS).all(|_| page.count_call(at(0), &eager)));
        assert!(!page.count_call(at(0), &eager) && page.count_call(at(0), &calm));
        let served = (0..1000).filter(|_| page.count_call(at(1), &eager)).count();
        assert_eq!(served, 40, "of one second");
        assert!(page.find(at(1), &eager).is_some(), "the session goes on");
        assert!((0..MOST_CALLS).all(|_| page.count_call(at(3600), &eager)), "a long pause gives no more than that");
        assert!(!page.count_call(at(3600), &eager));
    }

    #[test]
    fn codes_and_sessions_are_bounded_and_the_oldest_end_first() {
        let page = PageSessions::default();
        let codes: Vec<_> = (0..=MOST_CODES).map(|_| page.make_code(at(0), false).unwrap().0).collect();
        assert_eq!(page.state_of(at(0), &codes[0]), CodeState::Ended);
        assert!(codes[1..].iter().all(|code| page.state_of(at(0), code) == CodeState::Open));
        let open = |_| page.open(at(1), &page.make_code(at(1), false).unwrap().0, true).unwrap().key;
        let keys: Vec<_> = (0..=MOST_SESSIONS).map(open).collect();
        assert_eq!(page.find(at(1), &keys[0]), None);
        assert!(keys[1..].iter().all(|key| page.find(at(1), key).is_some()));
        assert!(page.table().ended.len() <= MOST_ENDED);
    }

    #[test]
    fn wrong_codes_have_to_wait_and_those_of_others_do_not_keep_the_user_out() {
        let page = PageSessions::default();
        let (code, _) = page.make_code(at(0), false).unwrap();
        for _ in 0..MOST_WRONG {
            assert_eq!(page.open(at(0), "guess", false).unwrap_err(), CodeRefused::Wrong);
        }
        assert_eq!(page.open(at(0), &code, false).unwrap_err(), CodeRefused::TooMany(7), "not even looked at");
        assert_eq!(page.open(at(5), "guess", false).unwrap_err(), CodeRefused::TooMany(2));
        assert_eq!(page.open(at(6), "guess", false).unwrap_err(), CodeRefused::Wrong);
        assert_eq!(page.open(at(6), "guess", false).unwrap_err(), CodeRefused::TooMany(7));
        assert!(page.open(at(7), &code, true).is_ok());
    }
}
