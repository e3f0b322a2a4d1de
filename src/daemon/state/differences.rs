//! Programs that are not the agent that they state, and got an account all the same (`attest = "declared"`).

use std::sync::Arc;
use std::time::Duration;

use super::State;
use crate::config::format_key;
use crate::pool::{AccountId, AccountRecord, AttestPolicy, Wall};
use crate::visible::shell_word;

/// Most pairs of an agent and a program that are kept; beyond it the oldest is dropped.
const MOST_KEPT: usize = 32;
/// A pair that was not seen for so long is not shown any more.
const SHOWN_FOR: Duration = Duration::from_secs(86_400);

/// The pairs that were seen, the latest last.
#[derive(Debug, Default)]
pub(crate) struct Differences(Vec<Difference>);

/// An agent that was stated, and the program that stated it.
#[derive(Clone, Debug)]
struct Difference {
    account: AccountId,
    agent: Box<str>,
    program: Arc<str>,
    seen_at: Wall,
}

impl State {
    /// Notes that a program which claims to be this agent was leased the account; the log says so once.
    pub(crate) fn note_difference(&mut self, now: Wall, account: AccountId, agent: &str, program: &Arc<str>) {
        let is_known = |known: &Difference| *known.agent == *agent && known.program == *program;
        let before = self.differences.0.iter().position(is_known).map(|at| self.differences.0.remove(at));
        let difference = Difference { account, agent: agent.into(), program: program.clone(), seen_at: now };
        if before.is_none_or(|before| now.since(before.seen_at) > SHOWN_FOR) {
            let words = self.difference_in_words(&difference);
            self.log.push(move || tracing::warn!("{words}"));
        }
        if self.differences.0.len() >= MOST_KEPT {
            self.differences.0.remove(0);
        }
        self.differences.0.push(difference);
    }

    /// The differences that still matter, and settings without effect, in words.
    pub(crate) fn attest_warnings(&self, now: Wall) -> Vec<String> {
        let shown = self.differences.0.iter().filter(|one| self.is_shown(one, now));
        let without_effect = self.pool.accounts().iter().filter(|account| {
            let section = self.pool.configured(&account.record);
            account.attest().is_none() && section.is_some_and(|section| section.attest == Some(AttestPolicy::Strict))
        });
        let without_effect = without_effect.map(|account| {
            let (key, reference) = (self.attest_key(&account.record), self.account_reference(account.record.id));
            format!(
                "{key} = \"strict\" has no effect, because any agent may use the account; name its agents: \
                 lessor account set {reference} use=AGENT"
            )
        });
        shown.map(|one| self.difference_in_words(one)).chain(without_effect).collect()
    }

    /// What the program was that got the account last while it claimed to be another one.
    pub(crate) fn difference_of(&self, account: AccountId, now: Wall) -> Option<String> {
        let mut all = self.differences.0.iter().rev().filter(|one| one.account == account);
        let last = all.find(|one| self.is_shown(one, now))?;
        Some(format!("the program that claimed to be {} is {} (attest = declared)", last.agent, last.program))
    }

    fn is_shown(&self, difference: &Difference, now: Wall) -> bool {
        let account = self.pool.account(difference.account);
        now.since(difference.seen_at) <= SHOWN_FOR
            && account.is_some_and(|account| account.attest() == Some(AttestPolicy::Declared))
    }

    fn difference_in_words(&self, Difference { account, agent, program, .. }: &Difference) -> String {
        let (name, reference) = (self.account_name(*account), self.account_reference(*account));
        let key = self.pool.account(*account).map(|account| self.attest_key(&account.record)).unwrap_or_default();
        let key = shell_word(&key).unwrap_or(key);
        format!(
            "{name} was leased to a program that claims to be {agent}, but is {program}; to refuse such programs: lessor \
             config set {key} strict; to allow all: lessor account set {reference} use=any"
        )
    }

    /// The key that decides whether the account is leased to programs which only claim to be an agent.
    fn attest_key(&self, record: &AccountRecord) -> String {
        let section = self.pool.configured(record).map(|section| section.name.clone());
        format_key(&["accounts", &section.unwrap_or_else(|| record.display_name()), "attest"])
    }
}
