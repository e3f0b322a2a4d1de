//! Under a service manager: an inherited socket, messages to the manager, and inherited descriptors. The test acts as the
//! manager; `tests/systemd` uses a real one.

use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Client, Home, PATIENCE, signal, wait_until};

/// A manager that holds a socket for the daemon of a home.
struct Manager {
    listener: UnixListener,
    path: PathBuf,
}

impl Manager {
    fn new(home: &Home) -> Self {
        let run = home.path().join("run");
        std::fs::create_dir_all(&run).unwrap();
        let path = run.join("lessor.sock");
        Self { listener: UnixListener::bind(&path).unwrap(), path }
    }

    /// The daemon, which inherits the socket.
    fn command(&self, home: &Home) -> Command {
        hand_over(home, self.listener.try_clone().unwrap().into(), "LISTEN_PID=$$ LISTEN_FDS=1")
    }

    fn connect(&self) -> Client {
        Client::connect(&self.path)
    }
}

/// A daemon with this descriptor 3 and these variables; `$$` is its pid.
fn hand_over(home: &Home, descriptor: OwnedFd, variables: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("exec 3<&0 0</dev/null; {variables} exec \"$0\" daemon");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_lessor")]).env("LESSOR_HOME", home.path()).stdin(descriptor);
    for name in ["LESSOR_CONFIG", "LESSOR_SOCKET", "LESSOR_LOG", "NOTIFY_SOCKET", "WATCHDOG_USEC"] {
        command.env_remove(name);
    }
    command.stdout(Stdio::null());
    command
}

fn spawn(mut command: Command) -> Child {
    command.stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child, signal_to_send: Signal) -> Output {
    signal(child.id(), signal_to_send);
    child.wait_with_output().unwrap()
}

fn pid(client: &mut Client) -> u64 {
    client.call("hello", json!({}))["pid"].as_u64().unwrap()
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lock(home: &Home) -> Value {
    serde_json::from_str(&std::fs::read_to_string(home.path().join("data/daemon.lock")).unwrap()).unwrap()
}

#[test]
fn clients_are_served_before_between_and_after_daemons() {
    let home = Home::new("");
    let manager = Manager::new(&home);
    let mut early = manager.connect();
    let first = spawn(manager.command(&home));
    assert_eq!(pid(&mut early), u64::from(first.id()));
    assert_eq!(early.call("status", json!({}))["socket"], manager.path.to_str().unwrap());
    assert_eq!(lock(&home), json!({ "pid": first.id(), "socket": manager.path, "started_by": "manager" }));
    let killed = end(first, Signal::KILL);
    assert_eq!(killed.status.code(), None);
    let mut between = manager.connect();
    let second = spawn(manager.command(&home));
    assert_eq!(pid(&mut between), u64::from(second.id()));
    let stopped = end(second, Signal::TERM);
    assert_eq!(stopped.status.code(), Some(0), "{}", text_of(&stopped));
    assert!(manager.path.exists());
    let mut after = manager.connect();
    let third = spawn(manager.command(&home));
    assert_eq!(pid(&mut after), u64::from(third.id()));
    end(third, Signal::TERM);
}

#[test]
fn a_restart_keeps_the_managers_socket_and_process() {
    let mut home = Home::new("");
    let path = home.path().join("notify");
    let ear = Ear(UnixDatagram::bind(&path).unwrap());
    ear.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let manager = Manager::new(&home);
    let mut command = manager.command(&home);
    command.env("NOTIFY_SOCKET", &path);
    home.start_as(command);
    ear.until("READY=1");
    home.client().add("a");
    for _ in 0..3 {
        home.client().restart(5000);
        let mut next = manager.connect();
        assert_eq!(pid(&mut next), u64::from(home.pid()));
        assert_eq!(next.call("account.list", json!({})).as_array().unwrap().len(), 1);
        ear.until("RELOADING=1");
        ear.until("READY=1");
        assert_eq!(lock(&home)["started_by"], "manager");
    }
    assert_eq!(home.stop(), Some(0));
    assert!(manager.path.exists(), "the manager keeps its socket");
}

#[test]
fn the_inherited_socket_overrides_the_settings() {
    let home = Home::new("");
    let manager = Manager::new(&home);
    let mut command = manager.command(&home);
    command.env("LESSOR_SOCKET", home.path().join("elsewhere.sock"));
    let daemon = spawn(command);
    assert_eq!(manager.connect().call("status", json!({}))["socket"], manager.path.to_str().unwrap());
    assert!(!home.path().join("elsewhere.sock").exists());
    end(daemon, Signal::TERM);
}

#[test]
fn a_daemon_that_a_client_started_is_replaced() {
    let mut home = Home::new("");
    let mut command = home.command();
    command.arg("--detached");
    home.start_as(command);
    home.client().add("a");
    let old = home.pid();
    // a socket unit that starts now does the same
    std::fs::remove_file(home.socket()).unwrap();
    let manager = Manager::new(&home);
    let mut waiting = manager.connect();
    let new = spawn(manager.command(&home));
    assert_eq!(pid(&mut waiting), u64::from(new.id()));
    assert_eq!(waiting.call("account.list", json!({})).as_array().unwrap().len(), 1);
    assert_eq!(home.wait(), Some(0), "the replaced daemon stopped cleanly");
    assert_ne!(lock(&home)["pid"], old);
    let output = end(new, Signal::TERM);
    assert!(text_of(&output).contains("replacing the daemon"), "{}", text_of(&output));
}

#[test]
fn a_foreground_daemon_is_not_replaced_and_serves_the_waiting_clients() {
    let mut home = Home::new("");
    let mut command = home.command();
    let elsewhere = home.path().join("elsewhere.sock");
    command.env("LESSOR_SOCKET", &elsewhere);
    home.runs_at(&elsewhere, command);
    let manager = Manager::new(&home);
    let mut waiting = UnixStream::connect(&manager.path).unwrap();
    let output = spawn(manager.command(&home)).wait_with_output().unwrap();
    let text = text_of(&output);
    assert_eq!(output.status.code(), Some(75), "{text}");
    assert!(text.contains(&format!("already running: pid {}", home.pid())), "{text}");
    assert!(text.contains("lessor service start"), "{text}");
    assert_eq!(waiting.read(&mut [0]).unwrap(), 0, "the connection is closed");
    manager.listener.set_nonblocking(true).unwrap();
    assert_eq!(manager.listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "the queue is empty");
    assert_eq!(lock(&home)["started_by"], "user");
    assert_eq!(pid(&mut Client::connect(&elsewhere)), u64::from(home.pid()));
}

#[test]
fn a_daemon_that_cannot_start_empties_the_queue() {
    let home = Home::new("[daemon]\nlgo = 1\n");
    let manager = Manager::new(&home);
    let mut waiting = UnixStream::connect(&manager.path).unwrap();
    let output = spawn(manager.command(&home)).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", text_of(&output));
    assert_eq!(waiting.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_removed_inherited_socket_is_replaced_with_a_warning() {
    let mut home = Home::new("[daemon]\nidle_exit = \"2s\"\n");
    let manager = Manager::new(&home);
    std::fs::remove_file(&manager.path).unwrap();
    let command = manager.command(&home);
    home.start_as(command);
    pid(&mut home.client());
    assert_eq!(home.stop(), Some(0));
    assert!(!manager.path.exists(), "the daemon removes the socket it created");
    // removed while it serves: the path is checked twice per `idle_exit`, and a connected client keeps it from being idle
    let manager = Manager::new(&home);
    let command = manager.command(&home);
    home.start_as(command);
    let mut client = home.client();
    pid(&mut client);
    std::fs::remove_file(&manager.path).unwrap();
    client.read_to_end();
    assert_eq!(home.wait(), Some(1), "a service manager starts it again");
}

#[test]
fn an_unused_daemon_stops_and_the_next_client_starts_another() {
    let mut home = Home::new("[daemon]\nidle_exit = \"200ms\"\n");
    let manager = Manager::new(&home);
    let command = manager.command(&home);
    home.start_as(command);
    assert_eq!(home.wait(), Some(0));
    let mut next = manager.connect();
    let command = manager.command(&home);
    home.start_as(command);
    pid(&mut next);
}

#[test]
fn only_a_listening_socket_is_accepted() {
    let home = Home::new("");
    let (one, _other) = UnixStream::pair().unwrap();
    let listener = UnixListener::bind(home.path().join("s")).unwrap();
    let file = std::fs::File::open(home.path()).unwrap();
    let this = "LISTEN_PID=$$ LISTEN_FDS=1";
    let rows: [(OwnedFd, &str, &str); 3] = [
        (one.into(), this, "does not listen"),
        (file.into(), this, "not a socket"),
        (listener.try_clone().unwrap().into(), "LISTEN_PID=$$ LISTEN_FDS=2", "2 descriptors"),
    ];
    for (descriptor, variables, words) in rows {
        let output = spawn(hand_over(&home, descriptor, variables)).wait_with_output().unwrap();
        let text = text_of(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(words) && text.contains("ListenStream="), "{text}");
    }
    // for another process: the daemon creates its own socket
    let daemon = spawn(hand_over(&home, listener.into(), "LISTEN_PID=1 LISTEN_FDS=1"));
    wait_until("it serves", || UnixStream::connect(home.socket()).is_ok());
    assert_eq!(end(daemon, Signal::TERM).status.code(), Some(0));
}

/// The messages of the daemon to its manager.
struct Ear(UnixDatagram);

impl Ear {
    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).unwrap_or_else(|error| panic!("it says nothing: {error}"));
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// Receives messages until one holds this; returns all.
    fn until(&self, what: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last: &String| !last.contains(what)) {
            assert!(Instant::now() < deadline, "not received: {what} in {heard:?}");
            heard.push(self.next());
        }
        heard
    }
}

#[test]
fn the_manager_receives_readiness_status_and_keep_alive() {
    let mut home = Home::new("");
    let path = home.path().join("notify");
    let ear = Ear(UnixDatagram::bind(&path).unwrap());
    ear.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let manager = Manager::new(&home);
    let watched = "LISTEN_PID=$$ LISTEN_FDS=1 WATCHDOG_PID=$$ WATCHDOG_USEC=600000";
    let mut command = hand_over(&home, manager.listener.try_clone().unwrap().into(), watched);
    command.env("NOTIFY_SOCKET", &path);
    home.start_as(command);
    assert_eq!(ear.next(), "READY=1\n", "the first message");
    assert_eq!(ear.next(), "WATCHDOG=1\nSTATUS=0 leases, 0 accounts (0 ready), queue 0\n");
    let mut client = home.client();
    client.add("a");
    client.acquire();
    let heard = ear.until("1 lease, 1 account (1 ready), queue 0");
    assert!(heard.iter().all(|words| words.starts_with("WATCHDOG=1\n")), "{heard:?}");
    // without a change only keep-alive messages are sent
    assert_eq!(ear.next(), "WATCHDOG=1\n");
    signal(home.pid(), Signal::HUP);
    let reloading = ear.until("RELOADING=1\n").pop().unwrap();
    let stamp = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(stamp.trim().parse::<u64>().unwrap() > 0);
    ear.until("READY=1\n");
    signal(home.pid(), Signal::TERM);
    ear.until("STOPPING=1\n");
    assert_eq!(home.wait(), Some(0));
}

#[test]
fn a_hanging_daemon_sends_no_keep_alive() {
    let mut home = Home::new("");
    let path = home.path().join("notify");
    let ear = Ear(UnixDatagram::bind(&path).unwrap());
    ear.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let manager = Manager::new(&home);
    let watched = "LISTEN_PID=$$ LISTEN_FDS=1 WATCHDOG_PID=$$ WATCHDOG_USEC=90000";
    let mut command = hand_over(&home, manager.listener.try_clone().unwrap().into(), watched);
    command.env("NOTIFY_SOCKET", &path);
    home.start_as(command);
    ear.until("WATCHDOG=1");
    signal(home.pid(), Signal::STOP);
    // messages from before
    ear.0.set_read_timeout(Some(Duration::from_millis(90))).unwrap();
    while ear.0.recv(&mut [0; 512]).is_ok() {}
    assert_eq!(ear.0.recv(&mut [0; 512]).unwrap_err().kind(), ErrorKind::WouldBlock);
    signal(home.pid(), Signal::CONT);
    ear.0.set_read_timeout(Some(PATIENCE)).unwrap();
    ear.until("WATCHDOG=1");
}

#[test]
fn all_descriptors_are_closed_on_exec() {
    let mut home = Home::with_accounts("", 1);
    assert_eq!(home.stop(), Some(0));
    let manager = Manager::new(&home);
    let command = manager.command(&home);
    home.start_as(command);
    let mut client = home.client();
    client.acquire();
    let pid = home.pid();
    /// `O_CLOEXEC` in octal, as in `/proc`.
    const CLOSED_IN_CHILDREN: u32 = 0o2_000_000;
    // only root can read the daemon's descriptors
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return };
    for entry in entries.flatten() {
        let number = entry.file_name().into_string().unwrap();
        if number.parse::<u32>().unwrap() <= 2 {
            continue;
        }
        let Ok(info) = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = u32::from_str_radix(flags, 8).unwrap();
        assert!(flags & CLOSED_IN_CHILDREN != 0, "{number} is {:?}", std::fs::read_link(entry.path()));
    }
}
