//! Which user a process belongs to, on systems where a pipe has no owner to check.

use std::io;

use winsafe::{HPROCESS, TokenInfo, co};

/// The id (SID) of the user that this process runs as.
///
/// # Errors
/// When the system does not report it.
pub(crate) fn this_user() -> io::Result<String> {
    user_of(&HPROCESS::GetCurrentProcess())
}

/// Whether the process runs as this user; another user cannot forge that.
pub(crate) fn is_ours(pid: u32) -> io::Result<bool> {
    let process = match HPROCESS::OpenProcess(co::PROCESS::QUERY_LIMITED_INFORMATION, false, pid) {
        Ok(process) => process,
        Err(co::ERROR::ACCESS_DENIED) => return Ok(false),
        Err(error) => return Err(io::Error::other(error)),
    };
    match user_of(&process) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        user => Ok(user? == this_user()?),
    }
}

fn user_of(process: &HPROCESS) -> io::Result<String> {
    let token = match process.OpenProcessToken(co::TOKEN::QUERY) {
        Ok(token) => token,
        Err(co::ERROR::ACCESS_DENIED) => return Err(io::ErrorKind::PermissionDenied.into()),
        Err(error) => return Err(io::Error::other(error)),
    };
    let unknown = || io::Error::other("the system does not report the user of the process");
    match token.GetTokenInformation(co::TOKEN_INFORMATION_CLASS::User).map_err(io::Error::other)? {
        TokenInfo::User(user) => user.User.Sid().map(|id| id.to_string()).ok_or_else(unknown),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_ours() {
        assert!(this_user().unwrap().starts_with("S-1-"));
        assert!(is_ours(std::process::id()).unwrap());
        assert!(is_ours(u32::MAX).is_err());
    }
}
