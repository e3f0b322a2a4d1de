//! When a login is refreshed, and what follows from how that ended: **pure**. It is handed the time and chance, and
//! answers what to do next; the daemon does it.
//!
//! One refresh of an account at a time, and one request of an OAuth client at a time. What the endpoint or the client is
//! to blame for rests all logins of the client, and blames none of them.

mod rest;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::pool::{AccountId, Mono, Now, Renewing, Wall};

pub use rest::{Failure, Fault};

/// Refreshes that nobody waits for keep this distance at most, so that many that are due at once do not come at once.
const BREATH: Duration = Duration::from_secs(2);
/// The same after the machine was asleep: the network comes back later than the clock.
const AWAKENING: Duration = Duration::from_secs(10);
/// Nobody looked for so long: the machine was asleep.
const ASLEEP: Duration = Duration::from_secs(90);
/// A token that was refused is not renewed again when it is no older than this: it is not the token.
const JUST_RENEWED: Duration = Duration::from_secs(10);

/// What the user decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// How long before its end a token is renewed; at most half its life.
    pub ahead: Duration,
    /// A token with less life is not handed out; at most half its life.
    pub min_life: Duration,
    /// How long a holder waits.
    pub wait: Duration,
}

/// A login that can be refreshed, as far as that matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// Its OAuth client: one request at a time.
    pub client: Arc<str>,
    /// When its token ends, if it does.
    pub expires_at: Option<Wall>,
    /// The token's whole life, where that is known.
    pub life: Option<Duration>,
    /// Rises with every new token.
    pub generation: u64,
}

/// Why a login is to be refreshed before it is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Want {
    /// Its token has too little life left for somebody who needs one.
    Life,
    /// Its token was refused.
    Refused,
    /// The user says so.
    User,
}

/// What became of a want.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// It is on its way, or will be.
    Coming,
    /// Not before then: the last attempt failed, or the endpoint wants to be left alone.
    NotBefore(Mono),
    /// The token is just out of the endpoint: another one would be refused as well.
    JustRenewed,
    /// It is no login that can be refreshed.
    Never,
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// There is a new token; `know` has been told.
    Renewed,
    /// The login is over, or gone; `forget` is told.
    Over,
    /// There is none.
    Failed(Failure),
}

/// A change worth a line in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Refreshing does not work from now on.
    Down(Failure),
    /// It works again; since when it had not.
    Up(Mono),
}

/// All logins that can be refreshed.
#[derive(Debug)]
pub struct Refresher {
    rules: Rules,
    accounts: FxHashMap<AccountId, Account>,
    clients: FxHashMap<Arc<str>, Client>,
    /// When it was last asked what to begin.
    looked: Option<Mono>,
}

#[derive(Debug)]
struct Account {
    login: Login,
    /// When its token came, in this run.
    renewed: Option<Mono>,
    /// Why it is wanted, and since when.
    wanted: Option<(Want, Mono)>,
    /// Since when it is under way.
    running: Option<Mono>,
    /// Where in the time of renewal it lies, from 0 to 1.
    place: f64,
    down: Down,
}

#[derive(Debug, Default)]
struct Client {
    running: Option<AccountId>,
    /// Refreshes that nobody waits for come after this.
    calm_until: Mono,
    down: Down,
}

/// How long something has not worked, and until when it rests.
#[derive(Debug, Default)]
struct Down {
    failures: u32,
    rest: Option<Mono>,
    /// The server said so: not even the user goes before that.
    stated: bool,
    last: Option<(Failure, Mono)>,
}

impl Refresher {
    /// Without any login.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, accounts: FxHashMap::default(), clients: FxHashMap::default(), looked: None }
    }

    /// Goes by these rules from now on; what was wrong with a client may be mended.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        self.clients.values_mut().for_each(|client| client.down.lift());
    }

    /// What it goes by.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Takes in a login, or what has become of it. `chance` is from 0 to 1.
    pub fn know(&mut self, id: AccountId, login: Login, now: Now, chance: f64) {
        let client = self.clients.entry(login.client.clone());
        client.or_insert_with(|| Client { calm_until: now.mono.after(BREATH.mul_f64(chance)), ..Client::default() });
        let fresh = |running| Account {
            login: login.clone(),
            renewed: None,
            wanted: None,
            running,
            place: chance,
            down: Down::default(),
        };
        match self.accounts.get_mut(&id) {
            None => drop(self.accounts.insert(id, fresh(None))),
            Some(known) if known.login.generation == login.generation => known.login = login,
            Some(known) => {
                // an attempt that has brought it says itself that all is well again
                let down = if known.running.is_some() { std::mem::take(&mut known.down).last } else { None };
                let renewed = Account { renewed: Some(now.mono), ..fresh(known.running) };
                *known = Account { down: Down { last: down, ..Down::default() }, ..renewed };
            }
        }
    }

    /// Leaves a login alone from now on.
    pub fn forget(&mut self, id: AccountId) {
        self.accounts.remove(&id);
        let used = |name: &Arc<str>| self.accounts.values().any(|account| account.login.client == *name);
        self.clients.retain(|name, client| client.running.is_some() || used(name));
    }

    /// Whether this login can be refreshed.
    #[must_use]
    pub fn knows(&self, id: AccountId) -> bool {
        self.accounts.contains_key(&id)
    }

    /// Whether the token has too little life left to be handed out; never that of a login that cannot be refreshed.
    #[must_use]
    pub fn is_low(&self, id: AccountId, now: Now) -> bool {
        self.accounts.get(&id).and_then(|account| self.low_at(account)).is_some_and(|at| at <= now.wall)
    }

    /// Whether a token that was refused is worth exchanging: not when it just was.
    #[must_use]
    pub fn can_renew(&self, id: AccountId, now: Now) -> bool {
        let is_young = |account: &Account| account.renewed.is_some_and(|at| now.mono.since(at) < JUST_RENEWED);
        self.accounts.get(&id).is_some_and(|account| account.running.is_some() || !is_young(account))
    }

    /// Wants a new token before it is due.
    pub fn want(&mut self, id: AccountId, want: Want, now: Now) -> Wanted {
        let can_renew = self.can_renew(id, now);
        let Some(account) = self.accounts.get_mut(&id) else { return Wanted::Never };
        if want == Want::Refused && !can_renew {
            return Wanted::JustRenewed;
        }
        let since = account.wanted.map_or(now.mono, |(_, since)| since);
        account.wanted = Some((account.wanted.map_or(want, |(before, _)| before.max(want)), since));
        let client = self.clients.entry(account.login.client.clone()).or_default();
        if want == Want::User {
            account.down.lift();
            client.down.lift();
        }
        let rest = [account.down.rest, client.down.rest].into_iter().flatten().max();
        match rest.filter(|rest| *rest > now.mono && account.running.is_none()) {
            Some(rest) => Wanted::NotBefore(rest),
            None => Wanted::Coming,
        }
    }

    /// What is to be refreshed now; each is under way from now on, until `ended` is told. `chance` is from 0 to 1.
    pub fn begin(&mut self, now: Now, chance: f64) -> Vec<AccountId> {
        let slept = self.looked.replace(now.mono).is_some_and(|at| now.mono.since(at) > ASLEEP);
        if slept {
            let calm = now.mono.after(AWAKENING.mul_f64(chance));
            self.clients.values_mut().for_each(|client| client.calm_until = client.calm_until.max(calm));
        }
        let mut candidates: Vec<(AccountId, Mono)> =
            self.accounts.iter().filter_map(|(id, account)| Some((*id, self.begins(account)?.mono(now)))).collect();
        candidates.retain(|(_, at)| *at <= now.mono);
        // whoever is waited for goes first, in order; then whoever has failed least, and whose token ends first
        candidates.sort_by_key(|(id, _)| {
            let account = &self.accounts[id];
            let since = account.wanted.map_or(Mono(u64::MAX), |(_, since)| since);
            (since, account.down.failures, account.login.expires_at, *id)
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

    /// What was begun has ended. `chance` is from 0 to 1.
    pub fn ended(&mut self, id: AccountId, ended: &Ended, now: Now, chance: f64) -> Option<Turn> {
        let name = self.clients.iter().find(|(_, client)| client.running == Some(id)).map(|(name, _)| name.clone())?;
        let client = self.clients.get_mut(&name)?;
        client.running = None;
        client.calm_until = now.mono.after(BREATH.mul_f64(chance));
        let account = self.accounts.get_mut(&id);
        let turn = match ended {
            Ended::Renewed => {
                let one = account.and_then(|account| {
                    (account.running, account.wanted) = (None, None);
                    account.down.up()
                });
                client.down.up().or(one)
            }
            // the endpoint has answered, and meant this one only
            Ended::Over => client.down.up(),
            Ended::Failed(failure) => {
                let mut down = None;
                if let Some(account) = account {
                    account.running = None;
                    // who asked by hand is told, and asks again
                    account.wanted.take_if(|(want, _)| *want == Want::User);
                    if failure.fault == Fault::Account {
                        down = account.down.down(failure, now.mono, chance);
                    } else {
                        // it comes after those that have not failed
                        account.down.failures = account.down.failures.saturating_add(1);
                    }
                }
                if failure.fault == Fault::Account { down } else { client.down.down(failure, now.mono, chance) }
            }
        };
        if matches!(ended, Ended::Over) {
            self.forget(id);
        }
        turn
    }

    /// When `begin` is to be asked again, if nothing happens before.
    #[must_use]
    pub fn wake(&self, now: Now) -> Option<Mono> {
        let idle = |account: &&Account| self.clients.get(&account.login.client).is_none_or(|c| c.running.is_none());
        let begins = self.accounts.values().filter(idle).filter_map(|account| Some(self.begins(account)?.mono(now)));
        let runs_long = self.accounts.values().flat_map(|account| {
            let wanted = account.wanted.map(|(_, since)| since);
            [account.running, wanted].into_iter().flatten().map(|since| since.after(self.rules.wait))
        });
        let lows = self.accounts.values().filter_map(|account| Some(now.mono_of(self.low_at(account)?)));
        begins.chain(runs_long.chain(lows).filter(|at| *at > now.mono)).min()
    }

    /// Whether nothing may be granted on an account, because its token cannot be handed out and a new one is not near.
    #[must_use]
    pub fn stuck(&self, id: AccountId, now: Now) -> Option<Renewing> {
        let account = self.accounts.get(&id)?;
        // a token that was refused is as good as none, until there is another one
        let refused = account.wanted.is_some_and(|(want, _)| want == Want::Refused);
        if !refused && !self.is_low(id, now) {
            return None;
        }
        let client = self.clients.get(&account.login.client)?;
        let rest = [account.down.rest, client.down.rest].into_iter().flatten().max().filter(|rest| *rest > now.mono);
        // who has failed is stuck until it works, however often it is tried meanwhile
        let in_trouble = account.down.last.is_some() || client.down.last.is_some();
        // others of its client may go first, or the endpoint takes its time
        let since = [account.running, account.wanted.map(|(_, since)| since)].into_iter().flatten().min();
        let too_long = since.is_some_and(|since| now.mono.since(since) >= self.rules.wait);
        (refused || in_trouble || too_long).then_some(Renewing { until: rest })
    }

    /// Why a login is not refreshed now, and since when.
    #[must_use]
    pub fn trouble(&self, id: AccountId) -> Option<(&Failure, Mono)> {
        let account = self.accounts.get(&id)?;
        let client = self.clients.get(&account.login.client);
        let down = [Some(&account.down), client.map(|client| &client.down)];
        down.into_iter().flatten().find_map(|down| down.last.as_ref()).map(|(failure, since)| (failure, *since))
    }

    /// When an account's token is to be renewed, or to be tried again.
    fn begins(&self, account: &Account) -> Option<At> {
        if account.running.is_some() {
            return None;
        }
        let client = self.clients.get(&account.login.client)?;
        let rest = [account.down.rest, client.down.rest].into_iter().flatten().max().unwrap_or_default();
        match account.wanted {
            Some((_, since)) => Some(At { not_before: rest.max(since), due: None }),
            None => Some(At { not_before: rest.max(client.calm_until), due: Some(self.due(account)?) }),
        }
    }

    /// When a token is due: as far ahead as the rules say, or up to a tenth later.
    fn due(&self, account: &Account) -> Option<Wall> {
        let end = account.login.expires_at?;
        let half = account.login.life.map_or(Duration::MAX, |life| life / 2);
        let lead = self.rules.ahead.max(self.min_life(account)).min(half);
        Some(Wall(end.0.saturating_sub(crate::pool::millis(lead.mul_f64(1.0 - account.place / 10.0)))))
    }

    fn low_at(&self, account: &Account) -> Option<Wall> {
        let end = account.login.expires_at?;
        Some(Wall(end.0.saturating_sub(crate::pool::millis(self.min_life(account)))))
    }

    fn min_life(&self, account: &Account) -> Duration {
        self.rules.min_life.min(account.login.life.map_or(Duration::MAX, |life| life / 2))
    }
}

/// A time of day, but not before a time since boot.
struct At {
    not_before: Mono,
    due: Option<Wall>,
}

impl At {
    fn mono(&self, now: Now) -> Mono {
        self.not_before.max(self.due.map_or(Mono(0), |due| now.mono_of(due)))
    }
}
