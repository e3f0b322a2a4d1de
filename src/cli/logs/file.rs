//! The log file, read to its end and on: when it is set aside, cut or removed, reading goes on in the next one.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Lines;

/// No more than this is read of a file at first: more than lessor lets it grow to.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// The log file.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// The one that is read now.
    file: Option<File>,
    /// How far.
    at: u64,
    /// A line whose end is not there yet.
    begun: Vec<u8>,
    last_line: Option<String>,
}

impl Log {
    /// It need not be there yet.
    pub(super) fn open(path: &Path) -> Self {
        Self { path: path.to_owned(), file: File::open(path).ok(), at: 0, begun: Vec::new(), last_line: None }
    }

    pub(super) fn is_there(&self) -> bool {
        self.file.is_some()
    }

    /// The last whole line that was read.
    pub(super) fn last_line(&self) -> Option<String> {
        self.last_line.clone()
    }

    /// The latest lines up to now, those that were set aside included.
    pub(super) fn latest(&mut self, wanted: Lines) -> io::Result<Vec<String>> {
        let length = self.file.as_ref().map(File::metadata).transpose()?.map_or(0, |metadata| metadata.len());
        self.at = length.saturating_sub(MOST_BYTES);
        let cut = self.at > 0;
        let mut lines = self.read_on()?;
        if cut && !lines.is_empty() {
            // its beginning is not there
            lines.remove(0);
        }
        let wanted = match wanted {
            Lines::All => usize::MAX,
            Lines::Last(wanted) => wanted,
        };
        if lines.len() < wanted {
            let newer = std::mem::replace(&mut lines, self.set_aside()?);
            lines.extend(newer);
        }
        Ok(lines.split_off(lines.len().saturating_sub(wanted)))
    }

    /// The lines of the file that was set aside before.
    fn set_aside(&self) -> io::Result<Vec<String>> {
        let mut path = self.path.as_os_str().to_owned();
        path.push(".1");
        let mut older = Self::open(Path::new(&path));
        let identity = |file: &Option<File>| file.as_ref().and_then(|file| file.metadata().ok()).map(|m| identity(&m));
        // set aside just now, it has been read already
        if older.file.is_none() || identity(&older.file) == identity(&self.file) {
            return Ok(Vec::new());
        }
        let mut lines = older.read_on()?;
        lines.extend(older.end_line());
        Ok(lines)
    }

    /// The lines that have come since, whichever file they are in.
    pub(super) fn next(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        let there = std::fs::metadata(&self.path).ok().map(|metadata| identity(&metadata));
        let ours = self.file.as_ref().map(File::metadata).transpose()?;
        if self.file.is_none() || (there.is_some() && there != ours.as_ref().map(identity)) {
            // what was written to the old one until it was set aside comes first
            lines.extend(self.read_on()?);
            lines.extend(self.end_line());
            self.file = File::open(&self.path).ok();
            self.at = 0;
        } else if ours.is_some_and(|ours| ours.len() < self.at) {
            lines.extend(self.end_line());
            self.at = 0;
        }
        lines.extend(self.read_on()?);
        Ok(lines)
    }

    fn read_on(&mut self) -> io::Result<Vec<String>> {
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        file.seek(SeekFrom::Start(self.at))?;
        let read = file.take(MOST_BYTES).read_to_end(&mut self.begun)?;
        self.at += read as u64;
        let Some(end) = self.begun.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let rest = self.begun.split_off(end + 1);
        let whole = std::mem::replace(&mut self.begun, rest);
        let text = String::from_utf8_lossy(&whole);
        let lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        if let Some(last) = lines.last() {
            self.last_line = Some(last.clone());
        }
        Ok(lines)
    }

    /// The begun line, whose end will not come.
    fn end_line(&mut self) -> Option<String> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned();
        (!line.is_empty()).then_some(line)
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// As near as the system tells.
#[cfg(windows)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::windows::fs::MetadataExt;
    (metadata.creation_time(), 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    struct Home {
        _directory: tempfile::TempDir,
        path: PathBuf,
        aside: PathBuf,
    }

    fn home() -> Home {
        let directory = tempfile::tempdir().unwrap();
        let (path, aside) = (directory.path().join("lessor.log"), directory.path().join("lessor.log.1"));
        Home { _directory: directory, path, aside }
    }

    fn add(path: &Path, text: &str) {
        File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_latest_lines_reach_into_what_was_set_aside() {
        let home = home();
        assert!(Log::open(&home.path).latest(Lines::All).unwrap().is_empty());
        add(&home.aside, "1\n2\ncut");
        add(&home.path, "3\n\n4\nbegun");
        for (wanted, expected) in [
            (Lines::All, &["1", "2", "cut", "3", "4"][..]),
            (Lines::Last(9), &["1", "2", "cut", "3", "4"]),
            (Lines::Last(3), &["cut", "3", "4"]),
            (Lines::Last(1), &["4"]),
            (Lines::Last(0), &[]),
        ] {
            let mut log = Log::open(&home.path);
            assert_eq!(log.latest(wanted).unwrap(), expected, "{wanted:?}");
            assert_eq!(log.last_line().unwrap(), "4");
        }
    }

    #[test]
    fn reading_goes_on_whatever_becomes_of_the_file() {
        let home = home();
        let mut log = Log::open(&home.path);
        assert!(log.latest(Lines::All).unwrap().is_empty() && !log.is_there());
        assert!(log.next().unwrap().is_empty());
        add(&home.path, "1\n2");
        assert_eq!(log.next().unwrap(), ["1"]);
        add(&home.path, "2\n");
        assert_eq!(log.next().unwrap(), ["22"]);
        // set aside, with a line that came in between
        add(&home.path, "3\n");
        std::fs::rename(&home.path, &home.aside).unwrap();
        assert_eq!(log.next().unwrap(), ["3"]);
        add(&home.aside, "4\n5");
        add(&home.path, "6\n");
        assert_eq!(log.next().unwrap(), ["4", "5", "6"]);
        // cut
        std::fs::write(&home.path, "").unwrap();
        assert!(log.next().unwrap().is_empty());
        add(&home.path, "7\n");
        assert_eq!(log.next().unwrap(), ["7"]);
        // removed, and made anew
        std::fs::remove_file(&home.path).unwrap();
        assert!(log.next().unwrap().is_empty());
        add(&home.path, "8\n");
        assert_eq!(log.next().unwrap(), ["8"]);
        assert!(log.next().unwrap().is_empty());
    }
}
