//! A temporary home for the program; its daemon ends with it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use lessor::config::{AppPaths, Environment};
use serde_json::Value;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_lessor");

/// A fresh `LESSOR_HOME`.
pub struct Home(tempfile::TempDir);

/// The result of a command.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With accounts: provider, key and label.
    pub fn with_keys(keys: &[(&str, &str)]) -> Self {
        let home = Self::new();
        for (provider, label) in keys {
            let add = ["account", "add", provider, "--api-key-stdin", "--label", label];
            home.feed(&add, &format!("sk-canary-{label}\n")).ok();
        }
        home
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn places(&self) -> AppPaths {
        // part of a pipe's name
        let user = std::env::var("USERNAME").unwrap_or_default();
        AppPaths::resolve(&Environment { home: Some(self.path().into()), user, ..Environment::default() }).unwrap()
    }

    /// The program with this home, without the caller's settings.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        for name in ["LESSOR_CONFIG", "LESSOR_SOCKET", "LESSOR_NO_START", "LESSOR_LOG", "LESSOR_RUN", "NO_COLOR"] {
            command.env_remove(name);
        }
        command.env("LESSOR_HOME", self.path()).args(args);
        // no connection leaves the machine
        command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "127.0.0.1");
        command
    }

    pub fn run(&self, args: &[&str]) -> Done {
        self.feed(args, "")
    }

    pub fn feed(&self, args: &[&str], input: &str) -> Done {
        feed(self.command(args), input)
    }

    /// The document that a command prints with `--json`.
    pub fn json(&self, args: &[&str]) -> Value {
        let done = self.run(&[args, &["--json"]].concat()).ok();
        serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{args:?}: {error}: {}", done.out))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let stopped = self.run(&["stop"]);
        if !std::thread::panicking() {
            assert_eq!(stopped.code, 0, "{stopped:?}");
        }
    }
}

impl Done {
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    pub fn says(self, part: &str) -> Self {
        assert!(self.out.contains(part), "no {part:?} in {self:?}");
        self
    }

    pub fn complains(self, part: &str) -> Self {
        assert!(self.err.contains(part), "no {part:?} in {self:?}");
        self
    }
}

pub fn feed(mut command: Command, input: &str) -> Done {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // the command may have closed its input without reading it
    let _closed = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: exit_code(status), out: text(stdout), err: text(stderr) }
}

/// The exit code as in a shell: after a signal, 128 plus its number.
fn exit_code(status: std::process::ExitStatus) -> i32 {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        if let Some(signal) = status.signal() {
            return 128 + signal;
        }
    }
    status.code().unwrap_or(-1)
}

/// Waits until a condition is true.
#[cfg(unix)]
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
