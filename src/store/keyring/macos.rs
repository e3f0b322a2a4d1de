//! The login keychain of macOS. The system asks its owner by itself, where somebody is there to be asked.

use security_framework::base::Error;
use security_framework::passwords::{delete_generic_password, get_generic_password, set_generic_password};
use zeroize::Zeroizing;

use super::{KeyringTrouble, SERVICE};

/// `errSecItemNotFound`
const NOT_FOUND: i32 = -25300;
/// `errSecInteractionNotAllowed`, `errSecAuthFailed`, `errSecUserCanceled`: it is locked, and nobody has opened it.
const LOCKED: [i32; 3] = [-25308, -25293, -128];

/// The secret of this name; `None` when there is none.
pub(in crate::store) fn read(item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringTrouble> {
    match get_generic_password(SERVICE, item) {
        Ok(secret) => Ok(Some(Zeroizing::new(secret))),
        Err(error) if error.code() == NOT_FOUND => Ok(None),
        Err(error) => Err(trouble(&error)),
    }
}

/// Keeps the secret under this name, in place of what was there.
pub(in crate::store) fn write(item: &str, secret: &[u8]) -> Result<(), KeyringTrouble> {
    set_generic_password(SERVICE, item, secret).map_err(|error| trouble(&error))
}

/// Forgets the secret of this name.
pub(in crate::store) fn remove(item: &str) -> Result<(), KeyringTrouble> {
    match delete_generic_password(SERVICE, item) {
        Err(error) if error.code() != NOT_FOUND => Err(trouble(&error)),
        _ => Ok(()),
    }
}

/// The system asks with every attempt.
pub(in crate::store) fn ask_to_unlock() {}

fn trouble(error: &Error) -> KeyringTrouble {
    if LOCKED.contains(&error.code()) {
        return KeyringTrouble::Locked;
    }
    KeyringTrouble::Unusable(error.to_string())
}
