//! Logins stay fresh: which are refreshed, when, and who waits for it. The requests are made on a thread of their own.
//!
//! Anybody in the daemon who needs the credential of a lease asks [`Daemon::fresh_credential`].

mod attempt;
mod settings;
mod shared_login;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::{Notify, oneshot};

use crate::credential::import::Tool;
use crate::credential::import::discover::KEYCHAIN;
use crate::credential::oauth::Missing;
use crate::credential::refresh::{Login, Refresher, Want, Wanted};
use crate::credential::{Credential, Link, LinkMode};
use crate::pool::{
    AccountChange, AccountId, Command, CredentialKind, Fence, LoginProblem, LoginState, Mono, Now, Wall, millis,
};
use crate::protocol::ErrorInfo;

use crate::daemon::api::add_account::login_state;
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, State};
use crate::daemon::view;

pub use settings::oauth_given;
pub(crate) use settings::rules;
pub(crate) use worker::Engine;

/// What a credential is needed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CredentialUse {
    /// It is handed out: it must live for a while.
    HandOut,
    /// It goes upstream at once: it must live.
    Forward,
    /// The one that was handed out before was refused with a 401: another one.
    Another,
}

/// What is known of all logins, beside the credentials themselves.
#[derive(Debug)]
pub(crate) struct Refreshing {
    pub(crate) plan: Refresher,
    /// Who waits for an attempt to end.
    waiters: FxHashMap<AccountId, Vec<oneshot::Sender<()>>>,
    /// Rises with every new credential of an account.
    generations: FxHashMap<AccountId, u64>,
    /// Which of them each lease was handed.
    handed: FxHashMap<Fence, u64>,
    /// How long the tokens live that came in this run.
    lives: FxHashMap<AccountId, Duration>,
    /// Refreshes of which nobody knows what the server has done, and since when.
    pub(crate) unknown: FxHashMap<AccountId, Wall>,
    /// Accounts that have changed since the plan was told.
    changed: Vec<AccountId>,
    /// Wakes the thread.
    pulse: Arc<Notify>,
}

impl Refreshing {
    pub(crate) fn new(plan: Refresher, unknown: Vec<(AccountId, Wall)>) -> Self {
        Self {
            plan,
            waiters: FxHashMap::default(),
            generations: FxHashMap::default(),
            handed: FxHashMap::default(),
            lives: FxHashMap::default(),
            unknown: unknown.into_iter().collect(),
            changed: Vec::new(),
            pulse: Arc::default(),
        }
    }

    /// An account has another credential: what was learnt of the one before does not hold.
    pub(crate) fn credential_came(&mut self, id: AccountId, life: Option<Duration>) {
        *self.generations.entry(id).or_default() += 1;
        match life {
            Some(life) => self.lives.insert(id, life),
            None => self.lives.remove(&id),
        };
        self.unknown.remove(&id);
        self.account_changed(id);
    }

    /// The plan is told of this account before anything else happens.
    pub(crate) fn account_changed(&mut self, id: AccountId) {
        if !self.changed.contains(&id) {
            self.changed.push(id);
        }
    }

    pub(crate) fn account_gone(&mut self, id: AccountId) {
        self.plan.forget(id);
        self.waiters.remove(&id);
        self.generations.remove(&id);
        self.lives.remove(&id);
        self.unknown.remove(&id);
    }

    pub(crate) fn lease_ended(&mut self, fence: Fence) {
        if !self.handed.is_empty() {
            self.handed.remove(&fence);
        }
    }

    pub(crate) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Wants a new token, and wakes the thread.
    pub(crate) fn want(&mut self, id: AccountId, want: Want, now: Now) -> Wanted {
        let wanted = self.plan.want(id, want, now);
        self.pulse.notify_one();
        wanted
    }

    pub(crate) fn generation(&self, id: AccountId) -> u64 {
        self.generations.get(&id).copied().unwrap_or_default()
    }

    pub(crate) fn waits(&mut self, id: AccountId) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let waiters = self.waiters.entry(id).or_default();
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(tell);
        told
    }

    /// Wakes the thread, and whoever waits for this account.
    fn tell(&mut self, id: AccountId) {
        for waiter in self.waiters.remove(&id).unwrap_or_default() {
            // who has gone does not wait
            let _gone = waiter.send(());
        }
        self.pulse.notify_one();
    }
}

impl State {
    /// The login of an account, if it is lessor's to refresh.
    fn login(&self, id: AccountId) -> Option<Login> {
        let account = self.pool.account(id)?;
        let credential = self.credentials.get(&id)?;
        let is_login = credential.kind == CredentialKind::Oauth && credential.refresh.is_some();
        let is_anothers = self.links.get(&id).is_some_and(|link| !self.is_ours_to_refresh(link));
        let is_over = match &account.record.login_state {
            LoginState::NeedsLogin(problem) => *problem != LoginProblem::AccessTokenEnded,
            LoginState::Ready | LoginState::NeedsVerification(_) => false,
        };
        if !is_login || is_anothers || is_over || !account.enabled() {
            return None;
        }
        let settings = settings::of(&self.configured.config, &account.record.provider).ok()?;
        let kept_at = self.tokens.known_since(id, self.tokens.of(credential));
        // of a token from before this run, the time it was kept is when it came
        let of_before = || {
            let came = kept_at.filter(|at| *at < self.started)?;
            Some(credential.expires_at?.since(came)).filter(|life| !life.is_zero())
        };
        Some(Login {
            client: settings.client_key().into(),
            expires_at: credential.expires_at,
            life: self.refreshing.lives.get(&id).copied().or_else(of_before),
            generation: self.refreshing.generation(id),
        })
    }

    /// Whether a login that another tool has is lessor's to refresh: taken over, or shared where that tool has locks.
    pub(crate) fn is_ours_to_refresh(&self, link: &Link) -> bool {
        match link.mode {
            LinkMode::Link => false,
            LinkMode::TakeOver => true,
            LinkMode::Share => link.tool == Tool::ClaudeCode.name() && !link.path.starts_with(KEYCHAIN),
        }
    }

    /// How an account begins with this credential: one that has ended is renewed before anybody gets it, if it can be.
    pub(crate) fn first_login_state(&self, provider: &str, credential: &Credential) -> LoginState {
        let is_login = credential.kind == CredentialKind::Oauth && credential.refresh.is_some();
        if is_login && settings::of(&self.configured.config, provider).is_ok() {
            return LoginState::Ready;
        }
        login_state(credential)
    }

    /// Why a login that could be refreshed is not.
    pub(crate) fn why_not_refreshed(&self, id: AccountId) -> Option<Missing> {
        let account = self.pool.account(id)?;
        self.credentials.get(&id)?.refresh.as_ref()?;
        if self.links.get(&id).is_some_and(|link| !self.is_ours_to_refresh(link)) {
            return None;
        }
        self.lacks_client(&account.record.provider)
    }

    /// What is missing for logins of a provider to be refreshed.
    pub(crate) fn lacks_client(&self, provider: &str) -> Option<Missing> {
        settings::of(&self.configured.config, provider).err()
    }

    /// After a start: what the servers have done of the last run's refreshes is found out at once, as long as they may
    /// still honour what there is; and holders from before have what was there then.
    pub(crate) fn take_up_refreshes(&mut self, now: Now) {
        let unknown: Vec<AccountId> = self.refreshing.unknown.keys().copied().collect();
        for id in unknown {
            let _if_it_can_be = self.refreshing.want(id, Want::Life, now);
        }
        let held: Vec<(Fence, AccountId)> = self.pool.leases().map(|lease| (lease.fence, lease.account)).collect();
        held.into_iter().for_each(|(fence, id)| self.note_handed(fence, id));
    }

    /// Why nothing is granted on an account whose token has to be renewed first.
    pub(crate) fn why_renewing(&self, id: AccountId) -> String {
        match self.refreshing.plan.trouble(id) {
            Some((failure, _)) => format!("its token could not be renewed: {}", failure.why),
            None => "its token is being renewed".to_owned(),
        }
    }

    /// Whether the token of an account has too little life left to be handed out, and can be renewed.
    pub(crate) fn is_low(&self, id: AccountId, now: Now) -> bool {
        let ends = self.credentials.get(&id).is_some_and(|credential| credential.expires_at.is_some());
        ends && self.refreshing.plan.is_low(id, now)
    }

    /// Whether a token that was refused can be exchanged for another one, which is worth trying.
    pub(crate) fn can_renew(&self, id: AccountId, now: Now) -> bool {
        self.refreshing.plan.can_renew(id, now)
    }

    /// Whether there is a newer token than this lease was handed.
    pub(crate) fn has_newer_token(&self, fence: Fence, now: Now) -> bool {
        let Some(id) = self.pool.lease(fence).map(|lease| lease.account) else { return false };
        let handed = self.refreshing.handed.get(&fence);
        handed.is_some_and(|handed| *handed < self.refreshing.generation(id)) && !self.is_low(id, now)
    }

    /// Remembers which credential a lease was handed, so that its refusal is laid to that one.
    pub(crate) fn note_handed(&mut self, fence: Fence, id: AccountId) {
        if self.refreshing.plan.knows(id) {
            self.refreshing.handed.insert(fence, self.refreshing.generation(id));
        }
    }
}

impl Daemon {
    /// Tells the plan what has changed of accounts.
    pub(crate) fn settle_logins(&self, state: &mut State, now: Now) {
        for id in std::mem::take(&mut state.refreshing.changed) {
            if state.pool.account(id).is_none() {
                // it is on its way into the pool, and changes again then
                continue;
            }
            let Some(login) = state.login(id) else {
                state.refreshing.plan.forget(id);
                continue;
            };
            state.refreshing.plan.know(id, login, now, chance());
            let ended = state.pool.account(id).is_some_and(|account| account.record.login_state != LoginState::Ready);
            let verify = state
                .pool
                .account(id)
                .is_some_and(|account| matches!(account.record.login_state, LoginState::NeedsVerification(_)));
            if ended && !verify {
                // its token has ended, but another one can be had
                let change = AccountChange { login_state: Some(LoginState::Ready), ..AccountChange::default() };
                self.apply_unasked(state, now, Command::ChangeAccount(id, Box::new(change)));
            }
        }
        state.refreshing.pulse.notify_one();
    }

    /// Tells the pool which accounts have no token to hand out.
    pub(crate) fn settle_tokens(&self, state: &mut State, now: Now) {
        let changed: Vec<_> = state
            .pool
            .accounts()
            .iter()
            .filter_map(|account| {
                let id = account.record.id;
                let stuck = state.refreshing.plan.stuck(id, now);
                (stuck != account.renewing()).then_some((id, stuck))
            })
            .collect();
        for (id, stuck) in changed {
            self.apply_unasked(state, now, Command::SetRenewing(id, stuck));
        }
    }

    /// The credential of a lease, refreshed first if need be: waits for that for at most `refresh.wait`.
    ///
    /// # Errors
    /// `stale_lease`; `credential_unavailable` when there is none to be had now, with the time it may be.
    pub async fn fresh_credential(&self, fence: Fence, need: CredentialUse) -> Result<Credential, ErrorInfo> {
        let (wait, told) = {
            let state = &mut *self.state();
            match self.credential_for(state, fence, need)? {
                CredentialState::Usable(credential) => return Ok(credential),
                CredentialState::BeingRefreshed(id) => (state.refreshing.plan.rules().wait, state.refreshing.waits(id)),
                CredentialState::Unavailable(error) => return Err(error),
            }
        };
        let _told_or_not = tokio::time::timeout(wait, told).await;
        let state = &mut *self.state();
        match self.current_credential(state, fence, need)? {
            CredentialState::Usable(credential) => Ok(credential),
            CredentialState::BeingRefreshed(id) => Err(not_now(state, id, None)),
            CredentialState::Unavailable(error) => Err(error),
        }
    }

    /// What can be said at once.
    pub(crate) fn credential_for(
        &self,
        state: &mut State,
        fence: Fence,
        need: CredentialUse,
    ) -> Result<CredentialState, ErrorInfo> {
        let looked = self.current_credential(state, fence, need)?;
        let CredentialState::BeingRefreshed(id) = looked else { return Ok(looked) };
        let now = clock::now();
        let want = if need == CredentialUse::Another { Want::Refused } else { Want::Life };
        let wanted = state.refreshing.want(id, want, now);
        let soon = now.mono.after(state.refreshing.plan.rules().wait);
        Ok(match wanted {
            Wanted::Coming => CredentialState::BeingRefreshed(id),
            Wanted::NotBefore(at) if at <= soon => CredentialState::BeingRefreshed(id),
            Wanted::NotBefore(at) => CredentialState::Unavailable(not_now(state, id, Some(at))),
            Wanted::JustRenewed => CredentialState::Unavailable(just_renewed(state, id)),
            Wanted::Never => CredentialState::Unavailable(never(state, id)),
        })
    }

    /// The same, without wanting anything.
    fn current_credential(
        &self,
        state: &mut State,
        fence: Fence,
        need: CredentialUse,
    ) -> Result<CredentialState, ErrorInfo> {
        let now = clock::now();
        let stale = || ErrorInfo::new("stale_lease", "this lease has ended").hint("acquire a new one");
        let id = state.pool.lease(fence).ok_or_else(stale)?.account;
        let account = state.pool.account(id).ok_or_else(stale)?;
        if matches!(account.record.login_state, LoginState::NeedsLogin(_))
            && !state.refreshing.plan.knows(id)
            && (need == CredentialUse::Another
                || state.credentials.get(&id).is_none_or(|credential| has_ended(credential, now)))
        {
            let why = view::state_reason(state, now, account).unwrap_or_default();
            let message = format!("{} needs a new login: {why}", account.display_name());
            let hint = format!("lessor login {}; report `auth_failed` to get another account", account.record.provider);
            return Ok(CredentialState::Unavailable(ErrorInfo::new("credential_unavailable", message).hint(hint)));
        }
        let Some(credential) = state.credentials.get(&id) else {
            return Ok(CredentialState::Unavailable(never(state, id)));
        };
        let fine = match need {
            CredentialUse::Forward => {
                !state.is_low(id, now) || !has_ended(credential, now) && is_resting(state, id, now)
            }
            CredentialUse::HandOut => !state.is_low(id, now),
            CredentialUse::Another => state.has_newer_token(fence, now),
        };
        if fine {
            let credential = credential.duplicate();
            state.note_handed(fence, id);
            return Ok(CredentialState::Usable(credential));
        }
        Ok(if state.refreshing.plan.knows(id) {
            CredentialState::BeingRefreshed(id)
        } else {
            CredentialState::Unavailable(never(state, id))
        })
    }
}

/// What can be said of a lease's credential.
pub(crate) enum CredentialState {
    /// It can be used.
    Usable(Credential),
    /// It is about to be renewed.
    BeingRefreshed(AccountId),
    /// There is none.
    Unavailable(ErrorInfo),
}

fn has_ended(credential: &Credential, now: Now) -> bool {
    credential.expires_at.is_some_and(|end| end <= now.wall)
}

/// Whether it is no use to wait for a new token: the last attempt failed.
fn is_resting(state: &State, id: AccountId, now: Now) -> bool {
    state.refreshing.plan.stuck(id, now).is_some()
}

/// There is none now.
pub(crate) fn not_now(state: &State, id: AccountId, at: Option<Mono>) -> ErrorInfo {
    let name = state.pool.account(id).map_or_else(|| id.to_string(), |account| account.display_name());
    let why = state.refreshing.plan.trouble(id).map(|(failure, _)| failure.why.clone());
    let why = why.unwrap_or_else(|| "that takes longer than `refresh.wait`".to_owned());
    let mut error =
        ErrorInfo::new("credential_unavailable", format!("the token of {name} could not be renewed: {why}"));
    let now = clock::now();
    let until = at.or_else(|| state.refreshing.plan.stuck(id, now)?.until);
    error.data.retry_after_ms = until.map(|at| millis(at.since(now.mono)));
    error.hint("try again then, or acquire another account")
}

pub(crate) fn just_renewed(state: &State, id: AccountId) -> ErrorInfo {
    let name = state.pool.account(id).map_or_else(|| id.to_string(), |account| account.display_name());
    let message = format!("the token of {name} was renewed a moment ago, and another one would be refused as well");
    ErrorInfo::new("credential_unavailable", message).hint("report `auth_failed` and go on with another account")
}

pub(crate) fn never(state: &State, id: AccountId) -> ErrorInfo {
    let name = state.pool.account(id).map_or_else(|| id.to_string(), |account| account.display_name());
    let message = match state.why_not_refreshed(id) {
        Some(missing) => format!("the token of {name} cannot be renewed: {missing}"),
        None => format!("the credential of {name} is none that lessor can renew"),
    };
    let remedy = state.why_not_refreshed(id).map(|missing| missing.remedy());
    let usual = || "report `auth_failed` and go on with another account; add the account again to renew it".to_owned();
    ErrorInfo::new("credential_unavailable", message).hint(remedy.unwrap_or_else(usual))
}

/// From 0 to 1; without random bits from the system everything goes on, in step.
pub(crate) fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |bits| f64::from(bits) / f64::from(u32::MAX))
}
