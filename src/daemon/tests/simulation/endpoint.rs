//! The token endpoint of the simulated provider: it rotates refresh tokens and revokes a login whose old token comes back.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::credential::oauth::{RefreshResult, simulated};
use crate::credential::refresh::{RefreshFailure, RefreshFault};
use crate::credential::{Credential, Secret};
use crate::pool::{CredentialKind, Wall};

/// The lifetime of access tokens.
pub(super) const LIFE: Duration = Duration::from_secs(3600);

/// The logins, as the provider knows them.
#[derive(Clone, Default)]
pub(super) struct Endpoint(Rc<RefCell<Logins>>);

#[derive(Default)]
struct Logins {
    /// By the login's number.
    logins: BTreeMap<u64, ProviderLogin>,
    sent: Vec<SentRequest>,
    /// What must not have happened.
    fault: Option<String>,
}

/// A login at the provider. Its n-th refresh token is `refresh-LOGIN-n`.
struct ProviderLogin {
    /// The number of the token that is valid.
    current: u64,
    /// The number of the newest token that lessor has put in use: it must never send an older one.
    used: u64,
    is_revoked: bool,
}

/// A request whose answer is on its way.
struct SentRequest {
    login: u64,
    answer: RefreshResult,
    to: oneshot::Sender<RefreshResult>,
}

pub(super) fn token(kind: &str, login: u64, number: u64) -> Secret {
    Secret::new(format!("{kind}-{login}-{number}"))
}

/// Login and number of a refresh token.
fn read(token: &str) -> (u64, u64) {
    let mut parts = token.split('-').skip(1).map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap())
}

pub(super) fn credential(login: u64, number: u64, now: Wall) -> Credential {
    Credential {
        refresh: Some(token("refresh", login, number)),
        expires_at: Some(now.after(LIFE)),
        client_id: Some("client".to_owned()),
        accepted_at: Some(now),
        ..Credential::new(CredentialKind::Oauth, token("access", login, number))
    }
}

impl Endpoint {
    /// Takes the requests of this thread.
    pub(super) fn play(&self) {
        let endpoint = self.clone();
        simulated::play(Rc::new(move |secret, now| endpoint.receive(secret, now)));
    }

    pub(super) fn add_login(&self, login: u64) {
        self.0.borrow_mut().logins.insert(login, ProviderLogin { current: 0, used: 0, is_revoked: false });
    }

    fn receive(&self, secret: &Secret, now: Wall) -> oneshot::Receiver<RefreshResult> {
        let mut state = self.0.borrow_mut();
        let (login, number) = read(secret.expose());
        let (to, answer) = oneshot::channel();
        if state.sent.iter().any(|sent| sent.login == login && !sent.to.is_closed()) {
            state.fault = Some(format!("two refreshes of login {login} at a time (I5)"));
        }
        let known = state.logins.get_mut(&login).unwrap();
        if number < known.used {
            let (used, current) = (known.used, known.current);
            state.fault = Some(format!("token {number} of login {login} is sent after {used} of {current} was in use"));
            return answer;
        }
        let answer_of_it = if known.is_revoked || number != known.current {
            known.is_revoked = true;
            RefreshResult::Rejected("invalid_grant".to_owned())
        } else {
            known.current += 1;
            RefreshResult::New(credential(login, known.current, now), Some(LIFE))
        };
        state.sent.push(SentRequest { login, answer: answer_of_it, to });
        answer
    }

    /// How many answers are on their way.
    pub(super) fn sent(&self) -> usize {
        self.0.borrow().sent.len()
    }

    /// An answer arrives.
    pub(super) fn deliver(&self, which: usize) {
        let sent = self.0.borrow_mut().sent.remove(which);
        // the daemon may have been killed meanwhile
        let _gone = sent.to.send(sent.answer);
    }

    /// An answer is lost, after the provider has rotated the token.
    pub(super) fn lose(&self, which: usize) {
        drop(self.0.borrow_mut().sent.remove(which));
    }

    /// The provider refuses to answer now; it has not rotated the token.
    pub(super) fn refuse(&self, which: usize) {
        let mut state = self.0.borrow_mut();
        let sent = state.sent.remove(which);
        if matches!(sent.answer, RefreshResult::New(..)) {
            let login = state.logins.get_mut(&sent.login).unwrap();
            login.current -= 1;
        }
        let why = "the server answered 400".to_owned();
        let failure = RefreshFailure { fault: RefreshFault::Account, why, wait: None };
        let excluded = crate::credential::oauth::TokenRotation::Excluded;
        let _gone = sent.to.send(RefreshResult::Failed(failure, excluded));
    }

    /// The daemon is gone, and with it the receivers of all answers.
    pub(super) fn forget_requests(&self) {
        self.0.borrow_mut().sent.clear();
    }

    /// Lessor uses this refresh token.
    pub(super) fn in_use(&self, refresh: &str) {
        let (login, number) = read(refresh);
        let mut state = self.0.borrow_mut();
        let known = state.logins.get_mut(&login).unwrap();
        known.used = known.used.max(number);
    }

    /// Checks a login that was restored with this refresh token; `is_marked` says that a refresh with an unknown result is
    /// recorded. Returns whether the login is lost.
    pub(super) fn check_restored(&self, refresh: &str, is_marked: bool) -> bool {
        let (login, number) = read(refresh);
        let state = self.0.borrow();
        let known = &state.logins[&login];
        assert!(number >= known.used, "token {} of login {login} was in use, {number} is restored (I6)", known.used);
        let is_lost = number != known.current && !known.is_revoked;
        assert!(!is_lost || is_marked, "token {} of login {login} is lost without a trace (I6)", known.current);
        is_lost
    }

    pub(super) fn check(&self) {
        if let Some(fault) = &self.0.borrow().fault {
            panic!("{fault}");
        }
    }
}
