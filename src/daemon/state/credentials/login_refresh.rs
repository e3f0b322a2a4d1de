//! Which logins are to be refreshed, and which token each lease was handed. The requests are sent by the worker in
//! `daemon/refresh`.

use std::convert::Infallible;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::oneshot;

use super::oauth_settings::{client_of, refresh_rules};
use super::renewal::{Renewal, is_refreshable};
use super::{login_state_of, set_login_state};
use crate::credential::refresh::{RefreshPlan, RefreshReason, RefreshRules, RefreshSchedule, RefreshableLogin};
use crate::daemon::state::{Mailbox, State};
use crate::pool::{AccountId, Command, Fence, LoginProblem, LoginState, Mono, Now, Wall};
use crate::shared_pool::TokenGeneration;
use crate::{config::Config, credential::Credential, credential::oauth::MissingSettings};

/// What is known of all logins, beside the credentials themselves.
#[derive(Debug)]
pub(crate) struct LoginRefresh {
    /// When to refresh which login.
    pub(crate) plan: RefreshPlan,
    /// Receivers of the end of an attempt.
    waiting: FxHashMap<AccountId, Vec<oneshot::Sender<()>>>,
    /// Counts the credentials of each account.
    generations: FxHashMap<AccountId, u64>,
    /// The generation that each lease was handed.
    pub(super) handed: FxHashMap<Fence, u64>,
    /// The lifetime of tokens that were issued in this run.
    lifetimes: FxHashMap<AccountId, Duration>,
    /// Refreshes that were sent and whose answers were lost, and when.
    pub(crate) unanswered: FxHashMap<AccountId, Wall>,
    /// Those of them that the end of the last run cut off. The server may have replaced the refresh token, and may revoke
    /// the login when it sees the old one again: that one is sent only when the access token does not serve any more.
    interrupted: FxHashSet<AccountId>,
    /// Accounts of the shared pool whose credential is the answer to a refresh of this generation that the pool does not
    /// have.
    pub(super) pool_answers: FxHashMap<AccountId, TokenGeneration>,
    /// Whether this host might refresh the logins of the shared pool when that was last looked at.
    pub(super) may_refresh_shared: bool,
    /// The refreshes that are about to be sent or were sent, and since when.
    requests: FxHashMap<AccountId, Mono>,
    /// The daemon is ending: no refresh is sent any more.
    is_ending: bool,
    /// Accounts that have changed since the plan was last updated, in order.
    changed: Vec<AccountId>,
    /// The same accounts, to find one of many.
    is_changed: FxHashSet<AccountId>,
    /// When this run began.
    started: Wall,
    worker: Mailbox<Infallible>,
    /// State of a generator of pseudo-random numbers: the system is not asked for them under the lock.
    seed: u64,
}

impl LoginRefresh {
    pub(in crate::daemon::state) fn new(
        config: &Config,
        unanswered: Vec<(AccountId, Wall)>,
        worker: Mailbox<Infallible>,
        (started, seed): (Wall, u64),
    ) -> Self {
        Self {
            plan: RefreshPlan::new(refresh_rules(config)),
            waiting: FxHashMap::default(),
            generations: FxHashMap::default(),
            handed: FxHashMap::default(),
            lifetimes: FxHashMap::default(),
            interrupted: unanswered.iter().map(|(id, _)| *id).collect(),
            unanswered: unanswered.into_iter().collect(),
            pool_answers: FxHashMap::default(),
            may_refresh_shared: false,
            requests: FxHashMap::default(),
            is_ending: false,
            changed: Vec::new(),
            is_changed: FxHashSet::default(),
            started,
            worker,
            seed,
        }
    }

    /// An account has another credential: what was learnt of the one before does not hold.
    pub(in crate::daemon::state) fn credential_replaced(&mut self, id: AccountId, life: Option<Duration>) {
        *self.generations.entry(id).or_default() += 1;
        match life {
            Some(life) => self.lifetimes.insert(id, life),
            None => self.lifetimes.remove(&id),
        };
        self.unanswered.remove(&id);
        self.interrupted.remove(&id);
        self.account_changed(id);
    }

    /// The current token of an account was issued a moment ago, for this long.
    pub(crate) fn learn_life(&mut self, id: AccountId, life: Duration) {
        self.lifetimes.insert(id, life);
        self.account_changed(id);
    }

    /// Has the plan updated for this account, at the latest by the worker.
    pub(in crate::daemon::state) fn account_changed(&mut self, id: AccountId) {
        if self.is_changed.insert(id) {
            if self.changed.is_empty() {
                self.worker.wake();
            }
            self.changed.push(id);
        }
    }

    pub(in crate::daemon::state) fn account_removed(&mut self, id: AccountId) {
        self.plan.remove(id);
        self.waiting.remove(&id);
        self.generations.remove(&id);
        self.lifetimes.remove(&id);
        self.unanswered.remove(&id);
        self.interrupted.remove(&id);
        self.pool_answers.remove(&id);
    }

    /// A refresh is about to be sent; `false` when the daemon is ending, and it must not be. To be followed by
    /// [`Self::request_ended`].
    pub(crate) fn begin_request(&mut self, id: AccountId, now: Now) -> bool {
        if self.is_ending {
            return false;
        }
        self.requests.insert(id, now.mono);
        // from here on it is a refresh like any other
        if self.interrupted.remove(&id) {
            self.account_changed(id);
        }
        true
    }

    /// What was begun is over: its answer is saved, or will not come.
    pub(crate) fn request_ended(&mut self, id: AccountId) {
        self.requests.remove(&id);
    }

    /// From now on no refresh is sent. What waits for one that was not sent continues without it.
    pub(crate) fn end_requests(&mut self) {
        self.is_ending = true;
        self.waiting.retain(|id, _| self.requests.contains_key(id));
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// The refreshes that were begun, and since when.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (AccountId, Mono)> {
        self.requests.iter().map(|(id, since)| (*id, *since))
    }

    /// When the refresh was sent that the end of the last run cut off, if it was not sent again since.
    pub(crate) fn interrupted_at(&self, id: AccountId) -> Option<Wall> {
        self.unanswered.get(&id).copied().filter(|_| self.interrupted.contains(&id))
    }

    pub(in crate::daemon::state) fn lease_ended(&mut self, fence: Fence) {
        if !self.handed.is_empty() {
            self.handed.remove(&fence);
        }
    }

    pub(in crate::daemon::state) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Applies a changed `[refresh]` section; every login is looked at again.
    pub(crate) fn configure(&mut self, config: &Config, accounts: impl Iterator<Item = AccountId>) {
        self.plan.set_rules(refresh_rules(config));
        accounts.for_each(|id| self.account_changed(id));
    }

    /// Asks for a new token, and wakes the worker.
    pub(crate) fn want(&mut self, id: AccountId, want: RefreshReason, now: Now) -> RefreshSchedule {
        let wanted = self.plan.request(id, want, now);
        self.worker.wake();
        wanted
    }

    /// How many credentials the account has had in this run.
    pub(crate) fn generation(&self, id: AccountId) -> u64 {
        self.generations.get(&id).copied().unwrap_or_default()
    }

    pub(crate) fn rules(&self) -> RefreshRules {
        self.plan.rules()
    }

    /// A number from 0 to 1 that spreads refreshes over time (SplitMix64).
    pub(crate) fn jitter(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Receives the end of the next attempt.
    pub(crate) fn attempt_ends(&mut self, id: AccountId) -> oneshot::Receiver<()> {
        let (ended, receiver) = oneshot::channel();
        let waiting = self.waiting.entry(id).or_default();
        waiting.retain(|waiter| !waiter.is_closed());
        waiting.push(ended);
        receiver
    }

    /// Whether a request waits for the end of the next attempt.
    pub(crate) fn is_waited_for(&self, id: AccountId) -> bool {
        self.waiting.get(&id).is_some_and(|waiting| waiting.iter().any(|waiter| !waiter.is_closed()))
    }

    /// An attempt has ended: wakes what waits for it, and the worker.
    pub(crate) fn attempt_ended(&mut self, id: AccountId) {
        for waiter in self.waiting.remove(&id).unwrap_or_default() {
            // its request may have been cancelled
            let _cancelled = waiter.send(());
        }
        self.worker.wake();
    }
}

impl State {
    /// The login of an account, if lessor may refresh it.
    fn refreshable_login(&self, id: AccountId) -> Option<RefreshableLogin> {
        let account = self.pool.account(id)?;
        let credential = self.credentials.get(id)?;
        let has_ended = match &account.record.login_state {
            LoginState::NeedsLogin(problem) => *problem != LoginProblem::AccessTokenEnded,
            LoginState::Ready | LoginState::NeedsVerification(_) => false,
        };
        if has_ended || !account.enabled() {
            return None;
        }
        let (client, is_client_known) = match self.renewal(id)?.ok()? {
            Renewal::Oauth(settings) => (settings.client_key(), client_of(credential).is_some()),
            // each home has its own: programs run beside each other, one for each login
            Renewal::StartTool(link) => (format!("{} of {}", link.tool, link.path), true),
        };
        let prints = &self.credentials.fingerprints;
        let kept_at = prints.known_since(id, prints.of(credential));
        // a token from before this run was issued about when it was kept
        let from_before = || {
            let issued = kept_at.filter(|at| *at < self.logins.started)?;
            Some(credential.expires_at?.since(issued)).filter(|life| !life.is_zero())
        };
        Some(RefreshableLogin {
            client: client.into(),
            is_client_known,
            expires_at: credential.expires_at,
            life: self.logins.lifetimes.get(&id).copied().or_else(from_before),
            not_before: credential.refresh_from,
            generation: self.logins.generation(id),
            is_interrupted: self.logins.interrupted.contains(&id),
        })
    }

    /// Whether lessor could refresh an account's login, whatever its state.
    pub(crate) fn can_be_refreshed(&self, id: AccountId) -> bool {
        matches!(self.renewal(id), Some(Ok(_)))
    }

    /// The login state of a new account with this credential: one that has ended but can be refreshed is ready.
    pub(crate) fn initial_login_state(&self, provider: &str, credential: &Credential) -> LoginState {
        if is_refreshable(credential) && self.oauth_settings(provider, credential).is_ok() {
            return LoginState::Ready;
        }
        login_state_of(credential)
    }

    /// What is missing for lessor to refresh a login that it should refresh.
    pub(crate) fn missing_for_refresh(&self, id: AccountId) -> Option<MissingSettings> {
        self.renewal(id)?.err()
    }

    /// Whether lessor has the client of an imported login. The only client that is stored can be that of another tool: it
    /// does not count for a login of which the client is not known.
    pub(crate) fn has_client_of(&self, provider: &str, credential: &Credential) -> bool {
        let is_certain = client_of(credential).is_some();
        let settings = self.oauth_settings(provider, credential);
        settings.is_ok_and(|settings| is_certain || settings.stored_as().is_none())
    }

    /// What is missing for a login to be refreshed.
    pub(crate) fn missing_client(&self, provider: &str, credential: &Credential) -> Option<MissingSettings> {
        self.oauth_settings(provider, credential).err()
    }

    /// After a start: logins whose refresh was not answered in the last run, and whose token has ended, are refreshed at
    /// once; and leases from before have the tokens that were there then.
    pub(in crate::daemon::state) fn resume_refreshes(&mut self, now: Now) {
        let plan = &self.logins.plan;
        let ended: Vec<AccountId> =
            self.logins.unanswered.keys().copied().filter(|id| plan.expires_soon(*id, now)).collect();
        for id in ended {
            let _if_possible = self.logins.want(id, RefreshReason::ExpiresSoon, now);
        }
        let held: Vec<Fence> = self.pool.leases().map(|lease| lease.fence).collect();
        held.into_iter().for_each(|fence| self.note_handed(fence));
    }

    /// Updates the plan for the accounts that have changed; answers what follows for the pool.
    pub(in crate::daemon::state) fn plan_refreshes(&mut self, now: Now) -> Vec<Command> {
        let mut commands = Vec::new();
        self.logins.is_changed.clear();
        for id in std::mem::take(&mut self.logins.changed) {
            let Some(login_state) = self.pool.account(id).map(|account| account.record.login_state.clone()) else {
                // it is being added, and changes again then
                continue;
            };
            let Some(login) = self.refreshable_login(id) else {
                self.logins.plan.remove(id);
                continue;
            };
            let jitter = self.logins.jitter();
            self.logins.plan.update(id, login, now, jitter);
            if matches!(login_state, LoginState::NeedsLogin(_)) {
                // its token has ended, but can be refreshed
                commands.push(set_login_state(id, LoginState::Ready));
            }
        }
        self.logins.worker.wake();
        commands
    }

    /// Brings the plan up to date before the worker reads it.
    pub(crate) fn update_refresh_plan(&mut self, now: Now) {
        if self.logins.has_changes() {
            for command in self.plan_refreshes(now) {
                self.apply_internal(now, command);
            }
        }
    }

    /// Has the pool skip the accounts whose token is being refreshed, and use the others again.
    pub(crate) fn update_renewing_accounts(&mut self, now: Now) {
        let accounts = self.pool.accounts().iter();
        let changed: Vec<Command> = accounts
            .filter_map(|account| {
                let id = account.record.id;
                let renewing = self.token_blocked(id, now);
                (renewing != account.renewing()).then_some(Command::SetRenewing(id, renewing))
            })
            .collect();
        changed.into_iter().for_each(|command| self.apply_internal(now, command));
    }
}
