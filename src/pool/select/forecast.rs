//! Forecasts: how many leases can be granted now, and when more can.

use crate::pool::account::Account;
use crate::pool::lease::LeaseKind;
use crate::pool::model::{AccountId, Deadline, Ineligible, LeaseRequest, Mono, Now, Wall};
use crate::pool::select::eligibility::{closed_on, out_of_service};
use crate::pool::state::Pool;
use rustc_hash::FxHashMap;

/// How many leases can be granted, now and next.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Forecast {
    /// How many leases could be granted now.
    pub grantable: u32,
    /// How many of them without sharing an account beyond its capacity.
    pub unshared: u32,
    /// When the next account is free; where more leases were asked for than can be granted now, when that many can be.
    /// `None` where that depends on holders.
    pub next_at: Option<Wall>,
    /// Each account of the provider.
    pub accounts: Vec<Outlook>,
}

/// The forecast of one account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outlook {
    /// The account.
    pub account: AccountId,
    /// How many leases it can take now.
    pub room: u32,
    /// Why it can take none.
    pub why: Option<Ineligible>,
    /// Until when, where that is known.
    pub until: Option<Wall>,
}

impl Pool {
    /// How many leases could be granted to requests like `ask`; without an agent, the `use` policies are ignored. `count`
    /// is how many leases are wanted.
    pub fn forecast(&self, now: Now, ask: &LeaseRequest, count: Option<u32>) -> Forecast {
        let Some(provider) = self.accounts.of_provider(&ask.target.provider) else { return Forecast::default() };
        let mut frees: FxHashMap<AccountId, Mono> = FxHashMap::default();
        for (at, lease) in self.timers.expiries().filter_map(|(at, fence)| Some((at, self.leases.get(fence)?))) {
            frees.entry(lease.account).or_insert(at);
        }
        let mut forecast = Forecast::default();
        // when accounts are free again, and with how much room
        let mut returns: Vec<(Wall, u32)> = Vec::new();
        for &slot in provider.slots() {
            let account = &self.accounts[slot];
            let frees = frees.get(&account.record.id).map(|at| now.wall_of(*at));
            let outlook = self.outlook(now, slot, ask, frees);
            let most = self.room(account);
            let fresh = account.policy.capacity.saturating_sub(account.used());
            forecast.grantable = forecast.grantable.saturating_add(outlook.room);
            forecast.unshared = forecast.unshared.saturating_add(outlook.room.min(fresh));
            returns.extend(outlook.until.filter(|_| outlook.room == 0).map(|at| (at, most.max(1))));
            forecast.accounts.push(outlook);
        }
        returns.sort_unstable();
        let missing = count.unwrap_or(0).saturating_sub(forecast.grantable);
        let mut gained: u32 = 0;
        let enough = returns.iter().find(|(_, room)| {
            gained = gained.saturating_add(*room);
            gained >= missing
        });
        forecast.next_at = enough.map(|(at, _)| *at);
        if let Some(until) = self.timers.grace() {
            // after a restart nothing is granted before earlier holders had time to resume their leases
            let until = now.wall_of(until);
            (forecast.grantable, forecast.unshared, forecast.next_at) = (0, 0, Some(until));
        }
        forecast
    }

    fn outlook(&self, now: Now, slot: usize, ask: &LeaseRequest, frees: Option<Wall>) -> Outlook {
        let account = &self.accounts[slot];
        let id = account.record.id;
        let out = |why: Ineligible, until: Option<Wall>| Outlook { account: id, room: 0, why: Some(why), until };
        if !self.membership(&ask.set).has(account) {
            return out(Ineligible::NotInSet, None);
        }
        if let Some(why) = out_of_service(account) {
            return out(why, None);
        }
        let agent = ask.agent.as_deref();
        if agent.is_some() && !account.allows(agent) {
            return out(Ineligible::NotAllowed, None);
        }
        if self.is_kept_back(slot, ask) {
            return out(Ineligible::Reserved, None);
        }
        let quotas = self.quotas_of(slot, ask, ask.target.quotas(&self.settings.quota));
        let renewing = account.renewing.map(|renewing| (Ineligible::Renewing, renewing.until.map(Deadline::Mono)));
        if let Some((why, until)) = closed_on(account, quotas, now).or(renewing) {
            return out(why, until.map(|until| until.wall(now)));
        }
        let quota = self.quota_in_use(account, quotas, now);
        let blocking = account.limits.iter().filter(|limit| limit.blocks(quota.quota));
        let admitted = blocking.map(|limit| limit.admits(now)).min().unwrap_or(u32::MAX);
        match self.room(account).min(admitted) {
            0 => out(account.seat_obstacle(LeaseKind::Shared).unwrap_or(Ineligible::Busy), frees),
            room => Outlook { account: id, room, why: None, until: None },
        }
    }

    fn room(&self, account: &Account) -> u32 {
        if account.exclusive || account.seat_obstacle(LeaseKind::Shared).is_some() {
            return 0;
        }
        account.ceiling(&self.settings.leases).saturating_sub(account.used())
    }
}
