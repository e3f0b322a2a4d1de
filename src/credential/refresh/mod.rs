//! The refresh plan: **pure**. It decides when each login is refreshed and how failures are retried; the daemon carries
//! it out. The caller passes the time and random numbers.
//!
//! At most one refresh per account and one request per OAuth client are in flight. A failure of the endpoint or the
//! client pauses all logins of that client and is not counted against any account. A client that is refused for a login
//! that it may not have made pauses that login only, until it is refused for another one as well.

mod outcome;
mod retry_delay;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use crate::pool::{AccountId, Mono, Now, Renewing, Wall};

pub use outcome::{RefreshOutcome, RefreshTransition};
pub use retry_delay::{RefreshFailure, RefreshFault};

/// Scheduled refreshes of one client are up to this far apart, so that many that are due together do not all run at
/// once.
const BREATH: Duration = Duration::from_secs(2);
/// The same after the machine slept: the network returns later than the clock.
const AWAKENING: Duration = Duration::from_secs(10);
/// If the plan was not asked for this long, the machine slept.
const ASLEEP: Duration = Duration::from_secs(90);
/// A rejected token that is not older than this is not refreshed again: a new one would be rejected as well.
const JUST_RENEWED: Duration = Duration::from_secs(10);

/// The user's settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RefreshRules {
    /// How long before its expiry a token is refreshed; at most half its lifetime.
    pub ahead: Duration,
    /// A token with less lifetime left is not handed out; at most half its lifetime.
    pub min_life: Duration,
    /// How long a holder waits for a refresh.
    pub wait: Duration,
}

/// A login that can be refreshed, as far as the plan needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefreshableLogin {
    /// Its OAuth client; one request at a time.
    pub client: Arc<str>,
    /// Whether this client is known to have made the login. If not, it is only the provider's default, and a refusal of
    /// the client says nothing about other logins.
    pub is_client_known: bool,
    /// When its access token expires, if it does.
    pub expires_at: Option<Wall>,
    /// The token's whole lifetime, if known.
    pub life: Option<Duration>,
    /// The server rejects an earlier refresh, whatever it is for.
    pub not_before: Option<Wall>,
    /// Increases with every new token.
    pub generation: u64,
    /// A refresh was sent before, and its answer was cut off. The server may revoke the login when it sees the same
    /// refresh token again, so the access token is used to its end first, unless it is rejected.
    pub is_interrupted: bool,
}

/// Why a login is refreshed before it is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RefreshReason {
    /// A holder needs a token, and this one expires soon.
    ExpiresSoon,
    /// The provider rejected the token.
    Refused,
    /// The user asked for it.
    UserRequest,
}

/// The answer to a requested refresh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefreshSchedule {
    /// It runs, or will run soon.
    Pending,
    /// Not before this time: the last attempt failed, or the endpoint asked to wait.
    NotBefore(Mono),
    /// The token was refreshed a moment ago; another one would be rejected as well.
    JustRenewed,
    /// The login cannot be refreshed.
    Impossible,
}

/// All logins that can be refreshed.
#[derive(Debug)]
pub struct RefreshPlan {
    rules: RefreshRules,
    accounts: FxHashMap<AccountId, TrackedLogin>,
    clients: FxHashMap<Arc<str>, OauthClientState>,
    /// When the plan was last asked what to start.
    asked: Option<Mono>,
}

#[derive(Debug)]
struct TrackedLogin {
    login: RefreshableLogin,
    /// When its token was received, in this run.
    renewed: Option<Mono>,
    /// Why a refresh was requested, and when.
    wanted: Option<(RefreshReason, Mono)>,
    /// When the running refresh was started.
    running: Option<Mono>,
    /// The random position of this account within the refresh window, from 0 to 1.
    place: f64,
    outage: Outage,
}

#[derive(Debug, Default)]
struct OauthClientState {
    running: Option<AccountId>,
    /// Scheduled refreshes wait until this time.
    calm_until: Mono,
    /// The login for which the endpoint did not accept the client, and has not accepted it since.
    unaccepted_for: Option<AccountId>,
    outage: Outage,
}

/// How long an account or client has failed, and until when it is paused.
#[derive(Debug, Default)]
struct Outage {
    failures: u32,
    rest: Option<Mono>,
    /// The server stated the pause: even the user cannot end it early.
    stated: bool,
    last: Option<(RefreshFailure, Mono)>,
}

impl RefreshPlan {
    /// An empty plan.
    #[must_use]
    pub fn new(rules: RefreshRules) -> Self {
        Self { rules, accounts: FxHashMap::default(), clients: FxHashMap::default(), asked: None }
    }

    /// Changes the settings and ends the pauses of clients, whose configuration may be fixed now.
    pub fn set_rules(&mut self, rules: RefreshRules) {
        self.rules = rules;
        self.clients.values_mut().for_each(|client| client.outage.lift());
        let accounts = self.accounts.values_mut().map(|account| &mut account.outage);
        accounts.filter(|outage| outage.is_of_client()).for_each(Outage::lift);
    }

    /// The current settings.
    #[must_use]
    pub fn rules(&self) -> RefreshRules {
        self.rules
    }

    /// Adds a login, or updates it. `chance` is a random number from 0 to 1.
    pub fn update(&mut self, id: AccountId, login: RefreshableLogin, now: Now, chance: f64) {
        let client = self.clients.entry(login.client.clone());
        client.or_insert_with(|| OauthClientState {
            calm_until: now.mono.after(BREATH.mul_f64(chance)),
            ..OauthClientState::default()
        });
        let fresh = |running| TrackedLogin {
            login: login.clone(),
            renewed: None,
            wanted: None,
            running,
            place: chance,
            outage: Outage::default(),
        };
        match self.accounts.get_mut(&id) {
            None => drop(self.accounts.insert(id, fresh(None))),
            Some(known) if known.login.generation == login.generation => {
                if known.login.client != login.client {
                    known.outage.lift();
                }
                known.login = login;
            }
            Some(known) => {
                // a running attempt that brought this token reports the recovery itself
                let down = if known.running.is_some() { std::mem::take(&mut known.outage).last } else { None };
                let renewed = TrackedLogin { renewed: Some(now.mono), ..fresh(known.running) };
                *known = TrackedLogin { outage: Outage { last: down, ..Outage::default() }, ..renewed };
            }
        }
    }

    /// Removes a login from the plan.
    pub fn remove(&mut self, id: AccountId) {
        self.accounts.remove(&id);
        let used = |name: &Arc<str>| self.accounts.values().any(|account| account.login.client == *name);
        self.clients.retain(|name, client| client.running.is_some() || used(name));
    }

    /// Whether this login can be refreshed.
    #[must_use]
    pub fn contains(&self, id: AccountId) -> bool {
        self.accounts.contains_key(&id)
    }

    /// Whether the token has too little lifetime left to be handed out; false for a login that cannot be refreshed.
    #[must_use]
    pub fn expires_soon(&self, id: AccountId, now: Now) -> bool {
        self.accounts.get(&id).and_then(|account| self.low_at(account)).is_some_and(|at| at <= now.wall)
    }

    /// Whether a rejected token is worth refreshing: not if it was refreshed a moment ago.
    #[must_use]
    pub fn can_refresh(&self, id: AccountId, now: Now) -> bool {
        let is_young = |account: &TrackedLogin| account.renewed.is_some_and(|at| now.mono.since(at) < JUST_RENEWED);
        self.accounts.get(&id).is_some_and(|account| account.running.is_some() || !is_young(account))
    }

    /// Whether a login that is being refreshed has got another token since that was begun, from elsewhere.
    #[must_use]
    pub fn is_renewed_meanwhile(&self, id: AccountId) -> bool {
        let account = self.accounts.get(&id);
        account.and_then(|account| account.renewed.zip(account.running)).is_some_and(|(renewed, since)| renewed > since)
    }

    /// Requests a refresh before it is due.
    pub fn request(&mut self, id: AccountId, want: RefreshReason, now: Now) -> RefreshSchedule {
        let can_renew = self.can_refresh(id, now);
        let Some(account) = self.accounts.get_mut(&id) else { return RefreshSchedule::Impossible };
        if want == RefreshReason::Refused && !can_renew {
            return RefreshSchedule::JustRenewed;
        }
        let since = account.wanted.map_or(now.mono, |(_, since)| since);
        account.wanted = Some((account.wanted.map_or(want, |(before, _)| before.max(want)), since));
        let client = self.clients.entry(account.login.client.clone()).or_default();
        if want == RefreshReason::UserRequest {
            account.outage.lift();
            client.outage.lift();
        }
        let stated = account.login.not_before.map(|at| now.mono_of(at));
        let rest = [account.outage.rest, client.outage.rest, stated].into_iter().flatten().max();
        match rest.filter(|rest| *rest > now.mono && account.running.is_none()) {
            Some(rest) => RefreshSchedule::NotBefore(rest),
            None => RefreshSchedule::Pending,
        }
    }

    /// Returns the accounts to refresh now; each counts as running until `finish` is called. `chance` is a random
    /// number from 0 to 1.
    pub fn start_due(&mut self, now: Now, chance: f64) -> Vec<AccountId> {
        let slept = self.asked.replace(now.mono).is_some_and(|at| now.mono.since(at) > ASLEEP);
        if slept {
            let calm = now.mono.after(AWAKENING.mul_f64(chance));
            self.clients.values_mut().for_each(|client| client.calm_until = client.calm_until.max(calm));
        }
        let mut candidates: Vec<(AccountId, Mono)> =
            self.accounts.iter().filter_map(|(id, account)| Some((*id, self.begins(account)?.mono(now)))).collect();
        candidates.retain(|(_, at)| *at <= now.mono);
        // requested refreshes first, in order; then those with the fewest failures, and whose tokens expire first
        candidates.sort_by_key(|(id, _)| {
            let account = &self.accounts[id];
            let since = account.wanted.map_or(Mono(u64::MAX), |(_, since)| since);
            (since, account.outage.failures, account.login.expires_at, *id)
        });
        let mut begun = Vec::new();
        for (id, _) in candidates {
            let Some(account) = self.accounts.get_mut(&id) else { continue };
            let client = self.clients.entry(account.login.client.clone()).or_default();
            if client.running.is_none() {
                client.running = Some(id);
                account.running = Some(now.mono);
                begun.push(id);
            }
        }
        begun
    }

    /// When `start_due` must be called again, if nothing else happens before.
    #[must_use]
    pub fn next_wakeup(&self, now: Now) -> Option<Mono> {
        let idle =
            |account: &&TrackedLogin| self.clients.get(&account.login.client).is_none_or(|c| c.running.is_none());
        let begins = self.accounts.values().filter(idle).filter_map(|account| Some(self.begins(account)?.mono(now)));
        let runs_long = self.accounts.values().flat_map(|account| {
            let wanted = account.wanted.map(|(_, since)| since);
            [account.running, wanted].into_iter().flatten().map(|since| since.after(self.rules.wait))
        });
        let lows = self.accounts.values().filter_map(|account| Some(now.mono_of(self.low_at(account)?)));
        begins.chain(runs_long.chain(lows).filter(|at| *at > now.mono)).min()
    }

    /// Whether no lease may be granted on an account, because its token cannot be handed out and a new one is not
    /// expected soon.
    #[must_use]
    pub fn blocked(&self, id: AccountId, now: Now) -> Option<Renewing> {
        let account = self.accounts.get(&id)?;
        // a rejected token is unusable until there is a new one
        let refused = account.wanted.is_some_and(|(want, _)| want == RefreshReason::Refused);
        if !refused && !self.expires_soon(id, now) {
            return None;
        }
        let client = self.clients.get(&account.login.client)?;
        let stated = account.login.not_before.map(|at| now.mono_of(at));
        let rest = [account.outage.rest, client.outage.rest, stated].into_iter().flatten().max();
        let rest = rest.filter(|rest| *rest > now.mono);
        // a failing account stays blocked until a refresh succeeds
        let in_trouble = account.outage.last.is_some() || client.outage.last.is_some();
        // other logins of its client may be first, or the endpoint is slow
        let since = [account.running, account.wanted.map(|(_, since)| since)].into_iter().flatten().min();
        let too_long = since.is_some_and(|since| now.mono.since(since) >= self.rules.wait);
        (refused || in_trouble || too_long).then_some(Renewing { until: rest })
    }

    /// Why a login cannot be refreshed now, and since when.
    #[must_use]
    pub fn last_failure(&self, id: AccountId) -> Option<(&RefreshFailure, Mono)> {
        let account = self.accounts.get(&id)?;
        let client = self.clients.get(&account.login.client);
        let down = [Some(&account.outage), client.map(|client| &client.outage)];
        down.into_iter().flatten().find_map(|down| down.last.as_ref()).map(|(failure, since)| (failure, *since))
    }

    /// How many refreshes of a login have failed since the last one that did not.
    #[must_use]
    pub fn failures(&self, id: AccountId) -> u32 {
        self.accounts.get(&id).map_or(0, |account| account.outage.failures)
    }

    /// When an account's token is due for a refresh or a retry.
    fn begins(&self, account: &TrackedLogin) -> Option<DueTime> {
        if account.running.is_some() {
            return None;
        }
        let client = self.clients.get(&account.login.client)?;
        let rest = [account.outage.rest, client.outage.rest].into_iter().flatten().max().unwrap_or_default();
        match account.wanted {
            Some((_, since)) => Some(DueTime { not_before: rest.max(since), due: account.login.not_before }),
            None => {
                let due = self.due(account)?.max(account.login.not_before.unwrap_or_default());
                Some(DueTime { not_before: rest.max(client.calm_until), due: Some(due) })
            }
        }
    }

    /// When a token is due: as early as the settings say, or up to a tenth later.
    fn due(&self, account: &TrackedLogin) -> Option<Wall> {
        let end = account.login.expires_at?;
        if account.login.is_interrupted {
            return Some(end);
        }
        let half = account.login.life.map_or(Duration::MAX, |life| life / 2);
        let lead = self.rules.ahead.max(self.min_life(account)).min(half);
        Some(Wall(end.0.saturating_sub(crate::pool::millis(lead.mul_f64(1.0 - account.place / 10.0)))))
    }

    fn low_at(&self, account: &TrackedLogin) -> Option<Wall> {
        let end = account.login.expires_at?;
        let low = Wall(end.0.saturating_sub(crate::pool::millis(self.min_life(account))));
        // before, it cannot be replaced
        Some(low.max(account.login.not_before.unwrap_or_default().min(end)))
    }

    fn min_life(&self, account: &TrackedLogin) -> Duration {
        if account.login.is_interrupted {
            return Duration::ZERO;
        }
        self.rules.min_life.min(account.login.life.map_or(Duration::MAX, |life| life / 2))
    }
}

/// A time of day, but not before a time since boot.
struct DueTime {
    not_before: Mono,
    due: Option<Wall>,
}

impl DueTime {
    fn mono(&self, now: Now) -> Mono {
        self.not_before.max(self.due.map_or(Mono(0), |due| now.mono_of(due)))
    }
}
