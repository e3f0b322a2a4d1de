//! The system's keyring, where the key may lie instead of in a file: the Secret Service, the macOS Keychain, the Windows
//! Credential Manager. Everything here may wait for another program, and is called where waiting holds nobody up.

#[cfg_attr(all(unix, not(target_os = "macos")), path = "secret_service.rs")]
#[cfg_attr(target_os = "macos", path = "macos.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod system;

pub(super) use system::{ask_to_unlock, read, remove, write};

/// What all items of ours are filed under.
const SERVICE: &str = "lessor";

/// Why the keyring gives or takes nothing now.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyringTrouble {
    /// Its owner must open it first.
    #[error("the keyring is locked")]
    Locked,
    /// There is none, or it does not do what it should.
    #[error("the keyring cannot be used ({0})")]
    Unusable(String),
}
