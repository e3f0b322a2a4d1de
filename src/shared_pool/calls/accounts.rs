//! The accounts of the pool and their sealed credentials.

use super::records::{limits_json, record_json, sql_time};
use crate::pool::{AccountId, AccountRecord, LimitRecord, LoginState, Wall};
use crate::shared_pool::database::client::{PoolClient, bytea, int4, int8, text};
use crate::shared_pool::database::error::SharedPoolError;
use crate::shared_pool::ids::{KeyGeneration, TokenGeneration, sql_id};

/// A credential as the database keeps it: sealed by a host, with keys that the database never has.
#[derive(Clone, Copy)]
pub struct PoolCredential<'a> {
    /// Everything but the refresh token.
    pub access: &'a [u8],
    /// The refresh token, if the credential has one.
    pub refresh: Option<&'a [u8]>,
    /// When the access token ends, if it does.
    pub expires_at: Option<Wall>,
    /// The keys that sealed it.
    pub keys: KeyGeneration,
}

impl PoolClient {
    /// Adds an account with its limits (admins). Its id may be that of an account that was removed.
    ///
    /// # Errors
    /// When the database is away, this host is no admin, or the pool has an account with this id or label.
    pub async fn add_account(
        &self,
        record: &AccountRecord,
        credential: PoolCredential<'_>,
        limits: &[LimitRecord],
    ) -> Result<TokenGeneration, SharedPoolError> {
        let PoolCredential { access, refresh, expires_at, keys } = credential;
        let (id, expires_at) = (sql_id(record.id), expires_at.map(sql_time));
        let (json, state) = self.json_of(record)?;
        let limits = limits_json(limits).map_err(|error| self.bad_answer(error))?;
        let parameters = [
            int8(&id),
            text(&json),
            text(&state),
            bytea(&access),
            bytea(&refresh),
            int8(&expires_at),
            int4(&keys.0),
            text(&limits),
        ];
        let sql = "select lessor.add_account($1, $2::json, $3::json, $4, $5, $6, $7, $8::json)";
        self.value(sql, &parameters).await.map(TokenGeneration)
    }

    /// Changes the record of an account (admins). The state of its login is not part of it.
    ///
    /// # Errors
    /// When the database is away, this host is no admin, or the account is not in the pool.
    pub async fn save_account(&self, record: &AccountRecord) -> Result<(), SharedPoolError> {
        let (json, _) = self.json_of(record)?;
        self.row("select lessor.save_account($1, $2::json)::text", &[int8(&sql_id(record.id)), text(&json)]).await?;
        Ok(())
    }

    /// Replaces the credential of an account, after a new login (admins). Its login works from then on.
    ///
    /// # Errors
    /// When the database is away, this host is no admin, or the account is not in the pool.
    pub async fn replace_credential(
        &self,
        record: &AccountRecord,
        credential: PoolCredential<'_>,
    ) -> Result<TokenGeneration, SharedPoolError> {
        let PoolCredential { access, refresh, expires_at, keys } = credential;
        let (id, expires_at) = (sql_id(record.id), expires_at.map(sql_time));
        let (json, state) = self.json_of(record)?;
        let parameters =
            [int8(&id), text(&json), text(&state), bytea(&access), bytea(&refresh), int8(&expires_at), int4(&keys.0)];
        let sql = "select lessor.replace_credential($1, $2::json, $3::json, $4, $5, $6, $7)";
        self.value(sql, &parameters).await.map(TokenGeneration)
    }

    /// Records what a host found out about the login of an account. It is evidence about one generation of the credential:
    /// `false` if that was replaced since.
    ///
    /// # Errors
    /// When the database is away or this host is no member.
    pub async fn set_login_state(
        &self,
        account: AccountId,
        generation: TokenGeneration,
        state: &LoginState,
    ) -> Result<bool, SharedPoolError> {
        let state = serde_json::to_string(state).map_err(|error| self.bad_answer(error))?;
        let account = sql_id(account);
        let parameters = [int8(&account), int8(&generation.0), text(&state)];
        self.value("select lessor.set_login_state($1, $2, $3::json)", &parameters).await
    }

    /// Removes an account (admins). Hosts end their leases on it when they read the news.
    ///
    /// # Errors
    /// When the database is away or this host is no admin. An account that is not there is no error.
    pub async fn remove_account(&self, account: AccountId) -> Result<(), SharedPoolError> {
        self.row("select lessor.remove_account($1)::text", &[int8(&sql_id(account))]).await.map(drop)
    }

    /// The sealed refresh token of an account (refreshers), with the generations of the credential and of the keys.
    ///
    /// # Errors
    /// When the database is away or this host is no refresher.
    pub async fn refresh_token(
        &self,
        account: AccountId,
    ) -> Result<Option<(TokenGeneration, KeyGeneration, Vec<u8>)>, SharedPoolError> {
        let sql = "select token_generation, key_generation, token from lessor.refresh_token($1)";
        let rows = self.rows(sql, &[int8(&sql_id(account))]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some((TokenGeneration(self.get(row, 0)?), KeyGeneration(self.get(row, 1)?), self.get(row, 2)?)))
    }

    /// The record and the login state as JSON.
    fn json_of(&self, record: &AccountRecord) -> Result<(String, String), SharedPoolError> {
        let json = |json: serde_json::Result<String>| json.map_err(|error| self.bad_answer(error));
        Ok((json(record_json(record))?, json(serde_json::to_string(&record.login_state))?))
    }
}
