//! Before a token of a shared account leaves the daemon: lessor is not in the way of its requests and cannot stop them. So
//! the database must know first that the seats stay taken until the token ends, whatever becomes of this host.

use std::time::Duration;

use super::handle::PoolTerm;
use super::seats::TermSeats;
use crate::daemon::state::{Daemon, State};
use crate::pool::{AccountId, Wall};
use crate::protocol::{ErrorInfo, ErrorKind};

/// How long a token waits for the database.
const LONGEST_MARK: Duration = Duration::from_secs(2);
/// A token that is replaced more often meanwhile is not handed out.
const TRIES: u32 = 3;

/// A token that is to be marked.
struct TokenToMark {
    term: TermSeats,
    generation: u64,
    /// On the database's clock.
    ends: Option<Wall>,
}

/// Has the database know that the token of an account is handed out, once for each token and term.
///
/// # Errors
/// When the database is away, or this host holds no seat of the account: then the token must not leave.
pub(in crate::daemon) async fn mark(daemon: &Daemon, id: AccountId) -> Result<(), ErrorInfo> {
    for _ in 0..TRIES {
        let Some(token) = to_mark(&daemon.state(), id) else { return Ok(()) };
        let (Some(client), Some(term)) = (daemon.many_hosts.client(), daemon.many_hosts.term()) else {
            return Err(refused(&daemon.state(), id, "the shared pool's database is away"));
        };
        let PoolTerm { id: of, life } = term;
        let marking = client.mark_handed_out(of, life, id, token.ends);
        match tokio::time::timeout(LONGEST_MARK, marking).await {
            Ok(Ok(true)) => daemon.state().note_handed_out(id, token.term, token.generation),
            Ok(Ok(false)) => return Err(refused(&daemon.state(), id, "this host holds no seat of it any more")),
            Ok(Err(error)) => return Err(refused(&daemon.state(), id, &error.to_string())),
            Err(_) => return Err(refused(&daemon.state(), id, "the shared pool's database does not answer")),
        }
    }
    let state = &*daemon.state();
    if state.must_mark_handed_out(id) { Err(refused(state, id, "it is being replaced")) } else { Ok(()) }
}

fn to_mark(state: &State, id: AccountId) -> Option<TokenToMark> {
    if !state.must_mark_handed_out(id) {
        return None;
    }
    let term = state.shared_accounts.seats().cloned().unwrap_or_else(TermSeats::ended);
    Some(TokenToMark { term, generation: state.logins.generation(id), ends: state.token_end(id) })
}

/// Why the token of an account does not leave the daemon.
fn refused(state: &State, id: AccountId, why: &str) -> ErrorInfo {
    let message = format!("the token of {} cannot be handed out: {why}", state.account_name(id));
    ErrorInfo::new(ErrorKind::CredentialUnavailable, message).hint(
        "other hosts must know of it first, because lessor cannot stop its use; through the gateway (lessor run without \
         --direct) the account works as long as this host holds a seat: lessor pool status",
    )
}
