//! Programs from their start to their end: the daemon until its first reply, one-shot commands, memory at rest.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lessor::measure::median;

use super::servers::{Server, home, lessor};

/// The word that makes this program the bare client.
pub const CLIENT: &str = "bare-client";
const ROUNDS: usize = 41;
/// How many times as long as the limit a start, and a command, may take.
const MOST_START: f64 = 3.3;
const MOST_COMMAND: f64 = 1.5;
const PING: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\",\"params\":{}}\n";

/// One call and its answer. The program is this benchmark, which is as large as lessor: its own start is part of the limit.
pub fn bare_client(socket: &Path) {
    let answer = call(&mut UnixStream::connect(socket).unwrap());
    std::io::stdout().write_all(&answer).unwrap();
}

fn call(stream: &mut UnixStream) -> Vec<u8> {
    stream.write_all(PING).unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).unwrap();
    assert!(length > 0, "no answer");
    answer.truncate(length);
    answer
}

pub fn measure(only: &str) {
    if "start, memory, commands".contains(only) {
        starts();
        commands();
    }
}

/// The medians of two that alternate, in milliseconds.
fn medians_of(mut limit: impl FnMut() -> Duration, mut ours: impl FnMut() -> Duration) -> [f64; 2] {
    let (mut limits, mut all_ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        limits.push(limit().as_secs_f64() * 1e3);
        all_ours.push(ours().as_secs_f64() * 1e3);
    }
    [median(limits), median(all_ours)]
}

fn print_head(what: &str) {
    println!("\n{what:<44}{:>10}{:>10}{:>8}{:>8}", "limit", "lessor", "ratio", "must");
}

fn print_row(what: &str, [limit, ours]: [f64; 2], most: f64) {
    println!("{what:<44}{limit:>10.2}{ours:>10.2}{:>8.2}{most:>8.2}", ours / limit);
}

fn starts() {
    print_head("from start to the first reply, ms");
    for accounts in [10, 1000] {
        let directory = home(accounts);
        let until_reply = |start: fn(&Path) -> Server| {
            let begun = Instant::now();
            let server = start(directory.path());
            call(&mut server.connect());
            let taken = begun.elapsed();
            // a daemon that was killed would have more to do at its next start
            server.end();
            taken
        };
        let [limit, ours] = medians_of(|| until_reply(Server::echo), || until_reply(Server::daemon));
        print_row(&format!("{accounts} accounts"), [limit, ours], MOST_START);
        let daemon = Server::daemon(directory.path());
        call(&mut daemon.connect());
        std::thread::sleep(Duration::from_secs(1));
        if let Some((own, all)) = daemon.memory("RssAnon").zip(daemon.memory("VmRSS")) {
            let mib = |kib: u64| kib as f64 / 1024.0;
            println!(
                "    memory at rest: {:.1} MiB of its own, {:.1} MiB with the program's pages",
                mib(own),
                mib(all)
            );
        }
    }
}

fn commands() {
    print_head("one command, ms");
    let directory = home(10);
    let (echo, daemon) = (Server::echo(directory.path()), Server::daemon(directory.path()));
    drop((echo.connect(), daemon.connect()));
    let run = |mut command: Command| {
        let begun = Instant::now();
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success());
        begun.elapsed()
    };
    for words in [&["ping"][..], &["token", "anthropic"]] {
        let bare = || {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.arg(CLIENT).arg(&daemon.socket);
            run(command)
        };
        let ours = || {
            let mut command = lessor(&daemon.home);
            command.args(words);
            run(command)
        };
        let [limit, ours] = medians_of(bare, ours);
        print_row(&words.join(" "), [limit, ours], MOST_COMMAND);
    }
}
