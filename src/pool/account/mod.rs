//! Accounts: what is known of each without its secret, and the table that holds them.

pub(crate) mod change;
pub(crate) mod changes;
pub(crate) mod digest;
pub(crate) mod failures;
pub(crate) mod health;
pub(crate) mod record;
pub(crate) mod table;
pub(crate) mod usage;

use crate::pool::lease::{LeaseCounts, LeaseKind};
use crate::pool::limit::Limit;
use crate::pool::limit::limits::AccountLimits;
use crate::pool::model::{
    AttestPolicy, Attestation, Fence, HealthSettings, Holder, Ineligible, LeaseSettings, LoginState, Mono, Now, Past,
    PoolSettings, Quota, Refusal, RefusalKind, TokenSettings, Wall,
};
use crate::pool::seats::SeatCounts;
use crate::pool::seats::account::AccountSeats;
use failures::Failures;
use health::{Bucket, Health};
use record::{AccountRecord, EffectivePolicy};
use usage::Usage;

/// An account in the pool: its record, and its state while it serves.
#[derive(Debug)]
pub struct Account {
    /// The durable facts.
    pub record: AccountRecord,
    pub(crate) policy: EffectivePolicy,
    pub(crate) renewing: Option<Renewing>,
    pub(crate) leases: u32,
    /// Leases of sub-agents: they take no room from other agents, and count as load.
    pub(crate) subagents: u32,
    /// Whether its only lease is exclusive.
    pub(crate) exclusive: bool,
    /// Leases it may have beyond its ceiling, because the ceiling was lowered below them.
    pub(crate) tolerated: u32,
    /// At most one limit per scope and key.
    pub(crate) limits: AccountLimits,
    pub(crate) health: Health,
    pub(crate) bucket: Bucket,
    pub(crate) usage: Usage,
    /// Quotas whose plan is used up, so that requests are paid for beyond it.
    pub(crate) overage: Vec<Overage>,
    /// The last grant in this run or, from the record, before.
    pub(crate) last_used: Option<Past>,
    /// The newest fence granted on it in this run.
    pub(crate) newest_fence: Option<Fence>,
    /// Whether leases from before this run may be resumed: until a new one is granted.
    pub(crate) resumable: bool,
    pub(crate) failures: Failures,
    /// Only of an account in the shared pool.
    pub(crate) seats: Option<Box<AccountSeats>>,
}

/// An account whose token is being refreshed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renewing {
    /// When the next attempt can succeed, where that is known.
    pub until: Option<Mono>,
}

/// A quota of which the plan's part is used up, until it resets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Overage {
    pub(crate) key: Box<str>,
    pub(crate) until: Wall,
}

impl Account {
    pub(crate) fn lease_counts(&self) -> LeaseCounts {
        LeaseCounts { leases: self.leases, subagents: self.subagents, exclusive: self.exclusive }
    }

    pub(crate) fn new(record: AccountRecord, policy: EffectivePolicy, settings: &PoolSettings, now: Now) -> Self {
        Self {
            policy,
            renewing: None,
            leases: 0,
            subagents: 0,
            exclusive: false,
            tolerated: 0,
            limits: AccountLimits::default(),
            health: Health::new(&settings.selection.health, now.mono),
            bucket: Bucket::new(&settings.selection.tokens, now.mono),
            usage: Usage::default(),
            overage: Vec::new(),
            last_used: record.last_used_at.map(|at| now.past_of(at)),
            newest_fence: None,
            resumable: true,
            failures: Failures::default(),
            seats: None,
            record,
        }
    }

    /// The load of an account: its leases and, if it is shared, the seats of other hosts and those that are being claimed.
    pub(crate) fn used(&self) -> u32 {
        match &self.seats {
            None => self.leases,
            Some(seats) => self.leases.saturating_add(seats.load_beside()),
        }
    }

    /// How many leases it may have, on all hosts together.
    pub(crate) fn ceiling(&self, settings: &LeaseSettings) -> u32 {
        let own = settings.ceiling(self.policy.capacity);
        self.seats.as_ref().and_then(|seats| seats.limits()).map_or(own, |limits| own.min(limits.ceiling))
    }

    /// Whether this host holds a seat for another lease of this kind: always, unless the account is shared.
    pub(crate) fn has_seat(&self, kind: LeaseKind) -> bool {
        self.seats.as_ref().is_none_or(|seats| seats.has_seat(kind, self.lease_counts()))
    }

    /// Why this host can have no seat for another lease of this kind.
    pub(crate) fn seat_obstacle(&self, kind: LeaseKind) -> Option<Ineligible> {
        self.seats.as_ref().and_then(|seats| seats.obstacle(kind, self.lease_counts()))
    }

    /// Whether the seats of its leases are valid.
    pub(crate) fn keeps_seats(&self) -> bool {
        self.seats.as_ref().is_none_or(|seats| seats.is_valid() && seats.counts().held > 0)
    }

    /// The seats, if it is in the shared pool.
    pub fn seats(&self) -> Option<SeatCounts> {
        self.seats.as_ref().map(|seats| seats.counts())
    }

    /// How many leases of sub-agents it has.
    pub fn subagents(&self) -> u32 {
        self.subagents
    }

    /// How many leases it has, without those of sub-agents.
    pub fn leases(&self) -> u32 {
        self.leases
    }

    /// How many leases it takes before requests share it or wait.
    pub fn capacity(&self) -> u32 {
        self.policy.capacity
    }

    /// Whether the user and the configuration both want it used.
    pub fn enabled(&self) -> bool {
        self.policy.enabled
    }

    /// Higher is preferred among equally loaded accounts.
    pub fn priority(&self) -> i32 {
        self.policy.priority
    }

    /// Which agents may hold it; `None` means all.
    pub fn allowed_agents(&self) -> Option<&[String]> {
        self.policy.allowed_agents.as_deref()
    }

    /// The part of its windows that is kept for requests that name it, 0 to 1.
    pub fn reserve(&self) -> f64 {
        self.policy.reserve
    }

    /// Whether it is used only while no other account can serve.
    pub fn is_fallback_only(&self) -> bool {
        self.policy.fallback_only
    }

    /// Whether its token is being refreshed, and nothing is granted on it meanwhile.
    pub fn renewing(&self) -> Option<Renewing> {
        self.renewing
    }

    /// What it may not be used for, and until when.
    pub fn limits(&self) -> &[Limit] {
        self.limits.as_slice()
    }

    /// Its health score, in points.
    pub fn health(&self, settings: &HealthSettings, now: Mono) -> f64 {
        self.health.score(settings, now)
    }

    /// The tokens in its bucket.
    pub fn tokens(&self, settings: &TokenSettings, now: Mono) -> f64 {
        self.bucket.tokens(settings, now)
    }

    /// What is known of its quota windows.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Whether requests on this quota are paid for beyond the plan.
    #[inline]
    pub(crate) fn pays_overage(&self, quota: Quota<'_>, now: Wall) -> bool {
        self.overage.iter().any(|paid| *paid.key == *quota.key && paid.until > now)
    }

    /// Until when requests are paid for beyond the plan, on any of its quotas.
    pub fn overage_until(&self, now: Wall) -> Option<Wall> {
        self.overage.iter().map(|paid| paid.until).filter(|until| *until > now).max()
    }

    /// Since when the provider has refused the account or its credential, without a success in between.
    pub fn denied_since(&self) -> Option<Wall> {
        let stands = self.limits.iter().any(|limit| limit.is_denial() && limit.is_kept());
        self.failures.denied.filter(|_| stands).map(|denied| denied.since)
    }

    /// The limit by which its provider refuses it altogether, while that is not being tried again.
    #[must_use]
    pub fn denial(&self) -> Option<&Limit> {
        self.limits.iter().find(|limit| limit.is_denial() && !limit.is_recovering())
    }

    /// Whether it is enabled, its login works and its token is valid.
    pub fn can_serve(&self) -> bool {
        self.policy.enabled && self.record.login_state == LoginState::Ready && self.renewing.is_none()
    }

    /// The name a person knows it by: label, else email, else id.
    pub fn display_name(&self) -> String {
        self.record.display_name()
    }

    /// Whether this agent may hold it; a request without an agent's name gets no restricted account.
    pub fn allows(&self, agent: Option<&str>) -> bool {
        let Some(agents) = &self.policy.allowed_agents else { return true };
        agents.iter().any(|allowed| Some(allowed.as_str()) == agent)
    }

    /// Whether the program of a holder is compared with the agent that it states, and how strictly; `None` where any
    /// agent may hold the account.
    pub fn attest(&self) -> Option<AttestPolicy> {
        self.policy.allowed_agents.is_some().then_some(self.policy.attest)
    }

    /// Whether it may be leased to this holder.
    pub(crate) fn admits(&self, agent: Option<&str>, holder: &Holder) -> bool {
        self.allows(agent) && self.withheld_from(&holder.attested).is_none()
    }

    /// Why the account is not for a holder whose agent is allowed: its program is not that agent's.
    pub fn withheld_from(&self, attested: &Attestation) -> Option<String> {
        let agents = self.policy.allowed_agents.as_deref().filter(|_| self.policy.attest == AttestPolicy::Strict)?;
        let objection = attested.objection()?;
        Some(format!("the account {} is for {} (attest = strict); {objection}", self.display_name(), agents.join(", ")))
    }

    /// The refusal that says so, and what to do about it.
    pub(crate) fn attest_refusal(&self, attested: &Attestation) -> Option<Refusal> {
        let why = self.withheld_from(attested)?;
        Some(Refusal::new(RefusalKind::NotAllowed, why).hint(self.attest_hint()))
    }

    /// What to do about a program that is not recognised as the agent that it states.
    pub fn attest_hint(&self) -> String {
        let name = self.display_name();
        format!(
            "run the agent itself, through the gateway (`lessor run` without --direct and --profile), or name its program: \
             lessor config set agents.NAME.programs PATH; to believe what programs state: lessor config set \
             'accounts.{name:?}.attest' declared"
        )
    }

    /// Whether its credential may be handed to a holder that has a lease on it.
    pub fn may_be_handed_to(&self, attested: &Attestation) -> bool {
        self.attest() != Some(AttestPolicy::Strict) || *attested == Attestation::Matches
    }
}
