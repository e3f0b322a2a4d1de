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
const PING: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\",\"params\":{}}\n";

/// One call and its answer, as the shortest program would.
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

/// In milliseconds.
fn median_of(mut once: impl FnMut() -> Duration) -> f64 {
    median((0..ROUNDS).map(|_| once().as_secs_f64() * 1e3).collect())
}

fn starts() {
    println!("\n{:<44}{:>10}{:>10}{:>8}", "from start to the first reply, ms", "limit", "lessor", "ratio");
    for accounts in [10, 1000] {
        let directory = home(accounts);
        let until_reply = |start: fn(&Path) -> Server| {
            let begun = Instant::now();
            let server = start(directory.path());
            call(&mut server.connect());
            begun.elapsed()
        };
        let limit = median_of(|| until_reply(Server::echo));
        let ours = median_of(|| until_reply(Server::daemon));
        println!("{:<44}{limit:>10.2}{ours:>10.2}{:>8.2}", format!("{accounts} accounts"), ours / limit);
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
    println!("\n{:<44}{:>10}{:>10}{:>8}", "one command, ms", "limit", "lessor", "ratio");
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
        let limit = median_of(|| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.arg(CLIENT).arg(&daemon.socket);
            run(command)
        });
        let ours = median_of(|| {
            let mut command = lessor(&daemon.home);
            command.args(words);
            run(command)
        });
        println!("{:<44}{limit:>10.2}{ours:>10.2}{:>8.2}", words.join(" "), ours / limit);
    }
}
