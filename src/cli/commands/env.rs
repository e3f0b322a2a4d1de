//! `env`: the variables that `run` sets, as lines for the calling shell.

use std::{collections::BTreeMap, ffi::OsStr};

use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::launch::agent::{LeasePurpose, purpose_of_word};
use crate::cli::launch::{
    LaunchMode, LaunchRequest, LaunchRole, LeaseOptions, Messages, PreparedLaunch, caller_process, prepare,
    providers_with_accounts, quoted,
};
use crate::cli::{context::Context, error::CliError};
use crate::{client::Client, daemon::find_process, protocol::LeaseRef};

/// The label of leases for shells, unless the user chooses another.
const LABEL: &str = "shell";

#[derive(Debug, Args)]
pub(crate) struct EnvArgs {
    /// An agent (claude, codex, gemini, opencode) or a provider
    #[arg(value_name = "AGENT-OR-PROVIDER", required_unless_present = "provider")]
    word: Option<String>,
    /// The provider, for an agent that works with any; several with commas
    #[arg(short, long, value_name = "PROVIDER", value_delimiter = ',')]
    provider: Vec<String>,
    #[command(flatten)]
    options: LeaseOptions,
    #[command(flatten)]
    mode: LaunchMode,
    /// The syntax of the lines; sh is also for bash and zsh
    #[arg(long, value_enum, default_value = "sh")]
    shell: EnvShell,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum EnvShell {
    Sh,
    Fish,
    Powershell,
}

/// `env --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct EnvVariables {
    /// The lease; of several providers, the first.
    lease: String,
    /// The account's id.
    account: String,
    /// The leases of all providers.
    leases: Vec<EnvLease>,
    /// Variables to set.
    set: BTreeMap<String, String>,
    /// Variables to unset.
    unset: Vec<String>,
    /// Arguments that the agent needs before its own.
    arguments: Vec<String>,
}

/// A lease of `env --json`.
#[derive(Debug, Serialize, JsonSchema)]
struct EnvLease {
    /// The provider.
    provider: String,
    /// The lease.
    lease: String,
    /// The account's id.
    account: String,
}

pub(super) fn execute(args: EnvArgs, context: &Context) -> Result<(), CliError> {
    let mut purpose = purpose_of_word(&args.provider, args.word.as_deref()).map_err(CliError::usage)?;
    let shell = caller_process::calling_shell().map_err(CliError::usage)?;
    let gone = || CliError::usage(format!("the calling shell ({}) has ended", shell.pid));
    let holder = find_process(shell.pid).ok().flatten().ok_or_else(gone)?.process;
    let mut client = context.connect()?;
    if purpose.providers.is_empty() {
        let known = providers_with_accounts(&mut client, context)?;
        purpose = purpose.or_only_of(&known).map_err(CliError::usage)?;
    }
    let mut options = args.options;
    let label = options.label.get_or_insert_with(|| LABEL.to_owned()).clone();
    release_previous(&mut client, &purpose, shell.pid, &label, context)?;
    let mode = args.mode;
    let request = LaunchRequest { options, purpose: &purpose, mode, holder, arguments: &[], role: LaunchRole::Shell };
    let prepared = prepare(&mut client, request, context)?;
    let printed = prepared.start_supervisor(Messages::default(), context).and_then(|()| {
        let agent = purpose.agent.as_deref();
        prepared.note_cleared(context);
        context.output.result(&document(&prepared), || lines(&prepared, agent, args.shell))
    });
    printed.inspect_err(|_| prepared.undo(&mut client))
}

/// Releases the lease that an earlier call made for the same shell and provider.
fn release_previous(
    client: &mut Client,
    purpose: &LeasePurpose,
    pid: u32,
    label: &str,
    context: &Context,
) -> Result<(), CliError> {
    for row in context.repeat(client, Client::leases)? {
        let is_this_shells = row.holder.as_ref().is_some_and(|holder| holder.pid == pid);
        if is_this_shells && purpose.providers.contains(&row.provider) && row.label.as_deref() == Some(label) {
            let _ended = client.release(LeaseRef { lease: row.lease, fence: Some(row.fence) });
        }
    }
    Ok(())
}

fn document(prepared: &PreparedLaunch) -> EnvVariables {
    let text = |value: &OsStr| value.to_string_lossy().into_owned();
    let leases = prepared.held.iter().map(|held| EnvLease {
        provider: held.info.provider.clone().into_owned(),
        lease: held.info.lease.clone().into_owned(),
        account: held.info.account.id.clone().into_owned(),
    });
    let leases: Vec<EnvLease> = leases.collect();
    EnvVariables {
        lease: leases.first().map(|first| first.lease.clone()).unwrap_or_default(),
        account: leases.first().map(|first| first.account.clone()).unwrap_or_default(),
        leases,
        set: prepared.environment.set.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        unset: prepared.environment.cleared.clone(),
        arguments: prepared.environment.arguments.iter().map(|argument| text(argument)).collect(),
    }
}

fn lines(prepared: &PreparedLaunch, agent: Option<&str>, shell: EnvShell) -> String {
    let set = prepared.environment.set.iter().map(|(name, value)| shell.set(name, &value.to_string_lossy()));
    let unset = prepared.environment.cleared.iter().map(|name| shell.unset(name));
    let arguments: Vec<String> =
        prepared.environment.arguments.iter().map(|argument| shell.quoted(&argument.to_string_lossy())).collect();
    let function = agent.filter(|_| !arguments.is_empty()).map(|agent| shell.function(agent, &arguments.join(" ")));
    let mut lines: Vec<String> = unset.chain(set).chain(function).collect();
    lines.push(String::new());
    lines.join("\n")
}

impl EnvShell {
    fn set(self, name: &str, value: &str) -> String {
        let value = self.quoted(value);
        match self {
            Self::Sh => format!("export {name}={value}"),
            Self::Fish => format!("set -gx {name} {value}"),
            Self::Powershell => format!("$env:{name} = {value}"),
        }
    }

    fn unset(self, name: &str) -> String {
        match self {
            Self::Sh => format!("unset {name}"),
            Self::Fish => format!("set -e {name}"),
            Self::Powershell => format!("Remove-Item -ErrorAction SilentlyContinue Env:{name}"),
        }
    }

    /// A function with the agent's name that adds the arguments it needs.
    fn function(self, name: &str, arguments: &str) -> String {
        match self {
            Self::Sh => format!("{name}() {{ command {name} {arguments} \"$@\"; }}"),
            Self::Fish => format!("function {name}; command {name} {arguments} $argv; end"),
            Self::Powershell => format!(
                "function {name} {{ & (Get-Command -CommandType Application {name} | Select-Object -First 1) {arguments} @args }}"
            ),
        }
    }

    fn quoted(self, text: &str) -> String {
        match self {
            Self::Sh => quoted(text),
            Self::Fish => format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'")),
            Self::Powershell => format!("'{}'", text.replace('\'', "''")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_use_the_syntax_of_each_shell() {
        let nasty = r"it's $HOME `x` \ ";
        for (shell, set, unset, function) in [
            (EnvShell::Sh, r"export A='it'\''s $HOME `x` \ '", "unset A", "codex() { command codex '-c' \"$@\"; }"),
            (
                EnvShell::Fish,
                r"set -gx A 'it\'s $HOME `x` \\ '",
                "set -e A",
                "function codex; command codex '-c' $argv; end",
            ),
            (
                EnvShell::Powershell,
                r"$env:A = 'it''s $HOME `x` \ '",
                "Remove-Item -ErrorAction SilentlyContinue Env:A",
                "function codex { & (Get-Command -CommandType Application codex | Select-Object -First 1) '-c' @args }",
            ),
        ] {
            assert_eq!(shell.set("A", nasty), set);
            assert_eq!(shell.unset("A"), unset);
            assert_eq!(shell.function("codex", &shell.quoted("-c")), function);
        }
    }
}
