//! The serving loop: accepts clients, runs the timer, detects reasons to stop, drains.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::connections::{ACCEPT_PAUSE, Connections, accept};
use super::restore::RestoringThread;
use super::watchdog::Watchdog;
use crate::daemon::api::connection::planner::PlannerThread;
use crate::daemon::os::lock::{self, Lock};
use crate::daemon::os::signals::{SignalListener, SignalRequest};
use crate::daemon::os::socket::Socket;
use crate::daemon::os::{allocator, clock, handover::CONTINUES, service_manager};
use crate::daemon::state::{ConfigMessage, Daemon};
use crate::daemon::{config::move_key, refresh::LONGEST_ATTEMPT};
use crate::pool::{Bind, Command, ConnectionId, Process};

/// The longest sleep of the timer, because its clock stops in suspend.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How often the socket is checked, the times of last use are saved, and freed memory is given back.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// When the memory that only the start has used is given back; the store has given back its own by then.
const AFTER_START: Duration = Duration::from_millis(1500);
/// How long a stop waits for outstanding answers.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the gateway's last responses, the workers and the store may take after that.
const LAST_STEPS: Duration = Duration::from_secs(10);
/// How long the end of a daemon may take after its socket was withdrawn.
const LONGEST_DRAIN: Duration = DRAIN.saturating_add(LAST_STEPS);
/// How long the end of a daemon may take. The units of `systemd/` and `launchd/` allow more.
pub const LONGEST_END: Duration = LONGEST_ATTEMPT.saturating_add(LONGEST_DRAIN);
const _: () = assert!(LONGEST_DRAIN.as_secs() < lock::MAX_WAIT.as_secs(), "the next daemon waits for the lock");
/// How much longer than requested the gateway may take before a restart.
const GATEWAY_LATE: Duration = Duration::from_secs(2);

/// Why serving has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StopReason {
    /// A signal or a call.
    Requested,
    /// No client for as long as `idle_exit` allows.
    Unused,
    /// The socket was removed or replaced.
    SocketLost,
    /// The key is available: a daemon with the accounts takes over.
    Unlocked,
    /// A call: the program is to be executed again. `may_resume`: connections hold leases.
    Restart { may_resume: bool },
}

/// The sources of clients and signals, and the lock.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) socket: Socket,
    pub(super) lock: Lock,
    pub(super) signals: SignalListener,
    pub(super) steps: clock::TimerSteps,
}

impl Serving {
    /// Accepts and greets clients until the state is restored; what they ask for is served after that.
    pub(super) async fn greet<T: Send + 'static>(
        &self,
        connections: &mut Connections,
        restoring: RestoringThread<T>,
    ) -> T {
        let mut restored = pin!(restoring.end());
        loop {
            tokio::select! {
                biased;
                restored = &mut restored => return restored,
                accepted = accept(&self.socket, &mut connections.accepted, &connections.room) => {
                    if let Some((stream, permit)) = accepted {
                        connections.serve(stream, permit);
                    }
                }
            }
        }
    }

    /// Serves until a reason to stop. Watched processes that have ended arrive by `ended`; the service manager gets messages
    /// after it was announced.
    pub(super) async fn serve(
        &mut self,
        daemon: Arc<Daemon>,
        (planner, mut connections): (PlannerThread, Connections),
        mut ended: UnboundedReceiver<Process>,
        announced: Option<oneshot::Receiver<()>>,
    ) -> StopReason {
        connections.begin(&daemon);
        let timer = tokio::spawn(keep_time(daemon.clone()));
        let mut stop = daemon.stop.subscribe();
        let mut ready = pin!(ready_to_restart(daemon.clone()));
        let mut watchdog = Watchdog::new(announced);
        let mut check = tokio::time::interval(check_interval(&daemon));
        // the first tick is immediate
        check.tick().await;
        check.reset_at(self.steps.last_within(AFTER_START.min(check_interval(&daemon))));
        let mut checked_at = clock::now().mono;
        let mut trimmed_at = None;
        let mut jumps = clock::ClockJumps::new();
        let reason = loop {
            tokio::select! {
                accepted = accept(&self.socket, &mut connections.accepted, &connections.room) => {
                    if let Some((stream, permit)) = accepted {
                        connections.serve(stream, permit);
                    }
                }
                Some(_) = connections.tasks.join_next() => {}
                Some(process) = ended.recv() => daemon.process_ended(process),
                signal = self.signals.next() => match signal {
                    Some(SignalRequest::Reload) => daemon.mailboxes.config.send(ConfigMessage::ReadOnSignal),
                    Some(SignalRequest::Stop) | None => break StopReason::Requested,
                },
                _ = stop.wait_for(|stops| *stops) => break StopReason::Requested,
                () = &mut ready => {
                    break StopReason::Restart { may_resume: holds_connection_leases(&daemon) };
                }
                () = unlocked(&daemon) => break StopReason::Unlocked,
                () = daemon.reconfigured.notified() => {
                    // a configuration that changes all the time does not put the check off
                    let passed = clock::now().mono.since(checked_at);
                    check.reset_at(self.steps.last_within(check_interval(&daemon).saturating_sub(passed)));
                }
                () = watchdog.next() => watchdog.report(&daemon, timer.is_finished()),
                _ = check.tick() => {
                    if let Some(reason) = self.check(&daemon) {
                        break reason;
                    }
                    if jumps.have_occurred() {
                        daemon.mailboxes.refresh.wake();
                    }
                    checked_at = clock::now().mono;
                    check.reset_at(self.steps.last_within(check_interval(&daemon)));
                    if trimmed_at.is_none_or(|at| checked_at.since(at) >= CHECK_INTERVAL)
                        && let Some(place) = planner.planner().place()
                    {
                        let is_first = trimmed_at.replace(checked_at).is_none();
                        let daemon = daemon.clone();
                        // not on this thread: leases are granted here
                        tokio::spawn(async move {
                            place.run(&daemon, move || give_back(is_first)).await;
                        });
                    }
                }
            }
        };
        let is_forced = !self.end_refreshes(&daemon, reason, (&mut connections, &mut ended)).await;
        timer.abort();
        let reason = self.end(&daemon, (reason, is_forced), connections.tasks).await;
        planner.end();
        reason
    }

    /// Waits for the answers of refreshes that were sent. Meanwhile no lease is granted, and connected clients are served;
    /// others, too, unless a service manager keeps the socket: they wait for the next daemon. `false` when a second signal
    /// forces the end.
    async fn end_refreshes(
        &mut self,
        daemon: &Daemon,
        reason: StopReason,
        (connections, ended): (&mut Connections, &mut UnboundedReceiver<Process>),
    ) -> bool {
        if matches!(reason, StopReason::Unlocked | StopReason::Restart { .. }) {
            // a restart has waited for them already
            return true;
        }
        let Some(words) = daemon.end_refreshing() else { return true };
        tracing::info!("{words}; a second signal stops immediately");
        service_manager::stopping();
        service_manager::report(false, Some(&words));
        // the gateway stops accepting clients, too
        daemon.stop.send_replace(true);
        daemon.state().apply_internal(clock::now(), Command::Drain);
        let accepts = !self.socket.is_inherited() && reason != StopReason::SocketLost;
        let mut answered = pin!(daemon.refreshes_answered());
        loop {
            tokio::select! {
                all = &mut answered => {
                    if let Some(lost) = daemon.unanswered_words().filter(|_| !all) {
                        tracing::warn!("stopping: {lost}");
                    }
                    return true;
                }
                signal = self.signals.next() => {
                    if !matches!(signal, Some(SignalRequest::Reload)) {
                        let lost = daemon.unanswered_words().unwrap_or_default();
                        tracing::warn!("stopping immediately: {lost}");
                        return false;
                    }
                }
                accepted = accept(&self.socket, &mut connections.accepted, &connections.room), if accepts => {
                    if let Some((stream, permit)) = accepted {
                        connections.serve(stream, permit);
                    }
                }
                Some(_) = connections.tasks.join_next() => {}
                Some(process) = ended.recv() => daemon.process_ended(process),
            }
        }
    }

    /// The regular check; returns a reason to stop.
    fn check(&self, daemon: &Daemon) -> Option<StopReason> {
        daemon.save_last_uses();
        move_key(daemon);
        if !self.socket.is_in_place() {
            return Some(StopReason::SocketLost);
        }
        daemon.idle_exit().is_some_and(|most| daemon.idle_for() >= most).then_some(StopReason::Unused)
    }

    /// Ends this run; a restart that is overtaken by a stop becomes one.
    async fn end(
        &mut self,
        daemon: &Daemon,
        (reason, is_forced): (StopReason, bool),
        mut connections: JoinSet<()>,
    ) -> StopReason {
        match reason {
            StopReason::Unlocked => {
                drain(daemon, &mut connections).await;
                return reason;
            }
            StopReason::Restart { .. } if CONTINUES => {
                service_manager::reloading();
                daemon.stop.send_replace(true);
                // clients that connect now wait for the next run
                tokio::select! {
                    () = drain(daemon, &mut connections) => {}
                    () = stop_signal(&mut self.signals) => drop(daemon.restart.send_replace(None)),
                }
                if daemon.restart.borrow().is_some() {
                    return reason;
                }
                self.withdraw();
                return StopReason::Requested;
            }
            StopReason::Restart { .. } => tracing::info!("stopping, to be started again"),
            StopReason::Requested => tracing::info!("stopping"),
            StopReason::Unused => tracing::info!("stopping: unused for as long as idle_exit allows"),
            StopReason::SocketLost => {
                tracing::error!("stopping: the socket was removed or replaced, clients cannot reach the daemon");
            }
        }
        service_manager::stopping();
        // the gateway stops accepting clients, too
        daemon.stop.send_replace(true);
        self.withdraw();
        if is_forced {
            return reason;
        }
        tokio::select! {
            () = drain(daemon, &mut connections) => {}
            _ = self.signals.next() => tracing::warn!("stopping immediately"),
        }
        reason
    }

    /// A client that connects from now on finds no daemon, instead of waiting for one that ends.
    pub(super) fn withdraw(&mut self) {
        self.lock.withdraw();
        self.socket.remove();
    }
}

/// Waits until a restart was asked for, and neither the gateway has a request in flight any more nor a refresh that was
/// sent is unanswered. The daemon serves meanwhile.
async fn ready_to_restart(daemon: Arc<Daemon>) {
    let mut restart = daemon.restart.subscribe();
    let asked = restart.wait_for(Option::is_some).await.ok().and_then(|asked| *asked);
    let Some(drain) = asked else { return std::future::pending().await };
    // without its secrets the daemon has no gateway, and refreshes nothing
    if daemon.run.keyring.is_some() {
        return;
    }
    // a gateway that has failed does not answer
    let _failed = tokio::time::timeout(drain + GATEWAY_LATE, daemon.gateway_drained.notified()).await;
    if let Some(words) = daemon.end_refreshing() {
        tracing::info!("{words}");
        service_manager::report(false, Some(&words));
        if !daemon.refreshes_answered().await
            && let Some(lost) = daemon.unanswered_words()
        {
            tracing::warn!("restarting: {lost}");
        }
    }
}

/// Whether leases would end with their connections, so that their holders resume them after a restart.
fn holds_connection_leases(daemon: &Daemon) -> bool {
    let state = daemon.state();
    let is_open = |id: &ConnectionId| state.connections.contains_key(id);
    state.pool.leases().any(|lease| matches!(&lease.bind, Bind::Connection(id) if is_open(id)))
}

/// Gives memory back that is not used any more; after the start, that of its code, too.
fn give_back(is_first: bool) {
    allocator::give_back();
    if is_first {
        allocator::let_go_of_code();
    }
}

/// Waits for a signal that stops the daemon.
async fn stop_signal(signals: &mut SignalListener) {
    while signals.next().await.is_some_and(|request| request != SignalRequest::Stop) {}
}

/// Waits until the key of a locked keyring may be available; forever if no keyring is locked.
async fn unlocked(daemon: &Daemon) {
    match &daemon.run.keyring {
        Some(keyring) => keyring.unlocked().await,
        None => std::future::pending().await,
    }
}

/// The time between two checks.
fn check_interval(daemon: &Daemon) -> Duration {
    daemon.idle_exit().map_or(CHECK_INTERVAL, |idle| CHECK_INTERVAL.min(idle / 2).max(ACCEPT_PAUSE))
}

/// Runs the pool's timers.
async fn keep_time(daemon: Arc<Daemon>) {
    loop {
        let sleep = daemon.tick(LONGEST_SLEEP);
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = daemon.reschedule.notified() => {}
        }
    }
}

/// Ends all waits, sends the outstanding answers, closes the connections.
async fn drain(daemon: &Daemon, connections: &mut JoinSet<()>) {
    {
        let state = &mut *daemon.state();
        state.apply_internal(clock::now(), Command::Drain);
        state.connections.values().for_each(|outbox| outbox.close());
    }
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, all_ended).await.is_err() {
        tracing::warn!("some clients did not read their last answers in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::oauth::REQUEST_TIMEOUT;

    /// The whole number that follows `before`.
    fn number(text: &str, before: &str) -> u64 {
        let rest = text.split_once(before).unwrap().1;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    }

    #[test]
    fn service_managers_wait_for_longer_than_the_end_of_the_daemon_may_take() {
        let systemd = number(include_str!("../../../systemd/lessor.service"), "\nTimeoutStopSec=");
        let launchd = include_str!("../../../launchd/lessor.plist").split_once("<key>ExitTimeOut</key>").unwrap().1;
        let launchd = number(launchd, "<integer>");
        for limit in [systemd, launchd] {
            assert!(Duration::from_secs(limit) > LONGEST_END, "{limit} s, {LONGEST_END:?}");
        }
        assert!(LONGEST_END > REQUEST_TIMEOUT + DRAIN);
    }
}
