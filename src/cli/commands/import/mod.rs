//! `import`: imports logins, keys and settings from other tools.

mod find;
mod report;
mod send;
mod settings;
mod show;
mod terms;

use std::path::PathBuf;

use clap::Args;

use super::config::ReloadOutcome;
use crate::cli::ui::{Tint, clean, prompt};
use crate::cli::{context::Context, error::CliError};
use crate::credential::import::{DiscoveredAccount, Tool};
use crate::{config::Config, credential::LinkMode};

pub(super) use find::{FoundCredentials, FoundFile, ImportSource, find};
pub(super) use report::ImportReport;
pub(super) use send::send;
use settings::{SettingChange, SkippedSetting};

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Files or data directories of other tools, or an export of lessor [default: the usual locations of all tools]
    ///
    /// The first may be the name of a tool: its usual locations are read, or, as in `lessor import claude-code DIR…`, these
    /// directories of it.
    #[arg(value_name = "FILE", conflicts_with = "from")]
    files: Vec<PathBuf>,
    /// Read the usual locations of this tool only: claude-code, codex, gemini-cli, opencode, …
    #[arg(long, value_name = "TOOL", value_parser = tool)]
    from: Option<Tool>,
    /// Show what would be done with each entry, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Make lessor refresh logins that rotate; from then on, start their tools with `lessor run`
    #[arg(long, conflicts_with = "share")]
    take_over: bool,
    /// Let both lessor and the tool refresh a login, with the tool's own locks (Claude Code)
    #[arg(long)]
    share: bool,
    /// Write the matching settings of other tools into the configuration
    #[arg(long)]
    accept_config: bool,
    /// Keep new accounts for this host, although it shares a pool with others
    #[arg(long)]
    own: bool,
}

fn tool(name: &str) -> Result<Tool, String> {
    Tool::named(name).ok_or_else(|| format!("the known tools are {}", Tool::ALL.map(Tool::name).join(", ")))
}

pub(super) fn execute(args: ImportArgs, context: &Context) -> Result<u8, CliError> {
    let mode = match (args.take_over, args.share) {
        (true, _) => Some(LinkMode::TakeOver),
        (_, true) => Some(LinkMode::Share),
        _ => None,
    };
    let source = source(args.files, args.from);
    let found = find(&source);
    let entries: Vec<&DiscoveredAccount> = found.entries.iter().map(|(entry, _)| entry).collect();
    let answers = match entries.as_slice() {
        [] => Vec::new(),
        entries => send(&mut context.connect()?, entries, mode, (args.dry_run, args.own))?,
    };
    let (config, skipped) = changed_settings(&found, context)?;
    let mut report = ImportReport::new(found, answers, args.dry_run, config);
    report.config_left_out = skipped;
    if !report.config.is_empty() && !args.dry_run && (args.accept_config || confirm(&report, context)?) {
        let places = context.places()?;
        settings::accept(&report.config, &places.config)?;
        report.config_accepted = true;
        report.config_verdict = Some(ReloadOutcome::of_daemon(&places));
    }
    context.output.result(&report, || show::text(&report, &context.output))?;
    if !context.output.json {
        show::note_problems(&report, &context.output);
    }
    let reload = report.config_verdict.as_ref().map_or(0, ReloadOutcome::exit);
    Ok(report.exit().max(reload))
}

fn source(mut files: Vec<PathBuf>, from: Option<Tool>) -> ImportSource {
    // a file of that name is meant as one
    let first = files.first().filter(|first| !first.exists()).and_then(|first| first.to_str());
    let named = first.and_then(Tool::named);
    if named.is_some() {
        files.remove(0);
    }
    match (from.or(named), files.as_slice()) {
        (None, []) => ImportSource::Everywhere,
        (Some(tool), []) => ImportSource::Tool(tool),
        (tool, _) => ImportSource::Files(tool, files),
    }
}

fn changed_settings(
    found: &FoundCredentials,
    context: &Context,
) -> Result<(Vec<SettingChange>, Vec<SkippedSetting>), CliError> {
    if found.files.iter().all(|file| file.settings.is_empty() && file.unmatched.is_empty()) {
        return Ok(Default::default());
    }
    match Config::load(&context.places()?.config) {
        Ok(loaded) => Ok(settings::changes(found, &loaded.config)),
        // the imported credentials are printed nevertheless
        Err(errors) => {
            let why = format!("cannot compare settings, the configuration is not valid: {}", errors.headline());
            context.output.labelled_note(Tint::Bad, "broken:", &clean(&why));
            Ok(Default::default())
        }
    }
}

fn confirm(report: &ImportReport, context: &Context) -> Result<bool, CliError> {
    if context.output.json || !prompt::can_ask() {
        return Ok(false);
    }
    context.output.note(&show::changes(&report.config, &context.output));
    let answer = prompt::ask("Write these into the configuration? [y/N]", &context.output)?;
    Ok(answer.is_some_and(|answer| ["y", "yes"].contains(&answer.as_str())))
}
