//! What notifications are about, beside events: providers without a free account, and accounts that need their user.

use std::collections::BTreeSet;

use super::remedy::remedy;
use crate::daemon::notification::policy::{FirstFree, LoginNeed, Situation};
use crate::daemon::state::{AccountState, State};
use crate::pool::{Ineligible, LeaseRequest, Now};
use crate::protocol::AccountLabel;
use crate::provider;

/// What the state looks like now.
pub(crate) fn situation(state: &State, now: Now) -> Situation {
    let mut situation = Situation::default();
    let mut names = BTreeSet::new();
    for account in state.pool.accounts() {
        let record = &account.record;
        names.insert(record.provider.as_str());
        let known = state.account_state(account, now);
        if matches!(known, AccountState::NeedsLogin | AccountState::NeedsVerification | AccountState::CannotRenew) {
            let need = LoginNeed {
                account: AccountLabel::of(&state.pool, record.id),
                provider: record.provider.clone(),
                state: known.name(),
                remedy: remedy(state, now, account),
            };
            situation.need_login.insert(record.id.to_string(), need);
        }
    }
    for name in names {
        if let Some(first) = first_free(state, now, name) {
            situation.limited.insert(name.to_owned(), first);
        }
    }
    situation
}

/// If every account of a provider that could serve is limited, the one that is free first.
fn first_free(state: &State, now: Now, name: &str) -> Option<FirstFree> {
    let agent = provider::PROVIDERS.iter().find(|known| known.name == name).and_then(|known| known.agents.first());
    let target = state.catalog.target(name, None, None, state.pool.settings().quota.primary).ok()?;
    let accounts = state.pool.forecast(now, &LeaseRequest::of_agent(target, agent.copied()), None).accounts;
    // one that is busy or gets a new token serves again without the end of a limit
    let serves = |why: Option<Ineligible>| {
        matches!(why, None | Some(Ineligible::Busy | Ineligible::NoSeat | Ineligible::Renewing))
    };
    if accounts.iter().any(|one| serves(one.why)) {
        return None;
    }
    let limited = accounts.iter().filter(|one| one.why == Some(Ineligible::Limited));
    let first = limited.min_by_key(|one| (one.until.is_none(), one.until))?;
    let account = Some(AccountLabel::of(&state.pool, first.account));
    Some(FirstFree { account, until: first.until.map(|at| at.0) })
}
