//! Unmodified agents under `lessor run`, in a separate home directory.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};

use super::upstream::{Account, Limit, Upstream};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lessor");
/// No run takes longer, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(170);
/// An agent that sees a limit waits a minute or gives up; the gateway continues with the next account at once.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A home directory with accounts, and their upstream.
pub struct Fleet {
    home: PathBuf,
    pub upstream: Upstream,
    /// Where the upstream listens.
    pub address: SocketAddr,
}

/// What a fleet's configuration holds besides its upstream.
#[derive(Clone, Copy, Default)]
pub struct FleetConfig {
    /// Sections.
    pub text: &'static str,
    /// Keys of the provider's section.
    pub of_provider: &'static str,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    pub run: u64,
    pub ok: bool,
    /// It was killed because it took too long.
    pub hung: bool,
    pub text: String,
    pub ended: Instant,
}

/// A directory that `.ci/agents` has prepared.
pub fn directory(variable: &str) -> PathBuf {
    std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| panic!("{variable}: run by .ci/agents"))
}

impl Fleet {
    /// One account with a key per quota; a quota is a number of requests.
    pub fn new(test: &str, provider: &str, quotas: &[u64]) -> Self {
        let accounts: Vec<(bool, Limit)> = quotas.iter().map(|quota| (false, Limit::Requests(*quota))).collect();
        Self::with(test, provider, &accounts, &FleetConfig::default())
    }

    /// Accounts of a provider, each a login or not, and with a limit.
    pub fn with(test: &str, provider: &str, accounts: &[(bool, Limit)], config: &FleetConfig) -> Self {
        let accounts: Vec<_> = accounts.iter().map(|(is_login, limit)| (provider, *is_login, *limit)).collect();
        Self::of(test, &accounts, config)
    }

    /// Accounts, each of a provider, a login or not, and with a limit.
    pub fn of(test: &str, accounts: &[(&str, bool, Limit)], config: &FleetConfig) -> Self {
        let home = directory("LESSOR_AGENTS_HOME").join(test);
        std::fs::create_dir_all(home.join("work")).unwrap();
        std::fs::write(home.join("work/file.txt"), "some text\n").unwrap();
        let account = |(number, (provider, is_login, limit)): (usize, &(&str, bool, Limit))| Account {
            secret: match is_login {
                true => format!("at-{provider}-{number}-"),
                false => format!("sk-{provider}-{number}-0123456789abcdef"),
            },
            is_login: *is_login,
            limit: *limit,
        };
        let providers: Vec<&str> = accounts.iter().map(|(provider, ..)| *provider).collect();
        let accounts: Vec<Account> = accounts.iter().enumerate().map(account).collect();
        let (upstream, address) = Upstream::start(&accounts);
        let fleet = Self { home, upstream, address };
        fleet.configure(address, providers.first().copied().unwrap_or_default(), config);
        for (number, (account, provider)) in accounts.iter().zip(providers).enumerate() {
            fleet.add(provider, number, account);
        }
        fleet
    }

    /// Adds a login whose access tokens begin with this.
    pub fn add_login(&self, provider: &str, number: usize, secret: &str) {
        let account = Account { secret: secret.to_owned(), is_login: true, limit: Limit::None };
        self.upstream.add(account.clone());
        self.add(provider, number, &account);
    }

    /// A file in the home directory of a run.
    pub fn file_of(&self, home: &str, path: &str) -> PathBuf {
        let path = self.home.join(home).join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn add(&self, provider: &str, number: usize, account: &Account) {
        let label = format!("{provider}-{number}");
        let (option, text) = match account.is_login {
            true => {
                let day = Duration::from_secs(86_400);
                let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + day;
                let login = json!({
                    "access_token": format!("{}0", account.secret), "refresh_token": format!("rt-{provider}-{number}-0"),
                    "expires_at": u64::try_from(end.as_millis()).unwrap(), "email": format!("{label}@example.com"),
                    "account_id": format!("00000000-0000-4000-8000-{number:012}")
                });
                ("--oauth-stdin", login.to_string())
            }
            false => ("--api-key-stdin", account.secret.clone()),
        };
        let mut add = self.command();
        add.args(["account", "add", provider, option, "--label", &label]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = add.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{label} is added");
    }

    fn configure(&self, upstream: SocketAddr, provider: &str, config: &FleetConfig) {
        let section = |name: &str| {
            let url = format!("http://{upstream}/{name}");
            let more = if name == provider { config.of_provider } else { "" };
            format!(
                "[providers.{name}]\nbase_url = \"{url}\"\n{more}\n[providers.{name}.oauth]\nbase_url = \"{url}\"\n\
                 token_url = \"{url}/token\"\nclient_id = \"scene\"\n"
            )
        };
        let sections: String = ["anthropic", "openai", "google"].iter().map(|name| section(name)).collect();
        std::fs::create_dir_all(self.home.join("lessor")).unwrap();
        let text = format!("{}\n[quota]\npoll = \"off\"\n{sections}", config.text);
        std::fs::write(self.home.join("lessor/config.toml"), text).unwrap();
    }

    pub fn work(&self) -> PathBuf {
        self.home.join("work")
    }

    /// `lessor` with a minimal environment.
    fn command(&self) -> Command {
        self.program(PROGRAM)
    }

    fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let agents = directory("LESSOR_AGENTS");
        let bins = [agents.join("npm/node_modules/.bin"), agents.join("python/bin")];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(bins.into_iter().chain(std::env::split_paths(&path))).unwrap();
        command.env_clear().env("PATH", path).env("HOME", &self.home).env("LESSOR_HOME", self.home.join("lessor"));
        command.env("LANG", "C.UTF-8").env("TERM", "dumb").current_dir(self.work());
        command
    }

    /// Starts `lessor run ARGS -- COMMAND` with a subdirectory of the home as `HOME`.
    pub fn start(&self, home: &str, args: &[&str], command: &[&str]) -> Child {
        self.start_with(home, &[], args, command)
    }

    /// The same with variables.
    pub fn start_with(&self, home: &str, variables: &[(&str, &str)], args: &[&str], command: &[&str]) -> Child {
        let mut run = self.command();
        let home = self.home.join(home);
        std::fs::create_dir_all(&home).unwrap();
        run.env("HOME", home).envs(variables.iter().copied());
        run.arg("run").args(args).arg("--").args(command);
        // a group of its own: an agent that hangs is killed with its children, which hold its output open
        run.process_group(0);
        run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs a line of a shell, with a subdirectory of the home as `HOME`; `$LESSOR` is lessor.
    pub fn start_shell(&self, home: &str, line: &str) -> Child {
        let mut shell = self.program("/bin/sh");
        let home = self.home.join(home);
        std::fs::create_dir_all(&home).unwrap();
        shell.env("HOME", home).env("LESSOR", PROGRAM).args(["-c", line]).process_group(0);
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// A document that a command prints.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command().args(arguments).arg("--json").output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
    }

    /// How many limits requests have met at the provider, and how many requests ended with one: those that agents saw.
    /// An agent tries again without a word, so that what it prints does not tell.
    pub fn limits(&self) -> (u64, u64) {
        let sum = |filter: &[&str], name: &str| {
            self.json(&[&["history"], filter].concat())["totals"][name].as_u64().expect("a number")
        };
        (sum(&[], "limited"), sum(&["--status", "429"], "requests"))
    }

    /// The gateway's metrics.
    pub fn metrics(&self) -> String {
        let access = self.json(&["gateway", "key"]);
        let (url, key) = (access["url"].as_str().unwrap(), access["key"].as_str().unwrap());
        let address = url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Kills the daemon with SIGKILL.
    pub fn kill_daemon(&self) {
        let ping = self.command().args(["ping", "--json", "--no-start"]).output().unwrap();
        let pong: Value = serde_json::from_slice(&ping.stdout).unwrap();
        let pid = Pid::from_raw(i32::try_from(pong["pid"].as_i64().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }

    /// The prompt of a run with this many tool calls.
    pub fn prompt(&self, run: u64, steps: u64) -> String {
        let file = self.work().join("file.txt");
        format!("RUN-{run} STEPS-{steps} FILE={}", file.display())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let stopped = self.command().arg("stop").stdout(Stdio::null()).status();
        if !std::thread::panicking() {
            assert!(stopped.unwrap().success());
        }
    }
}

/// Waits for all runs; one that takes too long is killed and has failed.
pub fn wait(runs: Vec<(u64, Child)>) -> Vec<Ran> {
    wait_for(runs, PATIENCE)
}

/// As [`wait`], for so long.
pub fn wait_for(runs: Vec<(u64, Child)>, patience: Duration) -> Vec<Ran> {
    let begun = Instant::now();
    let waiting = runs.into_iter().map(|(run, child)| {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
        let (done, ended) = std::sync::mpsc::channel();
        let output = std::thread::spawn(move || {
            let output = child.wait_with_output();
            let _received = done.send(Instant::now());
            output
        });
        (run, pid, ended, output)
    });
    let waiting: Vec<_> = waiting.collect();
    let over =
        |(run, pid, ended, output): (u64, Pid, std::sync::mpsc::Receiver<Instant>, std::thread::JoinHandle<_>)| {
            let in_time = ended.recv_timeout(patience.saturating_sub(begun.elapsed())).ok();
            if in_time.is_none() {
                let _gone = kill_process_group(pid, Signal::KILL);
            }
            let output: std::io::Result<Output> = output.join().unwrap();
            let output = output.unwrap();
            let text =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
            let ok = in_time.is_some() && output.status.success() && text.contains(&format!("FINISHED-RUN-{run}"));
            Ran { run, ok, hung: in_time.is_none(), text, ended: in_time.unwrap_or_else(Instant::now) }
        };
    waiting.into_iter().map(over).collect()
}

/// Checks a fleet: all tasks are complete, parallel runs began on distinct accounts, at least `limits` limits were hit,
/// and none of them reached an agent.
pub fn check(fleet: &Fleet, ran: &[Ran], limits: usize) {
    let seen = &fleet.upstream.seen()[..];
    for one in ran {
        assert!(one.ok, "run {} did not finish: {}\n{seen:#?}", one.run, one.text);
    }
    assert!(seen.iter().all(|seen| seen.account.is_some()), "a foreign key went upstream: {seen:#?}");
    let first = |run: u64| seen.iter().find(|seen| seen.run == Some(run)).and_then(|seen| seen.account);
    let mut firsts: Vec<_> = ran.iter().map(|one| first(one.run)).collect();
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts.len(), ran.len(), "parallel runs share an account: {seen:#?}");
    for (at, limited) in seen.iter().enumerate().filter(|(_, seen)| seen.status == 429) {
        let next = seen[at..].iter().find(|seen| seen.run == limited.run && seen.status == 200);
        let next = next.unwrap_or_else(|| panic!("no success after {limited:?}: {seen:#?}"));
        assert!(next.at - limited.at < AT_ONCE, "{limited:?} reached the agent: {seen:#?}");
    }
    let hit = seen.iter().filter(|seen| seen.status == 429).count();
    assert!(hit >= limits, "only {hit} limits were hit: {seen:#?}");
    let (met, visible) = fleet.limits();
    assert_eq!(visible, 0, "limits reached an agent, which may have tried again: {seen:#?}");
    assert!(met > 0 || hit == 0, "the history has none of {hit} limits: {seen:#?}");
}

/// The path of a file in this folder.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents").join(name)
}
