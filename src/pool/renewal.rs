//! A credential that was refused and can be exchanged for a new one: the account rests meanwhile.

use std::time::Duration;

use crate::limits::{Reason, Scope};

use super::Pool;
use super::account::Standing;
use super::command::{AccountChange, Effect, Event, Finding, Reply};
use super::error::Refusal;
use super::id::AccountId;
use super::limit::{Limit, Source};
use super::time::{Deadline, Now};

/// How long an account rests while its credential is exchanged, unless that is done sooner.
pub(super) const RENEWAL: Duration = Duration::from_secs(30);
/// When a holder without another account looks again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// So many refusals in a row, each of a credential that should be new, are the account's.
const MOST_RENEWALS: u32 = 3;

impl Pool {
    /// Whether the refused credential is exchanged, instead of the account's owner being asked; `failures` in a row.
    pub(super) fn is_renewed(finding: &Finding, failures: u32) -> bool {
        finding.reason == Reason::AuthFailed && finding.renewable && failures < MOST_RENEWALS
    }

    /// Lets the account rest, and has its credential exchanged.
    pub(super) fn ask_for_renewal(
        &mut self,
        now: Now,
        id: AccountId,
        finding: &Finding,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let until = Deadline::Mono(now.mono.after(RENEWAL));
        let limit = Limit {
            evidence: finding.evidence.clone(),
            ..Limit::new(Scope::Account, "", Reason::AuthFailed, until, Source::Table)
        };
        self.limit_account(now, id, limit, effects)?;
        effects.push(Effect::Renew(id));
        Ok(())
    }

    /// Whether the account rests for that.
    pub(super) fn is_being_renewed(&self, slot: usize) -> bool {
        self.accounts[slot].limits.iter().any(|limit| limit.reason == Reason::AuthFailed)
    }

    /// There is a new credential: what was held against the old one is over.
    pub(super) fn renewed(&mut self, now: Now, id: AccountId, effects: &mut Vec<Effect>) -> Result<Reply, Refusal> {
        let slot = self.slot(id)?;
        let account = &mut self.accounts[slot];
        let of_credential = |limit: &mut Limit| limit.reason == Reason::AuthFailed;
        for limit in account.limits.extract_if(.., of_credential) {
            effects.push(Effect::DropLimit(id, Some((limit.scope, limit.key.clone()))));
            effects.push(Effect::Emit(Event::Recovered(id, limit.key)));
        }
        if matches!(account.record.standing, Standing::NeedsLogin(_)) {
            let change = AccountChange { standing: Some(Standing::Ready), ..AccountChange::default() };
            self.change_account(id, change, effects)?;
        }
        self.refresh(slot);
        self.find_next_limit_end(now);
        self.stirred.all = true;
        Ok(Reply::Done)
    }
}
