//! The process that a lease is bound to if none is named.
//!
//! It is the nearest ancestor that is neither a shell nor a launcher: the agent whose tool ran `sh -c "lessor …"`.
//! If there is none below the terminal, the service manager or another user's process, it is the calling shell: that of
//! a script, or the one at the prompt. A subshell (`x=$(lessor …)`) counts as the shell it was forked from, and the
//! shell of one `-c` line as part of the launcher (`make`, `npm`) that runs it, because both end soon.

mod process;
#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(windows, path = "windows.rs")]
#[cfg_attr(not(any(target_os = "linux", windows)), path = "sysinfo.rs")]
mod system;

use process::AncestorProcess;
pub(super) use process::{is_launcher, is_shell};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CallerProcess {
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// The name of the agent: the program's, or that of the script it interprets.
    pub(crate) agent: String,
}

/// Programs above every terminal and service: a lease bound to one of them would never end.
const ROOTS: &str = "\
    init systemd launchd tini dumb-init docker-init catatonit conmon containerd-shim containerd-shim-runc-v2 \
    cron crond atd sshd sshd-session login su tmux screen zellij gnome-terminal-server konsole xterm code \
    alacritty kitty wezterm-gui ghostty terminal iterm2 explorer windowsterminal openconsole conhost mintty \
    services svchost wininit winlogon taskhostw";
const MAX_DEPTH: usize = 64;

pub(crate) fn calling_program() -> Result<CallerProcess, String> {
    let found = system::parent().and_then(|parent| choose(parent, &system::find));
    found.ok_or_else(|| {
        "found no process to bind the lease to: name one with --pid, or set a time limit with --ttl".to_owned()
    })
}

/// The calling shell, for `env`: the variables are for it.
pub(crate) fn calling_shell() -> Result<CallerProcess, String> {
    system::parent().and_then(|parent| nearest_shell(parent, &system::find)).map_or_else(calling_program, Ok)
}

type FindProcess<'a> = &'a dyn Fn(u32) -> Option<AncestorProcess>;

/// The process `first` and its ancestors, each with its id.
fn ancestors(first: u32, find: FindProcess<'_>) -> impl Iterator<Item = (u32, AncestorProcess)> {
    let with_id = |pid: u32| Some((pid, find(pid).filter(|_| pid > 1)?));
    std::iter::successors(with_id(first), move |(_, process)| with_id(process.parent)).take(MAX_DEPTH)
}

fn calling(shell: Option<(u32, AncestorProcess)>) -> Option<CallerProcess> {
    shell.map(|(pid, shell)| CallerProcess { pid, name: shell.name(), agent: shell.name() })
}

/// The nearest shell from `first` upwards, with only launchers between; a subshell counts as the shell it was forked
/// from.
fn nearest_shell(first: u32, find: FindProcess<'_>) -> Option<CallerProcess> {
    let mut shell: Option<(u32, AncestorProcess)> = None;
    for (pid, process) in ancestors(first, find) {
        if process.is_shell() {
            if shell.as_ref().is_some_and(|(_, inner)| inner.parent != pid || inner.args != process.args) {
                break;
            }
            shell = Some((pid, process));
        } else if process.is_launcher() {
            // the shell of one line that a launcher runs ends soon
            shell.take_if(|(_, inner)| inner.parent == pid && inner.runs_a_line());
        } else {
            break;
        }
    }
    calling(shell)
}

/// The nearest ancestor from `first` upwards that a lease can be bound to.
fn choose(first: u32, find: FindProcess<'_>) -> Option<CallerProcess> {
    let mut shell: Option<(u32, AncestorProcess)> = None;
    for (pid, process) in ancestors(first, find) {
        let name = process.name();
        if process.is_shell() {
            // an interactive shell: its parent is the terminal
            let is_last = process.session == pid && process.has_terminal && process.is_interactive();
            if shell.as_ref().is_none_or(|(_, inner)| inner.parent == pid && inner.args == process.args) {
                shell = Some((pid, process));
            }
            if is_last {
                break;
            }
        } else if process.is_launcher() {
            shell.take_if(|(_, inner)| inner.parent == pid && inner.runs_a_line());
        } else if ROOTS.split(' ').any(|root| root == name.to_lowercase()) || !process.ours {
            break;
        } else {
            return Some(CallerProcess { pid, agent: process.agent(), name });
        }
    }
    calling(shell)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process and, in the next row, its parent: pid, command line, flags. `s`: it leads a session on a terminal; `r`:
    /// it runs as another user.
    type ProcessRow = (u32, &'static str, &'static str);

    fn found(rows: &[ProcessRow], rule: fn(u32, FindProcess<'_>) -> Option<CallerProcess>) -> Option<u32> {
        let find = |pid: u32| {
            let index = rows.iter().position(|row| row.0 == pid)?;
            let (_, args, flags) = rows[index];
            Some(AncestorProcess {
                parent: rows.get(index + 1).map_or(1, |above| above.0),
                args: args.split('|').map(str::to_owned).collect(),
                session: if flags.contains('s') { pid } else { 9999 },
                has_terminal: flags.contains('s'),
                ours: !flags.contains('r'),
            })
        };
        rule(rows[0].0, &find).map(|caller| caller.pid)
    }

    #[test]
    fn variables_are_for_the_calling_shell() {
        for (expected, rows) in [
            (Some(10), &[(10, "-bash", "s"), (5, "sshd", "r")][..]),
            // eval "$(lessor env claude)"
            (Some(10), &[(12, "-bash", ""), (10, "-bash", "s")]),
            (Some(11), &[(12, "bash|a.sh", ""), (11, "bash|a.sh", ""), (10, "zsh", "s")]),
            // the variables of an agent's tool last as long as its command line
            (Some(30), &[(30, "sh|-c|eval", ""), (20, "claude", ""), (10, "-bash", "s")]),
            // .envrc
            (Some(10), &[(12, "bash|-c|eval", ""), (11, "direnv|export", ""), (10, "zsh", "s")]),
            (None, &[(20, "python3|a.py", ""), (10, "bash", "s")]),
        ] {
            assert_eq!(found(rows, nearest_shell), expected, "{rows:?}");
        }
    }

    #[test]
    fn the_nearest_program_that_is_neither_shell_nor_launcher_is_chosen() {
        for (expected, rows) in [
            // an agent's tool
            (Some(20), &[(30, "/bin/sh|-c|lessor acquire", ""), (20, "claude", ""), (10, "-bash", "s")][..]),
            (Some(20), &[(31, "bash|-c|x", ""), (20, "node|/usr/bin/claude", ""), (10, "-zsh", "s")]),
            // launchers between
            (Some(20), &[(33, "timeout|5", ""), (32, "env", ""), (31, "sh|-c|x", ""), (20, "python3|a.py", "")]),
            (Some(20), &[(32, "npm exec x", ""), (31, "node|/l/npm/bin/npx-cli.js|x", ""), (20, "codex", "")]),
            (Some(20), &[(31, "sudo|-u|me", "r"), (20, "opencode", "")]),
            // an agent that starts its shell in a new session
            (Some(20), &[(31, "bash|-lc|x", "s"), (20, "codex", ""), (10, "-bash", "s")]),
        ] {
            assert_eq!(found(rows, choose), expected, "{rows:?}");
        }
    }

    #[test]
    fn at_a_prompt_or_in_a_script_the_calling_shell_is_chosen() {
        for (expected, rows) in [
            (Some(10), &[(10, "-bash", "s"), (5, "some-unknown-terminal", "")][..]),
            (Some(10), &[(10, "/usr/bin/zsh|-i", "s"), (5, "sshd", "r")]),
            // a script is a shell too
            (Some(11), &[(11, "/bin/bash|./work.sh", ""), (10, "bash", "s"), (5, "xterm", "")]),
            (Some(11), &[(12, "timeout|9", ""), (11, "sh|work.sh", ""), (10, "bash", "s")]),
            // x=$(lessor acquire … | jq …)
            (Some(11), &[(12, "bash|work.sh", ""), (11, "bash|work.sh", ""), (10, "bash", "s")]),
            (Some(10), &[(12, "bash", ""), (11, "bash", ""), (10, "bash", "s")]),
            // the shell of a make recipe line ends soon
            (Some(10), &[(12, "/bin/sh|-c|lessor acquire", ""), (11, "make|all", ""), (10, "bash", "s")]),
            // services
            (Some(11), &[(11, "sh|-c|lessor acquire", ""), (10, "cron", "r")]),
            (Some(11), &[(11, "bash|a.sh", ""), (10, "systemd", "")]),
            (Some(11), &[(11, "bash", ""), (10, "tmux: server", "")]),
            (Some(11), &[(11, "bash|a.sh", ""), (10, "strangers-daemon", "r")]),
            // nothing to bind to
            (None, &[(10, "tmux", "")]),
            (None, &[(1, "bash", "s")]),
            (None, &[(10, "make", ""), (5, "systemd", "")]),
        ] {
            assert_eq!(found(rows, choose), expected, "{rows:?}");
        }
    }

    #[test]
    fn this_process_is_found() {
        let me = system::find(std::process::id()).unwrap();
        assert_eq!(Some(me.parent), system::parent());
        // the session is 0 if its leader is outside this pid namespace
        assert!(me.ours && !me.args.is_empty(), "{me:?}");
    }
}
