//! `history.query`: what happened. The file is read on a thread of its own.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::reply::AnswerResult;
use super::session::{bad, find_account, overloaded, shutting_down};
use crate::daemon::os::clock;
use crate::daemon::state::events::KINDS;
use crate::daemon::state::{Daemon, State};
use crate::history::{HistoryQuery, QueryFault};
use crate::pool::AccountId;
use crate::protocol::{AccountLabel, Answer, ErrorInfo, ErrorKind, HistoryInfo, HistoryParams};

/// How long a query may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// `history.query`; of a guest with this name, and its name of this host, what its programs did only.
pub async fn query(daemon: Arc<Daemon>, params: HistoryParams, guest: Option<(Arc<str>, String)>) -> AnswerResult {
    if let Some(unknown) = params.kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(bad(format!("there is no event kind {unknown:?}")).hint(format!("kinds: {}", KINDS.join(", "))));
    }
    let account = params.account.as_deref().map(|name| account_id(&daemon, name)).transpose()?;
    let query = HistoryQuery::new(&params, account, clock::now().wall.0).map_err(|error| bad(error.0))?;
    let query = match &guest {
        Some((name, _)) => query.of_guest(name).map_err(|error| bad(error.0))?,
        None => query,
    };
    let (done, answer) = oneshot::channel();
    // the receiver is gone when the query took too long
    let guard = daemon.history.query(query, move |result| _ = done.send(result)).map_err(refusal)?;
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    // a query that takes too long ends
    drop(guard);
    let answer = answer.map_err(|_| {
        ErrorInfo::new(ErrorKind::Internal, "the query took longer than 10 s")
            .hint("ask for a shorter span, or for fewer groups")
    })?;
    let mut info = answer.map_err(shutting_down)?.map_err(refusal)?;
    complete_names(&daemon.state(), &mut info);
    match guest {
        // a guest's name for this host is none of the pool's, and the pool's says nothing to a guest
        Some((_, host)) => info.guest_of = Some(host).filter(|host| !host.is_empty()),
        None => info.host = daemon.many_hosts.membership().map(|membership| membership.name.clone()),
    }
    Ok(Answer::History(Box::new(info)))
}

/// The id of an account that a query names; of one that was removed it is given in full.
fn account_id(daemon: &Daemon, name: &str) -> Result<String, ErrorInfo> {
    match find_account(&daemon.state(), name) {
        Ok(id) => Ok(id.to_string()),
        Err(error) => match name.parse::<AccountId>() {
            Ok(removed) if error.data.kind == ErrorKind::UnknownAccount => Ok(removed.to_string()),
            _ => Err(error),
        },
    }
}

fn refusal(fault: QueryFault) -> ErrorInfo {
    match fault {
        QueryFault::Off => bad("no history is kept: `history.max_age` or `history.max_size` is 0")
            .hint("lessor config set history.max_size 64MiB"),
        QueryFault::Overloaded => overloaded(fault.to_string()),
        QueryFault::TooMuch(_) => bad(fault.to_string()),
        QueryFault::Ended | QueryFault::Unreadable(_) => {
            ErrorInfo::new(ErrorKind::Internal, fault.to_string()).hint("see: lessor doctor")
        }
    }
}

/// Accounts have the names that they have now; one that was removed has its label of then.
fn complete_names(state: &State, info: &mut HistoryInfo) {
    let complete = |label: &mut AccountLabel| {
        let id = label.id.parse::<AccountId>().ok();
        if let Some(id) = id.filter(|id| state.pool.account(*id).is_some()) {
            *label = AccountLabel::of(&state.pool, id);
        }
    };
    for group in &mut info.groups {
        if let Some(account) = &mut group.account {
            complete(account);
            group.name = account.label.as_ref().or(account.email.as_ref()).unwrap_or(&account.id).clone();
        }
    }
    for request in &mut info.requests {
        let accounts = request.account.iter_mut().chain(request.attempts.iter_mut().map(|one| &mut one.account));
        accounts.for_each(|account| complete(Arc::make_mut(account)));
    }
    info.leases.iter_mut().for_each(|lease| complete(&mut lease.account));
    info.events.iter_mut().for_each(|event| event.account.iter_mut().chain(&mut event.from).for_each(complete));
}
