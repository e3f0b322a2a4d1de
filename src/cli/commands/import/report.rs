//! The result of an import, as a document.

use schemars::JsonSchema;
use serde::Serialize;

use super::find::{FoundCredentials, FoundFile};
use super::settings::{SettingChange, SkippedSetting};
use super::terms;
use crate::cli::{commands::config::ReloadOutcome, ui::account::kind};
use crate::credential::import::{DiscoveredAccount, ImportProblem};
use crate::protocol::{AccountLabel, ImportedEntry};

/// The result of an import.
#[derive(Default, Serialize, JsonSchema)]
pub(crate) struct ImportReport {
    /// Whether nothing was changed.
    pub(super) dry_run: bool,
    /// One entry for each login and key that was found.
    pub(super) entries: Vec<ImportRow>,
    /// The files that were read, and the problems in them.
    pub(super) files: Vec<ImportFileRow>,
    /// Settings of other tools that differ from the configuration.
    pub(super) config: Vec<SettingChange>,
    /// Whether they were written into the configuration.
    pub(super) config_accepted: bool,
    /// What happened when a running daemon read the configuration.
    pub(super) config_verdict: Option<ReloadOutcome>,
    /// Settings of other tools that are not imported.
    pub(super) config_left_out: Vec<SkippedSetting>,
    /// What the providers' terms say of the logins that were added, a sentence for each provider.
    pub(super) terms: Vec<String>,
    /// How many entries have each outcome.
    pub(super) summary: ImportSummary,
}

/// What was done with a login or key.
#[derive(Serialize, JsonSchema)]
pub(super) struct ImportRow {
    /// `added`, `updated`, `same`, `linked` or `refused`.
    pub(super) outcome: String,
    /// The account; null if the entry was refused, or would be added.
    pub(super) account: Option<AccountLabel>,
    /// The provider.
    pub(super) provider: String,
    /// `login`, `key` or `token`.
    pub(super) kind: String,
    /// The email address of the login.
    pub(super) email: Option<String>,
    /// Its name in the tool.
    pub(super) label: Option<String>,
    /// The tool it was found in.
    pub(super) tool: String,
    /// The file it was found in.
    pub(super) file: String,
    /// Its name in the file.
    pub(super) item: String,
    /// The outcome, or its reason, as a sentence.
    pub(super) message: String,
}

/// A file that was read.
#[derive(Serialize, JsonSchema)]
pub(super) struct ImportFileRow {
    /// Its path, or `environment`.
    pub(super) path: String,
    /// The tool it belongs to.
    pub(super) tool: Option<String>,
    /// How many logins and keys it contains.
    pub(super) entries: usize,
    /// Why it could not be read.
    pub(super) error: Option<String>,
    /// What could not be imported.
    pub(super) problems: Vec<ImportProblem>,
    /// Its permissions, if other users can read it.
    pub(super) open_to_others: Option<String>,
}

/// How many entries have each outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, JsonSchema)]
pub(super) struct ImportSummary {
    /// New accounts.
    pub(super) added: usize,
    /// Accounts that were changed.
    pub(super) updated: usize,
    /// Accounts that were up to date.
    pub(super) same: usize,
    /// New accounts whose tokens are read from their tool's file.
    pub(super) linked: usize,
    /// Entries that were refused.
    pub(super) refused: usize,
    /// Files that could not be read, and damaged parts of files.
    pub(super) broken: usize,
}

impl ImportReport {
    pub(super) fn new(
        found: FoundCredentials,
        answers: Vec<ImportedEntry>,
        dry_run: bool,
        config: Vec<SettingChange>,
    ) -> Self {
        let terms = terms::of_added(found.entries.iter().map(|(entry, _)| entry).zip(&answers));
        let rows = found.entries.into_iter().zip(answers);
        let entries: Vec<ImportRow> = rows.map(|((entry, file), answer)| ImportRow::of(entry, file, answer)).collect();
        let files: Vec<ImportFileRow> = found.files.into_iter().map(ImportFileRow::of).collect();
        let count = |outcome: &str| entries.iter().filter(|row| row.outcome == outcome).count();
        let damaged = |file: &ImportFileRow| file.problems.iter().filter(|problem| problem.broken).count();
        let broken = files.iter().map(|file| damaged(file) + usize::from(file.error.is_some())).sum();
        let summary = ImportSummary {
            added: count("added"),
            updated: count("updated"),
            same: count("same"),
            linked: count("linked"),
            refused: count("refused"),
            broken,
        };
        Self { dry_run, entries, files, config, terms, summary, ..Self::default() }
    }

    /// The exit code: 1 if nothing was imported or up to date, and there was a problem. To find nothing is none.
    pub(super) fn exit(&self) -> u8 {
        let ImportSummary { added, updated, same, linked, refused, broken } = self.summary;
        let succeeded = added + updated + same + linked > 0 || !self.config.is_empty();
        u8::from(!succeeded && refused + broken > 0)
    }
}

impl ImportRow {
    fn of(entry: DiscoveredAccount, file: String, answer: ImportedEntry) -> Self {
        Self {
            outcome: answer.outcome,
            account: answer.account,
            provider: entry.provider,
            kind: kind(entry.credential.kind).to_owned(),
            email: entry.email,
            label: entry.label,
            tool: entry.tool.name().to_owned(),
            file,
            item: entry.item,
            message: answer.message,
        }
    }

    /// The account's label, else the email address, else the label in the tool.
    pub(super) fn name(&self) -> String {
        let known = self.account.as_ref().map(|account| account.label.clone());
        // an account that would be added would get this label
        let known = known.unwrap_or_else(|| self.label.clone());
        let of_tool = || format!("{}'s {}", self.tool, self.kind);
        known.or_else(|| self.email.clone()).or_else(|| self.label.clone()).unwrap_or_else(of_tool)
    }
}

impl ImportFileRow {
    fn of(file: FoundFile) -> Self {
        let open_to_others = file.open_secrets().map(|mode| format!("{mode:04o}"));
        Self {
            path: file.name,
            tool: file.tool.map(|tool| tool.name().to_owned()),
            entries: file.entries,
            error: file.error,
            problems: file.problems,
            open_to_others,
        }
    }
}
