//! Unmodified agents under `lessor run`, in a separate home directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::upstream::{Seen, Upstream};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lessor");
/// No run takes longer, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(170);
/// An agent that sees a limit waits a minute or gives up; the gateway continues with the next account at once.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A home directory with accounts, and their upstream.
pub struct Fleet {
    home: PathBuf,
    pub upstream: Upstream,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    pub run: u64,
    pub ok: bool,
    pub text: String,
}

/// A directory that `.ci/agents` has prepared.
pub fn directory(variable: &str) -> PathBuf {
    std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| panic!("{variable}: run by .ci/agents"))
}

impl Fleet {
    /// One account of the provider per quota; a quota is a number of requests.
    pub fn new(test: &str, provider: &str, quotas: &[u64]) -> Self {
        let home = directory("LESSOR_AGENTS_HOME").join(test);
        std::fs::create_dir_all(home.join("work")).unwrap();
        std::fs::write(home.join("work/file.txt"), "some text\n").unwrap();
        let keys: Vec<String> = (0..quotas.len()).map(|n| format!("sk-{provider}-{n}-0123456789abcdef")).collect();
        let quotas: Vec<(&str, u64)> = keys.iter().map(String::as_str).zip(quotas.iter().copied()).collect();
        let (upstream, address) = Upstream::start(&quotas);
        let fleet = Self { home, upstream };
        fleet.configure(address);
        for (n, key) in keys.iter().enumerate() {
            let label = format!("{provider}-{n}");
            let mut add = fleet.command();
            add.args(["account", "add", provider, "--api-key-stdin", "--label", &label])
                .stdin(Stdio::piped())
                .stdout(Stdio::null());
            let mut child = add.spawn().unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), key.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success());
        }
        fleet
    }

    fn configure(&self, upstream: SocketAddr) {
        let section = |name: &str| format!("[providers.{name}]\nbase_url = \"http://{upstream}/{name}\"\n");
        let text: String = ["anthropic", "openai", "google"].iter().map(|name| section(name)).collect();
        std::fs::create_dir_all(self.home.join("lessor")).unwrap();
        std::fs::write(self.home.join("lessor/config.toml"), text).unwrap();
    }

    pub fn work(&self) -> PathBuf {
        self.home.join("work")
    }

    /// `lessor` with a minimal environment.
    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
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
        let mut run = self.command();
        let home = self.home.join(home);
        std::fs::create_dir_all(&home).unwrap();
        run.env("HOME", home);
        run.arg("run").args(args).arg("--").args(command);
        run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Kills the daemon with SIGKILL.
    pub fn kill_daemon(&self) {
        let ping = self.command().args(["ping", "--json", "--no-start"]).output().unwrap();
        let pong: serde_json::Value = serde_json::from_slice(&ping.stdout).unwrap();
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
    let begun = Instant::now();
    let waiting = runs.into_iter().map(|(run, child)| {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
        let (done, ended) = std::sync::mpsc::channel();
        let output = std::thread::spawn(move || {
            let output = child.wait_with_output();
            let _received = done.send(());
            output
        });
        (run, pid, ended, output)
    });
    let waiting: Vec<_> = waiting.collect();
    let over = |(run, pid, ended, output): (u64, Pid, std::sync::mpsc::Receiver<()>, std::thread::JoinHandle<_>)| {
        let late = ended.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())).is_err();
        if late {
            let _gone = kill_process(pid, Signal::KILL);
        }
        let output: std::io::Result<Output> = output.join().unwrap();
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
        let ok = !late && output.status.success() && text.contains(&format!("FINISHED-RUN-{run}"));
        Ran { run, ok, text }
    };
    waiting.into_iter().map(over).collect()
}

/// Checks a fleet: all tasks are complete, parallel runs began on distinct accounts, at least `limits` limits were hit,
/// and none of them reached an agent.
pub fn check(ran: &[Ran], seen: &[Seen], limits: usize) {
    for one in ran {
        assert!(one.ok, "run {} did not finish: {}\n{seen:#?}", one.run, one.text);
    }
    assert!(seen.iter().all(|seen| seen.key.is_some()), "a foreign key went upstream: {seen:#?}");
    let first = |run: u64| seen.iter().find(|seen| seen.run == Some(run)).and_then(|seen| seen.key.clone());
    let mut firsts: Vec<_> = ran.iter().map(|one| first(one.run).unwrap_or_default()).collect();
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
}

/// The path of a file in this folder.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents").join(name)
}
