//! The Secret Service of the desktop (GNOME Keyring, KWallet, KeePassXC), over D-Bus.

use std::collections::HashMap;
use std::time::Duration;

use secret_service::{Collection, EncryptionType, Error, SecretService};
use zeroize::Zeroizing;

use super::{KeyringTrouble, SERVICE};

/// A keyring that takes longer is in trouble.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a person may take to answer the keyring's own question.
const PERSONS_PATIENCE: Duration = Duration::from_secs(300);

/// The secret of this name; `None` when there is none.
pub(in crate::store) fn read(item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringTrouble> {
    with(PATIENCE, async |service| {
        let found = service.search_items(attributes(item)).await?;
        if let Some(item) = found.unlocked.first() {
            return Ok(Some(Zeroizing::new(item.get_secret().await?)));
        }
        if !found.locked.is_empty() {
            return Err(Error::Locked);
        }
        // some show nothing of what is locked
        default_of(&service).await?;
        Ok(None)
    })
}

/// Keeps the secret under this name, in place of what was there.
pub(in crate::store) fn write(item: &str, secret: &[u8]) -> Result<(), KeyringTrouble> {
    with(PATIENCE, async |service| {
        let collection = default_of(&service).await?;
        let label = format!("lessor: the key of {item}");
        collection.create_item(&label, attributes(item), secret, true, "text/plain").await.map(drop)
    })
}

/// Forgets the secret of this name.
pub(in crate::store) fn remove(item: &str) -> Result<(), KeyringTrouble> {
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

/// Has the keyring ask its owner to open it, where it can ask; returns when that is answered.
pub(in crate::store) fn ask_to_unlock() {
    let asked = with(PERSONS_PATIENCE, async |service| service.get_default_collection().await?.unlock().await);
    if let Err(trouble) = asked {
        tracing::debug!("the keyring was not opened: {trouble}");
    }
}

/// Where new secrets go, open.
async fn default_of<'a>(service: &'a SecretService<'_>) -> Result<Collection<'a>, Error> {
    let collection = service.get_default_collection().await?;
    collection.ensure_unlocked().await?;
    Ok(collection)
}

fn attributes(item: &str) -> HashMap<&str, &str> {
    HashMap::from([("application", SERVICE), ("database", item)])
}

/// Does the work on a connection of its own, which is gone afterwards.
fn with<T>(
    patience: Duration,
    work: impl AsyncFnOnce(SecretService<'_>) -> Result<T, Error>,
) -> Result<T, KeyringTrouble> {
    let unusable = |error: &dyn std::fmt::Display| KeyringTrouble::Unusable(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| unusable(&error))?;
    let worked = runtime.block_on(async {
        tokio::time::timeout(patience, async { work(SecretService::connect(EncryptionType::Dh).await?).await }).await
    });
    match worked {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Error::Locked | Error::Prompt | Error::PromptDisconnected)) => Err(KeyringTrouble::Locked),
        Ok(Err(Error::NoResult)) => Err(unusable(&"it has no default collection")),
        Ok(Err(error)) => Err(unusable(&error)),
        Err(_) => Err(unusable(&"it does not answer")),
    }
}
