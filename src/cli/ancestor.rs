//! Who called: the process that a lease is bound to when nobody names one.
//!
//! It is the nearest ancestor that is neither a shell nor a launcher: the agent whose tool ran `sh -c "lessor …"`.
//! Where there is none below the terminal, the service manager or another user's process, it is the shell that called:
//! a script's, or the one at the prompt. A subshell (`x=$(lessor …)`) counts as the shell it was forked from, and the
//! shell of one `-c` line as part of the launcher (`make`, `npm`) that runs it; both are gone in a moment.

#[cfg_attr(target_os = "linux", path = "ancestor/linux.rs")]
#[cfg_attr(windows, path = "ancestor/windows.rs")]
#[cfg_attr(not(any(target_os = "linux", windows)), path = "ancestor/table.rs")]
mod system;

/// A process, as far as the choice needs it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Process {
    parent: u32,
    /// The program and its arguments.
    args: Vec<String>,
    session: u32,
    has_terminal: bool,
    /// It runs as this user.
    ours: bool,
}

/// What a lease is bound to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Holder {
    pub(super) pid: u32,
    /// The program's name.
    pub(super) name: String,
    /// The same, or of the script that it interprets: what an agent of many is called.
    pub(super) agent: String,
}

const SHELLS: [&str; 14] =
    ["sh", "bash", "dash", "zsh", "fish", "ksh", "mksh", "ash", "busybox", "nu", "pwsh", "xonsh", "cmd", "powershell"];
/// Programs that only run another one.
const LAUNCHERS: [&str; 24] = [
    "env", "nohup", "timeout", "sudo", "doas", "time", "nice", "ionice", "setsid", "stdbuf", "xargs", "parallel",
    "script", "npx", "npm", "pnpm", "yarn", "bunx", "uvx", "make", "gmake", "just", "direnv", "lessor",
];
/// Interpreters whose first argument may be a launcher.
const INTERPRETERS: [&str; 3] = ["node", "nodejs", "bun"];
/// What is above every terminal and service: bound to them, a lease would live for ever.
const ROOTS: [&str; 40] = [
    "init",
    "systemd",
    "launchd",
    "tini",
    "dumb-init",
    "docker-init",
    "catatonit",
    "conmon",
    "containerd-shim",
    "containerd-shim-runc-v2",
    "cron",
    "crond",
    "atd",
    "sshd",
    "sshd-session",
    "login",
    "su",
    "tmux",
    "screen",
    "zellij",
    "gnome-terminal-server",
    "konsole",
    "xterm",
    "code",
    "alacritty",
    "kitty",
    "wezterm-gui",
    "ghostty",
    "terminal",
    "iterm2",
    "explorer",
    "windowsterminal",
    "openconsole",
    "conhost",
    "mintty",
    "services",
    "svchost",
    "wininit",
    "winlogon",
    "taskhostw",
];
/// No tree of processes is deeper than this in earnest.
const DEEPEST: usize = 64;

/// The process that called.
pub(super) fn holder() -> Result<Holder, String> {
    let found = system::parent().and_then(|parent| choose(parent, &system::find));
    found.ok_or_else(|| "no process to bind the lease to: name one with --pid, or give it a time with --ttl".to_owned())
}

/// The shell that called: whatever else runs it, variables are for this one.
pub(super) fn shell() -> Result<Holder, String> {
    system::parent().and_then(|parent| calling_shell(parent, &system::find)).map_or_else(holder, Ok)
}

/// The nearest shell from `first` on, with only launchers between; a subshell counts as the one it was forked from.
fn calling_shell(first: u32, find: &dyn Fn(u32) -> Option<Process>) -> Option<Holder> {
    let mut shell: Option<(u32, Process)> = None;
    let mut pid = first;
    for _ in 0..DEEPEST {
        let Some(process) = find(pid).filter(|_| pid > 1) else { break };
        let parent = process.parent;
        if process.is_shell() {
            let is_another = shell.as_ref().is_some_and(|(_, inner)| inner.parent != pid || inner.args != process.args);
            if is_another {
                break;
            }
            shell = Some((pid, process));
        } else if process.is_launcher() {
            // the line that a launcher runs is over in a moment
            if shell.as_ref().is_some_and(|(_, inner)| inner.parent == pid && inner.runs_a_line()) {
                shell = None;
            }
        } else {
            break;
        }
        pid = parent;
    }
    shell.map(|(pid, shell)| Holder { pid, name: shell.name(), agent: shell.name() })
}

/// The nearest ancestor from `first` on that a lease can be bound to.
fn choose(first: u32, find: &dyn Fn(u32) -> Option<Process>) -> Option<Holder> {
    let mut shell: Option<(u32, Process)> = None;
    let mut pid = first;
    for _ in 0..DEEPEST {
        let Some(process) = find(pid).filter(|_| pid > 1) else { break };
        let name = process.name();
        if process.is_shell() {
            let is_subshell_of_it =
                shell.as_ref().is_some_and(|(_, inner)| inner.parent == pid && inner.args == process.args);
            if shell.is_none() || is_subshell_of_it {
                shell = Some((pid, process.clone()));
            }
            // at a prompt: what is above is the terminal
            if process.session == pid && process.has_terminal && process.is_interactive() {
                break;
            }
        } else if process.is_launcher() {
            let is_its_line = |(_, inner): &(u32, Process)| inner.parent == pid && inner.runs_a_line();
            if shell.as_ref().is_some_and(is_its_line) {
                shell = None;
            }
        } else if ROOTS.contains(&name.to_lowercase().as_str()) || !process.ours {
            break;
        } else {
            return Some(Holder { pid, agent: process.agent(), name });
        }
        pid = process.parent;
    }
    shell.map(|(pid, shell)| Holder { pid, name: shell.name(), agent: shell.name() })
}

/// Whether a program of this name is a shell.
pub(super) fn is_shell(name: &str) -> bool {
    SHELLS.contains(&name)
}

/// Whether a program of this name only runs another one.
pub(super) fn is_launcher(name: &str) -> bool {
    LAUNCHERS.contains(&name) || SHELLS.contains(&name)
}

impl Process {
    /// The program's file name; a login shell's dash is not part of it.
    fn name(&self) -> String {
        let program = self.args.first().map_or("", String::as_str);
        // a title of its own making (`npm exec claude`, `tmux: server`) begins with the name
        let program = program.rsplit('/').next().unwrap_or_default().trim_start_matches('-');
        program.split([' ', ':']).next().unwrap_or_default().to_owned()
    }

    fn is_shell(&self) -> bool {
        SHELLS.contains(&self.name().as_str())
    }

    fn is_launcher(&self) -> bool {
        let name = self.name();
        if LAUNCHERS.contains(&name.as_str()) {
            return true;
        }
        let script = self.script();
        let stem = script.map(|script| script.split(['.', '-']).next().unwrap_or_default());
        // node /usr/lib/node_modules/npm/bin/npx-cli.js
        INTERPRETERS.contains(&name.as_str()) && stem.is_some_and(|stem| LAUNCHERS.contains(&stem))
    }

    /// The file name of what it interprets.
    fn script(&self) -> Option<&str> {
        let script = self.args.iter().skip(1).find(|argument| !argument.starts_with('-'))?;
        script.rsplit('/').next()
    }

    /// What it is called: `node /usr/bin/claude` is `claude`, `python3 agent.py` is `agent`.
    fn agent(&self) -> String {
        let name = self.name();
        let interprets = INTERPRETERS.contains(&name.as_str()) || name.starts_with("python");
        let script = self.script().filter(|_| interprets).map(|script| script.split('.').next().unwrap_or_default());
        script.filter(|script| !script.is_empty()).map_or(name, str::to_owned)
    }

    /// Whether the shell runs a line of text: `sh -c "…"`.
    fn runs_a_line(&self) -> bool {
        let options = self.args.iter().skip(1).take_while(|argument| argument.starts_with('-'));
        options.into_iter().any(|option| !option.starts_with("--") && option.contains('c'))
    }

    /// Whether the shell reads from a prompt: neither a line nor a script.
    fn is_interactive(&self) -> bool {
        self.args.iter().skip(1).all(|argument| argument.starts_with('-')) && !self.runs_a_line()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One process from below to above: pid, command line, `s` for the leader of a session on a terminal.
    type Row = (u32, &'static str, &'static str);

    fn chosen(rows: &[Row]) -> Option<u32> {
        found(rows, choose)
    }

    type Find<'a> = &'a dyn Fn(u32) -> Option<Process>;

    fn found(rows: &[Row], rule: fn(u32, Find<'_>) -> Option<Holder>) -> Option<u32> {
        let find = |pid: u32| {
            let index = rows.iter().position(|row| row.0 == pid)?;
            let (_, args, flags) = rows[index];
            Some(Process {
                parent: rows.get(index + 1).map_or(1, |above| above.0),
                args: args.split('|').map(str::to_owned).collect(),
                session: if flags.contains('s') { pid } else { 9999 },
                has_terminal: flags.contains('s'),
                ours: !flags.contains('r'),
            })
        };
        rule(rows[0].0, &find).map(|holder| holder.pid)
    }

    #[test]
    fn variables_are_for_the_shell_that_called() {
        for (expected, rows) in [
            (Some(10), &[(10, "-bash", "s"), (5, "sshd", "r")][..]),
            // eval "$(lessor env claude)"
            (Some(10), &[(12, "-bash", ""), (10, "-bash", "s")]),
            (Some(11), &[(12, "bash|a.sh", ""), (11, "bash|a.sh", ""), (10, "zsh", "s")]),
            // an agent's tool keeps its variables no longer than its line
            (Some(30), &[(30, "sh|-c|eval", ""), (20, "claude", ""), (10, "-bash", "s")]),
            // .envrc
            (Some(10), &[(12, "bash|-c|eval", ""), (11, "direnv|export", ""), (10, "zsh", "s")]),
            (None, &[(20, "python3|a.py", ""), (10, "bash", "s")]),
        ] {
            assert_eq!(found(rows, calling_shell), expected, "{rows:?}");
        }
    }

    #[test]
    fn the_nearest_program_that_is_no_shell_or_launcher() {
        for (expected, rows) in [
            // an agent's tool
            (Some(20), &[(30, "/bin/sh|-c|lessor acquire", ""), (20, "claude", ""), (10, "-bash", "s")][..]),
            (Some(20), &[(31, "bash|-c|x", ""), (20, "node|/usr/bin/claude", ""), (10, "-zsh", "s")]),
            // launchers between
            (Some(20), &[(33, "timeout|5", ""), (32, "env", ""), (31, "sh|-c|x", ""), (20, "python3|a.py", "")]),
            (Some(20), &[(32, "npm exec x", ""), (31, "node|/l/npm/bin/npx-cli.js|x", ""), (20, "codex", "")]),
            (Some(20), &[(31, "sudo|-u|me", "r"), (20, "opencode", "")]),
            // an agent in a session of its own, without a terminal or with one
            (Some(20), &[(31, "bash|-lc|x", "s"), (20, "codex", ""), (10, "-bash", "s")]),
        ] {
            assert_eq!(chosen(rows), expected, "{rows:?}");
        }
    }

    #[test]
    fn at_a_prompt_it_is_the_shell_that_called() {
        for (expected, rows) in [
            (Some(10), &[(10, "-bash", "s"), (5, "some-unknown-terminal", "")][..]),
            (Some(10), &[(10, "/usr/bin/zsh|-i", "s"), (5, "sshd", "r")]),
            // a script is a shell too
            (Some(11), &[(11, "/bin/bash|./work.sh", ""), (10, "bash", "s"), (5, "xterm", "")]),
            (Some(11), &[(12, "timeout|9", ""), (11, "sh|work.sh", ""), (10, "bash", "s")]),
            // x=$(lessor acquire … | jq …)
            (Some(11), &[(12, "bash|work.sh", ""), (11, "bash|work.sh", ""), (10, "bash", "s")]),
            (Some(10), &[(12, "bash", ""), (11, "bash", ""), (10, "bash", "s")]),
            // a recipe's line is over in a moment
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
            assert_eq!(chosen(rows), expected, "{rows:?}");
        }
    }

    #[test]
    fn an_agent_is_called_as_its_script() {
        for (args, name) in [
            ("claude", "claude"),
            ("/opt/codex/bin/codex|exec", "codex"),
            ("node|/usr/local/bin/gemini", "gemini"),
            ("node|--max-old-space-size=4096|/usr/lib/cli.js", "cli"),
            ("python3|agent.py", "agent"),
            ("node", "node"),
            ("node|-e|x", "x"),
        ] {
            let args = args.split('|').map(str::to_owned).collect();
            assert_eq!(Process { args, ..Process::default() }.agent(), name);
        }
    }

    #[test]
    fn this_process_is_found_as_it_is() {
        let me = system::find(std::process::id()).unwrap();
        assert_eq!(Some(me.parent), system::parent());
        // the session is 0 where its leader lives outside this process's pid namespace
        assert!(me.ours && !me.args.is_empty(), "{me:?}");
    }
}
