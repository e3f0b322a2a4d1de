//! What every command receives: the global options, the output, and access to the daemon.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use super::error::CliError;
use super::ui::{Output, Tint, clean};
use crate::client::{Client, ClientError, DaemonStarter};
use crate::config::{AppPaths, Config, Flags};
use crate::daemon::lock;
use crate::protocol::{Call, HelloInfo};

/// How long a client waits for the next daemon after one died that it may not start again itself: a supervisor starts it.
const AFTER_DEATH: Duration = Duration::from_secs(30);
/// The same after a daemon was stopped: it may be part of a restart.
const AFTER_STOP: Duration = Duration::from_secs(10);
/// The least of these waits, for a request whose own time is over.
const LEAST_WAIT: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(25);
/// Remembers, in the state directory, for which daemon the user knows that its version is another one.
const VERSION_NOTED: &str = "version-noted";

/// The options of every command.
#[derive(Debug, Args)]
pub(crate) struct GlobalArgs {
    /// Print one JSON document instead of text
    #[arg(long, global = true, display_order = 900)]
    json: bool,
    /// Do not start a daemon if none is running (also LESSOR_NO_START=1)
    #[arg(long, global = true, display_order = 901)]
    no_start: bool,
    /// Use this configuration file (also LESSOR_CONFIG)
    #[arg(long, global = true, value_name = "FILE", display_order = 902)]
    config: Option<PathBuf>,
    /// Use the daemon that listens on this socket (also LESSOR_SOCKET)
    #[arg(long, global = true, value_name = "PATH", display_order = 903)]
    socket: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) flags: Flags,
    pub(crate) may_start: bool,
    /// Whether options without effect were named already.
    has_warned: AtomicBool,
}

impl Context {
    pub(crate) fn new(global: GlobalArgs) -> Self {
        let refused = std::env::var_os("LESSOR_NO_START").is_some_and(|value| !value.is_empty() && value != "0");
        Self {
            output: Output::of_process(global.json),
            flags: Flags { config: global.config, socket: global.socket },
            may_start: !global.no_start && !refused,
            has_warned: AtomicBool::new(false),
        }
    }

    /// The same for a thread of its own.
    pub(crate) fn duplicate(&self) -> Self {
        Self {
            output: self.output,
            flags: self.flags.clone(),
            may_start: self.may_start,
            has_warned: AtomicBool::new(self.has_warned.load(Ordering::Relaxed)),
        }
    }

    pub(crate) fn places(&self) -> Result<AppPaths, CliError> {
        AppPaths::from_process(&self.flags).map_err(|error| CliError::bad_request(error.to_string()))
    }

    /// The options that choose the daemon, as variables for a process that calls lessor.
    pub(crate) fn variables(&self) -> Vec<(&'static str, OsString)> {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone()).into_os_string();
        let given = [("LESSOR_CONFIG", &self.flags.config), ("LESSOR_SOCKET", &self.flags.socket)];
        let mut variables: Vec<_> =
            given.into_iter().filter_map(|(name, path)| Some((name, absolute(path.as_ref()?)))).collect();
        // the process may change its directory
        let is_relative = |name: &&str| {
            std::env::var_os(name).is_some_and(|path| !path.is_empty() && !Path::new(&path).is_absolute())
        };
        for name in ["LESSOR_HOME", "LESSOR_CONFIG", "LESSOR_SOCKET"].into_iter().filter(is_relative) {
            let path = PathBuf::from(std::env::var_os(name).unwrap_or_default());
            if variables.iter().all(|(set, _)| *set != name) {
                variables.push((name, absolute(&path)));
            }
        }
        if !self.may_start {
            variables.push(("LESSOR_NO_START", "1".into()));
        }
        variables
    }

    pub(crate) fn config(&self) -> Result<Config, CliError> {
        let path = self.places()?.config;
        Ok(Config::load(&path).map_err(|errors| CliError::invalid_config(&path, &errors))?.config)
    }

    pub(crate) fn start(&self) -> Result<DaemonStarter, CliError> {
        DaemonStarter::this_program(&self.flags)
            .map_err(|error| CliError::internal(format!("cannot find the file of this program: {error}")))
    }

    /// Makes a call that changes nothing; if the daemon ends during the call, makes it once more.
    pub(crate) fn ask<T>(&self, call: impl Fn(&mut Client) -> Result<T, ClientError>) -> Result<T, CliError> {
        self.ask_at(&mut self.connect()?, call)
    }

    /// As [`Self::ask`], where `first` is the first call that is made: it is sent with the greeting.
    pub(crate) fn ask_ahead<T>(
        &self,
        first: &Call,
        call: impl Fn(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, CliError> {
        self.ask_at(&mut self.connect_ahead(first)?, call)
    }

    fn ask_at<T>(
        &self,
        client: &mut Client,
        call: impl Fn(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, CliError> {
        match call(client) {
            Err(ClientError::Lost(_)) => Ok(call(&mut self.connect()?)?),
            result => Ok(result?),
        }
    }

    /// Makes a call that may be made twice; if the daemon ends during the call, makes it once more, on the next daemon.
    pub(crate) fn repeat<T>(
        &self,
        client: &mut Client,
        call: impl Fn(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, CliError> {
        match call(client) {
            Err(error) if error.is_end_of_daemon() => {
                *client = self.reconnect(None)?;
                Ok(call(client)?)
            }
            result => Ok(result?),
        }
    }

    /// Connects to the next daemon after one has ended. A daemon that died is started again, if that is allowed; one
    /// that was stopped is waited for, for at most `patience`.
    pub(crate) fn reconnect(&self, patience: Option<Duration>) -> Result<Client, CliError> {
        let places = self.places()?;
        let begun = Instant::now();
        loop {
            let error = match Client::connect(&places) {
                Err(error @ ClientError::NoDaemon(_)) => error,
                found => return Ok(found?),
            };
            let died = has_died(&places.lock);
            if died && self.may_start {
                return Client::connect_or_start(&places, &self.start()?).map_err(|error| not_started(error, &places));
            }
            let most = if died { AFTER_DEATH } else { AFTER_STOP };
            if begun.elapsed() >= patience.map_or(most, |patience| patience.clamp(LEAST_WAIT, most)) {
                return Err(CliError::from(error).hint("start one: lessor ping"));
            }
            std::thread::sleep(STEP);
        }
    }

    /// Connects to the daemon; starts one if none is running and starting is allowed.
    pub(crate) fn connect(&self) -> Result<Client, CliError> {
        self.connect_by(Client::connect)
    }

    /// The same for a command that makes this call first, which may be made twice: it is sent with the greeting.
    pub(crate) fn connect_ahead(&self, first: &Call) -> Result<Client, CliError> {
        if self.flags.config.is_some() {
            // another call comes first
            return self.connect();
        }
        self.connect_by(|places| Client::connect_ahead(places, first))
    }

    fn connect_by(&self, connect: impl FnOnce(&AppPaths) -> Result<Client, ClientError>) -> Result<Client, CliError> {
        let places = self.places()?;
        let client = match connect(&places) {
            Err(error) if !self.may_start => return Err(CliError::from(error).hint("start one: lessor daemon")),
            Err(error) if error.says_no_daemon() => Client::connect_or_start(&places, &self.start()?),
            found => found,
        };
        let client = client.map_err(|error| not_started(error, &places))?;
        if self.output.says_notes() {
            let noted = places.state.join(VERSION_NOTED);
            version_note(client.server(), &noted).into_iter().for_each(|note| self.output.note(&note));
        }
        self.warn_of_other_places(&places, client)
    }

    /// Says once which of `--config` and `--socket` has no effect, because the daemon that serves was started with others.
    fn warn_of_other_places(&self, places: &AppPaths, mut client: Client) -> Result<Client, CliError> {
        let is_given = self.flags.config.is_some() || self.flags.socket.is_some();
        if !is_given || self.has_warned.swap(true, Ordering::Relaxed) {
            return Ok(client);
        }
        let socket = client.socket().to_owned();
        if self.flags.socket.is_some() && socket != places.socket {
            let (given, socket) = (places.socket.display(), socket.display());
            let text = format!(
                "--socket {given} has no effect: the daemon of this data directory serves at {socket}; to move it: \
                 lessor stop, then start it with this option"
            );
            self.output.labelled_note(Tint::Warn, "warning:", &clean(&text));
        }
        if self.flags.config.is_some() {
            let used = client.status()?.config.path;
            if Path::new(&used) != places.config {
                let text = format!(
                    "--config {} has no effect: the daemon that serves uses {used}; to change that: lessor stop, then \
                     start it with this option",
                    places.config.display()
                );
                self.output.labelled_note(Tint::Warn, "warning:", &clean(&text));
            }
        }
        Ok(client)
    }
}

/// Why no daemon could be started; with a configuration that is not valid, each error with its line.
fn not_started(error: ClientError, places: &AppPaths) -> CliError {
    match (&error, Config::load(&places.config)) {
        (ClientError::NoDaemon(_), Err(errors)) => CliError::invalid_config(&places.config, &errors),
        _ => error.into(),
    }
}

/// What to say about a daemon of another version: once for each run of it, which the file remembers.
fn version_note(server: &HelloInfo, noted: &Path) -> Option<String> {
    let own = env!("CARGO_PKG_VERSION");
    if server.version == own {
        return None;
    }
    let run = format!("{} {} {own}\n", server.pid, server.version);
    if std::fs::read_to_string(noted).is_ok_and(|before| before == run) {
        return None;
    }
    // said again next time if it cannot be remembered
    let _not_remembered = std::fs::write(noted, &run);
    Some(format!(
        "note: the daemon is lessor {}, this is {own}; to run the daemon of this version, without losing a lease: lessor restart",
        clean(&server.version)
    ))
}

/// Whether the last daemon died: one that is stopped empties its lock file.
pub(crate) fn has_died(lock: &Path) -> bool {
    lock::read(lock).is_some() && !lock::is_held(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_noted_once_for_each_run_of_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let noted = directory.path().join("noted");
        let server = |pid, version: &str| HelloInfo { pid, version: version.to_owned(), ..HelloInfo::default() };
        assert_eq!(version_note(&server(1, env!("CARGO_PKG_VERSION")), &noted), None);
        let note = version_note(&server(1, "0.0.1\u{1b}"), &noted).unwrap();
        assert!(note.contains("lessor restart") && !note.contains('\u{1b}'), "{note}");
        assert_eq!(version_note(&server(1, "0.0.1\u{1b}"), &noted), None);
        assert!(version_note(&server(2, "0.0.1"), &noted).is_some());
        // restarted in place
        assert!(version_note(&server(2, "0.0.2"), &noted).is_some());
        assert!(version_note(&server(2, "0.0.2"), &directory.path().join("no/directory")).is_some());
    }
}
