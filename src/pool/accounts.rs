//! Accounts come, change and go; configuration is applied to them.

use std::sync::Arc;

use super::Pool;
use super::account::{Account, AccountRecord, EffectivePolicy};
use super::command::{AccountChange, Effect, Event, Reply};
use super::error::{Refusal, RefusalKind};
use super::health::{Bucket, Health};
use super::hot::{Hot, Like};
use super::id::AccountId;
use super::lease::Ending;
use super::settings::{AccountSettings, PoolSettings};
use super::time::{Mono, Now, Past};
use super::usage::Usage;

impl Pool {
    pub(super) fn add_account(
        &mut self,
        now: Now,
        record: AccountRecord,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let id = record.id;
        if self.slots.contains_key(&id) {
            return Err(Refusal::new(RefusalKind::BadRequest, format!("account {id} exists already")));
        }
        self.check_label(record.label.as_deref(), id)?;
        self.insert_account(now, record);
        if let Some(account) = self.accounts.last_mut() {
            // no lease from before this run can be on an account that comes in it
            account.resumable = false;
        }
        effects.push(Effect::SaveAccount(id));
        effects.push(Effect::Emit(Event::AccountChanged(id)));
        Ok(Reply::Done)
    }

    pub(super) fn insert_account(&mut self, now: Now, record: AccountRecord) {
        let policy = self.policy_of(&record, self.accounts.len());
        let last_used = record.last_used_at.map(|at| now.past_of(at));
        let (id, provider) = (record.id, Arc::from(record.provider.as_str()));
        self.accounts.push(Account {
            policy,
            renewing: None,
            leases: 0,
            exclusive: false,
            tolerated: 0,
            limits: Vec::new(),
            health: Health::new(&self.settings.selection.health, now.mono),
            bucket: Bucket::new(&self.settings.selection.tokens, now.mono),
            usage: Usage::default(),
            last_used,
            newest_fence: None,
            resumable: true,
            quota_failures: 0,
            quota_until: Mono::default(),
            refused: Vec::new(),
            record,
        });
        let slot = self.accounts.len() - 1;
        self.likes.push(Like::of(&self.accounts[slot]));
        self.hot.push(Hot::of(&self.accounts[slot]));
        let ring = self.rings.entry(provider).or_default();
        self.slots.insert(id, slot);
        self.places.push(ring.slots.len());
        ring.slots.push(slot);
        self.stirred.all = true;
    }

    pub(super) fn remove_account(
        &mut self,
        now: Now,
        id: AccountId,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let slot = self.slot(id)?;
        let mut held: Vec<_> =
            self.leases.values().filter(|lease| lease.account == id).map(|lease| lease.fence).collect();
        held.sort_unstable();
        for fence in held {
            self.end_lease(now, fence, Ending::Revoked, effects);
        }
        self.accounts.remove(slot);
        self.sessions.forget_account(id);
        self.index_accounts();
        self.find_next_reset(now);
        self.find_next_limit_end(now);
        self.stirred.all = true;
        effects.push(Effect::DeleteAccount(id));
        effects.push(Effect::Emit(Event::AccountChanged(id)));
        Ok(Reply::Done)
    }

    pub(super) fn change_account(
        &mut self,
        id: AccountId,
        change: AccountChange,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let slot = self.slot(id)?;
        self.check_label(change.label.as_deref().filter(|label| !label.is_empty()), id)?;
        let record = &mut self.accounts[slot].record;
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        if let Some(label) = change.label {
            record.label = text(label);
        }
        if let Some(email) = change.email {
            record.email = text(email);
        }
        if let Some(project) = change.project_id {
            record.project_id = text(project);
        }
        if let Some(tier) = change.tier {
            record.tier = tier;
        }
        if let Some(most) = change.max_leases {
            record.max_leases = Some(most).filter(|most| *most > 0);
        }
        if let Some(priority) = change.priority {
            record.priority = priority;
        }
        if let Some(allowed_agents) = change.allowed_agents {
            record.allowed_agents = Some(allowed_agents).filter(|allowed_agents| !allowed_agents.is_empty());
        }
        if let Some((enabled, reason)) = change.enabled {
            record.enabled = enabled;
            record.disabled_reason = reason;
        }
        if let Some(vendor_id) = change.vendor_id {
            record.vendor_id = text(vendor_id);
        }
        if let Some(login_state) = change.login_state {
            record.login_state = login_state;
        }
        self.apply_policy(slot);
        self.stirred.all = true;
        effects.push(Effect::SaveAccount(id));
        effects.push(Effect::Emit(Event::AccountChanged(id)));
        Ok(Reply::Done)
    }

    pub(super) fn set_usage(
        &mut self,
        now: Now,
        id: AccountId,
        usage: Usage,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let slot = self.slot(id)?;
        self.accounts[slot].usage = usage;
        self.usage_changed(now, slot, effects);
        self.tell_usage(slot, effects);
        Ok(Reply::Done)
    }

    pub(super) fn learn_usage(
        &mut self,
        now: Now,
        id: AccountId,
        read: Usage,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let slot = self.slot(id)?;
        let news = self.accounts[slot].usage.learn(read);
        self.usage_changed(now, slot, effects);
        if news {
            self.tell_usage(slot, effects);
        }
        Ok(Reply::Done)
    }

    fn usage_changed(&mut self, now: Now, slot: usize, effects: &mut Vec<Effect>) {
        self.refresh(slot);
        self.end_by_reading(now, slot, effects);
        self.find_next_reset(now);
        self.stirred.all |= !self.settings.quota.protect.is_empty();
    }

    fn tell_usage(&self, slot: usize, effects: &mut Vec<Effect>) {
        let id = self.accounts[slot].record.id;
        effects.push(Effect::SaveUsage(id));
        effects.push(Effect::Emit(Event::UsageUpdated(id)));
    }

    /// Finds when the next window starts anew, where reserves make accounts wait for that.
    pub(super) fn find_next_reset(&mut self, now: Now) {
        let windows = self.accounts.iter().flat_map(|account| &account.usage.windows);
        let resets = windows.filter_map(|window| window.resets_at).filter(|at| *at > now.wall);
        self.next_reset = if self.settings.quota.protect.is_empty() { None } else { resets.min() };
    }

    /// Uses `settings` from now on; no lease, limit or session is lost by it (I7).
    pub(super) fn configure(&mut self, now: Now, settings: PoolSettings) -> Result<Reply, Refusal> {
        self.settings = settings;
        for slot in 0..self.accounts.len() {
            self.apply_policy(slot);
        }
        self.find_next_reset(now);
        self.stirred.all = true;
        Ok(Reply::Done)
    }

    /// What the configuration says of an account.
    #[must_use]
    pub fn configured(&self, record: &AccountRecord) -> Option<&AccountSettings> {
        self.settings.accounts.iter().find(|configured| record.is_named(&configured.name))
    }

    pub(super) fn slot(&self, id: AccountId) -> Result<usize, Refusal> {
        let unknown = || Refusal::new(RefusalKind::UnknownAccount, format!("there is no account {id}"));
        self.slots.get(&id).copied().ok_or_else(unknown)
    }

    /// Remembers what is beyond the bounds that were just set: it stays, but nothing is added to it.
    pub(super) fn tolerate(&mut self, slot: usize) {
        let account = &mut self.accounts[slot];
        account.tolerated = account.leases;
    }

    /// The last use, for the store: it is written now and then, not with every grant.
    pub fn last_uses(&self) -> impl Iterator<Item = (AccountId, Option<Mono>)> {
        self.accounts.iter().map(|account| (account.record.id, account.last_used.map(Past::mono)))
    }

    /// What holds for the account of `slot`; it shares its list of agents with the one before where they are equal.
    fn policy_of(&self, record: &AccountRecord, slot: usize) -> EffectivePolicy {
        let mut policy = record.policy(&self.settings.leases, self.configured(record));
        let before = slot.checked_sub(1).and_then(|slot| self.accounts.get(slot));
        if let Some(before) = before.filter(|before| before.policy.allowed_agents == policy.allowed_agents) {
            policy.allowed_agents.clone_from(&before.policy.allowed_agents);
        }
        policy
    }

    fn apply_policy(&mut self, slot: usize) {
        let policy = self.policy_of(&self.accounts[slot].record, slot);
        self.accounts[slot].policy = policy;
        self.refresh(slot);
        self.tolerate(slot);
    }

    fn check_label(&self, label: Option<&str>, id: AccountId) -> Result<(), Refusal> {
        let Some(label) = label else { return Ok(()) };
        let taken = |account: &&Account| account.record.label.as_deref() == Some(label) && account.record.id != id;
        match self.accounts.iter().find(taken) {
            Some(other) => Err(Refusal::new(
                RefusalKind::BadRequest,
                format!("the label {label:?} belongs to account {}", other.record.id),
            )
            .hint("labels are unique: choose another, or remove that account first")),
            None => Ok(()),
        }
    }

    /// Finds slots, places and rings anew; pointers of families stay.
    fn index_accounts(&mut self) {
        self.slots.clear();
        self.places.clear();
        self.refresh_all();
        for ring in self.rings.values_mut() {
            ring.slots.clear();
        }
        for (slot, account) in self.accounts.iter().enumerate() {
            self.slots.insert(account.record.id, slot);
            let ring = match self.rings.get_mut(account.record.provider.as_str()) {
                Some(ring) => ring,
                None => self.rings.entry(Arc::from(account.record.provider.as_str())).or_default(),
            };
            self.places.push(ring.slots.len());
            ring.slots.push(slot);
        }
        self.rings.retain(|_, ring| !ring.slots.is_empty());
    }
}
