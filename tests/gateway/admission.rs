//! Which connections are kept when there are too many, and how long the head of a request may take.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::harness::{TestGateway, messages, request};
use crate::support::{PATIENCE, resident, wait_until};
use crate::upstream::{Message, Upstream};

/// An answer of the gateway within this time counts as prompt: a machine may be busy, but a request that finds no room
/// waits for seconds. `.ci/gateway-attacks` measures exactly.
const PROMPT: Duration = Duration::from_millis(500);
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const NOBODY: u32 = 65_534;

fn gateway() -> TestGateway {
    TestGateway::new("a", Upstream::by_key(|_| (200, "", "{}")))
}

fn raise_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// The times of some of the user's requests, each on a connection of its own, by TCP and by the Unix socket.
fn request_times(gateway: &TestGateway) -> Vec<(Duration, Duration)> {
    let path = gateway.home.client().call("status", json!({}))["gateway"]["socket"].as_str().unwrap().to_owned();
    let one = || {
        let began = Instant::now();
        assert_eq!(gateway.send().status(), 200);
        let (tcp, began) = (began.elapsed(), Instant::now());
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(&request("POST /anthropic/v1/messages", "", "{}")).unwrap();
        assert_eq!(Message::read(&mut BufReader::new(stream), false).unwrap().status(), 200);
        (tcp, began.elapsed())
    };
    (0..10).map(|_| one()).collect()
}

/// The machine may be busy with other tests: the fastest of three rounds counts, and its median.
fn assert_prompt(gateway: &TestGateway) {
    let rounds: Vec<_> = (0..3).map(|_| request_times(gateway)).collect();
    for pick in [|times: &(Duration, Duration)| times.0, |times: &(Duration, Duration)| times.1] {
        let medians = rounds.iter().map(|times| {
            let mut times: Vec<Duration> = times.iter().map(pick).collect();
            times.sort_unstable();
            times[times.len() / 2]
        });
        assert!(medians.min() <= Some(PROMPT), "{rounds:?}");
    }
}

fn warnings(gateway: &TestGateway) -> String {
    gateway.home.client().call("status", json!({}))["warnings"].to_string()
}

/// Half of a head, with this much in it.
fn half_head(length: usize) -> Vec<u8> {
    let mut head = b"GET /anthropic/v1/models HTTP/1.1\r\nhost: localhost\r\n".to_vec();
    while head.len() < length {
        head.extend_from_slice(b"x-padding: ");
        head.extend_from_slice(&vec![b'x'; 1000.min(length - head.len().min(length))]);
        head.extend_from_slice(b"\r\n");
    }
    head
}

/// Another user who opens connections and sends half of a head on each, until this is dropped.
struct OtherUser(Child, Option<ChildStdin>);

impl OtherUser {
    /// `None` where the test cannot become another user.
    fn start(port: u16, connections: usize) -> Option<Self> {
        if rustix::process::geteuid().as_raw() != 0 {
            println!("skipped: only root can run a program as another user");
            return None;
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "admission::open_half_sent_heads", "--nocapture"]);
        command.env("LESSOR_TEST_HEADS", format!("{port} {connections}")).current_dir("/").uid(NOBODY).gid(NOBODY);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                println!("skipped: the test's program cannot be run as another user: {error}");
                return None;
            }
        };
        let output = BufReader::new(child.stdout.take().unwrap());
        let input = child.stdin.take();
        assert!(output.lines().map_while(Result::ok).any(|line| line.contains("heads are open")));
        Some(Self(child, input))
    }
}

impl Drop for OtherUser {
    fn drop(&mut self) {
        self.1 = None;
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// Not a test: another user runs this. A connection that was closed is opened again, until the input ends.
#[test]
fn open_half_sent_heads() {
    let Ok(wanted) = std::env::var("LESSOR_TEST_HEADS") else { return };
    let (port, count) = wanted.split_once(' ').unwrap();
    let (port, count): (u16, usize) = (port.parse().unwrap(), count.parse().unwrap());
    raise_descriptors();
    std::thread::spawn(move || {
        let open = || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            let _closed = stream.write_all(&half_head(2000));
            stream.set_nonblocking(true).ok()?;
            Some(stream)
        };
        let mut streams: Vec<Option<TcpStream>> = (0..count).map(|_| open()).collect();
        println!("heads are open");
        loop {
            for stream in &mut streams {
                let is_open = stream.as_mut().is_some_and(|stream| {
                    matches!(stream.read(&mut [0; 512]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
                });
                if !is_open {
                    *stream = open();
                }
            }
        }
    });
    let _ended = std::io::stdin().read_to_end(&mut Vec::new());
}

#[test]
fn another_user_without_a_key_cannot_keep_the_owner_out() {
    let gateway = gateway();
    let Some(_other) = OtherUser::start(gateway.port, 400) else { return };
    wait_until("the other user has used up its share", || warnings(&gateway).contains("uid 65534"));
    assert_prompt(&gateway);
    let warnings = warnings(&gateway);
    assert!(warnings.contains("(64 allowed)") && warnings.contains("had too many connections"), "{warnings}");
    let lines = gateway.home.output().matches("the gateway has too many connections").count();
    assert_eq!(lines, 1, "one line a minute at most");
}

#[test]
fn half_sent_heads_of_the_same_user_cost_little_memory_and_do_not_keep_the_owner_out() {
    raise_descriptors();
    let gateway = gateway();
    let head = half_head(60_000);
    let streams: Vec<TcpStream> = (0..1500)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
            // one that is closed meanwhile cannot be written to
            let _closed = stream.write_all(&head);
            stream
        })
        .collect();
    assert_prompt(&gateway);
    let resident = resident(gateway.home.pid());
    assert!(resident <= 128 << 20, "{} MiB", resident >> 20);
    assert!(warnings(&gateway).contains("this user"), "{}", warnings(&gateway));
    drop(streams);
}

#[test]
fn a_head_must_be_whole_within_its_time_and_an_idle_connection_with_a_key_stays_open() {
    let gateway = gateway();
    let mut with_key = gateway.http_client();
    assert_eq!(with_key.send(&messages(&gateway.key, "{}")).status(), 200);
    // a head that begins after a request, one behind a request in the same packet, one alone, and a connection without any
    let mut after = gateway.http_client();
    assert_eq!(after.send(&messages(&gateway.key, "{}")).status(), 200);
    let mut behind = gateway.http_client();
    let pair = [messages(&gateway.key, "{}"), half_head(100)].concat();
    assert_eq!(behind.send(&pair).status(), 200);
    // behind a chunked body, and behind two requests
    let chunked = format!(
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\ntransfer-encoding: chunked\r\n\r\n\
         2\r\n{{}}\r\n0\r\n\r\n",
        gateway.key
    );
    let mut with_chunks = gateway.http_client();
    assert_eq!(with_chunks.send(chunked.as_bytes()).status(), 200);
    let mut behind_chunks = gateway.http_client();
    assert_eq!(behind_chunks.send(&[chunked.as_bytes(), &half_head(100)].concat()).status(), 200);
    let mut behind_two = gateway.http_client();
    let two = [messages(&gateway.key, "{}"), messages(&gateway.key, "{}"), half_head(100)].concat();
    assert_eq!((behind_two.send(&two).status(), behind_two.receive().status()), (200, 200));
    let began = Instant::now();
    after.write(&half_head(100));
    let mut alone = gateway.http_client();
    alone.write(&half_head(100));
    let mut silent = gateway.http_client();
    let mut trickle = gateway.http_client();
    trickle.write(b"GET / HTTP/1.1\r\n");
    let trickled = std::thread::spawn({
        let mut stream = trickle.stream.try_clone().unwrap();
        // a byte now and then does not help
        move || {
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    });
    for (what, http) in [
        ("after", &mut after),
        ("behind", &mut behind),
        ("behind chunks", &mut behind_chunks),
        ("behind two", &mut behind_two),
        ("alone", &mut alone),
        ("silent", &mut silent),
        ("trickle", &mut trickle),
    ] {
        let answer = http.receive();
        let took = began.elapsed();
        assert_eq!(answer.status(), 408, "{what}: {answer:?}");
        assert!(answer.text().contains("within 10 s"), "{what}: {}", answer.text());
        assert!(http.try_receive().is_none(), "{what}: the connection is closed");
        assert!(took + Duration::from_secs(1) >= HEAD_TIMEOUT && took < HEAD_TIMEOUT + PATIENCE, "{what}: {took:?}");
    }
    trickled.join().unwrap();
    for idle in [&mut with_key, &mut with_chunks] {
        assert_eq!(idle.send(&messages(&gateway.key, "{}")).status(), 200, "an idle connection stays open");
    }
}

#[test]
fn a_head_that_is_too_large_is_refused_with_a_message() {
    let gateway = gateway();
    let mut http = gateway.http_client();
    http.write(&half_head(64 * 1024 + 2000));
    let answer = http.receive();
    assert_eq!(answer.status(), 431, "{answer:?}");
    assert!(answer.text().contains("64 KiB") && answer.json()["error"]["message"].is_string(), "{}", answer.text());
    assert!(http.try_receive().is_none());
    // one that just fits is served, also on a connection that has served another
    let mut http = gateway.http_client();
    for _ in 0..2 {
        let mut head = half_head(63 * 1024);
        head.extend_from_slice(format!("x-api-key: {}\r\n\r\n", gateway.key).as_bytes());
        assert_eq!(http.send(&head).status(), 200);
    }
    // many small headers
    let many: String = (0..300).map(|number| format!("x-{number}: 1\r\n")).collect();
    let answer = gateway.http_client().send(&request("GET /anthropic/v1/models", &many, ""));
    assert_eq!(answer.status(), 431);
}

#[test]
fn many_requests_on_connections_without_a_valid_key_are_answered_and_hold_no_place() {
    let gateway = gateway();
    for _ in 0..60 {
        let mut http = gateway.http_client();
        assert_eq!(http.send(&messages("lk_wrong", "{}")).status(), 401);
        // then with a key, on the same connection
        assert_eq!(http.send(&messages(&gateway.key, "{}")).status(), 200);
    }
    assert!(!warnings(&gateway).contains("too many connections"), "{}", warnings(&gateway));
}
