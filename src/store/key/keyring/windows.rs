//! The Windows Credential Manager, which is unlocked while its user is logged on.

use keyring_core::api::CredentialStoreApi as _;
use keyring_core::{Entry, Error};
use windows_native_keyring_store::Store;
use zeroize::Zeroizing;

use super::{KeyringError, SERVICE};

/// Reads the secret of this name; `None` if it does not exist.
pub(in crate::store) fn read(item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringError> {
    match entry(item)?.get_secret() {
        Ok(secret) => Ok(Some(Zeroizing::new(secret))),
        Err(Error::NoEntry) => Ok(None),
        Err(error) => Err(trouble(&error)),
    }
}

/// Stores the secret under this name, replacing an existing one.
pub(in crate::store) fn write(item: &str, secret: &[u8]) -> Result<(), KeyringError> {
    entry(item)?.set_secret(secret).map_err(|error| trouble(&error))
}

pub(in crate::store) fn remove(item: &str) -> Result<(), KeyringError> {
    match entry(item)?.delete_credential() {
        Ok(()) | Err(Error::NoEntry) => Ok(()),
        Err(error) => Err(trouble(&error)),
    }
}

/// Does nothing: it is never locked.
pub(in crate::store) fn ask_to_unlock() {}

fn entry(item: &str) -> Result<Entry, KeyringError> {
    let store = Store::new().map_err(|error| trouble(&error))?;
    store.build(SERVICE, item, None).map_err(|error| trouble(&error))
}

fn trouble(error: &Error) -> KeyringError {
    match error {
        Error::NoStorageAccess(_) => KeyringError::Locked,
        other => KeyringError::Unusable(other.to_string()),
    }
}
