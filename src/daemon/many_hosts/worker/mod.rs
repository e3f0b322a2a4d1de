//! The worker: connects with the database, again and again, and answers the pool while it is away.

mod backoff;

use std::sync::{Arc, Weak};
use std::time::Duration;

use self::backoff::ConnectBackoff;
use super::handle::PoolTerm;
use super::loss::PoolLoss;
use super::message::PoolMessage;
use super::news::adopt;
use super::session::claims;
use super::session::outgoing::LimitChange;
use super::session::{PoolSession, SessionEnd, SessionMemory};
use super::set_closed;
use super::status::{PoolAway, PoolAwayKind, PoolLink};
use super::target::PoolTarget;
use super::term::{self, BeginError, BegunTerm, FormerTerm};
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, Mailbox};
use crate::pool::{Command, SeatDenial, Wall, spoken};
use crate::shared_pool::{PoolClient, PoolNotices};

/// A connection that is not there after so long is tried again.
const LONGEST_CONNECT: Duration = Duration::from_secs(15);
/// The longest sleep, because its clock stops in suspend.
const LONGEST_SLEEP: Duration = Duration::from_secs(300);
/// How long the end of the daemon waits for the database.
const LONGEST_FAREWELL: Duration = Duration::from_secs(2);

/// What became of something that was waited for while messages were answered.
enum Waited<T> {
    Done(T),
    /// The configuration or the membership has changed.
    Elsewhere,
    /// The daemon ends.
    Stop,
}

/// A connection, and its notices.
type PoolConnection = (Arc<PoolClient>, PoolNotices);

pub(super) struct PoolWorker {
    daemon: Weak<Daemon>,
    mailbox: Mailbox<PoolMessage>,
    memory: SessionMemory,
    backoff: ConnectBackoff,
    /// The term that is not over as far as is known: of this run, or of the last one.
    term: Option<FormerTerm>,
    /// Since when the database is away, if that was logged.
    away_since: Option<Wall>,
    /// The pool that `memory` and `term` are of.
    pool: Option<String>,
}

impl PoolWorker {
    pub(super) fn new(daemon: Weak<Daemon>, mailbox: Mailbox<PoolMessage>) -> Self {
        let stored = daemon.upgrade().and_then(|daemon| daemon.many_hosts.take_stored_term());
        let term = stored.map(FormerTerm::of_last_run);
        let (memory, backoff) = (SessionMemory::new(), ConnectBackoff::default());
        Self { daemon, mailbox, memory, backoff, term, away_since: None, pool: None }
    }

    pub(super) async fn run(mut self) {
        while let Some(daemon) = self.daemon.upgrade() {
            let goes_on = match PoolTarget::of(&daemon) {
                Ok(target) => self.serve(&daemon, Arc::new(target)).await,
                Err(link) => self.idle(&daemon, link).await,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Without a pool: until that changes. `false` at the end of the daemon.
    async fn idle(&mut self, daemon: &Arc<Daemon>, link: PoolLink) -> bool {
        daemon.many_hosts.change_status(|status| status.link = link);
        if daemon.many_hosts.membership().is_none() {
            self.forget_pool(daemon).await;
        }
        set_closed(daemon, true);
        !matches!(self.messages(daemon, std::future::pending::<()>()).await, Waited::Stop)
    }

    /// This host has left the pool: what it knew of it is removed.
    async fn forget_pool(&mut self, daemon: &Arc<Daemon>) {
        self.memory.forget_pool();
        self.term = None;
        {
            let state = &mut *daemon.state();
            let now = clock::now();
            state.lose_seats(now);
            let shared = state.shared_accounts.ids();
            adopt::remove(state, now, &shared);
        }
        daemon.many_hosts.set_term(None);
        daemon.many_hosts.change_status(|status| {
            (status.seats_until, status.hosts, status.left_out) = (None, Vec::new(), Vec::new());
        });
        term::save_term(daemon, None).await;
    }

    /// Connects and serves, until the target changes; `false` at the end of the daemon.
    async fn serve(&mut self, daemon: &Arc<Daemon>, target: Arc<PoolTarget>) -> bool {
        let before = self.pool.replace(target.membership.pool.clone());
        if before.is_some_and(|before| before != target.membership.pool) {
            // it has joined another one, while the database of the first was away
            self.forget_pool(daemon).await;
        }
        daemon.many_hosts.change_status(|status| {
            if !matches!(status.link, PoolLink::Away(_)) {
                status.link = PoolLink::Connecting;
            }
        });
        // whether another address or membership is let in is not known yet
        set_closed(daemon, false);
        loop {
            let connecting = connect(target.clone());
            let (client, mut notices) = match self.messages(daemon, connecting).await {
                Waited::Stop => return self.farewell(daemon, None).await,
                Waited::Elsewhere => return true,
                Waited::Done(Ok(connection)) => connection,
                Waited::Done(Err(loss)) => match self.away(daemon, loss).await {
                    Waited::Done(()) => continue,
                    Waited::Elsewhere => return true,
                    Waited::Stop => return self.farewell(daemon, None).await,
                },
            };
            let end = self.use_connection(daemon, &client, &target, &mut notices).await;
            let lost = match end {
                SessionEnd::Stop => return self.farewell(daemon, Some(&client)).await,
                SessionEnd::Elsewhere => {
                    self.depart(daemon, &client).await;
                    return true;
                }
                // it was begun again already
                SessionEnd::TermOver => continue,
                SessionEnd::Lost(loss) => loss,
            };
            self.disconnect(daemon);
            match self.away(daemon, lost).await {
                Waited::Done(()) => {}
                Waited::Elsewhere => return true,
                Waited::Stop => return self.farewell(daemon, None).await,
            }
        }
    }

    /// Serves on a connection, with one term after the other.
    async fn use_connection(
        &mut self,
        daemon: &Arc<Daemon>,
        client: &Arc<PoolClient>,
        target: &Arc<PoolTarget>,
        notices: &mut PoolNotices,
    ) -> SessionEnd {
        // what was sent over an earlier connection may arrive yet: it names another life, and changes nothing
        let life = term::new_life();
        loop {
            let before = self.term.clone();
            self.term.iter_mut().for_each(|term| term.note_offer(life));
            let beginning = term::begin(daemon.clone(), client.clone(), target.clone(), (before, life));
            let begun = match self.messages(daemon, beginning).await {
                Waited::Stop => return SessionEnd::Stop,
                Waited::Elsewhere => return SessionEnd::Elsewhere,
                Waited::Done(Ok(begun)) => begun,
                Waited::Done(Err(BeginError::Unfit(why))) => return SessionEnd::Lost(PoolLoss::refused(why)),
                Waited::Done(Err(BeginError::Database(error))) => {
                    return SessionEnd::Lost(PoolLoss::of(&error, target));
                }
            };
            self.connected(daemon, client, &begun);
            let parts = (daemon.clone(), &self.mailbox, &mut self.memory);
            let Some(mut session) = PoolSession::new(parts, (client.clone(), target.clone()), begun) else {
                return SessionEnd::Lost(PoolLoss::passing("the seats of the term are gone"));
            };
            match session.serve(notices).await {
                SessionEnd::TermOver => {}
                end => return end,
            }
        }
    }

    fn connected(&mut self, daemon: &Daemon, client: &Arc<PoolClient>, begun: &BegunTerm) {
        self.term = Some(FormerTerm::of_this_run(begun.term));
        self.backoff.succeeded();
        let now = clock::now().wall;
        daemon.many_hosts.set_client(Some(client.clone()));
        let mut was_connected = false;
        daemon.many_hosts.change_status(|status| {
            was_connected = status.is_connected();
            if !was_connected {
                status.link = PoolLink::Connected(now);
            }
            status.seats_until = begun.validity.until();
            status.settings = Some(begun.info.settings);
        });
        match self.away_since.take() {
            Some(since) => tracing::info!(
                "the shared pool's database {} is reached again, after {}",
                client.place(),
                spoken(now.since(since))
            ),
            // another term on the same connection
            None if was_connected => return,
            None => tracing::info!(term = begun.term.id.0, "connected with the shared pool at {}", client.place()),
        }
        if !begun.info.fsync {
            tracing::warn!("the shared pool's database runs with fsync = off: a crash of its machine can lose it");
        }
    }

    /// The connection is lost: the pool claims nothing, and its seats are valid to their time.
    fn disconnect(&mut self, daemon: &Daemon) {
        daemon.many_hosts.set_client(None);
        daemon.state().apply_from_pool(clock::now(), Command::LoseConnection);
    }

    /// The database cannot be reached: waits until the next try.
    async fn away(&mut self, daemon: &Arc<Daemon>, loss: PoolLoss) -> Waited<()> {
        let PoolLoss { kind, why } = loss;
        let now = clock::now();
        let jitter = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
        self.backoff.failed(now.mono, jitter);
        let is_new = match kind {
            PoolAwayKind::Evicted => !daemon.many_hosts.status().is_evicted(),
            PoolAwayKind::Unreachable | PoolAwayKind::Refused => self.away_since.is_none(),
        };
        if is_new && kind == PoolAwayKind::Evicted {
            tracing::warn!("{why}");
        } else if is_new {
            let words = "leases on its accounts go on to the end of their seats; lessor tries again";
            tracing::warn!("the shared pool cannot be reached: {why}; {words}");
        }
        let since = *self.away_since.get_or_insert(now.wall);
        loop {
            let (now, next) = (clock::now().mono, self.backoff.next(is_wanted(daemon)));
            daemon.many_hosts.change_status(|status| {
                status.link = PoolLink::Away(PoolAway { kind, since, why: why.clone(), next });
            });
            set_closed(daemon, kind != PoolAwayKind::Unreachable);
            if next <= now {
                return Waited::Done(());
            }
            // a request that comes meanwhile makes it sooner
            let step = next.since(now).min(Duration::from_millis(500));
            match self.messages(daemon, tokio::time::sleep(step)).await {
                Waited::Done(()) => {}
                other => return other,
            }
        }
    }

    /// Waits for something, and answers messages meanwhile: the database is not at hand.
    async fn messages<T>(&mut self, daemon: &Arc<Daemon>, wait: impl Future<Output = T>) -> Waited<T> {
        let mut wait = std::pin::pin!(wait);
        loop {
            let mail = tokio::select! {
                biased;
                mail = self.mailbox.next(LONGEST_SLEEP) => mail,
                done = &mut wait => return Waited::Done(done),
            };
            if mail.stop {
                return Waited::Stop;
            }
            let mut has_changed = false;
            for message in mail.messages {
                has_changed |= self.without_database(daemon, message);
            }
            if has_changed {
                return Waited::Elsewhere;
            }
        }
    }

    /// A message while the database is not at hand; answers whether the configuration or membership has changed.
    fn without_database(&mut self, daemon: &Daemon, message: PoolMessage) -> bool {
        match message {
            PoolMessage::Rejoin => return true,
            PoolMessage::Claim(wanted) => {
                let state = &mut *daemon.state();
                claims::deny(state, clock::now(), wanted.account, None, SeatDenial::Unavailable);
            }
            PoolMessage::Limit(limit) => self.memory.outgoing.limit(LimitChange::Set(limit)),
            PoolMessage::ClearLimit(cleared) => self.memory.outgoing.limit(LimitChange::Cleared(cleared)),
            PoolMessage::ClaimProbe { account, .. } => {
                daemon.state().apply_from_pool(clock::now(), Command::ProbeDenied(account));
            }
            PoolMessage::GiveUpProbe(account) => self.memory.probes.give_up(account),
            PoolMessage::Usage(account) => self.memory.outgoing.usage(account),
            PoolMessage::Account(account) => self.memory.outgoing.account(account),
            // the seats of the term are compared when it goes on, and the pool asks for fences again
            PoolMessage::GiveBack { .. } | PoolMessage::ClaimFences { .. } | PoolMessage::ReadNews => {}
            PoolMessage::ReadAll => self.memory.read_all(),
            // other hosts forget it after a minute
            PoolMessage::WithdrawWant(_) => {}
        }
        false
    }

    /// The configuration or membership leads elsewhere: the term in this database ends.
    async fn depart(&mut self, daemon: &Daemon, client: &PoolClient) {
        daemon.state().lose_seats(clock::now());
        if let Some(term) = self.term.take() {
            let _ended_or_away = tokio::time::timeout(LONGEST_FAREWELL, term.end(client)).await;
        }
        term::save_term(daemon, None).await;
        daemon.many_hosts.set_term(None);
        self.disconnect(daemon);
        self.memory.forget_pool();
    }

    /// The daemon ends: the term ends with it, unless leases outlive it or the next run goes on at once. Returns `false`.
    async fn farewell(&mut self, daemon: &Daemon, client: Option<&Arc<PoolClient>>) -> bool {
        let keeps_leases = {
            let state = &*daemon.state();
            state.pool.leases().any(|lease| state.is_shared(lease.account))
        };
        let (Some(term), Some(client)) = (self.term.clone(), client) else { return false };
        if daemon.restart.borrow().is_some() {
            // holders of leases come back to the next run
            return false;
        }
        let farewell = async {
            if keeps_leases {
                self.give_back_free(daemon, client, term.known()).await;
            } else if term.end(client).await.is_ok() {
                term::save_term(daemon, None).await;
            }
        };
        if tokio::time::timeout(LONGEST_FAREWELL, farewell).await.is_err() {
            tracing::debug!("the shared pool was not told of the end in time");
        }
        false
    }

    /// Gives back the seats that no lease needs: the next run goes on with the others.
    async fn give_back_free(&self, daemon: &Daemon, client: &PoolClient, term: PoolTerm) {
        let free: Vec<_> = {
            let state = &*daemon.state();
            let leases = |id| state.pool.leases().filter(|lease| lease.account == id).count();
            let free = state.shared_accounts.ids().into_iter().filter_map(|id| {
                let held = state.pool.seats(id)?.held;
                let free = held.saturating_sub(u32::try_from(leases(id)).unwrap_or(u32::MAX));
                (free > 0).then_some((id, free))
            });
            free.collect()
        };
        for (account, seats) in free {
            if client.give_back_seats(term.id, term.life, account, seats).await.is_err() {
                return;
            }
        }
    }
}

/// Whether requests or leases depend on the database.
fn is_wanted(daemon: &Daemon) -> bool {
    let state = &*daemon.state();
    state.pool.waiters().next().is_some() || state.pool.leases().any(|lease| state.is_shared(lease.account))
}

/// Connects; why not, for people.
async fn connect(target: Arc<PoolTarget>) -> Result<PoolConnection, PoolLoss> {
    let connecting = tokio::time::timeout(LONGEST_CONNECT, PoolClient::connect(&target.address));
    match connecting.await {
        Ok(Ok((client, notices))) => Ok((Arc::new(client), notices)),
        Ok(Err(error)) => Err(PoolLoss::of(&error, &target)),
        Err(_) => Err(PoolLoss::passing(format!("its database did not answer within {} s", LONGEST_CONNECT.as_secs()))),
    }
}
