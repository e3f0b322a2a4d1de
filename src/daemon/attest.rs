//! Compares the agent that a client states with the program behind its connection: the process there, or one above it up
//! to the process that the lease belongs to. Programs are looked up without the state lock, and only for accounts that
//! some agents may hold; with `attest = "declared"` afterwards, for a warning.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::{FxHashSet, FxHasher};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::os::peer_process::Ancestry;
use super::os::process;
use crate::pool::{AttestPolicy, Attestation, ConnectionId, PoolSettings, Process};
use crate::provider::Program;

/// More comparisons are not remembered: they are made again.
const MOST_REMEMBERED: usize = 1 << 12;
/// Lookups on other threads at once.
const MOST_LOOKUPS: usize = 2;
/// Comparisons of the gateway for warnings at once: they do not pile up before those that requests wait for.
const MOST_FOR_WARNINGS: usize = 4;
/// Lookups of the gateway for its records at once: a connection that finds no room is looked up with its next request.
const MOST_FOR_RECORDS: usize = 1;

/// What comparisons need without the state lock.
#[derive(Debug, Default)]
pub(crate) struct AttestState {
    /// Whether an account is set to `attest = "strict"`.
    strict: AtomicBool,
    /// Connections and agents that were compared for a warning.
    compared: Mutex<FxHashSet<u64>>,
    /// For lookups on other threads: many clients do not take all of them.
    pub(crate) lookups: Lookups,
    /// For comparisons of the gateway for a warning.
    pub(crate) for_warnings: Room<MOST_FOR_WARNINGS>,
    /// For lookups of the gateway for its records.
    pub(crate) for_records: Room<MOST_FOR_RECORDS>,
}

/// Room for this many lookups or comparisons at once.
#[derive(Debug)]
pub(crate) struct Room<const MOST: usize>(Arc<Semaphore>);

pub(crate) type Lookups = Room<MOST_LOOKUPS>;

impl<const MOST: usize> Default for Room<MOST> {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl<const MOST: usize> Room<MOST> {
    /// Calls `lookup` on another thread, when there is room.
    pub(crate) async fn run<T: Send + 'static>(&self, lookup: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let _room = self.0.acquire().await.ok()?;
        tokio::task::spawn_blocking(lookup).await.ok()
    }

    /// A place, if there is one now.
    pub(crate) fn try_enter(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().ok()
    }
}

/// The agent that a client states, and the process that its lease belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StatedAgent {
    pub(crate) agent: Arc<str>,
    pub(crate) process: Option<Process>,
}

impl AttestState {
    /// Takes over changed settings.
    pub(crate) fn configure(&self, settings: &PoolSettings) {
        let strict = settings.accounts.iter().any(|account| account.attest == Some(AttestPolicy::Strict));
        self.strict.store(strict, Ordering::Release);
    }

    /// Whether an account may need a comparison before it is leased.
    pub(crate) fn is_strict(&self) -> bool {
        self.strict.load(Ordering::Acquire)
    }

    /// Begins a comparison for a warning: once for each connection and agent, and while there is room.
    pub(crate) fn begin(&self, connection: ConnectionId, stated: &StatedAgent) -> Option<OwnedSemaphorePermit> {
        let mut hasher = FxHasher::default();
        (connection, &stated.agent, stated.process).hash(&mut hasher);
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        if compared.contains(&hasher.finish()) {
            return None;
        }
        // with others under way, the next call of the connection is soon enough
        let room = self.lookups.try_enter()?;
        if compared.len() >= MOST_REMEMBERED {
            compared.clear();
        }
        compared.insert(hasher.finish());
        Some(room)
    }
}

/// How the programs of a connection compare with an agent. `programs` are those that the configuration adds.
pub(crate) fn compare(ancestry: &Ancestry, stated: &StatedAgent, programs: &[String]) -> Attestation {
    let all = match ancestry {
        Ok(all) => all,
        Err(why) => return Attestation::Unknown(why.clone()),
    };
    if all.is_empty() {
        return Attestation::Unknown("the process has ended".into());
    }
    let process = stated.process.and_then(|process| all.iter().position(|running| running.process == process));
    let counted = &all[..=process.unwrap_or(0)];
    let mut known = counted.iter().filter_map(|running| running.program.as_ref());
    if known.any(|program| program.is_agent(&stated.agent, programs)) {
        return Attestation::Matches;
    }
    // a command of lessor asks for another program
    let Some(nearest) = counted.iter().find(|running| !running.program.as_ref().is_some_and(Program::is_lessor)) else {
        return Attestation::Unknown("lessor asks for the credential before the agent runs".into());
    };
    match &nearest.program {
        Some(program) => Attestation::Differs(program.in_words().into()),
        None => {
            let pid = nearest.process.pid;
            Attestation::Unknown(format!("the system does not tell the program of process {pid}").into())
        }
    }
}

/// The process with this pid, as leases know it.
pub(crate) fn process_of(pid: u32) -> Option<Process> {
    Some(process::find(pid).ok()??.process)
}

#[cfg(test)]
mod tests {
    use super::super::os::peer_process::RunningProgram;
    use super::*;

    const CLAUDE: &str = "/usr/bin/claude";
    const CURL: &str = "/usr/bin/curl";
    const SHELL: &str = "/bin/sh";

    /// Programs of the processes 1, 2, …, the nearest first.
    fn attested(programs: &[&str], process: Option<u32>) -> Attestation {
        let running = |(pid, path): (u32, &&str)| RunningProgram {
            process: Process { pid, start: 100 - u64::from(pid) },
            program: Some(Program { executable: (*path).to_owned(), script: None }).filter(|_| !path.is_empty()),
        };
        let ancestry = Ok((1..).zip(programs).map(running).collect());
        let process = process.map(|pid| Process { pid, start: 100 - u64::from(pid) });
        compare(&ancestry, &StatedAgent { agent: "claude".into(), process }, &[])
    }

    #[test]
    fn comparisons_for_warnings_do_not_pile_up() {
        let attest = AttestState::default();
        let mut taken: Vec<_> = (0..MOST_FOR_WARNINGS).filter_map(|_| attest.for_warnings.try_enter()).collect();
        assert_eq!(taken.len(), MOST_FOR_WARNINGS);
        assert!(attest.for_warnings.try_enter().is_none());
        assert!(attest.lookups.try_enter().is_some(), "requests have room of their own");
        taken.pop();
        assert!(attest.for_warnings.try_enter().is_some());
    }

    #[test]
    fn a_process_up_to_that_of_the_lease_is_the_agent() {
        let differs = |program: &str| Attestation::Differs(program.into());
        for (programs, process, expected) in [
            (&[CLAUDE][..], Some(1), Attestation::Matches),
            (&[CLAUDE], None, Attestation::Matches),
            (&[CURL, SHELL, CLAUDE], Some(3), Attestation::Matches),
            (&[CURL, CLAUDE, SHELL], Some(3), Attestation::Matches),
            // above the process of the lease
            (&[CURL, SHELL, CLAUDE], Some(2), differs(CURL)),
            (&[CURL, CLAUDE], Some(1), differs(CURL)),
            // the process of the lease is not above it
            (&[CURL, CLAUDE], Some(9), differs(CURL)),
            (&[CURL, CLAUDE], None, differs(CURL)),
            (&[CURL, SHELL], Some(2), differs(CURL)),
            (&["", CLAUDE], Some(2), Attestation::Matches),
        ] {
            assert_eq!(attested(programs, process), expected, "{programs:?} {process:?}");
        }
        for (programs, process) in [(&["", SHELL][..], 2), (&["/usr/bin/lessor"], 1), (&["/usr/bin/lessor", CLAUDE], 1)]
        {
            assert!(matches!(attested(programs, Some(process)), Attestation::Unknown(_)), "{programs:?}");
        }
        assert_eq!(attested(&["/x/lessor", SHELL, CLAUDE], Some(3)), Attestation::Matches);
        assert_eq!(attested(&["/x/lessor", SHELL, CLAUDE], Some(2)), differs(SHELL));
        assert!(matches!(attested(&[], None), Attestation::Unknown(_)));
        let stated = StatedAgent { agent: "claude".into(), process: None };
        assert_eq!(compare(&Err("why".into()), &stated, &[]), Attestation::Unknown("why".into()));
    }
}
