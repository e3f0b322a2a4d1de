//! `account.reset`: uses one of the limit resets that an account has banked. Only this call does that.

use std::{io, sync::Arc};

use super::refresh::refresh as refresh_account;
use super::usage::ask_after_change;
use crate::daemon::api::reply::AnswerResult;
use crate::daemon::api::session::{bad, find_account, overloaded, shutting_down};
use crate::daemon::state::{Daemon, State};
use crate::daemon::usage::{AccountResets, PendingReset, ResetFile};
use crate::daemon::{os::clock, view};
use crate::pool::AccountId;
use crate::protocol::{AccountRef, Answer, ErrorInfo, ErrorKind, UsedResetInfo};
use crate::usage::{self, BankedResets, ResetOutcome, ResetRequest, UsageError};

/// Uses a reset, or repeats a use whose result is not known; then reads the usage, which ends the limits that it
/// disproves.
pub async fn reset(daemon: Arc<Daemon>, params: AccountRef) -> AnswerResult {
    let id = find_account(&daemon.state(), &params.account)?;
    check_kind(&daemon.state(), id)?;
    let one_at_a_time = daemon.limit_resets.try_lock();
    let _one_at_a_time = one_at_a_time.map_err(|_| overloaded("another limit reset is being used"))?;
    let (resets, banked) = list(&daemon, id).await?;
    let file = ResetFile::of(&daemon);
    let (request, is_repeated) = begin(&daemon, id, &file, &banked).await?;
    let result = resets.use_one(&request).await;
    let is_known = match &result {
        Ok(_) => true,
        // says nothing of an earlier attempt whose reset is still there
        Err(failure) => is_refusal(failure) && !(is_repeated && is_listed(&banked, &request)),
    };
    if is_known {
        finish(&daemon, id, file, &request).await;
    }
    let (windows, was_used_before) = match result {
        Ok(ResetOutcome::Used(windows)) => (windows, false),
        Ok(ResetOutcome::UsedBefore) if is_repeated => (None, true),
        Ok(outcome) => return Err(not_used(&daemon.state(), id, outcome)),
        Err(failure) => return Err(failed(&daemon.state(), id, &failure, is_known)),
    };
    note_use(&mut daemon.state(), id, windows);
    let usage_trouble = ask_after_change(&daemon, id).await;
    let state = &*daemon.state();
    let account = state.pool.account(id).map(|account| view::account_info(state, clock::now(), account));
    let removed = || ErrorInfo::new(ErrorKind::UnknownAccount, format!("account {id} was removed meanwhile"));
    let account = account.ok_or_else(removed)?;
    Ok(Answer::UsedReset(Box::new(UsedResetInfo { windows, was_used_before, usage_trouble, account })))
}

/// Refuses accounts that can have no resets.
fn check_kind(state: &State, id: AccountId) -> Result<(), ErrorInfo> {
    let Some(record) = state.pool.account(id).map(|account| &account.record) else { return Ok(()) };
    let kind = state.api_kind(record);
    if usage::has_resets(&record.provider, kind) {
        return Ok(());
    }
    let name = state.account_name(id);
    let why = match record.provider.as_str() {
        "openai" => format!("{name} is used like an API key, which has no limit resets; a ChatGPT plan has"),
        provider => format!("{name} is an account of {provider}, which has no limit resets that lessor knows"),
    };
    Err(ErrorInfo::new(ErrorKind::NoReset, why))
}

/// The resets that there are. A token that has ended is refreshed first, and one that is refused once.
async fn list(daemon: &Arc<Daemon>, id: AccountId) -> Result<(AccountResets, BankedResets), ErrorInfo> {
    let by_id = || AccountRef { account: id.to_string() };
    let no_client = |why| ErrorInfo::new(ErrorKind::ProviderFailed, why);
    let no_token = || ErrorInfo::new(ErrorKind::CredentialUnavailable, "the account has no valid token");
    let of_account = || AccountResets::of(daemon, id).map_err(no_client);
    let mut resets = match of_account()? {
        Some(resets) => resets,
        None => {
            refresh_account(daemon.clone(), by_id()).await?;
            of_account()?.ok_or_else(no_token)?
        }
    };
    let mut listed = resets.list().await;
    let is_unauthorized =
        |listed: &Result<_, UsageError>| matches!(listed, Err(failure) if failure.status == Some(401));
    if is_unauthorized(&listed) && refresh_account(daemon.clone(), by_id()).await.is_ok() {
        resets = of_account()?.ok_or_else(no_token)?;
        listed = resets.list().await;
    }
    let banked = listed.map_err(|failure| {
        let message = format!("the limit resets of {} cannot be read: {failure}", daemon.state().account_name(id));
        ErrorInfo::new(ErrorKind::ProviderFailed, message).hint("no reset was used; try again later")
    })?;
    daemon.state().usage_notes.resets.insert(id, banked.clone());
    Ok((resets, banked))
}

/// The use to be sent, which is on the disk; and whether it was sent before.
async fn begin(
    daemon: &Arc<Daemon>,
    id: AccountId,
    file: &ResetFile,
    banked: &BankedResets,
) -> Result<(ResetRequest, bool), ErrorInfo> {
    let (file, banked_now) = (file.clone(), banked.clone());
    let name = daemon.state().account_name(id);
    let not_saved = |error: io::Error| {
        let message = format!("no reset was used: that one is being used cannot be stored first: {error}");
        ErrorInfo::new(ErrorKind::Io, message)
    };
    let work = move || -> Result<(ResetRequest, bool), ErrorInfo> {
        if let Some(begun) = file.pending(id, &banked_now).map_err(not_saved)? {
            return Ok((begun.request, true));
        }
        let Some(credit) = banked_now.credits.first() else {
            return Err(match banked_now.available {
                0 => ErrorInfo::new(ErrorKind::NoReset, format!("{name} has no limit reset left")),
                _ => ErrorInfo::new(
                    ErrorKind::ProviderFailed,
                    format!("the provider does not name the resets of {name}"),
                ),
            });
        };
        let id_of_use = random_id().map_err(|error| bad(format!("no random number: {error}")))?;
        let request = ResetRequest { credit: credit.id.clone(), request: id_of_use };
        let pending = PendingReset { request: request.clone(), begun_at: clock::now().wall };
        file.begin(id, pending).map_err(not_saved)?;
        Ok((request, false))
    };
    let begun = tokio::task::spawn_blocking(work).await.map_err(shutting_down)??;
    daemon.state().usage_notes.unfinished_resets.insert(id);
    Ok(begun)
}

/// The result of a use is known.
async fn finish(daemon: &Arc<Daemon>, id: AccountId, file: ResetFile, request: &ResetRequest) {
    let of = request.clone();
    let forgotten = tokio::task::spawn_blocking(move || file.forget(id, &of)).await;
    if let Ok(Err(error)) = &forgotten {
        // the next use repeats this one, and so uses no reset
        tracing::warn!("the result of the use of a limit reset cannot be stored: {error}");
    }
    daemon.state().usage_notes.unfinished_resets.remove(&id);
}

/// Whether the provider has refused the use without doing anything.
fn is_refusal(failure: &UsageError) -> bool {
    failure.status.is_some_and(|status| (400..500).contains(&status) && ![408, 409, 425].contains(&status))
}

fn is_listed(banked: &BankedResets, request: &ResetRequest) -> bool {
    banked.credits.iter().any(|credit| credit.id == request.credit)
}

fn note_use(state: &mut State, id: AccountId, windows: Option<u32>) {
    let name = state.account_name(id);
    state.log.push(move || tracing::info!(account = %id, "a banked limit reset of {name} was used"));
    state.events.reset_used(clock::now().wall, id, windows, &state.pool);
}

/// The provider says that no reset was used.
fn not_used(state: &State, id: AccountId, outcome: ResetOutcome) -> ErrorInfo {
    let name = state.account_name(id);
    let message = match outcome {
        ResetOutcome::NothingToReset => {
            format!("{name} has no used window that a reset would empty; its reset is kept")
        }
        ResetOutcome::UsedBefore => format!("this limit reset of {name} was used elsewhere meanwhile"),
        _ => format!("{name} has no such limit reset any more; it was used elsewhere, or has expired"),
    };
    let reference = state.account_reference(id);
    ErrorInfo::new(ErrorKind::NoReset, message).hint(format!("see what is left: lessor account usage {reference}"))
}

/// The answer to a use was lost, or says nothing of it.
fn failed(state: &State, id: AccountId, failure: &UsageError, is_known: bool) -> ErrorInfo {
    let name = state.account_name(id);
    let reference = state.account_reference(id);
    if is_known {
        let message = format!("the provider refused to use a limit reset of {name}: {failure}");
        return ErrorInfo::new(ErrorKind::ProviderFailed, message)
            .hint(format!("see what is left: lessor account usage {reference}"));
    }
    let message = format!("whether the limit reset of {name} was used is not known: {failure}");
    ErrorInfo::new(ErrorKind::ProviderFailed, message)
        .hint(format!("try again: lessor account reset {reference} repeats this use and uses no second reset"))
}

/// A random UUID (version 4).
fn random_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::PollFailure;

    #[test]
    fn only_a_refusal_that_is_certain_ends_a_use() {
        let with = |status| UsageError {
            message: String::new(),
            kind: PollFailure::Permanent,
            status,
            unconfirmed: false,
            link: None,
        };
        for (status, expected) in [
            (Some(400), true),
            (Some(401), true),
            (Some(404), true),
            (Some(429), true),
            (Some(408), false),
            (Some(409), false),
            (Some(500), false),
            (Some(503), false),
            (None, false),
        ] {
            assert_eq!(is_refusal(&with(status)), expected, "{status:?}");
        }
    }

    #[test]
    fn the_id_of_a_use_is_a_random_uuid() {
        let id = random_id().unwrap();
        assert_eq!((id.len(), &id[14..15]), (36, "4"), "{id}");
        assert_ne!(random_id().unwrap(), id);
    }
}
