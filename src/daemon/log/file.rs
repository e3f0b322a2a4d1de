//! A log file of bounded size: when it is full it is set aside, over the one that was set aside before.
//!
//! It never fails: a full or read-only disk costs lines, which are counted, and told of as soon as one can be written.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::line::Line;
use crate::daemon::clock;

/// The file, and how much it may hold.
#[derive(Debug)]
pub(crate) struct BoundedFile {
    path: PathBuf,
    aside: PathBuf,
    most: u64,
    /// Standard error is this file, and goes with it: what the runtime says at its very end belongs here too.
    #[cfg_attr(windows, expect(dead_code, reason = "a handle cannot be moved: it stays with the file set aside"))]
    takes_stderr: bool,
    file: Option<File>,
    /// Lines that could not be written since one could.
    lost: u64,
    /// The last line was written in part.
    is_torn: bool,
}

impl BoundedFile {
    /// Opened when the first line is written; its directory must be there then.
    pub(crate) fn new(path: &Path, most: u64, takes_stderr: bool) -> Self {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".1");
        let (path, aside) = (path.to_owned(), PathBuf::from(aside));
        Self { path, aside, most, takes_stderr, file: None, lost: 0, is_torn: false }
    }

    /// Writes a line, if that is possible.
    pub(crate) fn write(&mut self, line: &str) {
        let mut text = String::new();
        if self.is_torn {
            text.push('\n');
        }
        if self.lost > 0 {
            let words = format!("lines of this log that could not be written: {}", self.lost);
            text += &format!("{}\n", Line::at(clock::now().wall, tracing::Level::WARN, words));
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
        if length > 0 && length.saturating_add(text.len() as u64) > self.most {
            file = match std::fs::rename(&self.path, &self.aside) {
                Ok(()) => self.open()?,
                // the bound is worth more than what is in it
                Err(_) => {
                    file.set_len(0)?;
                    file
                }
            };
        }
        // one write, so that no other writer's words come in between
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

    /// The file at the path: the one we have, unless somebody has removed or replaced it.
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

/// Only its owner reads it, whatever the umask and whoever made it.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // a pipe in its place must not hold us up
        options.mode(0o600).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = options.open(path)?;
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

/// A file that was moved away is not found by its name, and nobody but us makes one there.
#[cfg(not(unix))]
fn is_same(_there: &Metadata, _ours: &Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(directory: &tempfile::TempDir, most: u64) -> (BoundedFile, PathBuf, PathBuf) {
        let path = directory.path().join("lessor.log");
        (BoundedFile::new(&path, most, false), path, directory.path().join("lessor.log.1"))
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_else(|error| error.kind().to_string())
    }

    #[test]
    fn it_holds_the_latest_and_never_more_than_twice_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, path, aside) = new(&directory, 100);
        for number in 0..1000 {
            file.write(&format!("line {number}"));
            let length = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            assert!(length(&path) <= 100 && length(&aside) <= 100);
        }
        let (old, new) = (read(&aside), read(&path));
        let all: Vec<&str> = old.lines().chain(new.lines()).collect();
        let expected: Vec<String> = (1000 - all.len()..1000).map(|number| format!("line {number}")).collect();
        assert!(all.len() >= 11 && all == expected, "{all:?}");
        // a line that is too long for the file has one for itself
        let long = "x".repeat(200);
        file.write(&long);
        assert_eq!((read(&path), read(&aside)), (long + "\n", new));
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (mut file, path, aside) = new(&directory, 20);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        (0..9).for_each(|_| file.write("0123456789"));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&aside)), (0o600, 0o600));
    }

    #[test]
    fn what_others_do_to_the_file_costs_nothing_but_what_they_took() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, path, _) = new(&directory, 1000);
        // where a removed file stays until the last program has closed it, it is still written to
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
    fn lines_without_a_place_are_counted_and_told_of() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, path, _) = new(&directory, 1000);
        // works for root too, unlike a mode
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
        // the directory goes, and is not made anew: who removed it wants it gone
        std::fs::remove_file(&path).unwrap();
        file.file = None;
        directory.close().unwrap();
        file.write("gone");
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_cannot_be_set_aside_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, path, aside) = new(&directory, 20);
        std::fs::create_dir(&aside).unwrap();
        std::fs::write(aside.join("in the way"), "").unwrap();
        (0..9).for_each(|number| file.write(&format!("line {number}")));
        assert_eq!(read(&path), "line 8\n".to_owned());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_tears_no_second_line() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, path, _) = new(&directory, 1000);
        file.write("one");
        file.is_torn = true;
        file.write("two");
        assert_eq!(read(&path), "one\n\ntwo\n");
        // not a file: nothing is written, nothing waits
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        file.write("three");
        assert_eq!(file.lost, 1);
    }
}
