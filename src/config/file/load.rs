//! Reads the file from disk.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::position::LineIndex;
use super::problem::{ConfigErrors, ConfigProblem};
use crate::config::settings::Config;
use crate::ownership::{self, UntrustedPath};

/// The largest configuration file, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// A configuration and whether it was read from a file.
#[derive(Clone, PartialEq, Debug)]
pub struct LoadedConfig {
    /// The effective configuration.
    pub config: Config,
    /// Whether there was a file.
    pub state: LoadState,
}

/// Whether there was a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LoadState {
    /// It was read.
    Ok,
    /// There is none, so the defaults apply.
    Default,
}

impl Config {
    /// Reads a file; a missing one means the defaults. Blocks on the disk.
    pub fn load(path: &Path) -> Result<LoadedConfig, ConfigErrors> {
        Self::from_text(read_file(path)?.as_deref(), path)
    }

    /// Reads the text of a file; `None` means the defaults.
    pub fn from_text(text: Option<&str>, path: &Path) -> Result<LoadedConfig, ConfigErrors> {
        let Some(text) = text else {
            let mut config = Self::default();
            config.origins.path = path.to_owned();
            return Ok(LoadedConfig { config, state: LoadState::Default });
        };
        Ok(LoadedConfig { config: Self::parse(text, path)?, state: LoadState::Ok })
    }

    /// Reads a file's bytes; the path is for messages only.
    pub fn parse_bytes(bytes: Vec<u8>, path: &Path) -> Result<Self, ConfigErrors> {
        Self::parse(&text_of(bytes, path)?, path)
    }
}

/// The text of a file; `None` when there is none. Blocks on the disk.
pub fn read_file(path: &Path) -> Result<Option<String>, ConfigErrors> {
    bytes_at(path)?.map(|bytes| text_of(bytes, path)).transpose()
}

/// A file's bytes; `None` if there is no file.
pub(in crate::config) fn bytes_at(path: &Path) -> Result<Option<Vec<u8>>, ConfigErrors> {
    let refuse = |message: String| ConfigErrors::of_file(path, message);
    let broken = |error: std::io::Error| refuse(format!("cannot be read: {error}"));
    let about = match fs::metadata(path) {
        // A dangling link is a mistake, not a missing file.
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_ok() => {
            return Err(refuse("is a link to a file that does not exist".to_owned()));
        }
        // a file that another user could create or remove must not end the last good configuration
        Err(error) if error.kind() == ErrorKind::NotFound => return trusted(path).map(|()| None),
        other => other.map_err(broken)?,
    };
    if about.is_dir() {
        return Err(refuse("is a directory; the configuration is a file".to_owned()));
    }
    if is_stream(&about) {
        // Opening a pipe blocks until another process writes, and a reload must not block.
        return Err(refuse("is a pipe or socket; the configuration is a file".to_owned()));
    }
    let mut bytes = Vec::new();
    let limit = MAX_FILE as u64 + 1;
    let file = ownership::open(path).map_err(broken)?;
    // of the opened file: the name may refer to another one by now
    ownership::check_opened(path, &file).map_err(|untrusted| not_obeyed(path, &untrusted))?;
    file.take(limit).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() > MAX_FILE { Err(ConfigErrors::too_large(path)) } else { Ok(Some(bytes)) }
}

/// Refuses a path of which other users can change a part.
pub(in crate::config) fn trusted(path: &Path) -> Result<(), ConfigErrors> {
    ownership::check(path).map_err(|untrusted| not_obeyed(path, &untrusted))
}

fn not_obeyed(path: &Path, untrusted: &UntrustedPath) -> ConfigErrors {
    ConfigErrors::of_file(path, format!("is not read, because other users could change it: {untrusted}"))
}

pub(in crate::config) fn text_of(bytes: Vec<u8>, path: &Path) -> Result<String, ConfigErrors> {
    if bytes.len() > MAX_FILE {
        return Err(ConfigErrors::too_large(path));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        // The text before the first bad byte is unchanged, save for the mark at its beginning.
        let skipped = if error.as_bytes().starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let start = good - skipped;
        let message = "not UTF-8; save the file as UTF-8".to_owned();
        let problem = ConfigProblem::at(path, &LineIndex::new(text), &(start..start + 1), String::new(), message);
        ConfigErrors { problems: vec![problem] }
    })
}

#[cfg(unix)]
fn is_stream(about: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    about.file_type().is_fifo() || about.file_type().is_socket()
}

#[cfg(windows)]
fn is_stream(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(unix)]
    use crate::config::LockedFile;

    #[test]
    fn no_file_means_the_defaults() {
        let home = tempfile::tempdir().unwrap();
        let loaded = Config::load(&home.path().join("config.toml")).unwrap();
        assert_eq!(loaded, LoadedConfig { config: Config::default(), state: LoadState::Default });
    }

    #[test]
    fn a_file_is_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        fs::write(&path, "\u{feff}[leases]\r\nper_account = 3\r\n").unwrap();
        let loaded = Config::load(&path).unwrap();
        assert_eq!((loaded.config.pool.leases.per_account, loaded.state), (3, LoadState::Ok));
        assert_eq!(loaded.config.location_of(&["leases", "per_account"]).as_deref(), Some("config.toml:2"));
    }

    #[test]
    fn directories_and_large_or_non_utf8_files_are_rejected() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        let message = |path: &Path| Config::load(path).unwrap_err().to_string();
        assert!(message(home.path()).contains("is a directory"));
        fs::write(&path, " ".repeat(MAX_FILE + 1)).unwrap();
        assert!(message(&path).contains("larger than 1MiB"));
        fs::write(&path, b"[leases]\nttl = \"\xff\"\n").unwrap();
        let problem = Config::load(&path).unwrap_err().problems.remove(0);
        assert_eq!((problem.line, problem.column), (2, 8));
        assert!(problem.message.contains("not UTF-8"));
        fs::write(&path, b"\xef\xbb\xbf\xfe").unwrap();
        assert_eq!(Config::load(&path).unwrap_err().problems[0].column, 1);
        fs::write(&path, " ".repeat(MAX_FILE)).unwrap();
        assert!(Config::load(&path).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_could_change_or_remove_is_rejected() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("lessor");
        let path = directory.join("config.toml");
        fs::create_dir(&directory).unwrap();
        fs::write(&path, "[leases]\nper_account = 3\n").unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set(&path, 0o646);
        let message = Config::load(&path).unwrap_err().to_string();
        assert!(message.ends_with(&format!("(mode 0646); run: chmod o-w {}", path.display())), "{message}");
        assert!(LockedFile::lock(&path).is_err());
        set(&path, 0o600);
        assert!(Config::load(&path).is_ok());
        set(&directory, 0o757);
        assert!(Config::load(&path).is_err());
        fs::remove_file(&path).unwrap();
        assert!(Config::load(&path).is_err(), "others could have removed it");
        set(&directory, 0o755);
        assert_eq!(Config::load(&path).unwrap().state, LoadState::Default);
    }

    #[cfg(unix)]
    #[test]
    fn dangling_links_and_sockets_are_rejected() {
        let home = tempfile::tempdir().unwrap();
        let link = home.path().join("config.toml");
        std::os::unix::fs::symlink(home.path().join("nowhere"), &link).unwrap();
        assert!(Config::load(&link).unwrap_err().to_string().contains("is a link"));
        let socket = home.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(Config::load(&socket).unwrap_err().to_string().contains("is a pipe or socket"));
        assert!(Config::load(Path::new("/dev/null")).is_ok());
    }
}
