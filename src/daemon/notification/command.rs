//! `notify.command`: a program that gets a notice as JSON on its standard input.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::outlet::NoticeSender;
use super::policy::NoticeDocument;
use crate::visible;

/// How long the program may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What the program gets of the daemon's environment: what desktop programs need, and nothing that may be a secret.
const VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "DBUS_SESSION_BUS_ADDRESS",
    "SYSTEMROOT",
    "SYSTEMDRIVE",
    "WINDIR",
    "COMSPEC",
    "PATHEXT",
    "TEMP",
    "TMP",
    "USERNAME",
    "USERPROFILE",
    "HOMEDRIVE",
    "HOMEPATH",
    "APPDATA",
    "LOCALAPPDATA",
    "PROGRAMDATA",
    "PROGRAMFILES",
    "PROGRAMFILES(X86)",
    "COMMONPROGRAMFILES",
];
/// The same by the beginning of the name.
const PREFIXES: &[&str] = &["LC_", "XDG_"];

/// Runs commands.
pub(super) struct CommandRunner;

impl NoticeSender for CommandRunner {
    type Job = (Vec<String>, Arc<NoticeDocument>);
    const KEY: &'static str = "notify.command";
    const WARNS_EACH: Option<Duration> = Some(Duration::from_secs(60));

    async fn send(&mut self, (words, notice): Self::Job) -> Result<(), String> {
        let Some((program, arguments)) = words.split_first() else { return Ok(()) };
        let mut document = serde_json::to_vec(&*notice).map_err(|error| error.to_string())?;
        document.push(b'\n');
        let shown = visible::escape(program);
        let mut child = spawn(program, arguments).map_err(|error| format!("{shown}: {error}"))?;
        let input = child.stdin.take();
        let work = async {
            if let Some(mut input) = input {
                // a program that does not read is not at fault
                let _unread = input.write_all(&document).await;
            }
            child.wait().await
        };
        match timeout(TIMEOUT, work).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("{shown} ended with {status}")),
            Ok(Err(error)) => Err(format!("{shown}: {error}")),
            Err(_) => {
                end(&mut child).await;
                Err(format!("{shown} was ended, because it took longer than {} s", TIMEOUT.as_secs()))
            }
        }
    }
}

fn spawn(program: &str, arguments: &[String]) -> std::io::Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_passed)));
    #[cfg(unix)]
    command.process_group(0);
    #[cfg(windows)]
    command.creation_flags(CREATE_NO_WINDOW);
    command.spawn()
}

/// The program gets no console window.
#[cfg(windows)]
const CREATE_NO_WINDOW: u32 = 0x0800_0000;

fn is_passed(name: &str) -> bool {
    let name = if cfg!(windows) { name.to_ascii_uppercase() } else { name.to_owned() };
    VARIABLES.contains(&&*name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Ends the program, and where the system has process groups, the programs that it has started.
async fn end(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.try_into().ok()?)) {
        let _already_ended = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _already_ended = child.kill().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_variables_are_passed() {
        for (name, expected) in [
            ("PATH", true),
            ("DBUS_SESSION_BUS_ADDRESS", true),
            ("LC_ALL", true),
            ("XDG_RUNTIME_DIR", true),
            ("ANTHROPIC_API_KEY", false),
            ("CLIENT_SECRET", false),
            ("LESSOR_HOME", false),
            ("NOTIFY_SOCKET", false),
            ("HTTPS_PROXY", false),
        ] {
            assert_eq!(is_passed(name), expected, "{name}");
        }
    }
}
