//! Processes: identified by pid and start time, and watched until they end.

use std::sync::Arc;

use crate::pool::Process;

#[cfg_attr(target_os = "linux", path = "process/linux.rs")]
#[cfg_attr(windows, path = "process/windows.rs")]
#[cfg_attr(not(any(target_os = "linux", windows)), path = "process/kqueue.rs")]
mod system;

#[cfg(unix)]
pub(crate) use system::find_of_any_user;
#[cfg(target_os = "linux")]
pub(crate) use system::read_file;
#[cfg(windows)]
pub use system::{Handle, wait_for_end};
pub use system::{find, watch};
#[cfg(unix)]
pub use unix::{Handle, wait_for_end};

#[cfg(unix)]
mod unix {
    use std::{io, os::fd::OwnedFd};

    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// Watches a process, by a descriptor that becomes readable when the process ends.
    #[derive(Debug)]
    pub struct Handle(AsyncFd<OwnedFd>);

    impl Handle {
        pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
            #[expect(deprecated, reason = "its successor is `unsafe` for descriptors that may close early")]
            AsyncFd::with_interest(descriptor, Interest::READABLE).map(Self)
        }
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub async fn wait_for_end(handle: Handle) -> io::Result<()> {
        handle.0.readable().await.map(drop)
    }
}

/// A process that was found.
#[derive(Clone, Debug)]
pub struct FoundProcess {
    /// Its identity.
    pub process: Process,
    /// The program's name.
    pub program: Option<Arc<str>>,
}

/// This process, if it still runs.
pub fn running(process: Process) -> Option<FoundProcess> {
    find(process.pid).ok().flatten().filter(|found| found.process == process)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const WAIT: &str = "LESSOR_TEST_WAIT_FOR_INPUT";

    #[test]
    fn the_own_process_is_found() {
        let found = find(std::process::id()).unwrap().unwrap();
        assert_eq!(found.process.pid, std::process::id());
        assert!(found.process.start > 0);
        assert!(found.program.is_some_and(|program| !program.is_empty()));
    }

    /// Not a test: the watched process runs this.
    #[test]
    fn live_until_input_ends() {
        if std::env::var_os(WAIT).is_some() {
            let _ended = std::io::stdin().read_line(&mut String::new());
        }
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_reported() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "daemon::os::process::tests::live_until_input_ends"]).env(WAIT, "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let found = find(child.id()).unwrap().unwrap();
        let later = Process { start: found.process.start + 1, ..found.process };
        assert!(watch(later).unwrap().is_none(), "another process with this pid is not this one");
        let handle = watch(found.process).unwrap().unwrap();
        child.kill().unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(20), wait_for_end(handle)).await.unwrap().unwrap();
        child.wait().unwrap();
        assert!(find(found.process.pid).unwrap().is_none_or(|found_now| found_now.process != found.process));
        assert!(watch(found.process).unwrap().is_none());
    }
}
