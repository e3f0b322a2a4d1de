//! `env`: what `run` gives a program, as lines for the calling shell.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::Serialize;

use crate::client::Client;
use crate::daemon::find_process;
use crate::protocol::LeaseRef;

use super::agent::{Purpose, purpose_of_word};
use super::ancestor;
use super::context::Context;
use super::failure::Failure;
use super::hand_out::{Order, Ready, Way, make_ready, quoted};
use super::lease::Wanted;

/// By this name the shell's lease is found again.
const LABEL: &str = "shell";

/// `env`
#[derive(Debug, Args)]
pub(super) struct Env {
    /// An agent (claude, codex, gemini, opencode) or a provider
    #[arg(value_name = "AGENT-OR-PROVIDER")]
    word: String,
    /// Whose account, where the agent works with any
    #[arg(short, long, value_name = "PROVIDER")]
    provider: Option<String>,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    way: Way,
    /// For which shell; sh is for bash and zsh too
    #[arg(long, value_enum, default_value = "sh")]
    shell: Shell,
}

/// How a shell is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Shell {
    Sh,
    Fish,
    Powershell,
}

/// `env --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Variables {
    /// The lease they are of.
    lease: String,
    /// The account's id.
    account: String,
    /// Variables to set.
    set: BTreeMap<String, String>,
    /// Variables to unset.
    unset: Vec<String>,
    /// Arguments the agent wants before its own.
    arguments: Vec<String>,
}

/// Leases for the calling shell, and prints what a program needs.
pub(super) fn env(options: Env, context: &Context) -> Result<(), Failure> {
    let purpose = purpose_of_word(options.provider.as_deref(), &options.word).map_err(Failure::usage)?;
    let shell = ancestor::shell().map_err(Failure::usage)?;
    let gone = || Failure::usage(format!("the shell that called ({}) is gone", shell.pid));
    let holder = find_process(shell.pid).ok().flatten().ok_or_else(gone)?.process;
    let mut client = context.connect()?;
    let mut wanted = options.wanted;
    let label = wanted.label.get_or_insert_with(|| LABEL.to_owned()).clone();
    release_former(&mut client, &purpose, shell.pid, &label)?;
    let order = Order { wanted, purpose: &purpose, way: options.way, holder, arguments: &[], is_shell: false };
    let ready = make_ready(&mut client, order, context)?;
    let printed = ready.leave_a_keeper(None, context).and_then(|()| {
        let agent = purpose.agent.as_deref();
        ready.tell_cleared(context);
        context.output.result(&document(&ready), || lines(&ready, agent, options.shell))
    });
    printed.inspect_err(|_| ready.take_back(&mut client))
}

/// A shell has one of a kind: asked again, it gets the next one in its place.
fn release_former(client: &mut Client, purpose: &Purpose, pid: u32, label: &str) -> Result<(), Failure> {
    for row in client.leases()? {
        let is_this_shells = row.holder.as_ref().is_some_and(|holder| holder.pid == pid);
        if is_this_shells && row.provider == purpose.provider && row.label.as_deref() == Some(label) {
            let _ended = client.release(LeaseRef { lease: row.lease, fence: Some(row.fence) });
        }
    }
    Ok(())
}

fn document(ready: &Ready) -> Variables {
    let text = |value: &OsStr| value.to_string_lossy().into_owned();
    Variables {
        lease: ready.lease.lease.clone().into_owned(),
        account: ready.lease.account.id.clone().into_owned(),
        set: ready.filled.set.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        unset: ready.filled.cleared.iter().map(|name| (*name).to_owned()).collect(),
        arguments: ready.filled.arguments.iter().map(|argument| text(argument)).collect(),
    }
}

fn lines(ready: &Ready, agent: Option<&str>, shell: Shell) -> String {
    let set = ready.filled.set.iter().map(|(name, value)| shell.set(name, &value.to_string_lossy()));
    let unset = ready.filled.cleared.iter().map(|name| shell.unset(name));
    let arguments: Vec<String> =
        ready.filled.arguments.iter().map(|argument| shell.quoted(&argument.to_string_lossy())).collect();
    let function = agent.filter(|_| !arguments.is_empty()).map(|agent| shell.function(agent, &arguments.join(" ")));
    let mut lines: Vec<String> = unset.chain(set).chain(function).collect();
    lines.push(String::new());
    lines.join("\n")
}

impl Shell {
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

    /// What an agent can be told by arguments only becomes a function of its name.
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
    fn each_shell_is_spoken_to_in_its_own_words() {
        let nasty = r"it's $HOME `x` \ ";
        for (shell, set, unset, function) in [
            (Shell::Sh, r"export A='it'\''s $HOME `x` \ '", "unset A", "codex() { command codex '-c' \"$@\"; }"),
            (
                Shell::Fish,
                r"set -gx A 'it\'s $HOME `x` \\ '",
                "set -e A",
                "function codex; command codex '-c' $argv; end",
            ),
            (
                Shell::Powershell,
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
