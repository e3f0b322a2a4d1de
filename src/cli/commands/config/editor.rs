//! The user's text editor.

use std::process::{Command, ExitStatus};
use std::{ffi::OsString, io, path::Path};

use crate::cli::launch::run_in_foreground;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Editor {
    /// A program, perhaps with arguments.
    command: OsString,
}

impl Editor {
    /// `$VISUAL`, else `$EDITOR`, else an installed editor.
    pub(super) fn of_process() -> Option<Self> {
        let chosen = ["VISUAL", "EDITOR"].into_iter().filter_map(std::env::var_os);
        let chosen = chosen.into_iter().find(|command| !command.to_string_lossy().trim().is_empty());
        chosen.or_else(|| installed().map(OsString::from)).map(|command| Self { command })
    }

    pub(super) fn open(&self, file: &Path) -> io::Result<ExitStatus> {
        run_in_foreground(&mut self.command(file))
    }

    pub(super) fn name(&self) -> String {
        self.command.to_string_lossy().into_owned()
    }

    /// A shell splits the command into words, as other programs do that use these variables.
    #[cfg(unix)]
    fn command(&self, file: &Path) -> Command {
        // a trap keeps the shell running after Ctrl-C, and is not inherited by the editor
        let mut script = OsString::from("trap : INT QUIT; ");
        script.push(&self.command);
        script.push(" \"$@\"");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(&self.command).arg(file);
        command
    }

    /// The path of a program, or words separated by blanks.
    #[cfg(not(unix))]
    fn command(&self, file: &Path) -> Command {
        let command_line = self.command.to_string_lossy();
        let mut words = command_line.split_whitespace();
        let mut command = match words.next() {
            Some(program) if !Path::new(&self.command).is_file() => {
                let mut command = Command::new(program);
                command.args(words);
                command
            }
            _ => Command::new(&self.command),
        };
        command.arg(file);
        command
    }
}

#[cfg(unix)]
fn installed() -> Option<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&str| std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    ["editor", "nano", "vim", "vi"].into_iter().find(is_there)
}

#[cfg(not(unix))]
fn installed() -> Option<&'static str> {
    Some("notepad")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_shell_splits_the_command_into_words() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("a 'file'.toml");
        for command in ["printf '%s|' one 'two three' >", "f() { printf '%s|' one 'two three' > \"$1\"; }; f"] {
            assert!(Editor { command: command.into() }.open(&file).unwrap().success());
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "one|two three|");
        }
        assert_eq!(Editor { command: "exit 3;".into() }.open(&file).unwrap().code(), Some(3));
    }
}
