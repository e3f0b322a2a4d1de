//! How a host joins: an admin invites it, and it accepts with a key pair of its own.

use std::time::Duration;

use super::records::small_millis;
use crate::credential::Secret;
use crate::shared_pool::database::address::PoolAddress;
use crate::shared_pool::database::client::{PoolClient, boolean, bytea, int4, int8, text};
use crate::shared_pool::database::error::{SharedPoolError, SharedPoolErrorKind};
use crate::shared_pool::database::{connect, password};
use crate::shared_pool::ids::{HostId, KeyGeneration};

/// What an admin prepares for a host that will join.
pub struct NewInvitation<'a> {
    /// The name of the host.
    pub name: &'a str,
    /// Whether it will be an admin.
    pub admin: bool,
    /// Whether it will be a refresher.
    pub refresher: bool,
    /// The public half of the key pair that is used for this invitation only.
    pub public_key: &'a [u8],
    /// The keys of the pool, wrapped for that key pair.
    pub wrapped: &'a [u8],
    /// Their generation.
    pub keys: KeyGeneration,
    /// How long the invitation can be accepted.
    pub lasts: Duration,
    /// The password of the database role that is created. The database gets only what it compares with.
    pub password: &'a Secret,
}

/// A host that was invited: its database role exists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invited {
    /// The host.
    pub host: HostId,
    /// The database role with which it connects.
    pub user: String,
}

/// What the pool knows about this host itself.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnHost {
    /// The pool: eight letters.
    pub pool: String,
    /// Its number.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// Whether it is an admin.
    pub admin: bool,
    /// Whether it is a refresher.
    pub refresher: bool,
    /// Whether it has accepted its invitation.
    pub joined: bool,
    /// The public key for which the keys are wrapped.
    pub public_key: Vec<u8>,
    /// The generation of the keys.
    pub keys: KeyGeneration,
    /// The keys of the pool, wrapped.
    pub wrapped: Vec<u8>,
}

impl std::fmt::Debug for OwnHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnHost").field("host", &self.host).field("name", &self.name).finish_non_exhaustive()
    }
}

impl PoolClient {
    /// Connects for joining: without the listening connection, and with a role that has not joined yet.
    ///
    /// # Errors
    /// When the server is not reached, not trusted or not fit, or the role is not known to the pool.
    pub async fn connect_to_join(address: &PoolAddress) -> Result<Self, SharedPoolError> {
        let opened = connect::open(address, |_| ()).await?;
        let client = Self::new(opened.client, opened.place);
        client.check_schema().await?;
        Ok(client)
    }

    /// Invites a host (admins): creates its database role.
    ///
    /// # Errors
    /// When the database is away, this host is no admin, the owner of the schema may not create roles, the name is taken,
    /// or the keys were replaced.
    pub async fn invite(&self, invitation: &NewInvitation<'_>) -> Result<Invited, SharedPoolError> {
        let verifier = self.verifier(invitation.password)?;
        let lasts = small_millis(invitation.lasts);
        let parameters = [
            text(&invitation.name),
            boolean(&invitation.admin),
            boolean(&invitation.refresher),
            bytea(&invitation.public_key),
            bytea(&invitation.wrapped),
            int4(&invitation.keys.0),
            int8(&lasts),
            text(&verifier),
        ];
        let sql = "select host, login from lessor.invite($1, $2, $3, $4, $5, $6, $7, $8)";
        let row = self.row(sql, &parameters).await?;
        Ok(Invited { host: HostId(self.get(&row, 0)?), user: self.get(&row, 1)? })
    }

    /// What the pool knows about this host: its rights and its wrapped keys. Also for one that has not joined yet.
    ///
    /// # Errors
    /// When the database is away or this role is no host.
    pub async fn own_host(&self) -> Result<OwnHost, SharedPoolError> {
        let sql = "select pool, host, name, admin, refresher, joined, public_key, key_generation, wrapped from lessor.own_host()";
        let row = self.row(sql, &[]).await?;
        Ok(OwnHost {
            pool: self.get(&row, 0)?,
            host: HostId(self.get(&row, 1)?),
            name: self.get(&row, 2)?,
            admin: self.get(&row, 3)?,
            refresher: self.get(&row, 4)?,
            joined: self.get(&row, 5)?,
            public_key: self.get(&row, 6)?,
            keys: KeyGeneration(self.get(&row, 7)?),
            wrapped: self.get(&row, 8)?,
        })
    }

    /// Accepts the invitation: from now on the keys are wrapped for this host's own key pair, and its role has another
    /// password than the one in the token, so that the token is of no more use.
    ///
    /// # Errors
    /// When the database is away, the invitation has ended or was accepted before, or the keys were replaced since.
    pub async fn accept_invitation(
        &self,
        public_key: &[u8],
        keys: KeyGeneration,
        wrapped: &[u8],
        password: &Secret,
    ) -> Result<HostId, SharedPoolError> {
        let verifier = self.verifier(password)?;
        let parameters = [bytea(&public_key), int4(&keys.0), bytea(&wrapped), text(&verifier)];
        self.value("select lessor.accept_invitation($1, $2, $3, $4)", &parameters).await.map(HostId)
    }

    fn verifier(&self, password: &Secret) -> Result<String, SharedPoolError> {
        password::verifier(password)
            .map_err(|error| self.error(SharedPoolErrorKind::Refused, format!("no random numbers: {error}")))
    }
}
