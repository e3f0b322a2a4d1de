//! Upstream responses, reported by holders or seen by the gateway: what they mean for the pool.

use std::sync::Arc;
use std::time::Duration;

use crate::config::KindMix;
use crate::daemon::state::{Served, State, Unsaved};
use crate::limits::{self, Classification, Headers, Reason, UpstreamResponse, Verdict};
use crate::pool::{
    Account, AccountId, Action, Command, CredentialKind, Decision, Fence, Limit, Mono, Now, Refusal, RefusalDetails,
    Reply, RequestNeeds, RequestOutcome, Usage, Wall,
};
use crate::provider::names_foreign_project;
use crate::store::Write;

/// What came back from an upstream.
#[derive(Clone, Copy, Debug)]
pub enum UpstreamOutcome<'a> {
    /// A response; of one that succeeded the body may be left out.
    Response {
        /// The HTTP status.
        status: u16,
        /// The headers.
        headers: &'a Headers,
        /// The body or its beginning.
        body: &'a [u8],
    },
    /// An event of a stream that had begun well.
    Event {
        /// The response's headers.
        headers: &'a Headers,
        /// The event's name, if it has one.
        name: Option<&'a str>,
        /// The event's data.
        data: &'a [u8],
    },
    /// A reason and a wait in the holder's own words; no answer at all is `server_error`.
    Stated {
        /// Why.
        reason: Reason,
        /// The wait that was stated.
        wait: Option<Duration>,
    },
}

/// The result of a report.
#[derive(Clone, PartialEq, Debug)]
pub struct ReportOutcome {
    /// What the holder does next; with `Switch` its lease has ended, and the new one is granted.
    pub decision: Decision,
    /// How the response was classified, if it was a refusal.
    pub verdict: Option<Verdict>,
    /// Until when what it applies to is limited.
    pub until: Option<Wall>,
}

impl UpstreamOutcome<'_> {
    /// Whether it says no more than that a request has succeeded: there is nothing to classify.
    pub(crate) fn is_bare_success(self) -> bool {
        matches!(self, Self::Response { status: 200..=299, headers, body: [] } if headers.iter().next().is_none())
    }

    /// Classifies it for this provider. Not to be called under the lock: a body can be long.
    pub(crate) fn classify(self, provider: &str, now: Wall) -> Classification {
        match self {
            Self::Response { status, headers, body } => {
                limits::classify(&UpstreamResponse { provider, status, headers, body, now: now.0 })
            }
            Self::Event { headers, name, data } => {
                let response = UpstreamResponse { provider, status: 200, headers, body: data, now: now.0 };
                // the windows were read when the stream began
                Classification { verdict: limits::classify_event(&response, name), ..Classification::default() }
            }
            Self::Stated { .. } => Classification::default(),
        }
    }
}

impl State {
    /// Learns from the response to a request on a lease, and decides what its holder does next. `classified` is what
    /// [`UpstreamOutcome::classify`] made of it; `needs` says how the request used the lease, if in a way of its own.
    pub(crate) fn report(
        &mut self,
        now: Now,
        (lease, needs): (Fence, Option<&Arc<RequestNeeds>>),
        outcome: UpstreamOutcome<'_>,
        classified: Classification,
    ) -> Unsaved<Result<ReportOutcome, Refusal>> {
        let is_gateway = needs.is_some();
        let by_mix = if needs.is_none() { self.needs_by_mix(lease, now).map(Arc::new) } else { None };
        let needs = needs.or(by_mix.as_ref());
        let Some(held) = self.pool.lease(lease) else {
            return self.apply_report(now, (lease, needs), RequestOutcome::Ok, None);
        };
        let quota = needs.map_or(&*held.target, |needs| &needs.target).quota();
        let (account, usage) = (held.account, Usage::read(&classified.windows, quota, now.wall));
        let learnt = self.learn_usage(now, account, usage);
        let details = match (outcome, &classified.verdict) {
            (UpstreamOutcome::Stated { reason, wait }, _) => RefusalDetails::reported(reason, wait),
            (_, Some(verdict)) => RefusalDetails::read(verdict),
            (UpstreamOutcome::Response { status: 200..=299, .. }, None) => {
                self.credential_accepted(account, now);
                let held = self.pool.lease(lease).filter(|_| !is_gateway);
                if let Some(session) = held.and_then(|lease| lease.session.clone()) {
                    self.note_served(lease, std::iter::once(Served::Session(&session)), now.mono);
                }
                let outcome = match classified.paid_overage {
                    true => RequestOutcome::Overage(plan_resets_at(&classified.windows)),
                    false => RequestOutcome::Ok,
                };
                return learnt.then(self.apply_report(now, (lease, needs), outcome, None));
            }
            // neither a success nor a failure
            (_, None) => {
                return learnt.map(|()| Ok(ReportOutcome { decision: CONTINUE, verdict: None, until: None }));
            }
        };
        let details = if self.is_of_foreign_project(account, outcome) {
            RefusalDetails::reported(Reason::RequestRejected, None)
        } else {
            details
        };
        if details.reason == Reason::AuthFailed && self.has_newer_token(lease, now) {
            // an older token was refused than there is: retry at once with the newer one
            let (reason, scope) = (Some(details.reason), Some(details.reason.scope()));
            let decision = Decision { action: Action::Retry, reason, scope, ..CONTINUE };
            return learnt.map(|()| Ok(ReportOutcome { decision, verdict: classified.verdict, until: None }));
        }
        let details = RefusalDetails { renewable: self.logins.plan.can_refresh(account, now), ..details };
        let refused = RequestOutcome::Refused(Box::new(details));
        learnt.then(self.apply_report(now, (lease, needs), refused, classified.verdict))
    }

    /// Whether an error names the cloud project of another account: the request carried it, and the account is not at
    /// fault.
    fn is_of_foreign_project(&self, account: AccountId, outcome: UpstreamOutcome<'_>) -> bool {
        let UpstreamOutcome::Response { status: 400 | 403 | 404, body, .. } = outcome else { return false };
        let Some(record) = self.pool.account(account).map(|account| &account.record) else { return false };
        let others = self.pool.accounts().iter().map(|account| &account.record);
        let others = others.filter(|other| other.provider == record.provider && other.project_id != record.project_id);
        let others: Vec<&str> = others.filter_map(|other| other.project_id.as_deref()).collect();
        record.provider == "google" && names_foreign_project(body, record.project_id.as_deref(), &others)
    }

    /// When conversations may move between logins and API keys.
    pub(crate) fn mix(&self, provider: &str) -> KindMix {
        self.config.config.providers.get(provider).map(|section| section.mix).unwrap_or_default()
    }

    /// What a lease on the socket needs of another account, where its conversation stays on one kind of credential.
    pub(crate) fn needs_by_mix(&self, lease: Fence, now: Now) -> Option<RequestNeeds> {
        let lease = self.pool.lease(lease)?;
        let provider = &*lease.target.provider;
        let mix = self.mix(provider);
        let has_begun = || {
            let session = Served::Session(lease.session.as_deref()?);
            self.served_by.get(provider, session, now.mono, None)
        };
        let is_key = |id| Some(self.pool.account(id)?.record.kind == CredentialKind::ApiKey);
        let keys = is_key(lease.account)?;
        if mix == KindMix::Always || mix == KindMix::NewSessions && has_begun().is_none() {
            return None;
        }
        let records = self.pool.accounts().iter().map(|account| &account.record);
        let others = records.filter(|record| record.provider == provider && is_key(record.id) != Some(keys));
        let mut exclude: Vec<AccountId> = others.map(|record| record.id).collect();
        exclude.sort_unstable();
        Some(RequestNeeds { target: (*lease.target).clone(), exclude, attested: lease.holder.attested.clone() })
    }

    /// Records what the account of a lease has served or created.
    pub(crate) fn note_served<'a>(&mut self, lease: Fence, what: impl Iterator<Item = Served<'a>>, now: Mono) {
        let Some(lease) = self.pool.lease(lease) else { return };
        let (provider, account) = (lease.target.provider.clone(), lease.account);
        what.for_each(|what| self.served_by.note(&provider, what, account, now));
    }

    /// Records what is known of an account's quota.
    pub(crate) fn learn_usage(&mut self, now: Now, account: AccountId, usage: Usage) -> Unsaved<()> {
        if usage.is_empty() {
            return Unsaved::nothing_to_save(());
        }
        self.apply(now, Command::LearnUsage(account, usage)).map(drop)
    }

    /// Records what a holder says of an account's quota. It is written even where the change is too small to be news.
    pub(crate) fn learn_stated_usage(&mut self, now: Now, account: AccountId, usage: Usage) -> Unsaved<()> {
        if usage.is_empty() {
            return Unsaved::nothing_to_save(());
        }
        let learnt = self.learn_usage(now, account, usage);
        let Some(usage) = self.pool.account(account).map(|account| account.usage().kept()) else { return learnt };
        let pending = self.shared().write(Write::SaveUsage(account, usage));
        learnt.or_at_least(pending)
    }

    fn apply_report(
        &mut self,
        now: Now,
        (fence, needs): (Fence, Option<&Arc<RequestNeeds>>),
        outcome: RequestOutcome,
        verdict: Option<Verdict>,
    ) -> Unsaved<Result<ReportOutcome, Refusal>> {
        // a success limits nothing
        let is_refusal = matches!(outcome, RequestOutcome::Refused(_));
        let command = match needs {
            Some(needs) => Command::ReportOf { fence, outcome, need: needs.clone() },
            None => Command::Report { fence, outcome },
        };
        let decision = |reply| match reply {
            Reply::Decision(decision) => decision,
            Reply::Held(_) | Reply::Queued(_) | Reply::Done => CONTINUE,
        };
        let held = self.pool.lease(fence);
        let target = needs.map(|needs| &needs.target).or(held.map(|lease| &*lease.target));
        let target = target.filter(|_| is_refusal).cloned();
        let account = held.map(|lease| lease.account);
        let reply = self.apply(now, command);
        let outcome = |reply| {
            let decision = decision(reply);
            let limits = account.and_then(|account| self.pool.account(account)).map(Account::limits);
            let is_of_it = |limit: &&Limit| {
                Some(limit.reason) == decision.reason
                    && Some(limit.scope) == decision.scope
                    && !limit.until.passed(now)
                    && target.as_ref().is_some_and(|target| limit.blocks(target.quota()))
            };
            let until = limits.into_iter().flatten().filter(is_of_it).map(|limit| limit.until.wall(now)).max();
            ReportOutcome { decision, verdict, until }
        };
        reply.map(|reply| reply.map(outcome))
    }
}

/// When the last of the used-up windows resets.
fn plan_resets_at(windows: &[limits::Window]) -> Option<Wall> {
    let used_up = windows.iter().filter(|window| window.spent && !window.is_rate());
    used_up.filter_map(|window| window.resets_at).max().map(Wall)
}

const CONTINUE: Decision = Decision {
    action: Action::Continue,
    after: Duration::ZERO,
    reason: None,
    scope: None,
    lease: None,
    once_more: false,
    may_end_sooner: false,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_nothing_to_classify_in_a_bare_success() {
        let headers = Headers::default();
        let limited = Headers::telling([("retry-after", "5")]);
        for status in 100..600 {
            let bare = UpstreamOutcome::Response { status, headers: &headers, body: &[] };
            assert_eq!(bare.is_bare_success(), (200..300).contains(&status));
            for provider in ["anthropic", "openai", "google", "other"] {
                let classified = bare.classify(provider, Wall(1_790_000_000_000));
                assert!(!bare.is_bare_success() || classified == Classification::default(), "{classified:?}");
            }
            for outcome in [
                UpstreamOutcome::Response { status, headers: &limited, body: &[] },
                UpstreamOutcome::Response { status, headers: &headers, body: b" " },
            ] {
                assert!(!outcome.is_bare_success());
            }
        }
        assert!(!UpstreamOutcome::Event { headers: &headers, name: None, data: &[] }.is_bare_success());
        assert!(!UpstreamOutcome::Stated { reason: Reason::ServerError, wait: None }.is_bare_success());
    }
}
