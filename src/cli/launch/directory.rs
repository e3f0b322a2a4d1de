//! Private directories, `<run>/agents/PID-START-FENCE`, that are removed when their program has ended.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{cli::error::CliError, config::AppPaths, daemon::find_process, ownership, pool::Process};

/// The directory of these directories.
pub(super) const AGENTS: &str = "agents";

/// The directory of one program; the first write creates it.
#[derive(Debug)]
pub(super) struct PrivateDirectory {
    path: PathBuf,
    exists: bool,
}

impl PrivateDirectory {
    pub(super) fn new(places: &AppPaths, holder: Process, fence: u64) -> Self {
        Self { path: places.run.join(AGENTS).join(name(holder, fence)), exists: false }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn created(self) -> Option<PathBuf> {
        self.exists.then_some(self.path)
    }

    /// Writes a file, readable by its owner only; answers its path.
    pub(super) fn write(&mut self, name: &str, text: &str) -> Result<PathBuf, CliError> {
        let failed = |error: io::Error| CliError::internal(format!("{}: {error}", self.path.display()));
        if !self.exists {
            create(&self.path).map_err(failed)?;
            self.exists = true;
        }
        write(&self.path, name, text).map_err(failed)?;
        Ok(self.path.join(name))
    }

    /// Creates a directory in it; answers its path.
    pub(super) fn create(&mut self, name: &str) -> Result<PathBuf, CliError> {
        let failed = |error: io::Error| CliError::internal(format!("{}: {error}", self.path.display()));
        create(&self.path).map_err(failed)?;
        self.exists = true;
        let directory = self.path.join(name);
        create_private_directory(&directory).map_err(failed)?;
        Ok(directory)
    }
}

/// The name identifies the process, so that a later run can remove the directory if the supervisor did not.
fn name(holder: Process, fence: u64) -> String {
    format!("{}-{}-{fence}", holder.pid, holder.start)
}

fn holder(name: &str) -> Option<Process> {
    let mut numbers = name.split('-').map(str::parse::<u64>);
    let (pid, start) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Process { pid: pid.try_into().ok()?, start })
}

/// Creates a directory, and removes those whose process has ended.
fn create(path: &Path) -> io::Result<()> {
    if let Some(root) = path.parent() {
        create_private_directory(root)?;
        remove_abandoned(root);
    }
    create_private_directory(path)
}

/// Creates a directory, with its parents, that only its owner can read; refused where other users could change a part of
/// its path.
pub(crate) fn create_private_directory(directory: &Path) -> io::Result<()> {
    ownership::check(directory)?;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    // again: another user may have created what did not exist
    Ok(ownership::check(directory)?)
}

fn remove_abandoned(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        if is_abandoned(&entry.path()) {
            remove(&entry.path());
        }
    }
}

/// Whether the process that a directory was made for has ended. If the system cannot say that, it has not.
pub(crate) fn is_abandoned(path: &Path) -> bool {
    let holder = path.file_name().and_then(|name| name.to_str()).and_then(holder);
    holder.is_some_and(|holder| {
        find_process(holder.pid).is_ok_and(|found| found.is_none_or(|found| found.process != holder))
    })
}

/// Writes a file, readable by its owner only; readers see either the old file or the new one.
fn write(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let target = directory.join(name);
    let parent = target.parent().unwrap_or(directory);
    create_private_directory(parent)?;
    // created with mode 0600
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    file.write_all(text.as_bytes())?;
    file.persist(&target)?;
    Ok(())
}

/// Removes a directory; it is not an error if it does not exist.
pub(super) fn remove(path: &Path) {
    let _gone = std::fs::remove_dir_all(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_ended_processes_are_removed() {
        let run = tempfile::tempdir().unwrap();
        let root = run.path().join("agents");
        let me = find_process(std::process::id()).unwrap().unwrap().process;
        let (mine, ended) = (root.join(name(me, 1)), root.join(name(Process { start: me.start + 1, ..me }, 2)));
        create(&mine).unwrap();
        write(&mine, "a/b.json", "{}").unwrap();
        std::fs::create_dir(&ended).unwrap();
        std::fs::create_dir(root.join("other")).unwrap();
        create(&root.join(name(me, 3))).unwrap();
        assert!(!ended.exists() && mine.join("a/b.json").exists() && root.join("other").exists());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&root), mode(&mine), mode(&mine.join("a/b.json"))), (0o700, 0o700, 0o600));
        }
    }
}
