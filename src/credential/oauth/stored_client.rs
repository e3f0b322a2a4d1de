//! An OAuth client of the user's whose secret lessor keeps, so that no environment variable has to.

use std::sync::Arc;

use crate::credential::Secret;
use crate::pool::Wall;

/// A stored OAuth client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredClient {
    /// The name that the user chose; unique.
    pub name: String,
    /// Its provider; `None` if the configuration says which, by naming the client.
    pub provider: Option<String>,
    /// The client id; `None` if the configuration says it.
    pub client_id: Option<String>,
    /// Its secret; a public client has none.
    pub secret: Option<Arc<Secret>>,
    /// When it was stored.
    pub added_at: Wall,
}

impl StoredClient {
    /// Whether it can be a client of this provider.
    #[must_use]
    pub fn is_of(&self, provider: &str) -> bool {
        self.provider.as_deref().is_none_or(|own| own == provider)
    }

    /// Whether its secret is that of the configured client with this name and id.
    pub(super) fn is_configured_as(&self, name: &str, client_id: &str) -> bool {
        match &self.client_id {
            Some(own) => own == client_id,
            None => self.name == name,
        }
    }
}
