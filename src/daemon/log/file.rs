//! A log file of bounded size: a full file is renamed to `*.1`, which replaces the one renamed before.
//!
//! Writing never fails: on a full or read-only disk lines are lost and counted, and the next line that can be written
//! is preceded by the count.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::line::Line;
use crate::daemon::clock;
use crate::ownership;

#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    old_path: PathBuf,
    max_bytes: u64,
    /// Standard error is this file, and is redirected to each new one, for messages of the runtime that bypass the log.
    #[cfg_attr(windows, expect(dead_code, reason = "a handle cannot be redirected: it stays with the renamed file"))]
    takes_stderr: bool,
    file: Option<File>,
    /// Lines lost since the last one that was written.
    lost: u64,
    /// The last line was written in part.
    is_torn: bool,
}

impl RotatingFile {
    /// The file is opened when the first line is written; its directory must exist by then.
    pub(super) fn new(path: &Path, max_bytes: u64, takes_stderr: bool) -> Self {
        let mut old_path = path.as_os_str().to_owned();
        old_path.push(".1");
        let (path, old_path) = (path.to_owned(), PathBuf::from(old_path));
        Self { path, old_path, max_bytes, takes_stderr, file: None, lost: 0, is_torn: false }
    }

    /// Writes a line, if that is possible.
    pub(super) fn write(&mut self, line: &str) {
        let mut text = String::new();
        if self.is_torn {
            text.push('\n');
        }
        if self.lost > 0 {
            let message = format!("lines of this log that could not be written: {}", self.lost);
            text += &format!("{}\n", Line::at(clock::now().wall, tracing::Level::WARN, message));
        }
        text += line;
        text.push('\n');
        match self.append(text.as_bytes()) {
            Ok(()) => (self.lost, self.is_torn) = (0, false),
            Err(_) => {
                self.lost += 1;
                self.file = None;
            }
        }
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let mut file = self.open()?;
        let length = file.metadata()?.len();
        if length > 0 && length.saturating_add(text.len() as u64) > self.max_bytes {
            file = match std::fs::rename(&self.path, &self.old_path) {
                Ok(()) => self.open()?,
                // the size limit matters more than old lines
                Err(_) => {
                    file.set_len(0)?;
                    file
                }
            };
        }
        // one write, so that no other writer's text comes in between
        let written = loop {
            match file.write(text) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => break written?,
            }
        };
        self.file = Some(file);
        if written < text.len() {
            self.is_torn = true;
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }

    /// The file at the path: the one that is open, unless it was removed or replaced.
    fn open(&mut self) -> io::Result<File> {
        if let Some(file) = self.file.take()
            && std::fs::metadata(&self.path).is_ok_and(|there| file.metadata().is_ok_and(|ours| is_same(&there, &ours)))
        {
            return Ok(file);
        }
        let file = open(&self.path)?;
        #[cfg(unix)]
        if self.takes_stderr {
            rustix::stdio::dup2_stderr(&file)?;
        }
        Ok(file)
    }
}

/// Opens the file with mode 0600, regardless of the umask and of the mode it had; nothing is written where a link of
/// another user leads.
fn open(path: &Path) -> io::Result<File> {
    ownership::check(path)?;
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // opening a pipe must not block
        options.mode(0o600).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = options.open(path)?;
    ownership::check_opened(path, &file)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if metadata.permissions().mode() & 0o777 != 0o600 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(file)
}

#[cfg(unix)]
fn is_same(there: &Metadata, ours: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (there.dev(), there.ino()) == (ours.dev(), ours.ino())
}

/// A renamed file is no longer found at the path, and only lessor creates one there.
#[cfg(not(unix))]
fn is_same(_there: &Metadata, _ours: &Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(directory: &tempfile::TempDir, max_bytes: u64) -> (RotatingFile, PathBuf, PathBuf) {
        let path = directory.path().join("lessor.log");
        (RotatingFile::new(&path, max_bytes, false), path, directory.path().join("lessor.log.1"))
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_else(|error| error.kind().to_string())
    }

    #[test]
    fn the_latest_lines_are_kept_within_twice_the_size_limit() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, path, old_path) = new(&directory, 100);
        for number in 0..1000 {
            file.write(&format!("line {number}"));
            let length = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            assert!(length(&path) <= 100 && length(&old_path) <= 100);
        }
        let (old, new) = (read(&old_path), read(&path));
        let all: Vec<&str> = old.lines().chain(new.lines()).collect();
        let expected: Vec<String> = (1000 - all.len()..1000).map(|number| format!("line {number}")).collect();
        assert!(all.len() >= 11 && all == expected, "{all:?}");
        // a line above the size limit gets a file of its own
        let long = "x".repeat(200);
        file.write(&long);
        assert_eq!((read(&path), read(&old_path)), (long + "\n", new));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_the_files() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (mut file, path, old_path) = new(&directory, 20);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        (0..9).for_each(|_| file.write("0123456789"));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&old_path)), (0o600, 0o600));
    }

    #[test]
    fn after_a_removal_or_a_rename_the_next_line_goes_into_a_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, path, _) = new(&directory, 1000);
        // on Windows a removed file exists until its last handle is closed
        let stays = cfg!(windows);
        file.write("one");
        if !stays {
            std::fs::remove_file(&path).unwrap();
        }
        file.write("two");
        let kept = if stays { "one\ntwo\n" } else { "two\n" };
        assert_eq!(read(&path), kept);
        let moved = directory.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        file.write("three");
        assert_eq!((read(&moved), read(&path)), (kept.to_owned(), "three\n".to_owned()));
        std::fs::write(&path, "").unwrap();
        file.write("four");
        assert_eq!(read(&path), "four\n");
    }

    #[test]
    fn lost_lines_are_counted_and_reported() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, path, _) = new(&directory, 1000);
        // unlike a mode, this stops root, too
        std::fs::create_dir(&path).unwrap();
        (0..3).for_each(|_| file.write("lost"));
        std::fs::remove_dir(&path).unwrap();
        file.write("kept");
        file.write("too");
        let text = read(&path);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines.len() == 3 && lines[0].ends_with("WARN  lines of this log that could not be written: 3"),
            "{text}"
        );
        assert_eq!(lines[1..], ["kept", "too"]);
        // a removed directory is not created again
        std::fs::remove_file(&path).unwrap();
        file.file = None;
        directory.close().unwrap();
        file.write("gone");
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_cannot_be_renamed_is_emptied() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, path, old_path) = new(&directory, 20);
        std::fs::create_dir(&old_path).unwrap();
        std::fs::write(old_path.join("in the way"), "").unwrap();
        (0..9).for_each(|number| file.write(&format!("line {number}")));
        assert_eq!(read(&path), "line 8\n".to_owned());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_line_after_a_torn_one_starts_on_a_new_line() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, path, _) = new(&directory, 1000);
        file.write("one");
        file.is_torn = true;
        file.write("two");
        assert_eq!(read(&path), "one\n\ntwo\n");
        // not a regular file: nothing is written, and the call does not block
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        file.write("three");
        assert_eq!(file.lost, 1);
    }
}
