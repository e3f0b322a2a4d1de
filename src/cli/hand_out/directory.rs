//! Directories that live as long as a program: `<run>/agents/PID-START-FENCE`, closed to others.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;
use crate::config::AppPaths;
use crate::daemon::find_process;
use crate::pool::Process;

/// A directory of one program; it is there when something has been written to it.
#[derive(Debug)]
pub(super) struct Place {
    at: PathBuf,
    made: bool,
}

impl Place {
    /// The directory of a lease's holder.
    pub(super) fn of(places: &AppPaths, holder: Process, fence: u64) -> Self {
        Self { at: places.run.join("agents").join(name(holder, fence)), made: false }
    }

    pub(super) fn path(&self) -> &Path {
        &self.at
    }

    /// The directory, if there is one.
    pub(super) fn made(self) -> Option<PathBuf> {
        self.made.then_some(self.at)
    }

    /// Writes a file that only its owner reads; answers where it is.
    pub(super) fn write(&mut self, path: &str, text: &str) -> Result<PathBuf, Failure> {
        let failed = |error: io::Error| Failure::new("internal", format!("{}: {error}", self.at.display()));
        if !self.made {
            make(&self.at).map_err(failed)?;
            self.made = true;
        }
        write(&self.at, path, text).map_err(failed)?;
        Ok(self.at.join(path))
    }

    /// Writes a file that its owner can run.
    pub(super) fn program(&mut self, path: &str, text: &str) -> Result<(), Failure> {
        let _path = self.write(path, text)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(&_path, mode)
                .map_err(|error| Failure::new("internal", format!("{}: {error}", _path.display())))?;
        }
        Ok(())
    }
}

/// By this name it is known whose it is, also when whoever should have removed it could not.
fn name(holder: Process, fence: u64) -> String {
    format!("{}-{}-{fence}", holder.pid, holder.start)
}

fn holder(name: &str) -> Option<Process> {
    let mut numbers = name.split('-').map(str::parse::<u64>);
    let (pid, start) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Process { pid: pid.try_into().ok()?, start })
}

/// Makes it; and removes those whose holder has ended.
fn make(at: &Path) -> io::Result<()> {
    if let Some(root) = at.parent() {
        private(root)?;
        sweep(root);
    }
    private(at)
}

fn private(directory: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn sweep(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let Some(holder) = entry.file_name().to_str().and_then(holder) else { continue };
        // one that cannot be told stays
        if find_process(holder.pid).is_ok_and(|found| found.is_none_or(|found| found.process != holder)) {
            remove(&entry.path());
        }
    }
}

/// Writes a file below it that only its owner reads; a reader sees the old one or the new one.
fn write(at: &Path, path: &str, text: &str) -> io::Result<()> {
    let target = at.join(path);
    let parent = target.parent().unwrap_or(at);
    private(parent)?;
    // 0600 by itself
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    file.write_all(text.as_bytes())?;
    file.persist(&target)?;
    Ok(())
}

/// Removes it; what is not there needs no removing.
pub(super) fn remove(at: &Path) {
    let _gone = std::fs::remove_dir_all(at);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dead_left_is_swept_away() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("agents");
        let me = find_process(std::process::id()).unwrap().unwrap().process;
        let (mine, dead) = (root.join(name(me, 1)), root.join(name(Process { start: me.start + 1, ..me }, 2)));
        make(&mine).unwrap();
        write(&mine, "a/b.json", "{}").unwrap();
        std::fs::create_dir(&dead).unwrap();
        std::fs::create_dir(root.join("of somebody else")).unwrap();
        make(&root.join(name(me, 3))).unwrap();
        assert!(!dead.exists() && mine.join("a/b.json").exists() && root.join("of somebody else").exists());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&root), mode(&mine), mode(&mine.join("a/b.json"))), (0o700, 0o700, 0o600));
        }
    }
}
