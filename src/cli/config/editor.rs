//! The user's editor.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};

/// The user's editor, or the system's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Editor {
    /// What the user says: a program, perhaps with arguments.
    command: OsString,
}

impl Editor {
    /// `$VISUAL`, else `$EDITOR`, else what is installed.
    pub(super) fn of_process() -> Option<Self> {
        let said = ["VISUAL", "EDITOR"].into_iter().filter_map(std::env::var_os);
        let said = said.into_iter().find(|command| !command.to_string_lossy().trim().is_empty());
        said.or_else(|| installed().map(OsString::from)).map(|command| Self { command })
    }

    /// Opens a file, and returns when the editor has ended.
    pub(super) fn open(&self, file: &Path) -> io::Result<ExitStatus> {
        let mut command = self.command(file);
        // at the terminal Ctrl-C is for the editor, which does not end by it
        #[cfg(unix)]
        let _deaf = Deaf::begin()?;
        command.status()
    }

    pub(super) fn name(&self) -> String {
        self.command.to_string_lossy().into_owned()
    }

    /// A shell takes the words apart, as everything does that reads these variables.
    #[cfg(unix)]
    fn command(&self, file: &Path) -> Command {
        // the shell does not end by Ctrl-C either, and an editor finds its signals as they were
        let mut script = OsString::from("trap : INT QUIT; ");
        script.push(&self.command);
        script.push(" \"$@\"");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(&self.command).arg(file);
        command
    }

    /// A program's whole path, or words with blanks between them.
    #[cfg(not(unix))]
    fn command(&self, file: &Path) -> Command {
        let said = self.command.to_string_lossy();
        let mut words = said.split_whitespace();
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

/// The first of what systems bring along.
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

/// As long as it lives, the keys that end a program do not end this one.
#[cfg(unix)]
struct Deaf(std::sync::Arc<std::sync::atomic::AtomicBool>);

#[cfg(unix)]
impl Deaf {
    fn begin() -> io::Result<Self> {
        use signal_hook::consts::{SIGINT, SIGQUIT};
        let ends = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        for signal in [SIGINT, SIGQUIT] {
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, ends.clone())?;
        }
        Ok(Self(ends))
    }
}

#[cfg(unix)]
impl Drop for Deaf {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_apart_as_a_shell_does() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("a 'file'.toml");
        for command in ["printf '%s|' one 'two three' >", "f() { printf '%s|' one 'two three' > \"$1\"; }; f"] {
            assert!(Editor { command: command.into() }.open(&file).unwrap().success());
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "one|two three|");
        }
        assert_eq!(Editor { command: "exit 3;".into() }.open(&file).unwrap().code(), Some(3));
    }
}
