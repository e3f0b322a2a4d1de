//! The Credential Manager of Windows, which is open as long as its owner is logged on.

use keyring_core::api::CredentialStoreApi as _;
use keyring_core::{Entry, Error};
use windows_native_keyring_store::Store;
use zeroize::Zeroizing;

use super::{KeyringTrouble, SERVICE};

/// The secret of this name; `None` when there is none.
pub(in crate::store) fn read(item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringTrouble> {
    match entry(item)?.get_secret() {
        Ok(secret) => Ok(Some(Zeroizing::new(secret))),
        Err(Error::NoEntry) => Ok(None),
        Err(error) => Err(trouble(&error)),
    }
}

/// Keeps the secret under this name, in place of what was there.
pub(in crate::store) fn write(item: &str, secret: &[u8]) -> Result<(), KeyringTrouble> {
    entry(item)?.set_secret(secret).map_err(|error| trouble(&error))
}

/// Forgets the secret of this name.
pub(in crate::store) fn remove(item: &str) -> Result<(), KeyringTrouble> {
    match entry(item)?.delete_credential() {
        Ok(()) | Err(Error::NoEntry) => Ok(()),
        Err(error) => Err(trouble(&error)),
    }
}

/// Nobody needs to be asked.
pub(in crate::store) fn ask_to_unlock() {}

fn entry(item: &str) -> Result<Entry, KeyringTrouble> {
    let store = Store::new().map_err(|error| trouble(&error))?;
    store.build(SERVICE, item, None).map_err(|error| trouble(&error))
}

fn trouble(error: &Error) -> KeyringTrouble {
    match error {
        Error::NoStorageAccess(_) => KeyringTrouble::Locked,
        other => KeyringTrouble::Unusable(other.to_string()),
    }
}
