//! A home of lessor, and a home of the user with files of other tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::super::support::{Done, Home, PROGRAM, feed};

/// No provider is asked for usage.
pub const NO_POLL: &str = "[quota]\npoll = \"off\"\n";
/// 2100; a day after that.
pub const FAR: u64 = 4_102_444_800_000;
pub const FARTHER: u64 = FAR + 86_400_000;

/// A home of lessor, and a home of the user with files of other tools.
pub struct Machine {
    pub lessor: Home,
    pub user: tempfile::TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let lessor = Home::new();
        // accounts show what was imported, and nothing from a provider
        std::fs::write(lessor.path().join("config.toml"), NO_POLL).unwrap();
        Self { lessor, user: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.user.path().join(path)
    }

    pub fn write(&self, path: &str, content: &Value) -> PathBuf {
        self.write_text(path, &content.to_string())
    }

    pub fn write_text(&self, path: &str, content: &str) -> PathBuf {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        close(&path);
        path
    }

    /// Without the caller's environment, which may contain keys or paths.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .env_clear()
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .env("HOME", self.user.path())
            .env("LESSOR_HOME", self.lessor.path());
        command.args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Done {
        feed(self.command(args), "")
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let done = self.run(&[args, &["--json"]].concat()).ok();
        serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{args:?}: {error}: {}", done.out))
    }

    /// Outcomes of an import, with the names of the accounts.
    pub fn import(&self, args: &[&str]) -> Vec<(String, String)> {
        let report = self.json(&[&["import"], args].concat());
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let rows = report["entries"].as_array().unwrap();
        rows.iter().map(|row| (text(&row["outcome"]), text(&row["email"]))).collect()
    }

    pub fn accounts(&self) -> Vec<Value> {
        let mut accounts = self.json(&["account", "list"]).as_array().unwrap().clone();
        // no provider can be asked here; when that is noticed depends on chance
        accounts.iter_mut().for_each(|account| drop(account.as_object_mut().unwrap().remove("usage_trouble")));
        accounts
    }

    pub fn account(&self, name: &str) -> Value {
        let mut account = self.json(&["account", "show", name]);
        account.as_object_mut().unwrap().remove("usage_trouble");
        account
    }
}

pub fn close(path: &Path) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// A longer wait than a month is not accepted.
pub fn tomorrow() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap() + 86_400_000
}

pub fn claude(refresh: &str, ends: u64) -> Value {
    json!({ "claudeAiOauth": { "accessToken": format!("sk-ant-oat01-FAKE-{refresh}"), "refreshToken": format!("sk-ant-ort01-FAKE-{refresh}"),
        "expiresAt": ends, "scopes": ["user:inference"], "subscriptionType": "max", "rateLimitTier": "default_claude_max_5x" },
        "mcpOAuth": { "keep": "me" } })
}

/// A token with these claims.
pub fn token(claims: &Value) -> String {
    pub const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::from("FAKE.");
    for chunk in claims.to_string().as_bytes().chunks(3) {
        let group = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(LETTERS[(group >> (18 - 6 * place) & 63) as usize] as char);
        }
    }
    text + ".FAKE"
}
