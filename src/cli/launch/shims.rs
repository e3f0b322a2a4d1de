//! Scripts with the names of agents that start the agents with `lessor run`: for what a run's command starts, for daily
//! use (`lessor alias`), and for the processes that Claude Code starts.
//!
//! A script has the path of lessor in it. If lessor is not there, or does not work, it starts the agent itself.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::agent::check_able;
use super::directory::create_private_directory;
use super::outer_run::OuterRun;
use super::{programs, settings};
use crate::config::AppPaths;

/// The agents that get a script.
const AGENTS: [&str; 5] = ["claude", "codex", "gemini", "agy", "opencode"];
/// How the second line of each script begins.
const MARK: &str = "Made by lessor";
/// The variable that names the launcher of Claude Code's processes.
pub(crate) const PROCESS_WRAPPER: &str = "CLAUDE_CODE_PROCESS_WRAPPER";

/// The agents that can be started by a script.
pub(crate) fn agents() -> impl Iterator<Item = &'static str> {
    AGENTS.into_iter().filter(|agent| check_able(agent).is_ok())
}

/// Also those that cannot be started by a script, or no longer.
pub(crate) fn all_agents() -> impl Iterator<Item = &'static str> {
    AGENTS.into_iter()
}

/// A script for an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shim {
    pub(crate) agent: String,
    /// The providers, for an agent that works with any.
    pub(crate) providers: Vec<String>,
    /// The file of lessor that it starts.
    pub(crate) lessor: PathBuf,
}

impl Shim {
    /// For an agent, with this lessor.
    pub(crate) fn new(agent: &str, providers: &[String]) -> io::Result<Self> {
        Ok(Self { agent: agent.to_owned(), providers: providers.to_vec(), lessor: std::env::current_exe()? })
    }

    /// The file's name.
    pub(crate) fn file_name(agent: &str) -> String {
        if cfg!(windows) { format!("{agent}.cmd") } else { agent.to_owned() }
    }

    pub(crate) fn text(&self) -> String {
        let Self { agent, providers, lessor } = self;
        let provider = match providers.is_empty() {
            true => String::new(),
            false => format!(" --provider {}", providers.join(",")),
        };
        if cfg!(windows) {
            return for_windows(agent, &provider, &lessor.to_string_lossy());
        }
        let lessor = quoted(&lessor.to_string_lossy());
        format!(
            r##"#!/bin/sh
# {MARK}: starts {agent} with `lessor run`. To remove it: lessor alias uninstall {agent}
lessor={lessor}
if "$lessor" --version >/dev/null 2>&1; then
    exec "$lessor" shim {agent}{provider} -- "$@"
fi
echo "lessor: $lessor does not work; {agent} runs without it" >&2
set -f
IFS=:
for directory in $PATH; do
    program=${{directory:-.}}/{agent}
    [ -f "$program" ] && [ -x "$program" ] || continue
    # not this script, nor another one like it
    second=
    {{ read -r second; read -r second; }} <"$program" 2>/dev/null
    case $second in "# {MARK}"*) continue ;; esac
    unset IFS
    exec "$program" "$@"
done
echo "{agent}: not found" >&2
exit 127
"##
        )
    }

    /// Reads a script that lessor has made; `None` for any other file.
    pub(crate) fn read(file: &Path) -> Option<Self> {
        let text = programs::beginning(file)?;
        let mut lines = text.lines();
        let (_, mark, place) = (lines.next()?, lines.next()?, lines.next()?);
        let (start, mark) = mark.split_once(MARK)?;
        if !matches!(start, "# " | "rem ") {
            return None;
        }
        let agent = mark.strip_prefix(": starts ")?.split_whitespace().next()?;
        let lessor = match place.strip_prefix("set lessor=") {
            Some(place) => place.to_owned(),
            None => shlex::split(place.strip_prefix("lessor=")?)?.pop()?,
        };
        let given = text.split(" --provider ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let providers = given.map(|given| given.split(',').map(str::to_owned).collect()).unwrap_or_default();
        Some(Self { agent: agent.to_owned(), providers, lessor: lessor.into() })
    }
}

/// `cmd` has no `exec`: it waits, and ends with the exit code of the last command.
fn for_windows(agent: &str, provider: &str, lessor: &str) -> String {
    let lines = [
        "@echo off".to_owned(),
        format!("rem {MARK}: starts {agent} with lessor run. To remove it: lessor alias uninstall {agent}"),
        format!("set lessor={}", lessor.replace('%', "%%")),
        "\"%lessor%\" --version >nul 2>&1 && goto lessor".to_owned(),
        format!("echo lessor: %lessor% does not work; {agent} runs without it 1>&2"),
        format!("for /f \"delims=\" %%p in ('where {agent} 2^>nul') do ("),
        format!("    findstr /c:\"{MARK}\" \"%%p\" >nul 2>&1 || ("),
        "        call \"%%p\" %*".to_owned(),
        "        exit /b".to_owned(),
        "    )".to_owned(),
        ")".to_owned(),
        format!("echo {agent}: not found 1>&2"),
        "exit /b 127".to_owned(),
        ":lessor".to_owned(),
        format!("\"%lessor%\" shim {agent}{provider} -- %*"),
    ];
    lines.join("\r\n") + "\r\n"
}

/// Where the scripts for the commands of runs are.
pub(crate) fn directory_of(places: &AppPaths) -> PathBuf {
    places.state.join("shims")
}

/// The directory with a script for each agent, for the commands of runs. It lasts: what such a command leaves running
/// in the background finds the scripts after its end, too.
pub(super) fn directory(places: &AppPaths) -> io::Result<PathBuf> {
    let directory = directory_of(places);
    for agent in agents() {
        let text = Shim::new(agent, &[])?.text();
        keep(&directory.join(Shim::file_name(agent)), &text)?;
    }
    Ok(directory)
}

/// The launcher of Claude Code's processes. Claude Code calls it with its own command as arguments.
pub(crate) fn process_wrapper(places: &AppPaths) -> io::Result<PathBuf> {
    let file = places.state.join("launcher").join("claude-process");
    let lessor = std::env::current_exe()?;
    let lessor = quoted(&lessor.to_string_lossy());
    let text = format!(
        "#!/bin/sh\n# {MARK}: starts processes of Claude Code with `lessor run`\nlessor={lessor}\n\
         if \"$lessor\" --version >/dev/null 2>&1; then\n    exec \"$lessor\" shim claude --process -- \"$@\"\nfi\n\
         echo \"lessor: $lessor does not work; claude runs without it\" >&2\nexec \"$@\"\n"
    );
    keep(&file, &text)?;
    Ok(file)
}

/// The launcher of Claude Code's processes that the user has set, with its arguments; lessor's own is none.
pub(crate) fn users_process_wrapper(outer: Option<&OuterRun>) -> Vec<String> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = directories::BaseDirs::new().map(|base| base.home_dir().to_owned());
    let (in_env, as_setting) = settings::process_wrapper(PROCESS_WRAPPER, &variable, home.as_deref());
    let in_environment = std::env::var(PROCESS_WRAPPER).ok().filter(|value| !value.is_empty());
    let words = [in_env, in_environment, as_setting].into_iter().flatten().map(|value| wrapper_words(&value));
    let words = words.into_iter().find(|words| !words.is_empty()).unwrap_or_default();
    match words.first().is_some_and(|launcher| is_own_wrapper(Path::new(launcher))) {
        true => outer.map(|outer| outer.process_wrapper.clone()).unwrap_or_default(),
        false => words,
    }
}

/// Whether a file is a launcher that lessor has made.
fn is_own_wrapper(file: &Path) -> bool {
    let text = programs::beginning(file).unwrap_or_default();
    text.lines().nth(1).is_some_and(|line| line.starts_with(&format!("# {MARK}")))
}

/// A word for a shell.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Writes a script, unless the file has this text already.
fn keep(file: &Path, text: &str) -> io::Result<()> {
    if std::fs::read(file).is_ok_and(|found| found == text.as_bytes()) && programs::is_program(file) {
        return Ok(());
    }
    if let Some(directory) = file.parent() {
        create_private_directory(directory)?;
    }
    write(file, text)
}

/// Writes a script in one step: another process may be starting it.
pub(crate) fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut written = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new(".")))?;
    written.write_all(text.as_bytes())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        written.as_file().set_permissions(std::fs::Permissions::from_mode(0o755))?;
    }
    written.persist(file)?;
    Ok(())
}

/// Writes another file in one step.
pub(crate) fn write_text(file: &Path, text: &str) -> io::Result<()> {
    let mut written = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new(".")))?;
    written.write_all(text.as_bytes())?;
    written.persist(file)?;
    Ok(())
}

/// The `PATH` with this directory in front.
pub(super) fn path_with(directory: &Path) -> Option<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others = std::env::split_paths(&path).filter(|other| other != directory);
    std::env::join_paths([directory.to_owned()].into_iter().chain(others)).ok()
}

/// The words of a launcher that the user has set for Claude Code's processes: a JSON array, or words in double quotes
/// where they contain blanks.
fn wrapper_words(value: &str) -> Vec<String> {
    let value = value.trim();
    if value.starts_with('[') {
        return serde_json::from_str(value).unwrap_or_default();
    }
    let (mut words, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    let mut letters = value.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            '\\' if is_quoted && matches!(letters.peek(), Some('"' | '\\')) => {
                word.get_or_insert_default().extend(letters.next());
            }
            letter if letter.is_whitespace() && !is_quoted => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// The value of the variable for a launcher.
pub(crate) fn wrapper_value(launcher: &Path) -> String {
    let launcher = launcher.to_string_lossy();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    match launcher.chars().all(is_plain) {
        true => launcher.into_owned(),
        false => serde_json::Value::from(vec![launcher]).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_back_and_no_other_file_is() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x");
        for providers in [vec![], vec!["anthropic".to_owned(), "openai".to_owned()]] {
            let shim = Shim { agent: "opencode".into(), providers, lessor: "/a path/it's/lessor".into() };
            write(&file, &shim.text()).unwrap();
            assert_eq!(Shim::read(&file), Some(shim));
        }
        for other in ["", "#!/bin/sh\nexec lessor run claude\n", "#!/bin/sh\n# Made by lessor\nlessor=/x\n"] {
            std::fs::write(&file, other).unwrap();
            assert_eq!(Shim::read(&file), None, "{other}");
        }
    }

    #[test]
    fn a_script_for_windows_names_its_lessor() {
        let text = for_windows("codex", "", r"C:\100%\lessor.exe");
        assert!(text.contains("set lessor=C:\\100%%\\lessor.exe\r\n"), "{text}");
        assert!(text.ends_with("\"%lessor%\" shim codex -- %*\r\n"), "{text}");
    }

    #[test]
    fn the_users_launcher_is_split_as_claude_code_splits_it() {
        for (value, expected) in [
            ("/usr/bin/launch", &["/usr/bin/launch"][..]),
            (r#" "/opt/my tools/l" --x  "a \"b\" \\" "#, &["/opt/my tools/l", "--x", r#"a "b" \"#]),
            (r#"["/opt/my tools/l", "y"]"#, &["/opt/my tools/l", "y"]),
            ("", &[]),
            ("[", &[]),
        ] {
            assert_eq!(wrapper_words(value), expected, "{value}");
        }
        for path in ["/a/b-c/claude-process", "/a b/claude", "/a\"b/claude"] {
            assert_eq!(wrapper_words(&wrapper_value(Path::new(path))), [path]);
        }
    }
}
