//! The login keychain of macOS. The system asks the user to unlock it when necessary.

use security_framework::base::Error;
use security_framework::passwords::{delete_generic_password, get_generic_password, set_generic_password};
use zeroize::Zeroizing;

use super::{KeyringError, SERVICE};

/// `errSecItemNotFound`
const NOT_FOUND: i32 = -25300;
/// `errSecInteractionNotAllowed`, `errSecAuthFailed`, `errSecUserCanceled`: the keychain is locked.
const LOCKED: [i32; 3] = [-25308, -25293, -128];

/// Reads the secret of this name; `None` if it does not exist.
pub(in crate::store) fn read(item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringError> {
    match get_generic_password(SERVICE, item) {
        Ok(secret) => Ok(Some(Zeroizing::new(secret))),
        Err(error) if error.code() == NOT_FOUND => Ok(None),
        Err(error) => Err(trouble(&error)),
    }
}

/// Stores the secret under this name, replacing an existing one.
pub(in crate::store) fn write(item: &str, secret: &[u8]) -> Result<(), KeyringError> {
    set_generic_password(SERVICE, item, secret).map_err(|error| trouble(&error))
}

pub(in crate::store) fn remove(item: &str) -> Result<(), KeyringError> {
    match delete_generic_password(SERVICE, item) {
        Err(error) if error.code() != NOT_FOUND => Err(trouble(&error)),
        _ => Ok(()),
    }
}

/// Does nothing: the system asks at every access.
pub(in crate::store) fn ask_to_unlock() {}

fn trouble(error: &Error) -> KeyringError {
    if LOCKED.contains(&error.code()) {
        return KeyringError::Locked;
    }
    KeyringError::Unusable(error.to_string())
}
