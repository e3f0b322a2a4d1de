//! `import`: what other tools keep, taken in safely.

mod gather;
mod send;
mod settings;
mod show;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::Config;
use crate::credential::LinkMode;
use crate::credential::import::{Entry, Problem, Tool};
use crate::protocol::{AccountLabel, ImportedEntry};

use super::config::Verdict;
use super::context::Context;
use super::failure::Failure;
use super::output::clean;

pub(super) use gather::{File, Gathered, Where, gather};
pub(super) use send::send;
pub(super) use show::KIND;

/// `import`
#[derive(Debug, Args)]
pub(super) struct Import {
    /// Files or data directories of other tools, or an export of lessor's [default: every usual place]
    #[arg(value_name = "FILE", conflicts_with = "from")]
    files: Vec<PathBuf>,
    /// Only this tool's usual places: claude-code, codex, gemini-cli, opencode, opencode-antigravity-auth, …
    #[arg(long, value_name = "TOOL", value_parser = tool)]
    from: Option<Tool>,
    /// Say what would happen, entry by entry, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Let lessor refresh logins that rotate; their tools must from then on run through lessor
    #[arg(long, conflicts_with = "share")]
    take_over: bool,
    /// Let lessor and the tool both refresh a login, under the tool's own locks (Claude Code)
    #[arg(long)]
    share: bool,
    /// Write the settings of other tools, in lessor's words, into the configuration
    #[arg(long)]
    accept_config: bool,
}

/// What an import came to.
#[derive(Serialize, JsonSchema)]
pub(super) struct Report {
    /// Whether nothing was changed.
    dry_run: bool,
    /// One for each login and key that was found.
    entries: Vec<Row>,
    /// The files they were found in, and what is wrong with those.
    files: Vec<FileRow>,
    /// Settings of other tools that would change the configuration.
    config: Vec<settings::Change>,
    /// Whether those were written into it.
    config_accepted: bool,
    /// What a running daemon makes of it then.
    config_verdict: Option<Verdict>,
    /// Settings of other tools that are not taken over.
    config_left_out: Vec<settings::LeftOut>,
    /// How many entries came to what.
    summary: Summary,
}

/// What has become of a login or key.
#[derive(Serialize, JsonSchema)]
struct Row {
    /// `added`, `updated`, `same`, `linked` or `refused`.
    outcome: String,
    /// The account; none when it was refused, or would only be added.
    account: Option<AccountLabel>,
    /// The upstream.
    provider: String,
    /// `login`, `key` or `token`.
    kind: String,
    /// The login's address.
    email: Option<String>,
    /// Its name with its tool.
    label: Option<String>,
    /// The tool.
    tool: String,
    /// Its file.
    file: String,
    /// What names it within the file.
    item: String,
    /// What the outcome means, or why, in a sentence.
    message: String,
}

/// A file that was looked at.
#[derive(Serialize, JsonSchema)]
struct FileRow {
    /// Its path, or `environment`.
    path: String,
    /// The tool it is of.
    tool: Option<String>,
    /// How many logins and keys it holds.
    entries: usize,
    /// Why nothing was read of it.
    error: Option<String>,
    /// What could not be taken in.
    problems: Vec<ProblemRow>,
    /// Its permissions, where they let others in.
    open_to_others: Option<String>,
}

/// Something in a file that could not be taken in.
#[derive(Serialize, JsonSchema)]
struct ProblemRow {
    /// Where in the file.
    place: String,
    /// What is wrong.
    message: String,
    /// Whether something is damaged; else it is whole, and of no use to lessor.
    broken: bool,
}

/// How many entries came to what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, JsonSchema)]
struct Summary {
    /// New accounts.
    added: usize,
    /// Accounts that have learnt something.
    updated: usize,
    /// Nothing to do.
    same: usize,
    /// New accounts that follow their tool's file.
    linked: usize,
    /// Not taken in.
    refused: usize,
    /// Files that could not be read, and damaged parts of files.
    broken: usize,
}

fn tool(name: &str) -> Result<Tool, String> {
    Tool::named(name).ok_or_else(|| format!("known are {}", Tool::ALL.map(Tool::name).join(", ")))
}

/// Finds, takes in, tells.
pub(super) fn import(options: Import, context: &Context) -> Result<u8, Failure> {
    let mode = match (options.take_over, options.share) {
        (true, _) => Some(LinkMode::TakeOver),
        (_, true) => Some(LinkMode::Share),
        _ => None,
    };
    let wanted = match (options.files, options.from) {
        (files, None) if files.is_empty() => Where::Everywhere,
        (files, None) => Where::At(files),
        (_, Some(tool)) => Where::Of(tool),
    };
    let gathered = gather(&wanted);
    let entries: Vec<&Entry> = gathered.entries.iter().map(|(entry, _)| entry).collect();
    let answers = match entries.as_slice() {
        [] => Vec::new(),
        entries => send(&mut context.connect()?, entries, mode, options.dry_run)?,
    };
    let (config, left_out) = proposed(&gathered, context)?;
    let mut report = Report::of(gathered, answers, options.dry_run, config);
    report.config_left_out = left_out;
    if !report.config.is_empty() && !options.dry_run && agreed(options.accept_config, &report, context)? {
        let places = context.places()?;
        settings::accept(&report.config, &places.config)?;
        report.config_accepted = true;
        report.config_verdict = Some(Verdict::of_daemon(&places));
    }
    context.output.result(&report, || show::text(&report, &context.output))?;
    if !context.output.json {
        show::troubles(&report, &context.output);
    }
    let verdict = report.config_verdict.as_ref().map_or(0, Verdict::exit);
    Ok(report.exit(&wanted).max(verdict))
}

type Proposed = (Vec<settings::Change>, Vec<settings::LeftOut>);

fn proposed(gathered: &Gathered, context: &Context) -> Result<Proposed, Failure> {
    if gathered.files.iter().all(|file| file.settings.is_empty() && file.unmatched.is_empty()) {
        return Ok(Default::default());
    }
    let path = context.places()?.config;
    match Config::load(&path) {
        Ok(loaded) => Ok(settings::changes(gathered, &loaded.config)),
        // what was taken in is told all the same
        Err(errors) => {
            let why =
                format!("settings of other tools are not compared with a broken configuration: {}", errors.headline());
            context.output.note(&format!("{} {}", context.output.bad("broken:"), clean(&why)));
            Ok(Default::default())
        }
    }
}

/// Whether the user wants the configuration changed: said by an option, or asked for at a terminal.
fn agreed(told: bool, report: &Report, context: &Context) -> Result<bool, Failure> {
    if told {
        return Ok(true);
    }
    if context.output.json || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(false);
    }
    context.output.note(&show::changes(&report.config, &context.output));
    context.output.note("Write these into the configuration? [y/N]");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::new("bad_request", format!("reading the answer: {error}")))?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

impl Report {
    fn of(gathered: Gathered, answers: Vec<ImportedEntry>, dry_run: bool, config: Vec<settings::Change>) -> Self {
        let rows = gathered.entries.into_iter().zip(answers);
        let entries: Vec<Row> = rows.map(|((entry, file), answer)| Row::of(entry, file, answer)).collect();
        let files: Vec<FileRow> = gathered.files.into_iter().map(FileRow::of).collect();
        let count = |outcome: &str| entries.iter().filter(|row| row.outcome == outcome).count();
        let damaged = |file: &FileRow| file.problems.iter().filter(|problem| problem.broken).count();
        let broken = files.iter().map(|file| damaged(file) + usize::from(file.error.is_some())).sum();
        let summary = Summary {
            added: count("added"),
            updated: count("updated"),
            same: count("same"),
            linked: count("linked"),
            refused: count("refused"),
            broken,
        };
        Self {
            dry_run,
            entries,
            files,
            config,
            config_accepted: false,
            config_verdict: None,
            config_left_out: Vec::new(),
            summary,
        }
    }

    /// 1 when what was asked for came to nothing: something stood in the way, and nothing was taken in or there already.
    fn exit(&self, wanted: &Where) -> u8 {
        let Summary { added, updated, same, linked, refused, broken } = self.summary;
        let fruitful = added + updated + same + linked > 0 || !self.config.is_empty();
        let asked = *wanted != Where::Everywhere;
        u8::from(!fruitful && (asked || refused + broken > 0))
    }
}

impl Row {
    fn of(entry: Entry, file: String, answer: ImportedEntry) -> Self {
        Self {
            outcome: answer.outcome,
            account: answer.account,
            provider: entry.provider,
            kind: KIND(entry.credential.kind).to_owned(),
            email: entry.email,
            label: entry.label,
            tool: entry.tool.name().to_owned(),
            file,
            item: entry.item,
            message: answer.message,
        }
    }

    /// How people know it.
    fn name(&self) -> String {
        let known = self.account.as_ref().map(|account| account.label.clone());
        // of one that would only be added, its label is what it would get
        let known = known.unwrap_or_else(|| self.label.clone());
        let of_tool = || format!("{}'s {}", self.tool, self.kind);
        known.or_else(|| self.email.clone()).or_else(|| self.label.clone()).unwrap_or_else(of_tool)
    }
}

impl FileRow {
    fn of(file: File) -> Self {
        let problem = |Problem { place, message, broken }| ProblemRow { place, message, broken };
        let open_to_others = file.open_secrets().map(|mode| format!("{mode:04o}"));
        Self {
            path: file.name,
            tool: file.tool.map(|tool| tool.name().to_owned()),
            entries: file.entries,
            error: file.error,
            problems: file.problems.into_iter().map(problem).collect(),
            open_to_others,
        }
    }
}
