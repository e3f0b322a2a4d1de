//! A connection that is ready: heartbeats, news, and what the pool asks for, until it is lost or the term is over.
//!
//! At rest it sends one heartbeat every quarter of the ttl and reads the news every 5 s: less than two statements a second.

pub(super) mod claims;
pub(super) mod outgoing;
mod pace;
mod probes;
mod reading;
pub(super) mod sending;
mod task_end;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use self::claims::CurrentTerm;
use self::outgoing::{LimitChange, Outgoing};
use self::pace::PoolPace;
use self::probes::ProbeDuties;
use self::task_end::{BegunReading, TaskEnd};
use super::handle::PoolTerm;
use super::loss::PoolLoss;
use super::message::PoolMessage;
use super::target::PoolTarget;
use super::term::{self, BegunTerm};
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, Mailbox};
use crate::pool::{AccountId, Mono};
use crate::shared_pool::{
    NewsPosition, PoolClient, PoolNotice, PoolNoticeKind, PoolNotices, SeatValidity, SharedPoolSettings, SilentTerms,
};

/// How often the news are read at least: notices can be lost.
const NEWS_EVERY: Duration = Duration::from_secs(5);
/// Notices of seats within this time are one.
const SEATS_TOGETHER: Duration = Duration::from_millis(20);
/// A heartbeat without an answer for so long: the connection is dead, also if the system does not say so.
const LONGEST_BEAT: Duration = Duration::from_secs(5);

/// Why a session has ended.
#[derive(Debug)]
pub(super) enum SessionEnd {
    /// The daemon ends.
    Stop,
    /// The membership or the configuration leads elsewhere.
    Elsewhere,
    /// The term is over: another one begins on the same connection.
    TermOver,
    /// The connection is lost, and why.
    Lost(PoolLoss),
}

/// What is kept from one session to the next.
#[derive(Debug)]
pub(super) struct SessionMemory {
    pub(super) outgoing: Outgoing,
    pub(super) probes: ProbeDuties,
    /// The difference to the database's clock at the last heartbeat, in ms.
    clock_offset: Option<i64>,
    /// Up to where the news were read, and of which database.
    position: Option<NewsPosition>,
    /// Everything is to be read; a reading that is under way may have begun before the reason.
    reads_all_next: bool,
    incarnation: Option<i64>,
    silent: Option<(SharedPoolSettings, SilentTerms)>,
}

impl SessionMemory {
    pub(super) fn new() -> Self {
        let (outgoing, probes) = (Outgoing::default(), ProbeDuties::default());
        let (position, reads_all_next) = (None, false);
        Self { outgoing, probes, clock_offset: None, position, reads_all_next, incarnation: None, silent: None }
    }

    /// The next reading is one of everything.
    pub(super) fn read_all(&mut self) {
        self.reads_all_next = true;
    }

    /// Where the reading begins that begins now: at no position if it is one of everything.
    fn begin_reading(&mut self) -> Option<NewsPosition> {
        if std::mem::take(&mut self.reads_all_next) {
            self.position = None;
        }
        self.position
    }

    /// This host belongs to another pool, or to none.
    pub(super) fn forget_pool(&mut self) {
        *self = Self::new();
    }
}

pub(super) struct PoolSession<'w> {
    daemon: Arc<Daemon>,
    mailbox: &'w Mailbox<PoolMessage>,
    memory: &'w mut SessionMemory,
    client: Arc<PoolClient>,
    target: Arc<PoolTarget>,
    term: PoolTerm,
    current: CurrentTerm,
    settings: SharedPoolSettings,
    validity: SeatValidity,
    beat: PoolPace,
    news: PoolPace,
    tasks: JoinSet<TaskEnd>,
}

impl<'w> PoolSession<'w> {
    pub(super) fn new(
        (daemon, mailbox, memory): (Arc<Daemon>, &'w Mailbox<PoolMessage>, &'w mut SessionMemory),
        (client, target): (Arc<PoolClient>, Arc<PoolTarget>),
        begun: BegunTerm,
    ) -> Option<Self> {
        let BegunTerm { info, term, validity, beat_at } = begun;
        let seats = daemon.state().shared_accounts.seats().cloned()?;
        let current = CurrentTerm { daemon: daemon.clone(), client: client.clone(), term, seats };
        if memory.incarnation.replace(info.incarnation) != Some(info.incarnation) {
            // another database than before, or the first one
            memory.read_all();
        }
        memory.probes.disconnected();
        daemon.many_hosts.set_term(Some(term));
        // it offers the pool the refreshed logins that it does not have yet
        daemon.mailboxes.refresh.wake();
        let settings = info.settings;
        let beat = PoolPace::begun(settings.ttl / 4, beat_at);
        let news = PoolPace::new(NEWS_EVERY);
        let tasks = JoinSet::new();
        let mut session =
            Self { daemon, mailbox, memory, client, target, term, current, settings, validity, beat, news, tasks };
        session.use_settings(settings);
        Some(session)
    }

    /// Serves until the session ends. `notices` are those of the connection.
    pub(super) async fn serve(&mut self, notices: &mut PoolNotices) -> SessionEnd {
        loop {
            let sleep = self.start_due();
            let end = tokio::select! {
                biased;
                Some(done) = self.tasks.join_next() => done.map_or(None, |done| self.finish(done)),
                notice = notices.next() => match notice {
                    Some(notice) => {
                        self.noticed(notice);
                        while let Some(notice) = notices.try_next() {
                            self.noticed(notice);
                        }
                        None
                    }
                    None => Some(SessionEnd::Lost(PoolLoss::passing("the listening connection has ended"))),
                },
                mail = self.mailbox.next(sleep) => {
                    if mail.stop {
                        Some(SessionEnd::Stop)
                    } else {
                        mail.messages.into_iter().find_map(|message| self.received(message))
                    }
                }
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Starts what is due; returns how long to sleep.
    fn start_due(&mut self) -> Duration {
        let now = clock::now();
        if self.beat.begin(now.mono) {
            self.count(1);
            let (client, term, patience) = (self.client.clone(), self.term, self.longest_beat());
            self.tasks.spawn(async move {
                let sent = clock::now();
                TaskEnd::Beat(sent, tokio::time::timeout(patience, term::beat(&client, term)).await.ok())
            });
        }
        if self.news.begin(now.mono) {
            self.count(1);
            let (client, since, term) = (self.client.clone(), self.memory.begin_reading(), self.term.id);
            let own_changes = self.daemon.state().shared_accounts.own_changes();
            self.tasks.spawn(async move {
                let begun = BegunReading { at: clock::now().mono, own_changes };
                let news = client.news(since, Some(term)).await;
                TaskEnd::News(begun, clock::now(), news.map(Box::new))
            });
        }
        self.send_learnt(now.mono);
        let due = [self.beat.next(), self.news.next(), self.memory.outgoing.next_usage()];
        due.into_iter().flatten().min().map_or(NEWS_EVERY, |at| at.since(now.mono)).max(Duration::from_millis(1))
    }

    fn longest_beat(&self) -> Duration {
        LONGEST_BEAT.min(self.settings.ttl / 4).max(Duration::from_millis(200))
    }

    /// Sends what this host has learnt.
    fn send_learnt(&mut self, now: Mono) {
        for change in self.memory.outgoing.take_limits() {
            self.count(1);
            self.memory.probes.sends(change.1.account());
            let (daemon, client) = (self.daemon.clone(), self.client.clone());
            self.tasks.spawn(async move {
                let sent = sending::limit(&daemon, &client, &change).await;
                TaskEnd::Limit(change, sent)
            });
        }
        for ended in self.memory.probes.take_ended() {
            self.count(1);
            let ending = self.current.clone().end_probe(ended);
            self.tasks.spawn(async move { TaskEnd::Other(ending.await) });
        }
        for account in self.memory.outgoing.take_usage(now) {
            self.count(1);
            let sending = sending::usage(self.daemon.clone(), self.client.clone(), account);
            self.tasks.spawn(async move { TaskEnd::Other(sending.await) });
        }
        for account in self.memory.outgoing.take_accounts() {
            self.count(1);
            let is_admin = self.daemon.many_hosts.membership().is_some_and(|membership| membership.admin);
            let sending = sending::account(self.daemon.clone(), self.client.clone(), account, is_admin);
            self.tasks.spawn(async move { TaskEnd::Other(sending.await) });
        }
    }

    /// What the pool, or another part of the daemon, asks for.
    fn received(&mut self, message: PoolMessage) -> Option<SessionEnd> {
        match message {
            PoolMessage::Rejoin => match PoolTarget::of(&self.daemon) {
                Ok(target) if self.target.is_as(&target) => {
                    self.target = Arc::new(target);
                    // what [pool] own_accounts lists may have changed
                    self.read_all();
                }
                _ => return Some(SessionEnd::Elsewhere),
            },
            PoolMessage::Claim(wanted) => {
                self.count(1);
                let claim = self.current.clone().claim(wanted);
                self.tasks.spawn(async move { TaskEnd::Claim(claim.await) });
            }
            PoolMessage::GiveBack { account, seats } => {
                self.count(1);
                let giving = self.current.clone().give_back(account, seats);
                self.tasks.spawn(async move { TaskEnd::Other(giving.await) });
            }
            PoolMessage::WithdrawWant(account) => {
                self.count(1);
                let withdrawing = self.current.clone().withdraw_want(account);
                self.tasks.spawn(async move { TaskEnd::Other(withdrawing.await) });
            }
            PoolMessage::ClaimFences { above } => {
                self.count(1);
                let claim = self.current.clone().claim_fences(above);
                self.tasks.spawn(async move { TaskEnd::Other(claim.await) });
            }
            PoolMessage::Limit(limit) => self.memory.outgoing.limit(LimitChange::Set(limit)),
            PoolMessage::ClearLimit(cleared) => self.memory.outgoing.limit(LimitChange::Cleared(cleared)),
            PoolMessage::ClaimProbe { account, limits } => {
                self.count(1);
                self.memory.probes.asked(account);
                let claim = self.current.clone().claim_probe(account, limits);
                self.tasks.spawn(async move { TaskEnd::Probe(claim.await) });
            }
            PoolMessage::GiveUpProbe(account) => self.memory.probes.give_up(account),
            PoolMessage::Usage(account) => self.memory.outgoing.usage(account),
            PoolMessage::Account(account) => self.memory.outgoing.account(account),
            PoolMessage::ReadNews => self.news.ask(clock::now().mono),
            PoolMessage::ReadAll => self.read_all(),
        }
        None
    }

    /// The database says that there may be news.
    fn noticed(&mut self, notice: PoolNotice) {
        let now = clock::now().mono;
        let concerns =
            |is_so: fn(&Daemon, AccountId) -> bool| notice.account.is_none_or(|account| is_so(&self.daemon, account));
        self.news.ask(match notice.kind {
            // what is of no use at once is read with the next news
            PoolNoticeKind::Freed if !concerns(is_waited_for) => return,
            PoolNoticeKind::Wanted if !concerns(holds_seats) => return,
            // many may come together
            PoolNoticeKind::Freed | PoolNoticeKind::Wanted => now.after(SEATS_TOGETHER),
            PoolNoticeKind::Limit
            | PoolNoticeKind::Account
            | PoolNoticeKind::Host
            | PoolNoticeKind::Pool
            | PoolNoticeKind::Any => now,
        });
    }

    fn forget_database(&mut self) {
        if let Some((_, silent)) = &mut self.memory.silent {
            silent.forget();
        }
        self.read_all();
    }

    /// Everything is read, also if a reading is under way.
    fn read_all(&mut self) {
        self.memory.read_all();
        self.news.ask(clock::now().mono);
    }

    /// Uses these settings. Of several, the longest patience with others counts, and the shortest validity of own seats: the
    /// other hosts may not know of a change yet.
    fn use_settings(&mut self, settings: SharedPoolSettings) {
        let known = self.memory.silent.as_ref().map(|(known, _)| *known);
        let patience = |of: SharedPoolSettings| of.ttl.saturating_add(of.margin);
        if known.is_none_or(|known| patience(known) < patience(settings)) {
            self.memory.silent = Some((settings, SilentTerms::new(settings.ttl, settings.margin)));
        }
        let lasts = |of: SharedPoolSettings| of.ttl.saturating_sub(of.margin);
        if lasts(settings) < lasts(self.settings) {
            self.validity = SeatValidity::new(settings.ttl, settings.margin);
            self.beat = PoolPace::new(settings.ttl / 4);
        }
        if lasts(settings) <= lasts(self.settings) {
            self.settings = settings;
        }
    }

    fn count(&self, statements: u64) {
        self.daemon.many_hosts.change_status(|status| status.statements += statements);
    }
}

fn is_waited_for(daemon: &Daemon, account: AccountId) -> bool {
    daemon.state().pool.is_waited_for(clock::now(), account)
}

fn holds_seats(daemon: &Daemon, account: AccountId) -> bool {
    daemon.state().pool.seats(account).is_some_and(|seats| seats.held > 0)
}
