//! The process at the other end of a connection and those above it: which programs they run. Nothing here is quick
//! enough for the state lock; a process is read between two looks at its start time, so that a pid that was reused
//! meanwhile is not taken for it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{blocking, process};
use crate::pool::Process;
use crate::provider::{Program, is_interpreter, script_argument};

#[cfg_attr(target_os = "linux", path = "peer_process/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "peer_process/sysinfo.rs")]
mod system;
#[cfg(any(target_os = "macos", windows, test))]
mod tables;

/// More processes above the first one are not looked at.
const MOST_ANCESTORS: usize = 32;

/// A process and its program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RunningProgram {
    pub(crate) process: Process,
    /// Its program; `None` if the system does not tell.
    pub(crate) program: Option<Program>,
}

/// A process and those above it, the nearest first; or why it is not known.
pub(crate) type Ancestry = Result<Vec<RunningProgram>, Arc<str>>;

/// What the system says of a process.
struct ProcessFacts {
    parent: u32,
    executable: Option<PathBuf>,
    arguments: Vec<String>,
    /// The working directory.
    directory: Option<PathBuf>,
}

/// The process with this pid and those above it, up to the first that is not the user's.
pub(crate) fn ancestry(pid: u32) -> Ancestry {
    ancestry_until(pid, |_| false)
}

/// The same, but no process above one that is the last.
pub(crate) fn ancestry_until(pid: u32, is_last: impl Fn(Process) -> bool) -> Ancestry {
    blocking::check();
    let mut found: Vec<RunningProgram> = Vec::new();
    let mut next = pid;
    while found.len() < MOST_ANCESTORS && next > 1 {
        let Some((running, parent)) = read(next) else { break };
        // a parent is older: else its pid belongs to another process by now
        if found.last().is_some_and(|below| below.process.start < running.process.start) {
            break;
        }
        next = if is_last(running.process) { 0 } else { parent };
        found.push(running);
    }
    if found.is_empty() { Err(format!("the process {pid} has ended, or cannot be read").into()) } else { Ok(found) }
}

/// The process at the other end of a TCP connection, and those above it.
pub(crate) fn ancestry_of_tcp_peer(own: SocketAddr, peer: SocketAddr) -> Ancestry {
    blocking::check();
    let peer_process = || system::process_of_tcp_peer(canonical(own), canonical(peer));
    let found = peer_process().and_then(|process| Some((process, ancestry(process.pid).ok()?)));
    match found {
        // it has the connection still: its pid was not reused meanwhile
        Some((process, all)) if all[0].process == process && peer_process() == Some(process) => Ok(all),
        _ => Err("the system does not tell which process has the other end of the connection".into()),
    }
}

/// The working directory of a process, if the system says it. The pid may belong to another process by now.
pub(crate) fn working_directory(pid: u32) -> Option<PathBuf> {
    blocking::check();
    system::facts(pid)?.directory
}

/// The working directory of a process, for people. The pid may belong to another process by now: the caller checks that.
pub(crate) fn directory_of(pid: u32) -> Option<String> {
    blocking::check();
    system::facts(pid)?.directory.as_deref().map(text)
}

/// Reads one process, and the pid of its parent.
fn read(pid: u32) -> Option<(RunningProgram, u32)> {
    let before = process::find(pid).ok()??.process;
    let facts = system::facts(pid)?;
    let program = facts.program();
    let after = process::find(pid).ok()??.process;
    (before == after).then_some((RunningProgram { process: before, program }, facts.parent))
}

impl ProcessFacts {
    fn program(&self) -> Option<Program> {
        let executable = text(self.executable.as_ref()?);
        if !is_interpreter(&executable) {
            return Some(Program { executable, script: None });
        }
        // a program can replace its command line by a title, which names no script; empty arguments are left of it
        let end = self.arguments.iter().rposition(|argument| !argument.is_empty()).map_or(0, |last| last + 1);
        let arguments = &self.arguments[..end];
        let script = script_argument(arguments).map(|script| self.resolved(script));
        let has_title = script.is_none() && arguments.first().is_some_and(|name| !is_interpreter(name));
        (!has_title).then_some(Program { executable, script })
    }

    /// The real path of an argument. A script that is gone keeps its name, and so does one that is named by a descriptor,
    /// such as `/dev/fd/3`: here, that name means another file.
    fn resolved(&self, argument: &str) -> String {
        let path = self.directory.as_deref().unwrap_or_else(|| Path::new("/")).join(argument);
        let is_descriptor = cfg!(unix) && (path.starts_with("/dev") || path.starts_with("/proc"));
        let real = if is_descriptor { None } else { path.canonicalize().ok() };
        text(&real.unwrap_or(path))
    }
}

/// Paths of the configuration, and where their links lead.
pub(crate) fn resolved(paths: &[String]) -> Vec<String> {
    blocking::check();
    let real = |path: &String| Some(text(&Path::new(path).canonicalize().ok()?));
    paths.iter().cloned().chain(paths.iter().filter_map(real)).collect()
}

/// A path as text, without the mark of Windows for paths of any length.
fn text(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches(r"\\?\").to_owned()
}

/// An IPv4 address as such, also where an IPv6 socket has it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_own_process_and_its_parent_are_found() {
        let found = ancestry(std::process::id()).unwrap();
        assert_eq!(found[0].process.pid, std::process::id());
        let own = std::env::current_exe().unwrap().canonicalize().unwrap();
        let program = found[0].program.clone().unwrap();
        assert_eq!((Path::new(&program.executable), program.script), (own.as_path(), None));
        assert!(found.windows(2).all(|pair| pair[0].process.start >= pair[1].process.start), "{found:?}");
        #[cfg(unix)]
        assert_eq!(found.get(1).map(|parent| parent.process.pid), Some(std::os::unix::process::parent_id()));
    }

    #[cfg(unix)]
    #[test]
    fn a_script_that_is_named_by_a_descriptor_is_not_taken_for_a_file_of_this_process() {
        let file = tempfile::tempfile().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        for name in [format!("/dev/fd/{number}"), format!("/proc/self/fd/{number}")] {
            let arguments = vec!["sh".to_owned(), name.clone()];
            let facts = ProcessFacts { parent: 1, executable: Some("/bin/sh".into()), arguments, directory: None };
            assert_eq!(facts.program().unwrap().script, Some(name));
        }
    }

    #[test]
    fn a_process_that_has_ended_is_not_known() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let mut child = child.arg("--list").stdout(std::process::Stdio::null()).spawn().unwrap();
        child.wait().unwrap();
        assert!(ancestry(child.id()).is_err());
    }

    #[test]
    fn a_title_in_place_of_the_command_line_names_no_script() {
        let program = |arguments: &str| {
            let arguments = arguments.split('|').map(str::to_owned).collect();
            let directory = Some(PathBuf::from("/nowhere/at/all"));
            ProcessFacts { parent: 1, executable: Some("/usr/bin/node".into()), arguments, directory }.program()
        };
        let script = |script: Option<&str>| {
            Some(Program { executable: "/usr/bin/node".to_owned(), script: script.map(str::to_owned) })
        };
        assert_eq!(program("claude"), None);
        assert_eq!(program("claude||||"), None, "as node sets its title");
        assert_eq!(program("node|/nowhere/cli.js||"), script(Some("/nowhere/cli.js")));
        assert_eq!(program("node|x.js"), script(Some("/nowhere/at/all/x.js")));
        assert_eq!(program("node|-e|1"), script(None));
    }

    /// The systems that tell.
    #[cfg(any(target_os = "linux", target_os = "macos", windows))]
    #[test]
    fn the_process_at_the_other_end_of_a_connection_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, peer) = listener.accept().unwrap();
            let found = ancestry_of_tcp_peer(accepted.local_addr().unwrap(), peer).unwrap();
            assert_eq!(found[0].process.pid, std::process::id(), "{address}");
            drop(client);
        }
        let nothing = "127.0.0.1:1".parse().unwrap();
        assert!(ancestry_of_tcp_peer(nothing, nothing).is_err());
    }
}
