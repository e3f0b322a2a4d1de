//! The proxies between client and upstream: none, nginx, hyper alone, lessor.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lessor::measure::gateway::Endpoint;
use serde_json::{Value, json};

/// The first argument of the process that [`Proxy::bare`] starts; its port and that of the upstream follow.
pub const BARE: &str = "--bare-proxy";

/// A running proxy.
pub struct Proxy {
    pub name: &'static str,
    pub endpoint: Endpoint,
    pids: Vec<u32>,
    child: Option<Child>,
    home: Option<tempfile::TempDir>,
}

impl Proxy {
    /// No proxy: the upstream alone.
    pub fn none(port: u16) -> Self {
        Self { name: "none", endpoint: direct(port), pids: Vec::new(), child: None, home: None }
    }

    /// nginx with one worker; `None` if it is not installed.
    pub fn nginx(upstream: u16) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let port = free_port();
        let at = home.path().display();
        let config = format!(
            "worker_processes 1; daemon off; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;\n\
             fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
             keepalive_requests 1000000000; client_max_body_size 64m;\n\
             upstream up {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://up; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_set_header x-api-key k; proxy_buffering off; }} }} }}\n"
        );
        let path = home.path().join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().ok()?;
        let mut proxy = Self {
            name: "nginx",
            endpoint: direct(port),
            pids: vec![child.id()],
            child: Some(child),
            home: Some(home),
        };
        wait(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        proxy.pids.extend(children(proxy.pids[0]));
        Some(proxy)
    }

    /// A process of this program that passes requests on by hyper alone.
    pub fn bare(upstream: u16) -> Self {
        let port = free_port();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let child = command.args([BARE, &port.to_string(), &upstream.to_string()]).spawn().unwrap();
        wait(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { name: "hyper", endpoint: direct(port), pids: vec![child.id()], child: Some(child), home: None }
    }

    /// lessor's daemon with ten accounts, with or without a history.
    pub fn lessor(upstream: u16, has_history: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        let history = if has_history { "" } else { "[history]\nmax_size = \"0\"\n" };
        let config = format!("{history}[providers.anthropic]\nbase_url = \"http://127.0.0.1:{upstream}\"\n");
        std::fs::write(home.path().join("config.toml"), config).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_lessor"))
            .arg("daemon")
            .env("LESSOR_HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let socket = home.path().join("run/lessor.sock");
        wait(|| std::os::unix::net::UnixStream::connect(&socket).is_ok());
        for number in 0..10 {
            let account = json!({ "provider": "anthropic", "kind": "api_key", "secret": format!("k{number}") });
            call(&socket, "account.add", &account);
        }
        let access = call(&socket, "gateway.key", &json!({}));
        let port = access["url"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        let key = access["key"].as_str().unwrap().to_owned();
        Self {
            name: if has_history { "lessor" } else { "no history" },
            endpoint: Endpoint { port, prefix: "/anthropic", key },
            pids: vec![child.id()],
            child: Some(child),
            home: Some(home),
        }
    }

    /// The CPU time it has used so far.
    pub fn cpu(&self) -> Duration {
        let ticks: u64 = self.pids.iter().map(|pid| ticks(*pid)).sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Resident memory, in MiB.
    pub fn resident(&self) -> f64 {
        let of = |pid: &u32| {
            let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
            statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0)
        };
        self.pids.iter().map(of).sum::<u64>() as f64 * 4096.0 / 1048576.0
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // nginx ends its worker when it ends
            let pid = rustix::process::Pid::from_child(&child);
            let _already_dead = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _already_dead = child.wait();
        }
        drop(self.home.take());
    }
}

fn direct(port: u16) -> Endpoint {
    Endpoint { port, prefix: "", key: "k".into() }
}

fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn wait(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "the proxy does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn call(socket: &Path, method: &str, params: &Value) -> Value {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let line = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let response: Value = serde_json::from_str(&line).unwrap();
    assert!(response["error"].is_null(), "{response}");
    response["result"].clone()
}
