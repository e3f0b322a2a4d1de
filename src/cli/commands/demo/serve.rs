//! `demo --serve`: the simulated provider and a daemon for programs of the user's own, such as the examples of the clients.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{ffi::OsStr, ffi::OsString, net::Ipv4Addr, net::TcpListener};

use schemars::JsonSchema;
use serde::Serialize;

use super::home::TemporaryHome;
use super::upstream::DemoUpstream;
use super::{DemoArgs, INTERRUPTED, POLL, QUOTAS, WINDOW, add_accounts, failed};
use crate::cli::launch::quoted;
use crate::cli::{context::Context, error::CliError};

/// A provider that every client knows.
const PROVIDER: &str = "anthropic";
/// How long a command may take to end after Ctrl-C, which it gets, too.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where a demo serves.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ServedDemo {
    /// The temporary directory: the value of `LESSOR_HOME`. It is removed when the demo ends.
    home: PathBuf,
    /// The daemon's socket: the value of `LESSOR_SOCKET`.
    socket: PathBuf,
    /// The provider of the accounts.
    provider: &'static str,
    /// The address of the simulated provider.
    upstream: String,
    /// The address of the gateway.
    gateway: Option<String>,
    /// The labels of the accounts.
    accounts: Vec<String>,
}

/// Serves until the user, the end of the input or the end of the command ends it; returns the exit code.
pub(super) fn run(options: &DemoArgs, context: &Context, stop: &Arc<AtomicBool>) -> Result<u8, CliError> {
    let (mut home, upstream, served) = prepare(options).map_err(|error| failed(&error))?;
    let code = if options.command.is_empty() {
        end_with_the_input(stop).map_err(|error| failed(&error))?;
        context.output.result(&served, || lines(&served))?;
        if !context.output.json {
            context.output.note("serving until Ctrl-C; set these variables where your program runs");
        }
        serve_until(&mut home, &upstream, || stop.load(Ordering::Relaxed).then_some(0))
    } else {
        let mut command = start(&options.command, &served)?;
        let mut stopped = None;
        let code = serve_until(&mut home, &upstream, || {
            if let Ok(Some(status)) = command.try_wait() {
                return Some(code_of(status));
            }
            let is_stopped = stop.load(Ordering::Relaxed);
            let since = is_stopped.then(|| *stopped.get_or_insert_with(Instant::now));
            since.is_some_and(|since| since.elapsed() > LAST_WORDS).then_some(INTERRUPTED)
        });
        let _ended_already = command.kill();
        let _ended = command.wait();
        code
    };
    home.stop_daemon();
    Ok(code)
}

/// Starts the provider and the daemon, and adds the accounts.
fn prepare(options: &DemoArgs) -> anyhow::Result<(TemporaryHome, DemoUpstream, ServedDemo)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut home = TemporaryHome::new(PROVIDER, address)?;
    home.start_daemon()?;
    let quotas = if options.quota.is_empty() { &QUOTAS } else { options.quota.as_slice() };
    let keys = add_accounts(&mut home, PROVIDER, options.accounts, quotas)?;
    let window = options.window.map_or(WINDOW, Duration::from_secs);
    let upstream = DemoUpstream::new(keys, window, Duration::MAX);
    upstream.serve_in_background(listener)?;
    let status = home.client()?.status()?;
    let served = ServedDemo {
        home: home.path().to_owned(),
        socket: home.socket().to_owned(),
        provider: PROVIDER,
        upstream: format!("http://{address}"),
        gateway: status.gateway.and_then(|gateway| gateway.url),
        accounts: (1..=options.accounts).map(|number| format!("account-{number}")).collect(),
    };
    Ok((home, upstream, served))
}

fn serve_until(home: &mut TemporaryHome, upstream: &DemoUpstream, mut end: impl FnMut() -> Option<u8>) -> u8 {
    loop {
        if let Some(code) = end() {
            return code;
        }
        home.reap_daemon();
        // they are for the picture of a demo
        drop(upstream.take_events());
        std::thread::sleep(POLL);
    }
}

/// What a program needs: the daemon of its client, and the provider's address, which the vendor's own clients read, too.
fn variables(served: &ServedDemo) -> [(&'static str, &OsStr); 3] {
    [
        ("LESSOR_HOME", served.home.as_os_str()),
        ("LESSOR_SOCKET", served.socket.as_os_str()),
        ("ANTHROPIC_BASE_URL", served.upstream.as_ref()),
    ]
}

/// The variables, for the shell.
fn lines(served: &ServedDemo) -> String {
    let set = |name: &str, value: &OsStr| {
        let value = value.to_string_lossy();
        if cfg!(windows) {
            format!("$env:{name} = '{}'\n", value.replace('\'', "''"))
        } else {
            format!("export {name}={}\n", quoted(&value))
        }
    };
    let unset = if cfg!(windows) { "Remove-Item -ErrorAction SilentlyContinue Env:" } else { "unset " };
    let is_configured = std::env::var_os("LESSOR_CONFIG").is_some();
    let config = if is_configured { format!("{unset}LESSOR_CONFIG\n") } else { String::new() };
    let set = variables(served).map(|(name, value)| set(name, value));
    config + &set.concat()
}

/// Starts the user's command with the variables set, and with this lessor as the first in its search path.
fn start(command: &[OsString], served: &ServedDemo) -> Result<Child, CliError> {
    let Some((program, arguments)) = command.split_first() else { return Err(CliError::usage("no command")) };
    let this = std::env::current_exe().ok();
    let before = std::env::var_os("PATH").unwrap_or_default();
    let directories = this.as_deref().and_then(Path::parent).map(Path::to_owned).into_iter();
    let path = std::env::join_paths(directories.chain(std::env::split_paths(&before))).unwrap_or(before);
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", path).envs(variables(served)).env_remove("LESSOR_CONFIG");
    command.spawn().map_err(|error| CliError::usage(format!("cannot start {}: {error}", program.to_string_lossy())))
}

/// As a shell says it: 128 and the signal for a command that a signal ended.
fn code_of(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(windows)]
    let signal: Option<i32> = None;
    let code = status.code().or(signal.map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Sets `stop` at the end of standard input, if it is a pipe or a socket: a program that starts the demo and ends takes
/// the demo with it.
#[cfg(unix)]
fn end_with_the_input(stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    use anyhow::Context as _;
    use rustix::fs::FileType;
    let input = std::io::stdin();
    let about = rustix::fs::fstat(&input).context("looking at standard input")?;
    if matches!(FileType::from_raw_mode(about.st_mode), FileType::Fifo | FileType::Socket) {
        let stop = stop.clone();
        let read = move || {
            let _ended_or_broken = std::io::copy(&mut input.lock(), &mut std::io::sink());
            stop.store(true, Ordering::Relaxed);
        };
        std::thread::Builder::new().name("input".to_owned()).spawn(read)?;
    }
    Ok(())
}

/// A pipe cannot be told from the null device here: the demo ends by a signal, or with its command.
#[cfg(windows)]
fn end_with_the_input(_: &Arc<AtomicBool>) -> anyhow::Result<()> {
    Ok(())
}
