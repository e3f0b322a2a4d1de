//! The Secret Service of the desktop (GNOME Keyring, KWallet, KeePassXC), over D-Bus.

use std::{collections::HashMap, time::Duration};

use secret_service::{Collection, EncryptionType, Error, SecretService};
use zeroize::Zeroizing;

use super::{KeyringError, SERVICE};

/// A keyring that takes longer is considered broken.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the user may take to answer the keyring's prompt.
const PERSONS_PATIENCE: Duration = Duration::from_secs(300);

/// Reads the secret of this name; `None` if it does not exist.
pub(in crate::store) fn read(item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringError> {
    with(PATIENCE, async |service| {
        let found = service.search_items(attributes(item)).await?;
        if let Some(item) = found.unlocked.first() {
            return Ok(Some(Zeroizing::new(item.get_secret().await?)));
        }
        if !found.locked.is_empty() {
            return Err(Error::Locked);
        }
        // some keyrings do not list locked items
        default_of(&service).await?;
        Ok(None)
    })
}

/// Stores the secret under this name, replacing an existing one.
pub(in crate::store) fn write(item: &str, secret: &[u8]) -> Result<(), KeyringError> {
    with(PATIENCE, async |service| {
        let collection = default_of(&service).await?;
        let label = format!("lessor: key of {item}");
        collection.create_item(&label, attributes(item), secret, true, "text/plain").await.map(drop)
    })
}

pub(in crate::store) fn remove(item: &str) -> Result<(), KeyringError> {
    with(PATIENCE, async |service| {
        let found = service.search_items(attributes(item)).await?;
        if !found.locked.is_empty() {
            return Err(Error::Locked);
        }
        for item in found.unlocked {
            item.delete().await?;
        }
        Ok(())
    })
}

/// Asks the user to unlock the keyring and returns when the prompt is closed.
pub(in crate::store) fn ask_to_unlock() {
    let asked = with(PERSONS_PATIENCE, async |service| service.get_default_collection().await?.unlock().await);
    if let Err(trouble) = asked {
        tracing::debug!("the keyring was not unlocked: {trouble}");
    }
}

/// The unlocked collection for new secrets.
async fn default_of<'a>(service: &'a SecretService<'_>) -> Result<Collection<'a>, Error> {
    let collection = service.get_default_collection().await?;
    collection.ensure_unlocked().await?;
    Ok(collection)
}

fn attributes(item: &str) -> HashMap<&str, &str> {
    HashMap::from([("application", SERVICE), ("database", item)])
}

/// Runs `work` on a new connection, which is closed afterwards.
fn with<T>(limit: Duration, work: impl AsyncFnOnce(SecretService<'_>) -> Result<T, Error>) -> Result<T, KeyringError> {
    let unusable = |error: &dyn std::fmt::Display| KeyringError::Unusable(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| unusable(&error))?;
    let worked = runtime.block_on(async {
        tokio::time::timeout(limit, async { work(SecretService::connect(EncryptionType::Dh).await?).await }).await
    });
    match worked {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Error::Locked | Error::Prompt | Error::PromptDisconnected)) => Err(KeyringError::Locked),
        Ok(Err(Error::NoResult)) => Err(unusable(&"it has no default collection")),
        Ok(Err(error)) => Err(unusable(&error)),
        Err(_) => Err(unusable(&"it does not answer")),
    }
}
