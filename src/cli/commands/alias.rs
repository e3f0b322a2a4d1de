//! `alias install`, `uninstall`, `list`: scripts for daily use, so that plain `claude` runs through lessor.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::launch::agent::is_neutral;
use crate::cli::launch::programs::{files_on_path, programs};
use crate::cli::launch::shims::{self, Shim, quoted};
use crate::cli::launch::{create_private_directory, providers_with_accounts};
use crate::cli::ui::{Tint, clean};
use crate::cli::{context::Context, error::CliError};
use crate::config::AppPaths;
use crate::protocol::ErrorKind;
use crate::provider;

#[derive(Debug, Subcommand)]
pub(crate) enum AliasCommand {
    /// Install scripts that run agents through lessor
    ///
    /// Without an agent: those of claude, codex, gemini, agy and opencode that are installed. The scripts are in a
    /// directory of lessor's own; put it first in the PATH with the printed line. No file of another program is replaced.
    #[command(after_help = "Examples:\n  lessor alias install\n  lessor alias install claude --dir ~/bin\n  \
                            lessor alias install opencode --provider anthropic")]
    Install(InstallArgs),
    /// Remove the scripts
    ///
    /// Only files that `lessor alias install` has made are removed.
    #[command(after_help = "Examples:\n  lessor alias uninstall\n  lessor alias uninstall codex")]
    Uninstall(UninstallArgs),
    /// List the scripts, and whether each has an effect
    #[command(after_help = "Example: lessor alias list")]
    List,
}

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// The agents: claude, codex, gemini, agy, opencode [default: those that are installed]
    #[arg(value_name = "AGENT")]
    agents: Vec<String>,
    /// Install into this directory [default: bin in lessor's data directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The provider for opencode, which works with any; several with commas [default: the only one with accounts]
    #[arg(long, value_name = "PROVIDER", value_delimiter = ',')]
    provider: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    /// The agents [default: all]
    #[arg(value_name = "AGENT")]
    agents: Vec<String>,
    /// Remove from this directory only [default: every directory that was installed into]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The scripts of `lessor alias`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct AliasReport {
    /// The scripts; after `uninstall`, those that were removed.
    aliases: Vec<AliasInfo>,
    /// The launcher for the setting `claudeCode.claudeProcessWrapper` of VS Code, if there is an alias of claude.
    process_wrapper: Option<String>,
    /// The line for the configuration of the shell, if a directory is not first in the PATH.
    path_line: Option<String>,
}

/// A script.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct AliasInfo {
    /// The agent.
    pub(super) agent: String,
    /// The script.
    pub(super) file: String,
    /// Whether it is what a shell starts, with a lessor and an agent that are there.
    works: bool,
    /// What is wrong with it.
    pub(super) problem: Option<String>,
    /// How to mend that.
    pub(super) remedy: Option<String>,
}

pub(super) fn execute(command: AliasCommand, context: &Context) -> Result<(), CliError> {
    let places = context.places()?;
    match command {
        AliasCommand::Install(args) => install(args, &places, context),
        AliasCommand::Uninstall(args) => uninstall(&args, &places, context),
        AliasCommand::List => {
            let aliases = installed(&places);
            let path_line = aliases.iter().any(|alias| !alias.works).then(|| path_lines(&places)).flatten();
            print(report(aliases, path_line, &places), "no aliases: lessor alias install", context)
        }
    }
}

fn install(args: InstallArgs, places: &AppPaths, context: &Context) -> Result<(), CliError> {
    let directory = match &args.dir {
        Some(directory) => std::path::absolute(directory).map_err(|error| not_written(directory, &error))?,
        None => places.data.join("bin"),
    };
    let agents = chosen(&args, context)?;
    let mut files = Vec::new();
    for agent in &agents {
        let file = directory.join(Shim::file_name(agent));
        if std::fs::symlink_metadata(&file).is_ok() && Shim::read(&file).is_none() {
            let message = format!("{} is there already and is not lessor's", file.display());
            let hint = "install into another directory: lessor alias install --dir DIR";
            return Err(CliError::new(ErrorKind::BadRequest, message).hint(hint));
        }
        files.push((agent, file));
    }
    create_private_directory(&directory).map_err(|error| not_written(&directory, &error))?;
    remember(places, &directory)?;
    for (agent, file) in files {
        let providers = if is_neutral(agent) { args.provider.as_slice() } else { &[] };
        let shim = Shim::new(agent, providers).map_err(|error| CliError::internal(error.to_string()))?;
        shims::write(&file, &shim.text()).map_err(|error| not_written(&file, &error))?;
    }
    let mut aliases = installed(places);
    aliases.retain(|alias| Path::new(&alias.file).parent() == Some(&directory) && agents.contains(&alias.agent));
    let is_first =
        aliases.iter().all(|alias| files_of(&alias.agent, places).first() == Some(&PathBuf::from(&alias.file)));
    let path_line = (!is_first).then(|| path_line(&directory));
    if path_line.is_some() {
        // the line says what is to be done
        aliases.iter_mut().for_each(|alias| (alias.problem, alias.remedy) = (None, None));
    }
    print(report(aliases, path_line, places), "", context)
}

/// The agents to install: those that are named, or those that are here.
fn chosen(args: &InstallArgs, context: &Context) -> Result<Vec<String>, CliError> {
    let known: Vec<&str> = shims::agents().collect();
    check_known(&args.agents, &known)?;
    let is_here = |agent: &&str| programs(agent.as_ref()).next().is_some();
    let mut chosen: Vec<String> = match args.agents.is_empty() {
        true => known.into_iter().filter(is_here).map(str::to_owned).collect(),
        false => args.agents.clone(),
    };
    chosen.dedup();
    if !args.provider.is_empty() {
        check_providers(&args.provider, &chosen, context)?;
    }
    // what works with any provider has to know which
    if args.provider.is_empty() && chosen.iter().any(|agent| is_neutral(agent)) {
        let providers = providers_with_accounts(&mut context.connect()?, context)?;
        if providers.len() > 1 {
            let agent = chosen.iter().find(|agent| is_neutral(agent)).cloned().unwrap_or_default();
            let text =
                format!("{agent} works with any provider: lessor alias install {agent} --provider {}", providers[0]);
            if !args.agents.is_empty() {
                return Err(CliError::usage(text));
            }
            context.output.note(&format!("left out: {text}"));
            chosen.retain(|agent| !is_neutral(agent));
        }
    }
    if chosen.is_empty() {
        let message = "no agent is installed that lessor knows: claude, codex, gemini, agy, opencode";
        return Err(
            CliError::new(ErrorKind::CannotRun, message).hint("name one all the same: lessor alias install claude")
        );
    }
    Ok(chosen)
}

/// Refuses an agent that there is no script for.
fn check_known(agents: &[String], known: &[&str]) -> Result<(), CliError> {
    let Some(unknown) = agents.iter().find(|agent| !known.contains(&agent.as_str())) else { return Ok(()) };
    crate::cli::launch::agent::check_able(unknown).map_err(CliError::usage)?;
    Err(CliError::usage(format!("there is no alias for {unknown:?}: the agents are {}", known.join(", "))))
}

/// Refuses providers that do not exist, or that are given for agents that each have one of their own.
fn check_providers(given: &[String], agents: &[String], context: &Context) -> Result<(), CliError> {
    if !agents.iter().any(|agent| is_neutral(agent)) {
        let message = format!("--provider is for opencode only; the agents are {}", agents.join(", "));
        return Err(CliError::usage(message).hint("omit --provider"));
    }
    let config = context.config()?;
    let is_known = |name: &&String| provider::by_alias(name).is_some() || config.providers.contains_key(*name);
    match given.iter().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(unknown) => Err(CliError::usage(format!("there is no provider {unknown:?}"))
            .hint("add it as a section [providers.NAME] of the configuration: lessor config edit")),
    }
}

fn uninstall(args: &UninstallArgs, places: &AppPaths, context: &Context) -> Result<(), CliError> {
    check_known(&args.agents, &shims::all_agents().collect::<Vec<_>>())?;
    let only = args.dir.as_ref().map(std::path::absolute).transpose();
    let only = only.map_err(|error| CliError::bad_request(error.to_string()))?;
    let mut removed = Vec::new();
    let mut left: Vec<PathBuf> = Vec::new();
    let mut directories = directories(places);
    directories.extend(only.clone().filter(|only| !directories.contains(only)));
    for directory in directories {
        let is_meant = only.as_ref().is_none_or(|only| *only == directory);
        for (shim, file) in shims_in(&directory) {
            if !is_meant || !args.agents.is_empty() && !args.agents.contains(&shim.agent) {
                left.push(directory.clone());
                continue;
            }
            std::fs::remove_file(&file).map_err(|error| not_written(&file, &error))?;
            let file = file.to_string_lossy().into_owned();
            removed.push(AliasInfo { agent: shim.agent, file, works: false, problem: None, remedy: None });
        }
    }
    left.dedup();
    let left: String = left.iter().map(|directory| format!("{}\n", directory.display())).collect();
    let record = record(places);
    if record.exists() {
        shims::write_text(&record, &left).map_err(|error| not_written(&record, &error))?;
    }
    // its own directory is removed if it is empty
    let _in_use = std::fs::remove_dir(places.data.join("bin"));
    let report = AliasReport { aliases: removed, process_wrapper: None, path_line: None };
    context.output.result(&report, || match report.aliases.is_empty() {
        true => "nothing to remove\n".to_owned(),
        false => report.aliases.iter().map(|alias| format!("removed {}\n", clean(&alias.file))).collect(),
    })
}

fn not_written(path: &Path, error: &io::Error) -> CliError {
    CliError::internal(format!("{}: {error}", path.display()))
}

/// Where it is written into which directories aliases were installed.
fn record(places: &AppPaths) -> PathBuf {
    places.state.join("aliases")
}

fn directories(places: &AppPaths) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(record(places)).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty()).map(PathBuf::from).collect()
}

fn remember(places: &AppPaths, directory: &Path) -> Result<(), CliError> {
    let mut all = directories(places);
    if all.iter().any(|known| known == directory) {
        return Ok(());
    }
    all.push(directory.to_owned());
    let text: String = all.iter().map(|directory| format!("{}\n", directory.display())).collect();
    let record = record(places);
    create_private_directory(&places.state)
        .and_then(|()| shims::write_text(&record, &text))
        .map_err(|error| not_written(&record, &error))
}

/// The scripts in a directory that lessor has made.
fn shims_in(directory: &Path) -> Vec<(Shim, PathBuf)> {
    let known = shims::all_agents().map(|agent| directory.join(Shim::file_name(agent)));
    known.filter_map(|file| Some((Shim::read(&file)?, file))).collect()
}

/// Every script, with what is wrong with it.
pub(super) fn installed(places: &AppPaths) -> Vec<AliasInfo> {
    let own = std::env::current_exe().ok();
    let all = directories(places).into_iter().flat_map(|directory| shims_in(&directory));
    all.map(|(shim, file)| {
        let (problem, remedy) = problem_of(&shim, &file, own.as_deref(), places).unzip();
        let file = file.to_string_lossy().into_owned();
        AliasInfo { agent: shim.agent, file, works: problem.is_none(), problem, remedy }
    })
    .collect()
}

/// What a shell finds under the name of an agent; inside a run, without the scripts of runs.
fn files_of(agent: &str, places: &AppPaths) -> Vec<PathBuf> {
    let of_runs = shims::directory_of(places);
    let found = files_on_path(agent.as_ref()).into_iter();
    found.filter(|file| file.parent() != Some(of_runs.as_path())).collect()
}

fn problem_of(shim: &Shim, file: &Path, own: Option<&Path>, places: &AppPaths) -> Option<(String, String)> {
    let agent = &shim.agent;
    let directory = file.parent().unwrap_or(Path::new(""));
    let again = || format!("lessor alias install {agent} --dir {}", quoted(&directory.to_string_lossy()));
    if !shim.lessor.is_file() {
        return Some((format!("it starts {}, which is not there", shim.lessor.display()), again()));
    }
    if own.is_some_and(|own| own != shim.lessor) {
        return Some((format!("it starts another lessor: {}", shim.lessor.display()), again()));
    }
    if programs(agent.as_ref()).next().is_none() {
        return Some((format!("{agent} is not installed"), format!("lessor alias uninstall {agent}")));
    }
    let found = files_of(agent, places);
    match found.first() {
        Some(first) if first == file => None,
        Some(first) if found.iter().any(|found| found == file) => {
            Some((format!("{} comes first in the PATH", first.display()), path_line(directory)))
        }
        _ => Some((format!("{} is not in the PATH", directory.display()), path_line(directory))),
    }
}

/// The line that puts a directory first in the `PATH` of the user's shell.
fn path_line(directory: &Path) -> String {
    let shell = std::env::var("SHELL").unwrap_or_default();
    line_for(&shell, &directory.to_string_lossy(), cfg!(windows))
}

fn line_for(shell: &str, directory: &str, is_windows: bool) -> String {
    if is_windows {
        return format!("$env:Path = '{};' + $env:Path", directory.replace('\'', "''"));
    }
    match Path::new(shell).file_name().and_then(|name| name.to_str()) {
        Some("fish") => format!("fish_add_path --prepend --move {}", quoted(directory)),
        _ => format!("export PATH={}:\"$PATH\"", quoted(directory)),
    }
}

/// The file that the line belongs into.
fn rc_file() -> &'static str {
    let shell = std::env::var("SHELL").unwrap_or_default();
    match Path::new(&shell).file_name().and_then(|name| name.to_str()) {
        _ if cfg!(windows) => "$PROFILE",
        Some("fish") => "~/.config/fish/config.fish",
        Some("zsh") => "~/.zshrc",
        _ => "~/.bashrc",
    }
}

/// The lines for every directory with a script that a shell does not find first.
fn path_lines(places: &AppPaths) -> Option<String> {
    let is_hidden = |directory: &PathBuf| {
        shims_in(directory).iter().any(|(shim, file)| files_of(&shim.agent, places).first() != Some(file))
    };
    let lines: Vec<String> =
        directories(places).iter().filter(|one| is_hidden(one)).map(|one| path_line(one)).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn report(aliases: Vec<AliasInfo>, path_line: Option<String>, places: &AppPaths) -> AliasReport {
    let has_claude = cfg!(unix) && aliases.iter().any(|alias| alias.agent == "claude");
    let launcher = has_claude.then(|| shims::process_wrapper(places).ok()).flatten();
    let process_wrapper = launcher.map(|launcher| launcher.to_string_lossy().into_owned());
    AliasReport { aliases, process_wrapper, path_line }
}

fn print(report: AliasReport, none: &str, context: &Context) -> Result<(), CliError> {
    let output = &context.output;
    output.result(&report, || {
        if report.aliases.is_empty() {
            return format!("{none}\n");
        }
        let mut text = String::new();
        for alias in &report.aliases {
            let tint = if alias.problem.is_none() { Tint::Good } else { Tint::Warn };
            let name = format!("{:<10}", clean(&alias.agent));
            text += &output.hanging(&output.tint(tint, &name), &clean(&alias.file));
            if let Some(problem) = &alias.problem {
                text += &output.hanging(&format!("{:10}", ""), &clean(problem));
            }
            // the line for the PATH is printed once, below
            let remedy = alias
                .remedy
                .iter()
                .filter(|remedy| report.path_line.as_ref().is_none_or(|line| !line.contains(*remedy)));
            text.extend(remedy.map(|remedy| format!("{:10}do: {}\n", "", clean(remedy))));
        }
        if let Some(launcher) = &report.process_wrapper {
            text += &output.hanging("VS Code   ", &format!("claudeCode.claudeProcessWrapper: {}", clean(launcher)));
        }
        if let Some(line) = &report.path_line {
            let rc = rc_file();
            text += &format!("Add this to {rc}, and open a new shell:\n  {}\n", clean(line).replace('\n', "\n  "));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_in_the_language_of_the_shell() {
        for (shell, is_windows, expected) in [
            ("/bin/bash", false, r#"export PATH='/a b/bin':"$PATH""#),
            ("/usr/bin/zsh", false, r#"export PATH='/a b/bin':"$PATH""#),
            ("/usr/bin/fish", false, "fish_add_path --prepend --move '/a b/bin'"),
            ("", true, "$env:Path = '/a b/bin;' + $env:Path"),
        ] {
            assert_eq!(line_for(shell, "/a b/bin", is_windows), expected, "{shell}");
        }
    }
}
