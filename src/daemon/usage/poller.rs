//! The worker: asks providers how much of their quota the accounts have used, within each provider's budget.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::credential::{Fingerprint, Secret};
use crate::http;
use crate::pool::{
    AccountChange, AccountId, AccountRecord, Command, LoginState, Now, Tier, Usage, Verification, Wall, Window,
};
use crate::usage::{self, PollLimits, UsageQuery, UsageReading, UsageResult};

use super::file::{self, SavedUsage};
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, Mailbox, PollOutcome, State, UsageRequest, set_login_state};
use crate::daemon::worker::{WaitsFor, Worker};

/// Most questions on their way at a time.
const MOST: usize = 4;
/// A sleep is never longer: a clock that stops in suspend is made up for.
const LONGEST_SLEEP: Duration = Duration::from_secs(300);
/// A token with less life may have ended before it arrives.
const LEAST_LIFE: Duration = Duration::from_secs(30);

/// Starts to ask; what is remembered between runs is at `path`.
pub(crate) fn start(daemon: &Arc<Daemon>, path: PathBuf) -> std::io::Result<Worker<UsageRequest>> {
    Worker::start(("usage", WaitsFor::Network), daemon, &daemon.mailboxes.usage, |daemon, mailbox| async move {
        Poller::new(daemon, path).run(mailbox).await;
    })
}

/// What a question is asked with.
struct Asking {
    record: AccountRecord,
    token: Secret,
    url: Option<String>,
    base_url: Option<String>,
    print: Print,
}

/// What tells one access token from the next.
type Print = (Fingerprint, Option<Wall>);

/// The thread's own.
struct Poller {
    daemon: Weak<Daemon>,
    path: PathBuf,
    kept: BTreeMap<AccountId, SavedUsage>,
    /// What the last question was refused with.
    refused: FxHashMap<AccountId, Print>,
    client: Option<reqwest::Client>,
    on_the_way: FxHashSet<AccountId>,
    waiting: FxHashMap<AccountId, Vec<oneshot::Sender<PollOutcome>>>,
}

impl Poller {
    fn new(daemon: Weak<Daemon>, path: PathBuf) -> Self {
        let kept = file::read(&path);
        if let Some(daemon) = daemon.upgrade() {
            remember(&daemon, &kept);
        }
        Self {
            daemon,
            path,
            kept,
            refused: FxHashMap::default(),
            client: None,
            on_the_way: FxHashSet::default(),
            waiting: FxHashMap::default(),
        }
    }

    async fn run(mut self, mailbox: Mailbox<UsageRequest>) {
        let mut questions: JoinSet<(AccountId, Print, UsageResult)> = JoinSet::new();
        loop {
            let Some(sleep) = self.ask_what_is_due(&mut questions) else { return };
            tokio::select! {
                mail = mailbox.next(sleep) => {
                    if mail.stop {
                        return;
                    }
                    mail.messages.into_iter().for_each(|request| self.ask_now(request, &mut questions));
                }
                Some(answered) = questions.join_next() => {
                    if let Ok((account, print, asked)) = answered {
                        self.answered(account, print, asked);
                    }
                }
            }
        }
    }

    /// Asks about the accounts whose time has come; answers how long to sleep, `None` at the end of the daemon.
    fn ask_what_is_due(&mut self, questions: &mut JoinSet<(AccountId, Print, UsageResult)>) -> Option<Duration> {
        let daemon = self.daemon.upgrade()?;
        let now = clock::now();
        let mut due: Vec<(Wall, AccountId)> = {
            let state = &*daemon.state();
            let Some(every) = state.config.config.quota.poll else { return Some(LONGEST_SLEEP) };
            let wanted = state.pool.accounts().iter().filter(|account| {
                account.enabled()
                    && account.record.login_state == LoginState::Ready
                    && !self.on_the_way.contains(&account.record.id)
                    && usage::is_reported(&account.record.provider, account.record.kind)
            });
            let due = wanted.filter_map(|account| {
                let id = account.record.id;
                let print = living(state, id, now)?;
                let rhythm = usage::poll_limits(&account.record.provider)?;
                let mut ledger = self.kept.get(&id).map(|kept| kept.ledger.clone()).unwrap_or_default();
                if self.refused.get(&id).is_some_and(|refused| *refused != print) {
                    ledger.credential_changed();
                }
                let fresh = freshest(&account.usage().windows, now.wall);
                Some((ledger.due_at(rhythm, every, fresh, id.bits(), now.wall), id))
            });
            due.collect()
        };
        due.sort_unstable();
        for (_, account) in due.iter().take_while(|(at, _)| *at <= now.wall) {
            if questions.len() >= MOST {
                // the next answer wakes us
                return Some(LONGEST_SLEEP);
            }
            self.start(&daemon, *account, now, questions);
        }
        let next = due.into_iter().map(|(at, _)| at).find(|at| *at > now.wall);
        Some(next.map_or(LONGEST_SLEEP, |at| at.since(now.wall)).min(LONGEST_SLEEP))
    }

    /// Asks about an account because a call wants to know.
    fn ask_now(&mut self, request: UsageRequest, questions: &mut JoinSet<(AccountId, Print, UsageResult)>) {
        let Some(daemon) = self.daemon.upgrade() else { return };
        let UsageRequest { account, answer } = request;
        if self.on_the_way.contains(&account) {
            return self.waiting.entry(account).or_default().push(answer);
        }
        let now = clock::now();
        self.forgive(&daemon, account, now);
        let rhythm = daemon.state().pool.account(account).and_then(|found| usage::poll_limits(&found.record.provider));
        let ledger = self.kept.get(&account).map(|kept| kept.ledger.clone()).unwrap_or_default();
        let opens = ledger.allowed_at(rhythm.unwrap_or(PollLimits::OTHERS), now.wall);
        // nobody is there to hear: no harm
        let _gone = if opens > now.wall {
            answer.send(PollOutcome::NotBefore(opens))
        } else if self.start(&daemon, account, now, questions) {
            self.waiting.entry(account).or_default().push(answer);
            Ok(())
        } else {
            answer.send(PollOutcome::NoToken)
        };
    }

    /// What was held against a credential is not held against the next one.
    fn forgive(&mut self, daemon: &Daemon, account: AccountId, now: Now) {
        let Some(refused) = self.refused.get(&account) else { return };
        let renewed = living(&daemon.state(), account, now).is_some_and(|print| print != *refused);
        if renewed {
            self.refused.remove(&account);
            self.kept.entry(account).or_default().ledger.credential_changed();
        }
    }

    fn start(
        &mut self,
        daemon: &Daemon,
        account: AccountId,
        now: Now,
        questions: &mut JoinSet<(AccountId, Print, UsageResult)>,
    ) -> bool {
        self.forgive(daemon, account, now);
        let Some(asking) = asking(&daemon.state(), account, now) else { return false };
        let client = match self.client() {
            Ok(client) => client,
            Err(message) => {
                self.note(daemon, account, Some(message));
                return false;
            }
        };
        let kept = self.kept.entry(account).or_default();
        kept.ledger.record_poll(now.wall);
        let wants_plan = kept.plan.is_none();
        // written down before it is asked: a daemon that crashes in between has asked, too
        self.save();
        self.on_the_way.insert(account);
        questions.spawn(async move {
            let record = &asking.record;
            let question = UsageQuery {
                provider: &record.provider,
                url: asking.url.as_deref(),
                base_url: asking.base_url.as_deref(),
                vendor_id: record.vendor_id.as_deref(),
                project: record.project_id.as_deref(),
                wants_plan,
                now: now.wall,
            };
            let asked = usage::query(&client, &question, asking.token.expose()).await;
            (account, asking.print, asked)
        });
        true
    }

    fn client(&mut self) -> Result<reqwest::Client, String> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = http::client(&http::ConnectOptions::default()).map_err(|error| error.to_string())?;
        Ok(self.client.insert(client).clone())
    }

    fn answered(&mut self, account: AccountId, print: Print, asked: UsageResult) {
        self.on_the_way.remove(&account);
        let Some(daemon) = self.daemon.upgrade() else { return };
        let now = clock::now();
        let kept = self.kept.entry(account).or_default();
        let outcome = match asked {
            Ok(reading) => {
                kept.ledger.succeeded();
                kept.plan = reading.plan.clone().or(kept.plan.take());
                self.refused.remove(&account);
                self.note(&daemon, account, None);
                learn(&daemon, account, reading, now);
                Ok(())
            }
            Err(failure) => {
                kept.ledger.failed(failure.kind, now.wall);
                self.refused.insert(account, print);
                self.note(&daemon, account, Some(failure.message.clone()));
                if failure.unconfirmed {
                    must_confirm(&daemon, account, failure.link.as_deref(), now);
                }
                Err(failure)
            }
        };
        self.save();
        for answer in self.waiting.remove(&account).unwrap_or_default() {
            // nobody is there to hear: no harm
            let _gone = answer.send(PollOutcome::Asked(outcome.clone()));
        }
    }

    /// Keeps why asking fails, and logs when that changes.
    fn note(&self, daemon: &Daemon, account: AccountId, failure: Option<String>) {
        let state = &mut *daemon.state();
        let Some(name) = state.pool.account(account).map(|account| account.display_name()) else { return };
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
            tracing::debug!("how often usage was asked for is not kept: {error}");
        }
    }
}

/// The account's token, if it lives: an ended one is never asked with.
fn living(state: &State, id: AccountId, now: Now) -> Option<Print> {
    let credential = state.credentials.get(id)?;
    let ends = credential.expires_at.is_some_and(|end| end <= now.wall.after(LEAST_LIFE));
    let lives = !ends && !credential.access.expose().is_empty();
    lives.then(|| (state.credentials.fingerprints.of(credential), credential.expires_at))
}

/// What an account can be asked about with.
fn asking(state: &State, id: AccountId, now: Now) -> Option<Asking> {
    let print = living(state, id, now)?;
    let record = state.pool.account(id)?.record.clone();
    let credential = state.credentials.get(id)?;
    let provider = state.config.config.providers.get(&record.provider);
    let base_url = provider.and_then(|provider| provider.oauth.base_url.clone().or_else(|| provider.base_url.clone()));
    Some(Asking {
        url: provider.and_then(|provider| provider.usage_url.clone()),
        base_url,
        token: credential.access.duplicate(),
        print,
        record,
    })
}

/// Since when everything that is known of an account has been known: the oldest of its windows that still counts.
fn freshest(windows: &[Window], now: Wall) -> Option<Wall> {
    let live = windows.iter().filter(|window| window.resets_at.is_none_or(|at| at > now));
    live.map(|window| window.as_of).min()
}

/// Puts back which plans an earlier run has learnt.
fn remember(daemon: &Daemon, kept: &BTreeMap<AccountId, SavedUsage>) {
    let state = &mut *daemon.state();
    for (id, kept) in kept {
        if let Some(plan) = kept.plan.as_ref().filter(|_| state.pool.account(*id).is_some()) {
            state.usage_notes.plans.insert(*id, plan.clone());
        }
    }
}

/// Lets what was read count.
fn learn(daemon: &Daemon, id: AccountId, reading: UsageReading, now: Now) {
    let state = &mut *daemon.state();
    let Some(record) = state.pool.account(id).map(|account| account.record.clone()) else { return };
    if let Some(plan) = reading.plan {
        state.usage_notes.plans.insert(id, plan);
    }
    // what the user has said stands
    let change = AccountChange {
        tier: reading.tier.filter(|_| record.tier == Tier::Unknown),
        project_id: reading.project.filter(|_| record.project_id.is_none()),
        ..AccountChange::default()
    };
    if change != AccountChange::default() {
        state.apply_internal(now, Command::ChangeAccount(id, Box::new(change)));
    }
    state.learn_usage(now, id, Usage { windows: reading.windows, ..Usage::default() });
}

/// The provider wants its owner to confirm the account.
fn must_confirm(daemon: &Daemon, id: AccountId, link: Option<&str>, now: Now) {
    let state = &mut *daemon.state();
    let login_state = LoginState::NeedsVerification(Verification::at(link));
    if state.pool.account(id).is_some_and(|account| account.record.login_state != login_state) {
        state.apply_internal(now, set_login_state(id, login_state));
    }
}
