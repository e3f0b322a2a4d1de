//! The system's keyring, which can store the key instead of a file: the Secret Service, the macOS Keychain, or the
//! Windows Credential Manager. All functions may block on another program.

#[cfg_attr(all(unix, not(target_os = "macos")), path = "secret_service.rs")]
#[cfg_attr(target_os = "macos", path = "macos.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod system;

pub(in crate::store) use system::{ask_to_unlock, read, remove, write};

/// The service name of all items.
const SERVICE: &str = "lessor";

/// Why the keyring cannot be used now.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyringError {
    /// The user must unlock it first.
    #[error("the keyring is locked")]
    Locked,
    /// There is no keyring, or it does not work.
    #[error("the keyring cannot be used ({0})")]
    Unusable(String),
}
