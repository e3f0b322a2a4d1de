//! The temporary directory of the demo or a measurement, and the processes in it: both are removed however it ends.

use std::ops::RangeInclusive;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io::Read, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;

use super::agent::{AgentTally, AgentTask, TASK_VARIABLE};
use super::upstream::DemoUpstream;
use crate::config::{AppPaths, Environment, Flags};
use crate::protocol::{LeaseRow, ListAccountsParams};
use crate::{cli::ui::format::round_trip, client::Client, daemon::find_process};

/// How long the daemon may take to start.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(2);
/// An agent is killed only if its account has this many requests left.
const MIN_LEFT: u64 = 8;
/// How long agents may take to finish their last turn.
const LAST_TURN: Duration = Duration::from_secs(5);

pub(in crate::cli::commands) struct TemporaryHome {
    directory: tempfile::TempDir,
    places: AppPaths,
    provider: &'static str,
    daemon: Option<Child>,
    agents: Vec<DemoProcess>,
    client: Option<Client>,
}

/// An agent that was started.
struct DemoProcess {
    name: String,
    child: Child,
    is_killed: bool,
}

pub(super) struct AgentKilled {
    pub(super) story: String,
    pub(super) free_again_after: Option<Duration>,
}

pub(super) struct DaemonKilled {
    pub(super) story: String,
    pub(super) served_again_after: Duration,
    pub(super) held: usize,
    pub(super) kept: usize,
}

/// What the agents have counted, and how many of them ended with an error.
pub(super) struct AgentsEnded {
    pub(super) tallies: Vec<AgentTally>,
    pub(super) failures: Vec<String>,
}

impl TemporaryHome {
    /// Of the demo, whose provider listens at this address.
    pub(super) fn new(provider: &'static str, upstream: SocketAddr) -> anyhow::Result<Self> {
        // one agent per account, and the daemon ends even if the demo is killed
        let config = format!(
            "[daemon]\nidle_exit = \"10s\"\n[leases]\noverflow = \"wait\"\n[providers.{provider}]\n\
             base_url = \"http://{upstream}\"\n"
        );
        Self::with_config(provider, &config)
    }

    /// With this configuration.
    pub(in crate::cli::commands) fn with_config(provider: &'static str, config: &str) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("lessor-demo-").tempdir().context("making a directory")?;
        let home = directory.path();
        fs::write(home.join("config.toml"), config).context("writing the configuration")?;
        let of_process = Environment::from_process(&Flags::default());
        let places =
            AppPaths::resolve(&Environment { config: None, socket: None, home: Some(home.into()), ..of_process })?;
        Ok(Self { places, directory, provider, daemon: None, agents: Vec::new(), client: None })
    }

    /// Starts the daemon and waits until it serves; answers how long that took.
    pub(in crate::cli::commands) fn start_daemon(&mut self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let log = fs::File::options().create(true).append(true).open(self.directory.path().join("daemon.log"))?;
        let child =
            self.command()?.args(["daemon", "--detached"]).stderr(log).spawn().context("starting the daemon")?;
        self.daemon = Some(child);
        loop {
            match Client::connect(&self.places) {
                Ok(client) => {
                    self.client = Some(client);
                    return Ok(begun.elapsed());
                }
                Err(error) if begun.elapsed() > PATIENCE => return Err(error).context("waiting for the daemon"),
                Err(_) => std::thread::sleep(STEP),
            }
        }
    }

    pub(in crate::cli::commands) fn client(&mut self) -> anyhow::Result<&mut Client> {
        if self.client.is_none() {
            self.client = Some(Client::connect(&self.places)?);
        }
        self.client.as_mut().context("no connection to the daemon")
    }

    pub(in crate::cli::commands) fn path(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub(in crate::cli::commands) fn socket(&self) -> &std::path::Path {
        &self.places.socket
    }

    /// Ends the daemon that serves this directory, the one started here or one that a client started after it, and waits
    /// for its end: what it writes would be left behind.
    pub(super) fn stop_daemon(&mut self) {
        self.client = None;
        let Ok(client) = Client::connect(&self.places) else { return };
        let (pid, deadline) = (client.server().pid, Instant::now() + PATIENCE);
        // one that does not end now does so when it has been idle for a while
        let _stopped = client.stop(PATIENCE);
        while find_process(pid).is_ok_and(|process| process.is_some()) && Instant::now() < deadline {
            self.reap_daemon();
            std::thread::sleep(STEP);
        }
    }

    /// Takes note of a daemon that was killed, so that its process does not stay as a zombie.
    pub(super) fn reap_daemon(&mut self) {
        if self.daemon.as_mut().is_some_and(|daemon| daemon.try_wait().is_ok_and(|status| status.is_some())) {
            self.daemon = None;
        }
    }

    pub(super) fn start_agents(&mut self, numbers: RangeInclusive<usize>, end: Instant) -> anyhow::Result<()> {
        for number in numbers {
            let name = format!("agent-{number}");
            let left = end.saturating_duration_since(Instant::now());
            let task =
                AgentTask { name: name.clone(), provider: self.provider.to_owned(), millis: crate::pool::millis(left) };
            let mut command = self.command()?;
            command.arg("demo-agent").env(TASK_VARIABLE, serde_json::to_string(&task)?).stdout(Stdio::piped());
            let child = command.stderr(Stdio::piped()).spawn().context("starting an agent")?;
            self.agents.push(DemoProcess { name, child, is_killed: false });
        }
        Ok(())
    }

    /// Kills an agent that holds a lease, and waits for the next lease of its account; `None` if no agent waits, or no
    /// leased account has enough quota left.
    pub(super) fn kill_an_agent(&mut self, upstream: &DemoUpstream) -> anyhow::Result<Option<AgentKilled>> {
        let states = upstream.states();
        let client = self.client()?;
        if client.status()?.queue.is_empty() {
            return Ok(None);
        }
        let accounts = client.accounts(ListAccountsParams::default())?;
        let leases = client.leases()?;
        let has_much = |lease: &&LeaseRow| {
            let place = accounts.iter().position(|account| account.id == lease.account.id);
            let key = place.and_then(|place| states.values().nth(place));
            key.is_some_and(|key| key.used + MIN_LEFT <= key.quota)
        };
        let Some(lease) = leases.iter().filter(has_much).max_by_key(|row| row.fence) else { return Ok(None) };
        let name = lease.label.clone().unwrap_or_default();
        let account = lease.account.label.clone().unwrap_or_default();
        let Some(agent) = self.agents.iter_mut().find(|agent| agent.name == name) else { return Ok(None) };
        upstream.agent_is_killed(&name);
        let begun = Instant::now();
        agent.child.kill().context("killing an agent")?;
        agent.is_killed = true;
        let mut after = None;
        while after.is_none() && begun.elapsed() < PATIENCE {
            let leases = self.client()?.leases()?;
            // a lease that was granted before the kill has a lower fencing token
            let next = leases.iter().any(|row| row.account.id == lease.account.id && row.fence > lease.fence);
            after = next.then(|| begun.elapsed());
        }
        let when = after.map_or_else(
            || "was not leased again in time".to_owned(),
            |a| format!("was leased again {} later", round_trip(a)),
        );
        let story = format!("killed {name} (-9): {account} {when}");
        Ok(Some(AgentKilled { story, free_again_after: after }))
    }

    /// Kills the daemon and restarts it: it keeps the leases of the agents, and grants no other lease of their accounts.
    pub(super) fn kill_the_daemon(&mut self) -> anyhow::Result<DaemonKilled> {
        let before = self.client()?.leases()?;
        self.client = None;
        let begun = Instant::now();
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().context("killing the daemon")?;
            daemon.wait().context("waiting for the daemon to end")?;
        }
        self.start_daemon()?;
        let after = begun.elapsed();
        let now = self.client()?.leases()?;
        let kept = before.iter().filter(|held| now.iter().any(|row| row.lease == held.lease)).count();
        let story = format!("killed the daemon (-9): it served again {} later", round_trip(after));
        Ok(DaemonKilled { story, served_again_after: after, held: before.len(), kept })
    }

    /// Waits until the agents have ended.
    pub(super) fn finish_agents(&mut self) -> AgentsEnded {
        let deadline = Instant::now() + LAST_TURN;
        let mut ended = AgentsEnded { tallies: Vec::new(), failures: Vec::new() };
        for DemoProcess { name, mut child, is_killed } in self.agents.drain(..) {
            while child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
                std::thread::sleep(STEP);
            }
            let _ended_already = child.kill();
            let printed = read_all(child.stdout.take());
            let error = read_all(child.stderr.take());
            let succeeded = child.wait().is_ok_and(|status| status.success());
            // a killed agent may have printed half of its last line
            ended.tallies.extend(printed.lines().rev().find_map(|line| serde_json::from_str::<AgentTally>(line).ok()));
            if !succeeded && !is_killed {
                let why = error.lines().next_back().map(str::to_owned);
                ended.failures.push(why.unwrap_or_else(|| format!("{name}: it did not end in time")));
            }
        }
        ended
    }

    fn command(&self) -> anyhow::Result<Command> {
        let program: PathBuf = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        for name in ["LESSOR_CONFIG", "LESSOR_SOCKET", "LESSOR_LOG"] {
            command.env_remove(name);
        }
        command.env("LESSOR_HOME", self.directory.path()).stdin(Stdio::null()).stdout(Stdio::null());
        #[cfg(unix)]
        {
            // Ctrl-C goes to the demo only, which ends the others
            use std::os::unix::process::CommandExt;
            command.process_group(0);
        }
        #[cfg(windows)]
        {
            use std::os::windows::process::CommandExt;
            /// `CREATE_NEW_PROCESS_GROUP`, for the same reason.
            const OWN_GROUP: u32 = 0x0000_0200;
            command.creation_flags(OWN_GROUP);
        }
        Ok(command)
    }
}

impl Drop for TemporaryHome {
    fn drop(&mut self) {
        let agents = self.agents.iter_mut().map(|agent| &mut agent.child);
        for child in agents.chain(&mut self.daemon) {
            let _ended_already = child.kill();
            let _ended = child.wait();
        }
    }
}

fn read_all(stream: Option<impl Read>) -> String {
    let mut text = String::new();
    if let Some(mut stream) = stream {
        let _unreadable = stream.read_to_string(&mut text);
    }
    text
}
