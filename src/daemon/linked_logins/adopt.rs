//! Adopts a login that another tool has written to the file that an account is linked to.

use std::{collections::BTreeMap, path::Path, sync::mpsc, time::Duration};

use tokio::sync::MutexGuard;

use super::decide::{FollowDecision, FollowingAccount, KnownFormer, Observation, SeenLogin, decide};
use crate::credential::share::is_directory_missing;
use crate::credential::{
    Credential, FormerCredential, FormerRole, Link, LinkMode, LoginHome, LoginProgram, import::DiscoveredAccount,
};
use crate::daemon::os::clock::{self, since_boot};
use crate::daemon::state::{Daemon, State, imported_limit, login_state_of, set_login_state};
use crate::pool::{AccountChange, AccountId, AccountRecord, Command, IdentityMatch, LoginState, Now};
use crate::store::Write;

/// What was observed of each account's file.
pub(super) type Observations = BTreeMap<AccountId, Option<Observation>>;

/// What a file contains.
pub(super) struct FileSight<'a> {
    pub(super) path: &'a str,
    pub(super) entries: Result<&'a [DiscoveredAccount], &'a str>,
    /// How long ago it was written.
    pub(super) age: Duration,
}

/// What is done for an account that is linked to a file.
enum Finding {
    Decided(FollowDecision),
    /// The account cannot follow the file, and why.
    Problem(String),
}

/// Adopts what a tool has written for the accounts that are linked to the file and that `concerns` selects. A login is on
/// disk before it is used. Returns when to look again, if the owner of a login is not certain yet. To be called on a
/// thread that may block, with `account_writes` locked.
pub(super) fn adopt(
    daemon: &Daemon,
    _account_writes: MutexGuard<'_, ()>,
    sight: &FileSight<'_>,
    observed: &mut Observations,
    concerns: impl Fn(&Link) -> bool,
) -> Option<Duration> {
    let path = sight.path;
    let linked: Vec<(AccountId, Link)> = {
        let state = &*daemon.state();
        let here = state.links.iter().filter(|(_, link)| concerns(link) && link.path == path);
        here.map(|(id, link)| (id, link.clone())).collect()
    };
    let mut again = None;
    for (id, link) in linked {
        let entry = sight.entries.map(|entries| entries.iter().find(|entry| entry.item == link.item));
        let (finding, record) = {
            let state = &*daemon.state();
            let Some(account) = state.pool.account(id) else { continue };
            let finding = match entry {
                Err(why) => Finding::Problem(why.to_owned()),
                Ok(None) => Finding::Problem("its login is no longer in the file".to_owned()),
                Ok(Some(entry)) => {
                    Finding::Decided(compare(state, &account.record, entry, observed.entry(id).or_default(), sight.age))
                }
            };
            (finding, account.record.clone())
        };
        let problem = match (finding, entry) {
            (Finding::Problem(why), _) => Some(why),
            (Finding::Decided(decision), Ok(Some(entry))) => {
                if let FollowDecision::WaitUntil(at) = decision {
                    again = Some(again.map_or(at, |again: Duration| again.min(at)));
                }
                carry_out(daemon, decision, record, entry, path)
            }
            (Finding::Decided(_), _) => None,
        };
        let problem = problem.filter(|_| link.is_followed() && !is_only_lessors(&link));
        let state = &mut *daemon.state();
        if let Some(why) = problem.as_ref().filter(|why| state.links.problem(id) != Some(why)) {
            let (name, why, path) = (state.account_name(id), why.clone(), path.to_owned());
            state.log.push(move || tracing::warn!(account = %id, path, "{name} cannot follow its file: {why}"));
        }
        state.links.set_problem(id, problem);
    }
    again
}

/// Whether a shared login has no directory on this machine, as after a restore on another one: no tool has it there.
fn is_only_lessors(link: &Link) -> bool {
    link.mode == LinkMode::Share && is_directory_missing(Path::new(&link.path))
}

/// Carries out a decision; returns why the account cannot follow its file, if it cannot.
fn carry_out(
    daemon: &Daemon,
    decision: FollowDecision,
    record: AccountRecord,
    entry: &DiscoveredAccount,
    path: &str,
) -> Option<String> {
    let id = record.id;
    let of_another = || {
        let owner = &entry.owner;
        let other = entry.email.clone().unwrap_or_else(|| "another account".to_owned());
        let organization = owner.organization_name.as_ref().or(owner.organization.as_ref());
        let organization = organization.map(|name| format!(" ({name})")).unwrap_or_default();
        let has_account = daemon.state().pool.accounts().iter().any(|account| {
            let known = account.record.login_identity();
            known.is_some_and(|known| known.compare(&entry.identity()) == IdentityMatch::Agrees)
        });
        let program = LoginHome::program_of(Path::new(path)).map(LoginProgram::name);
        let remedy = match (has_account, program) {
            (true, Some(program)) => format!("to renew this account: lessor login {program}"),
            (true, None) => format!("to renew this account, log in to it with {} again", entry.tool.title()),
            (false, Some(program)) => format!("add that account, too: lessor login {program}"),
            (false, None) => "add that account, too: lessor import".to_owned(),
        };
        Some(format!("{other}{organization} is logged in there now; {remedy}"))
    };
    match decision {
        FollowDecision::Keep | FollowDecision::WaitUntil(_) => None,
        FollowDecision::Confirm => {
            learn(daemon, &record, entry);
            None
        }
        FollowDecision::Adopt | FollowDecision::AdoptCertain => {
            adopt_login(daemon, record, entry, decision == FollowDecision::Adopt);
            None
        }
        FollowDecision::Restore => {
            exchange(daemon, id, FormerRole::Before, path);
            None
        }
        FollowDecision::OfAnother => of_another(),
        FollowDecision::TakeBack => {
            exchange(daemon, id, FormerRole::Withdrawn, path);
            of_another()
        }
        FollowDecision::RestoreOther => {
            exchange(daemon, id, FormerRole::Before, path);
            of_another()
        }
    }
}

/// Exchanges the current and the other credential of an account, and reports it.
fn exchange(daemon: &Daemon, id: AccountId, role: FormerRole, path: &str) {
    let state = &mut *daemon.state();
    if !state.exchange_former(clock::now(), id, role) {
        return;
    }
    let (name, path) = (state.account_name(id), path.to_owned());
    state.log.push(move || match role {
        FormerRole::Withdrawn => tracing::warn!(
            account = %id, path, "{name} has its former login again: the one that it took from its file is of another account"
        ),
        FormerRole::Before => {
            tracing::info!(account = %id, path, "{name} has the login from its file again: it is its own after all");
        }
    });
}

/// Adds what the tool says about the owner, where the account lacks it.
fn learn(daemon: &Daemon, record: &AccountRecord, entry: &DiscoveredAccount) {
    let mut owner = record.owner.clone();
    let email = entry.email.clone().filter(|_| record.email.is_none());
    if owner.learn(&entry.owner) || email.is_some() {
        let change = AccountChange { owner: Some(owner), email, ..AccountChange::default() };
        daemon.state().apply_internal(clock::now(), Command::ChangeAccount(record.id, Box::new(change)));
    }
}

fn adopt_login(daemon: &Daemon, mut record: AccountRecord, entry: &DiscoveredAccount, keeps_former: bool) {
    let id = record.id;
    if !matches!(record.login_state, LoginState::NeedsVerification(_)) {
        record.login_state = login_state_of(&entry.credential);
    }
    let login_state = record.login_state.clone();
    let credential = {
        let state = &mut *daemon.state();
        if keeps_former {
            state.keep_former(clock::now(), id);
        }
        let credential = entry.credential.duplicate().with_refresh_of(state.credentials.get(id));
        Credential { client_id: credential.client_id.clone().or_else(|| state.client_of_imported(entry)), ..credential }
    };
    let (sender, saved) = mpsc::channel();
    // the other hosts of a shared pool get it from this one, which has the file
    let answers = daemon.state().generation_to_give(id);
    let save = Write::SaveAccount { record: Box::new(record), credential: Some(credential.duplicate()) };
    let write = match answers {
        Some(from) => Write::Together(vec![save, Write::SavePoolAnswer(id, Some(from.0))]),
        None => save,
    };
    daemon.store.write(write, Some(Box::new(move |result| drop(sender.send(result)))));
    if let Ok(Err(error)) = saved.recv() {
        // it is used all the same: the tool has it on disk, and it is adopted again after a restart
        tracing::error!(account = %id, "an adopted login could not be saved: {error}");
    }
    {
        let state = &mut *daemon.state();
        let now = clock::now();
        if let Some(from) = answers {
            state.logins.note_pool_answer(id, from);
        }
        state.keep_credential(id, credential);
        state.apply_internal(now, set_login_state(id, login_state));
        for limit in entry.limits.iter().cloned() {
            state.apply_internal(now, Command::SetLimit(id, imported_limit(limit)));
        }
    }
    tracing::info!(account = %id, tool = entry.tool.name(), "adopted a login that its tool has refreshed");
}

fn compare(
    state: &State,
    record: &AccountRecord,
    entry: &DiscoveredAccount,
    observed: &mut Option<Observation>,
    age: Duration,
) -> FollowDecision {
    let (prints, id) = (&state.credentials.fingerprints, record.id);
    let known = state.credentials.get(id);
    let print = match known {
        // a file that has lost its refresh token has the same login as long as the access token is the same
        Some(known) if known.access == entry.credential.access => prints.of(known),
        _ => prints.of(&entry.credential),
    };
    let seen = SeenLogin {
        identity: entry.identity(),
        print,
        expires_at: entry.credential.expires_at,
        owner_comes_later: entry.tool.names_owner_later(),
    };
    let now = clock::now();
    let former = state.links.former(id).map(|former| known_former(former, prints.of(&former.credential), now));
    let account = FollowingAccount {
        identity: record.owner.identity(&record.provider, record.email.as_deref()),
        current: known.map(|known: &Credential| (prints.of(known), known.expires_at)),
        had_before: prints.known_since(id, print).is_some(),
        former,
    };
    let now = since_boot();
    Observation::update(observed, &seen, now, age);
    observed.as_ref().map_or(FollowDecision::Keep, |observed| decide(&account, &seen, observed, now))
}

fn known_former(former: &FormerCredential, print: crate::credential::Fingerprint, now: Now) -> KnownFormer {
    KnownFormer {
        print,
        role: former.role,
        age: now.wall.since(former.since),
        is_on_trial: former.is_on_trial(now.wall),
    }
}
