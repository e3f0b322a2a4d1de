//! The threads that call the daemon: one reads its state, one its events, one carries out what the user wants.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::cells::state_word;
use super::message::{DaemonChange, DaemonState, NamedItem, ScreenEffect, ScreenMessage};
use crate::cli::ui::{account, clean, format};
use crate::client::{Client, ClientError};
use crate::config::AppPaths;
use crate::daemon::DEFAULT_KINDS;
use crate::protocol::{
    AccountInfo, AccountRef, DisableAccountParams, HistoryParams, LeaseRef, ListAccountsParams, MoveLeaseParams,
    SubscribeParams,
};

/// How often the state is read when nothing happens, and while requests are under way.
const IDLE: Duration = Duration::from_secs(5);
const BUSY: Duration = Duration::from_secs(2);
/// However much happens, the state is not read more often.
const LEAST: Duration = Duration::from_millis(500);
/// How often the sums of the last hour are read.
const HOUR_EVERY: Duration = Duration::from_secs(10);
/// The pause between two attempts to find the daemon.
const RETRY: Duration = Duration::from_millis(500);
const HOUR_MS: u64 = 3_600_000;
/// How many earlier requests are read.
const EARLIER: u32 = 200;

/// The ends of the channels to the threads.
#[derive(Debug)]
pub(super) struct Feed {
    poll: SyncSender<()>,
    actions: Sender<DaemonChange>,
}

impl Feed {
    /// Starts the threads; they end with the process.
    pub(super) fn start(places: &AppPaths, into: &SyncSender<ScreenMessage>) -> Self {
        let (poll, wakes) = sync_channel(1);
        let (actions, wanted) = channel();
        let (of_state, of_events, of_actions) = (places.clone(), places.clone(), places.clone());
        let (state, events, results) = (into.clone(), into.clone(), into.clone());
        thread::spawn(move || read_states(&of_state, &wakes, &state));
        thread::spawn(move || read_events(&of_events, &events));
        thread::spawn(move || {
            while let Ok(action) = wanted.recv() {
                let result = carry_out(&of_actions, action).map_err(|error| first_line(&error));
                // the next key acts on what there is now: a lease that was moved has another id
                if let Ok(state) = read_state(&mut None, &of_actions)
                    && results.send(ScreenMessage::State(Box::new(state))).is_err()
                {
                    return;
                }
                if results.send(ScreenMessage::Done(result)).is_err() {
                    return;
                }
            }
        });
        Self { poll, actions }
    }

    /// Passes on what the dashboard wants from the daemon.
    pub(super) fn carry_out(&self, effect: ScreenEffect) {
        match effect {
            ScreenEffect::Poll => {
                // full: the state is about to be read anyway
                let _pending = self.poll.try_send(());
            }
            ScreenEffect::Act(action) => {
                let _ended = self.actions.send(action);
            }
            ScreenEffect::Quit | ScreenEffect::Suspend | ScreenEffect::Restore => {}
        }
    }
}

/// Reads the state again and again, at once when something has happened.
fn read_states(places: &AppPaths, wakes: &Receiver<()>, into: &SyncSender<ScreenMessage>) {
    let mut client: Option<Client> = None;
    let mut hour_read: Option<Instant> = None;
    loop {
        let begun = Instant::now();
        let mut read = read_state(&mut client, places);
        if read.is_err() {
            // a daemon that was restarted is there already: the connection was to the one before
            client = None;
            read = read_state(&mut client, places);
        }
        let is_busy = read.as_ref().is_ok_and(|state| state.status.in_flight > 0);
        let is_gone = read.is_err();
        let message = match read {
            Ok(state) => ScreenMessage::State(Box::new(state)),
            Err(error) => {
                (client, hour_read) = (None, None);
                ScreenMessage::Gone(first_line(&error))
            }
        };
        if into.send(message).is_err() {
            return;
        }
        if let Some(client) = client.as_mut().filter(|_| hour_read.is_none_or(|at| at.elapsed() >= HOUR_EVERY)) {
            hour_read = Some(Instant::now());
            if into.send(ScreenMessage::Hour(last_hour(client))).is_err() {
                return;
            }
        }
        let wait = if is_gone {
            RETRY
        } else if is_busy {
            BUSY
        } else {
            IDLE
        };
        if wakes.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        thread::sleep(LEAST.saturating_sub(begun.elapsed()));
    }
}

fn read_state(connection: &mut Option<Client>, places: &AppPaths) -> Result<DaemonState, ClientError> {
    let client = match connection {
        Some(client) => client,
        None => connection.insert(Client::connect(places)?),
    };
    let status = client.status()?;
    let accounts = client.accounts(ListAccountsParams::default())?;
    let leases = client.leases()?;
    Ok(DaemonState { status, accounts, leases })
}

fn last_hour(client: &mut Client) -> Option<Box<crate::protocol::HistoryInfo>> {
    let since = format::now().saturating_sub(HOUR_MS);
    let query =
        HistoryParams { since: Some(since), by: Some("minute".to_owned()), limit: Some(0), ..HistoryParams::default() };
    client.history(query).ok().map(Box::new)
}

/// Subscribes again and again. The requests before the subscription are read after it, so that none is missing.
fn read_events(places: &AppPaths, into: &SyncSender<ScreenMessage>) {
    let kinds = [DEFAULT_KINDS, "request.ended", "request.waiting"].map(str::to_owned).to_vec();
    loop {
        let subscription = SubscribeParams { kinds: kinds.clone(), recent: true };
        if let Ok(stream) = Client::connect(places).and_then(|client| client.subscribe(subscription)) {
            if into.send(ScreenMessage::Requests(earlier_requests(places))).is_err() {
                return;
            }
            for event in stream.map_while(Result::ok).filter(|event| event.kind != "usage.updated") {
                if into.send(ScreenMessage::Events(vec![event])).is_err() {
                    return;
                }
            }
        }
        thread::sleep(RETRY);
    }
}

fn earlier_requests(places: &AppPaths) -> Vec<crate::protocol::RequestRow> {
    let query = HistoryParams { of: Some("requests".to_owned()), limit: Some(EARLIER), ..HistoryParams::default() };
    Client::connect(places).and_then(|mut client| client.history(query)).map(|info| info.requests).unwrap_or_default()
}

/// Changes something at the daemon; returns what has changed.
fn carry_out(places: &AppPaths, action: DaemonChange) -> Result<String, ClientError> {
    let mut client = Client::connect(places)?;
    let of = |account: &NamedItem| AccountRef { account: account.id.clone() };
    let state = |account: &NamedItem, info: &AccountInfo| format!("{} is {}", clean(&account.name), state_word(info));
    Ok(match action {
        DaemonChange::Enable(account) => {
            let info = client.enable_account(of(&account))?;
            format!("{}, and enabled", state(&account, &info))
        }
        DaemonChange::Disable(account) => {
            let reason = Some("disabled in lessor top".to_owned());
            let info = client.disable_account(DisableAccountParams { account: account.id.clone(), reason })?;
            state(&account, &info)
        }
        DaemonChange::ClearLimits(account) => {
            let info = client.clear_limits(of(&account))?;
            format!("limits cleared: {}", state(&account, &info))
        }
        DaemonChange::RefreshLogin(account) => {
            let info = client.refresh_account(of(&account))?;
            format!("login refreshed: {}", state(&account, &info))
        }
        DaemonChange::ReadUsage(account) => match client.usage(of(&account))?.usage_trouble {
            None => format!("usage of {} read", clean(&account.name)),
            Some(why) => format!("usage of {} not read: {}", clean(&account.name), clean(&why)),
        },
        DaemonChange::Release(lease) => {
            client.release(LeaseRef { lease: lease.id, fence: None })?;
            format!("released: {}", lease.name)
        }
        DaemonChange::Move(lease, to) => {
            let to = to.map(|account| account.id);
            let moved =
                client.move_lease(MoveLeaseParams { lease: Some(lease.id), to, ..MoveLeaseParams::default() })?;
            let when =
                if moved.at_next_request { ", when its holder next calls lessor or sends a request" } else { "" };
            let (from, to) = (account::label(&moved.from), account::label(&moved.to));
            format!("moved: {}, {} → {}{when}", lease.name, clean(from), clean(to))
        }
    })
}

/// An error in one line, with what helps.
fn first_line(error: &ClientError) -> String {
    let hint = match error {
        ClientError::Refused(info) => info.data.hint.as_deref().map(|hint| format!(" ({hint})")),
        _ => None,
    };
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned() + &hint.unwrap_or_default()
}
