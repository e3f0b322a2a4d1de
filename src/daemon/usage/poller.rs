//! The worker: asks providers how much of their quota the accounts have used, within each provider's budget.

use std::sync::{Arc, Weak};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::account_query::{AccountQuery, TokenPrint, valid_token};
use super::file::{self, SavedUsage};
use super::resets;
use crate::daemon::many_hosts::duties;
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, Mailbox, PollOutcome, UsageRequest, set_login_state};
use crate::daemon::worker::{Worker, WorkerThread};
use crate::http::{self, ConnectOptions};
use crate::pool::{AccountChange, AccountId, Command, LoginState, Mono, Now, Tier, Usage, Verification, Wall, Window};
use crate::usage::{self, PollLimits, UsageReading, UsageResult};

/// The most queries at a time.
const MAX_QUERIES: usize = 4;
/// The longest sleep, because its clock stops in suspend.
const LONGEST_SLEEP: Duration = Duration::from_secs(300);
/// How long a client is kept.
const CLIENT_LIFE: Duration = Duration::from_secs(3600);

/// Starts the worker; `path` is its file.
pub(crate) fn start(thread: &Arc<WorkerThread>, daemon: &Arc<Daemon>, path: PathBuf) -> Worker<UsageRequest> {
    Worker::start(thread, daemon, &daemon.mailboxes.usage, |daemon, mailbox| async move {
        Poller::new(daemon, path).run(mailbox).await;
    })
}

/// An answered query; without a result, another host of the shared pool asks.
type Polled = (AccountId, TokenPrint, Option<UsageResult>);

/// The worker's state.
struct Poller {
    daemon: Weak<Daemon>,
    path: PathBuf,
    kept: BTreeMap<AccountId, SavedUsage>,
    /// The token that the last query failed with.
    refused: FxHashMap<AccountId, TokenPrint>,
    /// By how their providers are reached.
    clients: FxHashMap<ConnectOptions, (reqwest::Client, Mono)>,
    queries: JoinSet<Polled>,
    in_flight: FxHashSet<AccountId>,
    waiting: FxHashMap<AccountId, Vec<oneshot::Sender<PollOutcome>>>,
}

impl Poller {
    fn new(daemon: Weak<Daemon>, path: PathBuf) -> Self {
        let kept = file::read(&path);
        if let Some(daemon) = daemon.upgrade() {
            restore_notes(&daemon, &kept);
            resets::restore_unfinished(&daemon);
        }
        Self {
            daemon,
            path,
            kept,
            refused: FxHashMap::default(),
            clients: FxHashMap::default(),
            queries: JoinSet::new(),
            in_flight: FxHashSet::default(),
            waiting: FxHashMap::default(),
        }
    }

    async fn run(mut self, mailbox: Mailbox<UsageRequest>) {
        loop {
            let Some(sleep) = self.start_due() else { return };
            tokio::select! {
                mail = mailbox.next(sleep) => {
                    if mail.stop {
                        return;
                    }
                    mail.messages.into_iter().for_each(|request| self.poll_now(request));
                }
                Some(polled) = self.queries.join_next() => {
                    if let Ok((account, print, result)) = polled {
                        self.finish(account, print, result);
                    }
                }
            }
        }
    }

    /// Queries the accounts that are due; returns how long to sleep, `None` at the end of the daemon.
    fn start_due(&mut self) -> Option<Duration> {
        let daemon = self.daemon.upgrade()?;
        let now = clock::now();
        let mut due: Vec<(Wall, AccountId)> = {
            let state = &mut *daemon.state();
            state.usage_notes.next.clear();
            let Some(every) = state.config.config.quota.poll else { return Some(LONGEST_SLEEP) };
            let polled = state.pool.accounts().iter().filter(|account| {
                account.enabled()
                    && account.record.login_state == LoginState::Ready
                    && !self.in_flight.contains(&account.record.id)
                    && usage::is_reported(&account.record.provider, state.api_kind(&account.record))
            });
            let due = polled.filter_map(|account| {
                let id = account.record.id;
                let print = valid_token(state, id, now)?;
                let limits = usage::poll_limits(&account.record.provider)?;
                let mut ledger = self.kept.get(&id).map(|kept| kept.ledger.clone()).unwrap_or_default();
                if self.refused.get(&id).is_some_and(|refused| *refused != print) {
                    ledger.credential_changed();
                }
                let known_since = known_since(&account.usage().windows, now.wall);
                Some((ledger.due_at(limits, every, known_since, id.bits(), now.wall), id))
            });
            let due: Vec<(Wall, AccountId)> = due.collect();
            state.usage_notes.next.extend(due.iter().map(|(at, id)| (*id, *at)));
            due
        };
        due.sort_unstable();
        for (_, account) in due.iter().take_while(|(at, _)| *at <= now.wall) {
            if self.queries.len() >= MAX_QUERIES {
                // the next answer ends the sleep
                return Some(LONGEST_SLEEP);
            }
            self.start(&daemon, *account, now, true);
        }
        let next = due.into_iter().map(|(at, _)| at).find(|at| *at > now.wall);
        Some(next.map_or(LONGEST_SLEEP, |at| at.since(now.wall)).min(LONGEST_SLEEP))
    }

    /// Queries an account for a call.
    fn poll_now(&mut self, request: UsageRequest) {
        let Some(daemon) = self.daemon.upgrade() else { return };
        let UsageRequest { account, has_changed, answer } = request;
        if self.in_flight.contains(&account) {
            return self.waiting.entry(account).or_default().push(answer);
        }
        let now = clock::now();
        self.check_token(&daemon, account, now);
        let limits = daemon.state().pool.account(account).and_then(|found| usage::poll_limits(&found.record.provider));
        let ledger = self.kept.get(&account).map(|kept| kept.ledger.clone()).unwrap_or_default();
        let limits = limits.unwrap_or(PollLimits::OTHERS);
        let opens = match has_changed {
            true => ledger.allowed_after_change(limits, now.wall),
            false => ledger.allowed_at(limits, now.wall),
        };
        let _call_ended = if opens > now.wall {
            answer.send(PollOutcome::NotBefore(opens))
        } else if self.start(&daemon, account, now, false) {
            self.waiting.entry(account).or_default().push(answer);
            Ok(())
        } else {
            answer.send(PollOutcome::NoToken)
        };
    }

    /// A failure of one token does not delay the query with the next one.
    fn check_token(&mut self, daemon: &Daemon, account: AccountId, now: Now) {
        let Some(refused) = self.refused.get(&account) else { return };
        if valid_token(&daemon.state(), account, now).is_some_and(|print| print != *refused) {
            self.refused.remove(&account);
            self.kept.entry(account).or_default().ledger.credential_changed();
        }
    }

    /// Starts a query; `false` if it is not possible now. One that nothing has asked for is made by one host of a shared
    /// pool (`is_regular`): the others get the reading from it.
    fn start(&mut self, daemon: &Arc<Daemon>, account: AccountId, now: Now, is_regular: bool) -> bool {
        self.check_token(daemon, account, now);
        let Some(query) = AccountQuery::of(&daemon.state(), account, now) else { return false };
        let client = match self.client(&query.reach, now) {
            Ok(client) => client,
            Err(message) => {
                self.note(daemon, account, Some(message));
                return false;
            }
        };
        let kept = self.kept.entry(account).or_default();
        kept.ledger.record_poll(now.wall);
        let wants_plan = kept.plan.is_none();
        // saved first, so that a query counts even if the daemon crashes
        self.save();
        self.in_flight.insert(account);
        let daemon = daemon.clone();
        self.queries.spawn(async move {
            if is_regular && !duties::reads_usage(&daemon, account).await {
                return (account, query.print, None);
            }
            let question = query.question(wants_plan, now);
            let result = usage::query(&client, &question, query.token.expose()).await;
            (account, query.print, Some(result))
        });
        true
    }

    /// A client for providers that are reached this way; it is kept for a while, because certificates may change.
    fn client(&mut self, reach: &ConnectOptions, now: Now) -> Result<reqwest::Client, String> {
        self.clients.retain(|_, (_, since)| now.mono.since(*since) < CLIENT_LIFE);
        if let Some((client, _)) = self.clients.get(reach) {
            return Ok(client.clone());
        }
        let client = http::client(reach).map_err(|error| error.to_string())?;
        self.clients.insert(reach.clone(), (client.clone(), now.mono));
        Ok(client)
    }

    fn finish(&mut self, account: AccountId, print: TokenPrint, result: Option<UsageResult>) {
        self.in_flight.remove(&account);
        let Some(result) = result else { return self.answer_waiting(account) };
        let Some(daemon) = self.daemon.upgrade() else { return };
        let now = clock::now();
        let kept = self.kept.entry(account).or_default();
        let outcome = match result {
            Ok(reading) => {
                kept.ledger.succeeded();
                kept.plan = reading.plan.clone().or(kept.plan.take());
                kept.resets = reading.resets.clone().or(kept.resets.take());
                self.refused.remove(&account);
                self.note(&daemon, account, None);
                apply_reading(&daemon, account, reading, now);
                Ok(())
            }
            Err(failure) => {
                kept.ledger.failed(failure.kind, now.wall);
                self.refused.insert(account, print);
                self.note(&daemon, account, Some(failure.message.clone()));
                if failure.unconfirmed {
                    needs_verification(&daemon, account, failure.link.as_deref(), now);
                }
                Err(failure)
            }
        };
        self.save();
        for answer in self.waiting.remove(&account).unwrap_or_default() {
            let _call_ended = answer.send(PollOutcome::Asked(outcome.clone()));
        }
    }

    /// Another host asks: calls that have waited for this query begin another one.
    fn answer_waiting(&mut self, account: AccountId) {
        for answer in self.waiting.remove(&account).unwrap_or_default() {
            self.poll_now(UsageRequest { account, has_changed: true, answer });
        }
    }

    /// Records why queries fail, and logs changes.
    fn note(&self, daemon: &Daemon, account: AccountId, failure: Option<String>) {
        let state = &mut *daemon.state();
        if state.pool.account(account).is_none() {
            return;
        }
        let name = state.account_name(account);
        let failures = &mut state.usage_notes.failures;
        let before = failures.remove(&account);
        if let Some(why) = &failure {
            failures.insert(account, why.clone());
        }
        state.log.push(move || match (before, failure) {
            (None, Some(why)) => tracing::warn!(%account, "the usage of {name} cannot be read: {why}"),
            (Some(_), Some(why)) => tracing::debug!(%account, "the usage of {name} still cannot be read: {why}"),
            (Some(_), None) => tracing::info!(%account, "the usage of {name} can be read again"),
            (None, None) => {}
        });
    }

    fn save(&mut self) {
        if let Some(daemon) = self.daemon.upgrade() {
            let state = &*daemon.state();
            self.kept.retain(|id, kept| state.pool.account(*id).is_some() && !kept.ledger.is_empty());
        }
        if let Err(error) = file::write(&self.path, &self.kept) {
            tracing::debug!("the times of usage queries are not saved: {error}");
        }
    }
}

/// The age of an account's usage: the time of its oldest window that has not been reset.
fn known_since(windows: &[Window], now: Wall) -> Option<Wall> {
    let live = windows.iter().filter(|window| window.resets_at.is_none_or(|at| at > now));
    live.map(|window| window.as_of).min()
}

/// Restores the plans and banked resets that an earlier run has saved.
fn restore_notes(daemon: &Daemon, kept: &BTreeMap<AccountId, SavedUsage>) {
    let state = &mut *daemon.state();
    for (id, kept) in kept {
        if state.pool.account(*id).is_none() {
            continue;
        }
        state.usage_notes.plans.extend(kept.plan.clone().map(|plan| (*id, plan)));
        state.usage_notes.resets.extend(kept.resets.clone().map(|resets| (*id, resets)));
    }
}

/// Applies what a provider has reported.
fn apply_reading(daemon: &Daemon, id: AccountId, reading: UsageReading, now: Now) {
    let state = &mut *daemon.state();
    let Some(record) = state.pool.account(id).map(|account| account.record.clone()) else { return };
    if let Some(plan) = reading.plan {
        state.usage_notes.plans.insert(id, plan);
    }
    if let Some(resets) = reading.resets {
        state.usage_notes.resets.insert(id, resets);
    }
    // settings of the user stay
    let change = AccountChange {
        tier: reading.tier.filter(|_| record.tier == Tier::Unknown),
        project_id: reading.project.filter(|_| record.project_id.is_none()),
        ..AccountChange::default()
    };
    if change != AccountChange::default() {
        state.apply_internal(now, Command::ChangeAccount(id, Box::new(change)));
    }
    let usage = Usage { windows: reading.windows, ..Usage::default() };
    state.learn_usage(now, id, usage).no_answer();
}

/// The provider requires a confirmation of the account.
fn needs_verification(daemon: &Daemon, id: AccountId, link: Option<&str>, now: Now) {
    let state = &mut *daemon.state();
    let login_state = LoginState::NeedsVerification(Verification::at(link));
    if state.pool.account(id).is_some_and(|account| account.record.login_state != login_state) {
        state.apply_internal(now, set_login_state(id, login_state));
    }
}
