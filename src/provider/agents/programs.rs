//! Which programs are which agent: by the path where an executable is installed and, for interpreters, by that of the
//! script that they run. All paths are resolved: links have been followed.

use super::interpreters::{is_interpreter, parts_of_path};

/// A program as the system shows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Program {
    /// The executable.
    pub executable: String,
    /// The script that it runs; `None` if it is no interpreter, or runs none.
    pub script: Option<String>,
}

/// How an agent is recognised.
struct AgentPrograms {
    agent: &'static str,
    /// The file names of its executables and of the links that start it.
    names: &'static [&'static str],
    /// Its packages of npm, in whose directories its scripts and executables are. Packages for one platform have such a
    /// name with an ending.
    packages: &'static [&'static str],
    /// Directories of other installers: parts of a path, `*` stands for the rest of one part.
    directories: &'static [&'static str],
}

/// The agents that are built in; the configuration can add programs to them, and other agents.
const TABLE: &[AgentPrograms] = &[
    AgentPrograms {
        agent: "claude",
        names: &["claude", "claude-code"],
        packages: &["@anthropic-ai/claude-code"],
        directories: &[
            // the native installer: the executable is named after its version
            ".local/share/claude/versions/*",
            "appdata/local/claude/versions/*",
            // the extension for editors, and the desktop application
            "anthropic.claude-code-*/resources/native-binary/claude",
            "claude/claude-code/*/claude",
            "caskroom/claude-code*/*/claude",
            "winget/packages/anthropic.claudecode*/claude",
        ],
    },
    AgentPrograms {
        agent: "codex",
        names: &["codex", "codex-cli", "codex-exec", "codex-app-server"],
        packages: &["@openai/codex"],
        directories: &[
            "openai.chatgpt-*/bin/*/codex",
            "codex.app/contents/resources/codex",
            "caskroom/codex*/*/codex*",
            "winget/packages/openai.codex*/codex*",
        ],
    },
    AgentPrograms { agent: "gemini", names: &["gemini"], packages: &["@google/gemini-cli"], directories: &[] },
    AgentPrograms {
        agent: "opencode",
        names: &["opencode"],
        packages: &["opencode-ai", "opencode"],
        directories: &[".opencode/bin/opencode", "winget/packages/sst.opencode*/opencode"],
    },
    AgentPrograms {
        agent: "agy",
        names: &["agy"],
        packages: &[],
        directories: &["caskroom/antigravity-cli*/*/agy", "appdata/local/agy/bin/agy"],
    },
    AgentPrograms {
        agent: "antigravity",
        names: &["antigravity", "agy"],
        packages: &[],
        directories: &[
            "antigravity.app/contents/macos/*",
            "antigravity.app/contents/resources/app/extensions/antigravity/bin/language_server*",
            "antigravity/resources/app/extensions/antigravity/bin/language_server*",
            "programs/antigravity/antigravity",
        ],
    },
];

/// Directories for installed programs, whole ones and ends of them: an executable with an agent's name in one of them is
/// the agent.
const PROGRAM_DIRECTORIES: &[&str] = &[
    "/bin",
    "/usr/bin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/opt/*/bin",
    "/opt/*",
    "/usr/lib/*",
    "/usr/share/*",
    "/usr/share/*/bin",
    "/nix/store/*/bin",
    "/snap/*/*/bin",
    ".local/bin",
    ".cargo/bin",
    "cellar/*/*/bin",
    "cellar/*/*/libexec/bin",
    "scoop/apps/*/*",
    "chocolatey/lib/*/tools",
];

impl Program {
    /// The program in words: `/usr/bin/python3 running /home/u/x.py`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let executable = printable(&self.executable);
        match &self.script {
            Some(script) => format!("{executable} running {}", printable(script)),
            None => executable,
        }
    }

    /// Whether it is a command of lessor.
    #[must_use]
    pub fn is_lessor(&self) -> bool {
        parts_of_path(&self.executable).last().is_some_and(|name| name == "lessor")
    }

    /// Whether it is this agent; `more` are the paths of further programs of the agent, from the configuration.
    #[must_use]
    pub fn is_agent(&self, agent: &str, more: &[String]) -> bool {
        let interprets = is_interpreter(&self.executable);
        let path = match &self.script {
            Some(script) if interprets => script,
            // what it runs is not known
            None if interprets => return false,
            _ => &self.executable,
        };
        let path = parts_of_path(path);
        let row = TABLE.iter().find(|row| row.agent == agent);
        more.iter().any(|known| parts_of_path(known) == path) || row.is_some_and(|row| row.is_at(&path, interprets))
    }
}

/// The agents that are known without the configuration.
pub fn known_agents() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.agent)
}

impl AgentPrograms {
    fn is_at(&self, path: &[String], is_script: bool) -> bool {
        let Some((file, directory)) = path.split_last() else { return false };
        let in_package = self.packages.iter().any(|package| is_in_package(directory, package, is_script));
        // any script of the package, but not the other executables that it may bring along
        if in_package && (is_script || self.is_named(file)) {
            return true;
        }
        let ends_like = |pattern: &&str| ends_with(path, &parts_of_path(pattern));
        !is_script && self.directories.iter().any(ends_like) || self.is_named(file) && is_for_programs(directory)
    }

    /// Whether a file is named like the agent; wrappers of Nix add to the name, and release archives name the platform.
    fn is_named(&self, file: &str) -> bool {
        let name = file.trim_start_matches('.');
        let name = name.strip_suffix("-wrapped").or_else(|| name.strip_suffix("-unwrapped")).unwrap_or(name);
        let is_of_platform = |rest: &str| {
            let platforms = ["-x86_64", "-aarch64", "-x64", "-arm64", "-linux", "-darwin", "-macos", "-windows"];
            rest.is_empty() || platforms.iter().any(|platform| rest.starts_with(platform))
        };
        self.names.iter().any(|known| name.strip_prefix(known).is_some_and(is_of_platform))
    }
}

/// Whether a directory is the one of an npm package, or below it.
fn is_in_package(directory: &[String], package: &str, is_script: bool) -> bool {
    let package = parts_of_path(package);
    let Some((name, scope)) = package.split_last() else { return false };
    let is_name = |part: &str| {
        let rest = part.strip_prefix(name.as_str());
        // packages for one platform contain executables only
        rest.is_some_and(|rest| rest.is_empty() || !is_script && rest.starts_with('-'))
    };
    directory.windows(package.len() + 1).any(|parts| {
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
        first == "node_modules" && parts[1..parts.len() - 1] == *scope && is_name(last)
    })
}

/// Whether programs are installed in this directory.
fn is_for_programs(directory: &[String]) -> bool {
    PROGRAM_DIRECTORIES.iter().any(|pattern| {
        let (is_whole, pattern) = (pattern.starts_with('/'), parts_of_path(pattern));
        (!is_whole || pattern.len() == directory.len()) && ends_with(directory, &pattern)
    })
}

/// Whether a path ends with these parts, of which each may have a `*`.
fn ends_with(path: &[String], pattern: &[String]) -> bool {
    let Some(from) = path.len().checked_sub(pattern.len()) else { return false };
    let fits = |(part, pattern): (&String, &String)| match pattern.split_once('*') {
        Some((before, _)) => part.starts_with(before),
        None => part == pattern,
    };
    path[from..].iter().zip(pattern).all(fits)
}

/// A path for messages: on one line, and not too long.
fn printable(path: &str) -> String {
    const LONGEST: usize = 300;
    let line = path.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let shown: String = line.take(LONGEST).collect();
    if shown.chars().count() < path.chars().count() { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(text: &str) -> Program {
        let (executable, script) = text.split_once(" runs ").map_or((text, None), |(one, two)| (one, Some(two)));
        Program { executable: executable.to_owned(), script: script.map(str::to_owned) }
    }

    #[test]
    fn agents_are_recognised_where_they_are_installed() {
        for (agent, path) in [
            ("claude", "/home/u/.local/share/claude/versions/2.1.329"),
            ("claude", "/usr/lib/node_modules/@anthropic-ai/claude-code/bin/claude.exe"),
            ("claude", "/x/node_modules/@anthropic-ai/claude-code-linux-x64/claude"),
            ("claude", "/usr/bin/node runs /usr/lib/node_modules/@anthropic-ai/claude-code/cli.js"),
            ("claude", "/usr/bin/node22 runs /h/.claude/local/node_modules/@anthropic-ai/claude-code/cli-wrapper.cjs"),
            ("claude", "/opt/homebrew/Caskroom/claude-code/2.1.0/claude"),
            ("claude", "/home/u/.local/bin/claude"),
            ("claude", "/nix/store/0abc-claude-code-2.1.0/bin/.claude-wrapped"),
            ("claude", r"C:\Users\U\.local\bin\claude.exe"),
            ("claude", r"\\?\C:\Users\U\AppData\Roaming\npm\node_modules\@anthropic-ai\claude-code\bin\claude.exe"),
            ("claude", "/h/.vscode/extensions/anthropic.claude-code-2.1.0-linux-x64/resources/native-binary/claude"),
            ("codex", "/usr/bin/node runs /x/node_modules/@openai/codex/bin/codex.js"),
            ("codex", "/x/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"),
            ("codex", "/x/node_modules/@openai/codex/vendor/aarch64-apple-darwin/codex/codex"),
            ("codex", "/usr/local/bin/codex-x86_64-unknown-linux-musl"),
            ("codex", "/opt/homebrew/Cellar/codex/0.169.0/bin/codex"),
            ("gemini", "/usr/bin/node runs /x/node_modules/@google/gemini-cli/bundle/gemini.js"),
            ("gemini", "/usr/bin/bun runs /x/node_modules/@google/gemini-cli/dist/index.js"),
            ("opencode", "/x/node_modules/opencode-ai/bin/opencode.exe"),
            ("opencode", "/x/node_modules/opencode-linux-x64/bin/opencode"),
            ("opencode", "/home/u/.opencode/bin/opencode"),
            ("agy", "/usr/bin/agy"),
            ("agy", "/home/u/.local/bin/agy"),
        ] {
            assert!(program(path).is_agent(agent, &[]), "{agent}: {path}");
            // the command of Antigravity is both
            for other in TABLE.iter().filter(|row| row.agent != agent && agent != "agy") {
                assert!(!program(path).is_agent(other.agent, &[]), "not {}: {path}", other.agent);
            }
        }
    }

    #[test]
    fn other_programs_are_not_the_agent() {
        for path in [
            "/usr/bin/python3 runs /home/u/x.py",
            "/usr/bin/python3 runs /home/u/claude",
            "/usr/bin/node",
            "/usr/bin/node runs /home/u/claude-code/cli.js",
            "/usr/bin/node runs /x/node_modules/@anthropic-ai/claude-code-linux-x64/cli.js",
            "/usr/bin/node runs /x/node_modules/@anthropic-ai/sdk/index.js",
            "/usr/bin/node runs /x/node_modules/evil/@anthropic-ai/claude-code/cli.js",
            "/usr/bin/node runs /x/@anthropic-ai/claude-code/cli.js",
            "/x/node_modules/@anthropic-ai/claude-code/vendor/ripgrep/rg",
            "/x/node_modules/@anthropic-ai/claude-code/bin/node",
            "/tmp/claude",
            "/tmp/bin/claude",
            "/usr/bin/claudette",
            "/usr/bin/curl",
            "",
        ] {
            assert!(!program(path).is_agent("claude", &[]), "{path}");
        }
        assert!(!program("/usr/bin/aider").is_agent("aider", &[]), "nothing is known of it");
    }

    #[test]
    fn the_configuration_adds_programs() {
        let more = ["/opt/my/agent.py".to_owned(), "/srv/tools/agent".to_owned()];
        for (path, expected) in [
            ("/usr/bin/python3.12 runs /opt/my/agent.py", true),
            ("/srv/tools/agent", true),
            ("/srv/tools/agent2", false),
            ("/opt/my/agent.py", true),
            ("/usr/bin/python3 runs /srv/other.py", false),
        ] {
            assert_eq!(program(path).is_agent("mine", &more), expected, "{path}");
        }
        assert!(program("/srv/tools/agent").is_agent("claude", &more));
    }

    #[test]
    fn a_program_is_named_on_one_line() {
        assert_eq!(program("/usr/bin/python3 runs /h/x\n.py").in_words(), "/usr/bin/python3 running /h/x\u{fffd}.py");
        assert!(program(&"x".repeat(5_000)).in_words().chars().count() < 310);
    }
}
