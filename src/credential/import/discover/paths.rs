//! The default paths of each tool on each system. Nothing is read.

use std::path::{Path, PathBuf};

use super::super::Tool;

/// A platform, as far as paths differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Platform {
    /// Linux and other Unix.
    Unix,
    /// macOS.
    MacOs,
    /// Windows.
    Windows,
}

impl Platform {
    /// The platform of this program.
    #[must_use]
    pub fn here() -> Self {
        if cfg!(target_os = "macos") {
            Self::MacOs
        } else if cfg!(windows) {
            Self::Windows
        } else {
            Self::Unix
        }
    }
}

/// What the paths depend on.
pub struct HostEnvironment<'a> {
    /// The platform.
    pub system: Platform,
    /// The user's home directory.
    pub home: PathBuf,
    /// Looks up an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

impl std::fmt::Debug for HostEnvironment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostEnvironment")
            .field("system", &self.system)
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

/// A path where a tool stores logins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiscoveryPath {
    /// The tool.
    pub tool: Tool,
    /// The path or keychain item.
    pub kind: DiscoveryPathKind,
}

/// The kinds of places.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiscoveryPathKind {
    /// A file.
    File(PathBuf),
    /// A directory of files that end in `.json`.
    Directory(PathBuf),
    /// The directories of one login each whose names begin so, and those below them.
    Profiles {
        /// Where they are.
        parent: PathBuf,
        /// How their names begin.
        prefix: &'static str,
    },
    /// An item of the macOS keychain, by its service name.
    Keychain(String),
    /// An item of the system's keyring.
    Keyring(KeyringItem),
}

/// An item of the system's keyring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyringItem {
    /// The program that stored it, as it calls itself.
    pub service: &'static str,
    /// The name within the program.
    pub user: &'static str,
}

/// The login of Antigravity CLI, where it does not use its file.
const AGY: KeyringItem = KeyringItem { service: "gemini", user: "antigravity" };

impl HostEnvironment<'_> {
    pub(super) fn set(&self, name: &str) -> Option<PathBuf> {
        let value = (self.variable)(name).filter(|value| !value.is_empty())?;
        // a tilde that the shell did not expand
        let rest = value.strip_prefix("~/").or_else(|| value.strip_prefix("~\\"));
        Some(rest.map_or_else(|| PathBuf::from(&value), |rest| self.home.join(rest)))
    }

    /// The XDG configuration directory, which tools made for Linux use on every platform.
    fn xdg_config(&self) -> PathBuf {
        self.set("XDG_CONFIG_HOME").unwrap_or_else(|| self.home.join(".config"))
    }

    fn claude_directories(&self) -> Vec<PathBuf> {
        unique([
            self.set("CLAUDE_SECURESTORAGE_CONFIG_DIR"),
            self.set("CLAUDE_CONFIG_DIR"),
            Some(self.home.join(".claude")),
        ])
    }
}

/// All default paths.
#[must_use]
pub fn default_paths(of: &HostEnvironment<'_>) -> Vec<DiscoveryPath> {
    let mut places = Vec::new();
    for directory in manager_directories(of) {
        let kind = DiscoveryPathKind::Directory(directory.join("accounts"));
        places.push(DiscoveryPath { tool: Tool::AntigravityManager, kind });
    }
    let mut file = |tool, path: PathBuf| places.push(DiscoveryPath { tool, kind: DiscoveryPathKind::File(path) });
    for directory in opencode_configurations(of) {
        file(Tool::AntigravityAuth, directory.join("antigravity-accounts.json"));
        file(Tool::AntigravityAuth, directory.join("antigravity.json"));
        file(Tool::AnthropicMultiAuth, directory.join("anthropic-accounts.json"));
    }
    for directory in of.claude_directories() {
        file(Tool::ClaudeCode, directory.join(".credentials.json"));
    }
    for directory in claude_settings(of) {
        file(Tool::ClaudeCode, directory.join(".claude.json"));
    }
    for directory in unique([of.set("CODEX_HOME"), Some(of.home.join(".codex"))]) {
        file(Tool::Codex, directory.join("auth.json"));
    }
    for directory in unique([of.set("GEMINI_CLI_HOME"), Some(of.home.clone())]) {
        file(Tool::GeminiCli, directory.join(".gemini").join("oauth_creds.json"));
    }
    // the second one is that of Antigravity's desktop programs, which an early version shared
    for name in ["antigravity-cli/antigravity-oauth-token", "jetski-standalone-oauth-token"] {
        file(Tool::AntigravityCli, of.home.join(".gemini").join(name));
    }
    let data = of.set("XDG_DATA_HOME").unwrap_or_else(|| of.home.join(".local").join("share"));
    let data = data.join("opencode");
    file(Tool::Opencode, of.set("OPENCODE_DB").map_or_else(|| data.join(DATABASE), |path| data.join(path)));
    file(Tool::Opencode, data.join("auth.json"));
    for directory in manager_directories(of) {
        file(Tool::AntigravityManager, directory.join("gui_config.json"));
    }
    places.push(DiscoveryPath {
        tool: Tool::CliProxyApi,
        kind: DiscoveryPathKind::Directory(of.home.join(".cli-proxy-api")),
    });
    places.push(DiscoveryPath { tool: Tool::AntigravityCli, kind: DiscoveryPathKind::Keyring(AGY) });
    for (tool, parent, prefix) in profile_places(of) {
        places.push(DiscoveryPath { tool, kind: DiscoveryPathKind::Profiles { parent, prefix } });
    }
    if of.system == Platform::MacOs {
        for service in keychain_services(of) {
            places.push(DiscoveryPath { tool: Tool::ClaudeCode, kind: DiscoveryPathKind::Keychain(service) });
        }
    }
    places
}

/// Where users, and programs that switch between logins, have a directory for each login of a tool.
pub(super) fn profile_places(of: &HostEnvironment<'_>) -> Vec<(Tool, PathBuf, &'static str)> {
    let mut places = vec![
        (Tool::ClaudeCode, of.home.clone(), ".claude-"),
        (Tool::ClaudeCode, of.home.join(".ccs").join("instances"), ""),
        (Tool::Codex, of.home.clone(), ".codex-"),
    ];
    for directory in unique([Some(of.xdg_config()), Some(of.home.join(".config"))]) {
        places.push((Tool::ClaudeCode, directory.clone(), "claude"));
        places.push((Tool::Codex, directory, "codex"));
    }
    places
}

/// The database of opencode 2; the `auth.json` of earlier versions is beside it.
pub(super) const DATABASE: &str = "opencode.db";

/// The file that the latest changes of a database are in.
pub(super) fn log_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// The keychain item in which Claude Code stores its login on macOS.
pub(super) const KEYCHAIN_LOGIN: &str = "Claude Code-credentials";
/// The keychain item in which it stores an API key that it created: the key only, as text.
pub(super) const KEYCHAIN_KEY: &str = "Claude Code";

/// Each configuration directory has its own item, named by the literal text of the variable.
fn keychain_services(of: &HostEnvironment<'_>) -> Vec<String> {
    let named = |name: &str| (of.variable)(name);
    let directory = named("CLAUDE_SECURESTORAGE_CONFIG_DIR").or_else(|| named("CLAUDE_CONFIG_DIR"));
    let own = directory.filter(|directory| !directory.is_empty()).map(|directory| keychain_service(&directory));
    own.into_iter().chain([KEYCHAIN_LOGIN.to_owned(), KEYCHAIN_KEY.to_owned()]).collect()
}

/// The keychain item of a configuration directory, which is given as the text of the variable that names it.
#[must_use]
pub fn keychain_service(directory: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, directory.as_bytes());
    let start: String = digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{KEYCHAIN_LOGIN}-{start}")
}

fn opencode_configurations(of: &HostEnvironment<'_>) -> Vec<PathBuf> {
    // an older version stored its files here, and moves them when it can
    let roaming = of.set("APPDATA").filter(|_| of.system == Platform::Windows);
    unique([
        of.set("OPENCODE_CONFIG_DIR"),
        Some(of.xdg_config().join("opencode")),
        Some(of.home.join(".config").join("opencode")),
        roaming.map(|directory| directory.join("opencode")),
    ])
}

fn manager_directories(of: &HostEnvironment<'_>) -> Vec<PathBuf> {
    unique([of.set("ABV_DATA_DIR"), Some(of.home.join(".antigravity_tools"))])
}

fn claude_settings(of: &HostEnvironment<'_>) -> Vec<PathBuf> {
    unique([of.set("CLAUDE_CONFIG_DIR"), Some(of.home.clone())])
}

/// The companion files that name the owner of the login in `path`.
#[must_use]
pub fn beside(path: &Path, of: &HostEnvironment<'_>) -> Vec<PathBuf> {
    let directory = path.parent().unwrap_or(Path::new(""));
    match path.file_name().and_then(|name| name.to_str()) {
        // a separate directory contains both files; otherwise the second one is in the home directory
        Some(".credentials.json") => {
            let own = directory.join(".claude.json");
            let is_default = directory == of.home.join(".claude");
            if is_default { vec![own, of.home.join(".claude.json")] } else { vec![own] }
        }
        Some(DATABASE) => vec![log_of(path)],
        Some("oauth_creds.json") => vec![directory.join("google_accounts.json")],
        _ => Vec::new(),
    }
}

fn unique<const N: usize>(paths: [Option<PathBuf>; N]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for path in paths.into_iter().flatten() {
        if !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The default paths with these variables, as in `A=/a B=/b`.
    fn files(system: Platform, variables: &str) -> Vec<String> {
        let variable = |name: &str| {
            let mut set = variables.split(' ').filter_map(|variable| variable.split_once('='));
            set.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
        };
        let of = HostEnvironment { system, home: "/h".into(), variable: &variable };
        let text = |place: DiscoveryPath| match place.kind {
            // with slashes on every platform
            DiscoveryPathKind::File(path) | DiscoveryPathKind::Directory(path) => {
                path.to_string_lossy().replace('\\', "/")
            }
            DiscoveryPathKind::Profiles { parent, prefix } => {
                format!("{}*", parent.join(prefix).to_string_lossy().replace('\\', "/"))
            }
            DiscoveryPathKind::Keychain(service) => service,
            DiscoveryPathKind::Keyring(item) => format!("keyring {}/{}", item.service, item.user),
        };
        default_paths(&of).into_iter().map(text).collect()
    }

    #[test]
    fn each_platform_has_its_paths() {
        let linux = files(Platform::Unix, "");
        let paths = "/h/.config/opencode/antigravity-accounts.json /h/.config/opencode/antigravity.json \
            /h/.config/opencode/anthropic-accounts.json /h/.claude/.credentials.json /h/.claude.json \
            /h/.codex/auth.json /h/.gemini/oauth_creds.json /h/.local/share/opencode/auth.json \
            /h/.gemini/antigravity-cli/antigravity-oauth-token \
            /h/.claude-* /h/.config/claude* /h/.ccs/instances/* /h/.codex-* /h/.config/codex* \
            /h/.local/share/opencode/opencode.db /h/.antigravity_tools/accounts /h/.cli-proxy-api";
        for path in paths.split(' ') {
            assert!(linux.iter().any(|known| known == path), "{path}: {linux:?}");
        }
        let items = |variables: &str| {
            let mut items = files(Platform::MacOs, variables);
            items.retain(|known| known.starts_with("Claude Code"));
            items
        };
        assert_eq!(items(""), ["Claude Code-credentials", "Claude Code"]);
        let own = ["Claude Code-credentials-b6542e25", "Claude Code-credentials", "Claude Code"];
        assert_eq!(items("CLAUDE_CONFIG_DIR=/Users/me/work"), own);
        assert_eq!(items("CLAUDE_CONFIG_DIR=/x CLAUDE_SECURESTORAGE_CONFIG_DIR=/Users/me/work"), own);
        assert_eq!(items("CLAUDE_CONFIG_DIR=/x CLAUDE_SECURESTORAGE_CONFIG_DIR="), own[1..]);
        let windows = files(Platform::Windows, "APPDATA=/r");
        assert!(windows.iter().any(|known| known == "/r/opencode/antigravity-accounts.json"), "{windows:?}");
    }

    #[test]
    fn environment_variables_move_the_paths() {
        let variables = "XDG_CONFIG_HOME=/c XDG_DATA_HOME=/d OPENCODE_CONFIG_DIR=/o CLAUDE_CONFIG_DIR=~/claude \
            CODEX_HOME=/x GEMINI_CLI_HOME=/g ABV_DATA_DIR=/a";
        let moved = files(Platform::Unix, variables);
        let paths = "/o/antigravity-accounts.json /c/opencode/antigravity-accounts.json /h/claude/.credentials.json \
            /h/claude/.claude.json /h/.claude/.credentials.json /x/auth.json /g/.gemini/oauth_creds.json \
            /d/opencode/auth.json /d/opencode/opencode.db /a/accounts";
        for path in paths.split(' ') {
            assert!(moved.iter().any(|known| known == path), "{path}: {moved:?}");
        }
    }

    #[test]
    fn companion_files_of_a_login() {
        let variable = |_: &str| None;
        let of = HostEnvironment { system: Platform::Unix, home: "/h".into(), variable: &variable };
        let seen = |path: &str| beside(Path::new(path), &of);
        assert_eq!(
            seen("/h/.claude/.credentials.json"),
            [PathBuf::from("/h/.claude/.claude.json"), PathBuf::from("/h/.claude.json")]
        );
        assert_eq!(seen("/p/.credentials.json"), [PathBuf::from("/p/.claude.json")]);
        assert_eq!(seen("/h/.gemini/oauth_creds.json"), [PathBuf::from("/h/.gemini/google_accounts.json")]);
        assert_eq!(seen("/d/opencode.db"), [PathBuf::from("/d/opencode.db-wal")]);
        assert!(seen("/h/auth.json").is_empty());
    }
}
