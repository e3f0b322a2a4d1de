//! The log file, read and followed: when it is rotated, truncated or removed, reading continues in the new file.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The most that is read at a time, in bytes: more than lessor writes before it rotates the file.
const MAX_READ: u64 = 16 * 1024 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LineCount {
    All,
    Last(usize),
}

pub(super) fn line_count(text: &str) -> Result<LineCount, String> {
    if text == "all" {
        return Ok(LineCount::All);
    }
    text.parse().map(LineCount::Last).map_err(|_| "it must be a number or `all`".to_owned())
}

#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    position: u64,
    /// A line without its end.
    partial: Vec<u8>,
    last_line: Option<String>,
}

impl LogFile {
    /// Opens the file, which need not exist yet.
    pub(super) fn open(path: &Path) -> Self {
        Self { path: path.to_owned(), file: File::open(path).ok(), position: 0, partial: Vec::new(), last_line: None }
    }

    pub(super) fn exists(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn last_line(&self) -> Option<String> {
        self.last_line.clone()
    }

    /// The latest lines, those of the rotated file included.
    pub(super) fn latest(&mut self, wanted: LineCount) -> io::Result<Vec<String>> {
        let length = self.file.as_ref().map(File::metadata).transpose()?.map_or(0, |metadata| metadata.len());
        self.position = length.saturating_sub(MAX_READ);
        let is_cut = self.position > 0;
        let mut lines = self.read_more()?;
        if is_cut && !lines.is_empty() {
            // its beginning was not read
            lines.remove(0);
        }
        let wanted = match wanted {
            LineCount::All => usize::MAX,
            LineCount::Last(wanted) => wanted,
        };
        if lines.len() < wanted {
            let newer = std::mem::replace(&mut lines, self.rotated_lines()?);
            lines.extend(newer);
        }
        Ok(lines.split_off(lines.len().saturating_sub(wanted)))
    }

    fn rotated_lines(&self) -> io::Result<Vec<String>> {
        let mut path = self.path.as_os_str().to_owned();
        path.push(".1");
        let mut older = Self::open(Path::new(&path));
        let identity = |file: &Option<File>| file.as_ref().and_then(|file| file.metadata().ok()).map(|m| identity(&m));
        // rotated just now: it has been read already
        if older.file.is_none() || identity(&older.file) == identity(&self.file) {
            return Ok(Vec::new());
        }
        let mut lines = older.read_more()?;
        lines.extend(older.end_line());
        Ok(lines)
    }

    /// The new lines, in the old file and the new one.
    pub(super) fn next(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        let there = std::fs::metadata(&self.path).ok().map(|metadata| identity(&metadata));
        let ours = self.file.as_ref().map(File::metadata).transpose()?;
        if self.file.is_none() || (there.is_some() && there != ours.as_ref().map(identity)) {
            // the old file may have got lines before it was rotated
            lines.extend(self.read_more()?);
            lines.extend(self.end_line());
            self.file = File::open(&self.path).ok();
            self.position = 0;
        } else if ours.is_some_and(|ours| ours.len() < self.position) {
            lines.extend(self.end_line());
            self.position = 0;
        }
        lines.extend(self.read_more()?);
        Ok(lines)
    }

    fn read_more(&mut self) -> io::Result<Vec<String>> {
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        file.seek(SeekFrom::Start(self.position))?;
        let read = file.take(MAX_READ).read_to_end(&mut self.partial)?;
        self.position += read as u64;
        let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let rest = self.partial.split_off(end + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        let text = String::from_utf8_lossy(&whole);
        let lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        if let Some(last) = lines.last() {
            self.last_line = Some(last.clone());
        }
        Ok(lines)
    }

    /// The partial line, which will not be completed.
    fn end_line(&mut self) -> Option<String> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.partial)).into_owned();
        (!line.is_empty()).then_some(line)
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// Windows has no inode number in its metadata.
#[cfg(windows)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::windows::fs::MetadataExt;
    (metadata.creation_time(), 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_line_count_is_a_number_or_all() {
        for (text, expected) in [
            ("0", Ok(LineCount::Last(0))),
            ("12", Ok(LineCount::Last(12))),
            ("all", Ok(LineCount::All)),
            ("-1", Err(())),
            ("", Err(())),
        ] {
            assert_eq!(line_count(text).map_err(drop), expected, "{text}");
        }
    }

    /// A directory, and the paths of the log and of the rotated log in it.
    fn log_directory() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let (path, rotated) = (directory.path().join("lessor.log"), directory.path().join("lessor.log.1"));
        (directory, path, rotated)
    }

    fn add(path: &Path, text: &str) {
        File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_latest_lines_include_the_rotated_file() {
        let (_directory, path, rotated) = log_directory();
        assert!(LogFile::open(&path).latest(LineCount::All).unwrap().is_empty());
        add(&rotated, "1\n2\ncut");
        add(&path, "3\n\n4\nbegun");
        for (wanted, expected) in [
            (LineCount::All, &["1", "2", "cut", "3", "4"][..]),
            (LineCount::Last(9), &["1", "2", "cut", "3", "4"]),
            (LineCount::Last(3), &["cut", "3", "4"]),
            (LineCount::Last(1), &["4"]),
            (LineCount::Last(0), &[]),
        ] {
            let mut log = LogFile::open(&path);
            assert_eq!(log.latest(wanted).unwrap(), expected, "{wanted:?}");
            assert_eq!(log.last_line().unwrap(), "4");
        }
    }

    #[test]
    fn reading_continues_when_the_file_is_rotated_truncated_or_removed() {
        let (_directory, path, rotated) = log_directory();
        let mut log = LogFile::open(&path);
        assert!(log.latest(LineCount::All).unwrap().is_empty() && !log.exists());
        assert!(log.next().unwrap().is_empty());
        add(&path, "1\n2");
        assert_eq!(log.next().unwrap(), ["1"]);
        add(&path, "2\n");
        assert_eq!(log.next().unwrap(), ["22"]);
        // rotated, with a line in between
        add(&path, "3\n");
        std::fs::rename(&path, &rotated).unwrap();
        assert_eq!(log.next().unwrap(), ["3"]);
        add(&rotated, "4\n5");
        add(&path, "6\n");
        assert_eq!(log.next().unwrap(), ["4", "5", "6"]);
        // truncated
        std::fs::write(&path, "").unwrap();
        assert!(log.next().unwrap().is_empty());
        add(&path, "7\n");
        assert_eq!(log.next().unwrap(), ["7"]);
        // removed and created again
        std::fs::remove_file(&path).unwrap();
        assert!(log.next().unwrap().is_empty());
        add(&path, "8\n");
        assert_eq!(log.next().unwrap(), ["8"]);
        assert!(log.next().unwrap().is_empty());
    }
}
