//! The user whose service it is.

use std::path::{Path, PathBuf};

/// A user, as far as the service managers need it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceUser {
    /// The user id; 0 on Windows, where it is not used.
    pub uid: u32,
    /// The user's name, with the domain on Windows.
    pub name: Option<String>,
    /// The home directory.
    pub home: PathBuf,
    /// The XDG configuration directory.
    pub config: PathBuf,
    /// lessor's state directory.
    pub state: PathBuf,
}

impl ServiceUser {
    /// The user of this process; `None` without a home directory. `state` is lessor's state directory.
    #[must_use]
    pub fn current(state: &Path) -> Option<Self> {
        let home = std::env::home_dir().filter(|home| home.is_absolute())?;
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let uid = uid();
        let config = config.unwrap_or_else(|| home.join(".config"));
        Some(Self { uid, name: name(uid), home, config, state: state.to_owned() })
    }
}

#[cfg(unix)]
fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

#[cfg(not(unix))]
fn uid() -> u32 {
    0
}

#[cfg(unix)]
fn name(uid: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    // users from a directory service are not in the file
    name_of(&users, uid).or_else(|| std::env::var("USER").ok().filter(|name| !name.is_empty()))
}

#[cfg(not(unix))]
fn name(_uid: u32) -> Option<String> {
    let name = std::env::var("USERNAME").ok().filter(|name| !name.is_empty())?;
    Some(match std::env::var("USERDOMAIN") {
        Ok(domain) if !domain.is_empty() => format!("{domain}\\{name}"),
        _ => name,
    })
}

/// The name of the user with this id.
#[cfg(any(unix, test))]
fn name_of(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_id() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:100::/home/ann:\n";
        assert_eq!(name_of(users, 1000).as_deref(), Some("ann"));
        assert_eq!(name_of(users, 100), None);
    }
}
