//! Starts processes that outlive their parent, on Windows: a child gets every inheritable handle, even unnamed ones: a
//! shell's pipe would stay open while the daemon runs. So the launcher is started without handles, and starts the daemon.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::windows::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use winsafe::{CreateProcess, STARTUPINFO, co};

use crate::client::start::{DaemonStarter, open_log};
use crate::config::AppPaths;

/// `DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP`: no console, and not ended by its Ctrl-C.
const AWAY: u32 = 0x0000_0008 | 0x0000_0200;

/// Runs the launcher to its end; it opens the log itself.
#[expect(clippy::needless_pass_by_value, reason = "as on Unix")]
pub(super) fn launcher(command: Command, _log: File) -> io::Result<ExitStatus> {
    let program = find_program(command.get_program()).ok_or(io::ErrorKind::NotFound)?;
    let words = [program.as_os_str()].into_iter().chain(command.get_args());
    let line = words.map(|word| word.to_str().map(quoted)).collect::<Option<Vec<_>>>();
    let line = line.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path is not Unicode"))?.join(" ");
    let mut startup = STARTUPINFO::default();
    // with a console it would still get our standard handles; it resolves relative paths of the environment
    // in our current directory
    let started = CreateProcess(
        program.to_str(),
        Some(&line),
        None,
        None,
        false,
        co::CREATE::DETACHED_PROCESS,
        &[],
        None,
        &mut startup,
    )
    .map_err(io::Error::other)?;
    started.hProcess.WaitForSingleObject(None).map_err(io::Error::other)?;
    let code = started.hProcess.GetExitCodeProcess().map_err(io::Error::other)?;
    Ok(ExitStatus::from_raw(code))
}

/// Starts the daemon itself; its standard error is the log.
pub(super) fn daemon(starter: &DaemonStarter, paths: &AppPaths) -> io::Result<Child> {
    let log = open_log(&paths.state, &paths.log)?;
    starter.command(&["daemon".as_ref(), "--detached".as_ref()]).stderr(log).creation_flags(AWAY).spawn()
}

/// Writes a message of the launcher to the daemon's log, and to standard error.
pub(super) fn say(paths: &AppPaths, text: &str) {
    eprintln!("lessor: {text}");
    let log = open_log(&paths.state, &paths.log);
    let _no_log = log.and_then(|mut log| writeln!(log, "lessor: {text}"));
}

/// The program's file: at the given path, or in a directory of `PATH`, with an extension from `PATHEXT` if it has
/// none. The current directory is not searched.
pub(crate) fn find_program(name: &OsStr) -> Option<PathBuf> {
    let path = Path::new(name);
    let endings: Vec<String> = match path.extension() {
        Some(_) => vec![String::new()],
        None => {
            let endings = std::env::var("PATHEXT").unwrap_or_else(|_| ".COM;.EXE;.BAT;.CMD".to_owned());
            endings.split(';').filter(|ending| ending.starts_with('.')).map(str::to_lowercase).collect()
        }
    };
    let with_endings = |path: PathBuf| {
        let mut files = endings.iter().map(|ending| {
            let mut file = OsString::from(&path);
            file.push(ending);
            PathBuf::from(file)
        });
        files.find(|file| file.is_file())
    };
    if path.parent().is_some_and(|parent| !parent.as_os_str().is_empty()) {
        return with_endings(path.to_owned());
    }
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories)
        .filter(|place| place.is_absolute())
        .find_map(|place| with_endings(place.join(path)))
}

/// Quotes a word so that programs parse it back from the command line: it is enclosed in quotes, a quote is escaped,
/// and so are the backslashes before a quote.
fn quoted(word: &str) -> String {
    let mut text = String::from("\"");
    let mut backslashes = 0;
    for letter in word.chars() {
        match letter {
            '\\' => backslashes += 1,
            '"' => {
                text.extend(std::iter::repeat_n('\\', backslashes + 1));
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        text.push(letter);
    }
    text.extend(std::iter::repeat_n('\\', backslashes));
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_parse_back() {
        for (word, expected) in [
            ("", r#""""#),
            ("a b", r#""a b""#),
            (r"C:\x y\", r#""C:\x y\\""#),
            (r#"say "hi""#, r#""say \"hi\"""#),
            (r#"a\"b"#, r#""a\\\"b""#),
        ] {
            assert_eq!(quoted(word), expected, "{word}");
        }
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("agent.cmd"), "").unwrap();
        let by_stem = place.path().join("agent");
        assert_eq!(find_program(by_stem.as_os_str()), Some(place.path().join("agent.cmd")));
        assert!(find_program(OsStr::new("no-such-program-anywhere")).is_none());
        assert!(find_program(OsStr::new("cmd")).is_some());
    }
}
