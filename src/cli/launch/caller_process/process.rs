//! A process and its command line: shell, launcher, interpreter or other program.

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct AncestorProcess {
    pub(super) parent: u32,
    pub(super) args: Vec<String>,
    pub(super) session: u32,
    pub(super) has_terminal: bool,
    pub(super) ours: bool,
}

const SHELLS: [&str; 14] =
    ["sh", "bash", "dash", "zsh", "fish", "ksh", "mksh", "ash", "busybox", "nu", "pwsh", "xonsh", "cmd", "powershell"];
/// Programs that only run another program.
const LAUNCHERS: [&str; 24] = [
    "env", "nohup", "timeout", "sudo", "doas", "time", "nice", "ionice", "setsid", "stdbuf", "xargs", "parallel",
    "script", "npx", "npm", "pnpm", "yarn", "bunx", "uvx", "make", "gmake", "just", "direnv", "lessor",
];
/// Interpreters whose first argument may be a launcher.
const INTERPRETERS: [&str; 3] = ["node", "nodejs", "bun"];
pub(crate) fn is_shell(name: &str) -> bool {
    SHELLS.contains(&name)
}

/// Whether a program of this name only runs another program.
pub(crate) fn is_launcher(name: &str) -> bool {
    LAUNCHERS.contains(&name) || SHELLS.contains(&name)
}

impl AncestorProcess {
    /// The program's file name, without the dash of a login shell.
    pub(super) fn name(&self) -> String {
        let program = self.args.first().map_or("", String::as_str);
        // a process title (`npm exec claude`, `tmux: server`) begins with the name
        let program = program.rsplit('/').next().unwrap_or_default().trim_start_matches('-');
        program.split([' ', ':']).next().unwrap_or_default().to_owned()
    }

    pub(super) fn is_shell(&self) -> bool {
        SHELLS.contains(&self.name().as_str())
    }

    pub(super) fn is_launcher(&self) -> bool {
        let name = self.name();
        if LAUNCHERS.contains(&name.as_str()) {
            return true;
        }
        let script = self.script();
        let stem = script.map(|script| script.split(['.', '-']).next().unwrap_or_default());
        // node /usr/lib/node_modules/npm/bin/npx-cli.js
        INTERPRETERS.contains(&name.as_str()) && stem.is_some_and(|stem| LAUNCHERS.contains(&stem))
    }

    fn script(&self) -> Option<&str> {
        let script = self.args.iter().skip(1).find(|argument| !argument.starts_with('-'))?;
        script.rsplit('/').next()
    }

    /// The agent's name: `claude` for `node /usr/bin/claude`, `agent` for `python3 agent.py`.
    pub(super) fn agent(&self) -> String {
        let name = self.name();
        let interprets = INTERPRETERS.contains(&name.as_str()) || name.starts_with("python");
        let script = self.script().filter(|_| interprets).map(|script| script.split('.').next().unwrap_or_default());
        script.filter(|script| !script.is_empty()).map_or(name, str::to_owned)
    }

    /// Whether the shell runs a command string: `sh -c "…"`.
    pub(super) fn runs_a_line(&self) -> bool {
        let options = self.args.iter().skip(1).take_while(|argument| argument.starts_with('-'));
        options.into_iter().any(|option| !option.starts_with("--") && option.contains('c'))
    }

    /// Whether the shell runs neither a command string nor a script.
    pub(super) fn is_interactive(&self) -> bool {
        self.args.iter().skip(1).all(|argument| argument.starts_with('-')) && !self.runs_a_line()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_named_after_its_script() {
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
            assert_eq!(AncestorProcess { args, ..AncestorProcess::default() }.agent(), name);
        }
    }
}
