//! The hosts of the pool, and how one loses its access.

use serde::Deserialize;

use crate::pool::{AccountId, Wall};
use crate::shared_pool::database::client::{PoolClient, int4, int8, text};
use crate::shared_pool::database::error::SharedPoolError;
use crate::shared_pool::ids::{HostId, KeyGeneration, TermId, TokenGeneration, account_id, sql_id};

/// A host of the pool. Times are on the database's clock.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct PoolHost {
    /// Its number.
    pub id: HostId,
    /// Its name; unique among the hosts that are in the pool.
    pub name: String,
    /// Whether it may add, change and remove accounts, invite and evict.
    pub admin: bool,
    /// Whether it may read refresh tokens and refresh logins.
    pub refresher: bool,
    /// The public half of its key pair, in hexadecimal digits.
    #[serde(with = "hex_text")]
    pub public_key: Vec<u8>,
    /// The generation of the keys that are wrapped for it.
    pub keys: KeyGeneration,
    /// Until when its invitation can be accepted, if it was not accepted yet.
    pub invited_until: Option<Wall>,
    /// When it joined.
    pub joined_at: Option<Wall>,
    /// When it left or was evicted.
    pub ended_at: Option<Wall>,
    /// Its terms that are not over.
    pub terms: Vec<TermId>,
    /// When the database got its last heartbeat.
    pub last_beat: Option<Wall>,
}

/// The seats that one term of a host holds on an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostSeats {
    /// The host; `None` for a seat that only a handed-out token keeps.
    pub host: Option<HostId>,
    /// Its term.
    pub term: Option<TermId>,
    /// The account.
    pub account: AccountId,
    /// How many.
    pub seats: u32,
    /// How many of them stay taken for a handed-out token.
    pub handed_out: u32,
}

/// An account's credential, sealed again with new keys.
#[derive(Clone)]
pub struct ResealedAccount {
    /// The account.
    pub account: AccountId,
    /// The generation of its credential that was sealed again.
    pub generation: TokenGeneration,
    /// Everything but the refresh token.
    pub access: Vec<u8>,
    /// The refresh token, if it has one.
    pub refresh: Option<Vec<u8>>,
}

/// Bytes as hexadecimal digits, as `encode(…, 'hex')` writes them.
pub(super) mod hex_text {
    use serde::{Deserialize, Deserializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        bytes(&text).ok_or_else(|| serde::de::Error::custom("not hexadecimal digits"))
    }

    pub fn bytes(text: &str) -> Option<Vec<u8>> {
        let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
        let pairs = digits.chunks(2).map(|pair| match pair {
            [high, low] => u8::try_from(high << 4 | low).ok(),
            _ => None,
        });
        pairs.collect()
    }

    pub fn digits(bytes: &[u8]) -> String {
        bytes
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|digit| char::from_digit(digit.into(), 16))
            .collect()
    }
}

impl PoolClient {
    /// All hosts, with those that were invited, have left or were evicted in the last 30 days.
    ///
    /// # Errors
    /// When the database is away or this host is no member.
    pub async fn hosts(&self) -> Result<Vec<PoolHost>, SharedPoolError> {
        let json: String = self.value("select lessor.hosts()::text", &[]).await?;
        serde_json::from_str(&json).map_err(|error| self.bad_answer(error))
    }

    /// Who holds which seats, for people.
    ///
    /// # Errors
    /// When the database is away or this host is no member.
    pub async fn seats_of_hosts(&self) -> Result<Vec<HostSeats>, SharedPoolError> {
        let rows = self.rows("select host, term, account, seats, handed_out from lessor.seats_of_hosts()", &[]).await?;
        let seats = rows.iter().map(|row| {
            Ok(HostSeats {
                host: self.get::<Option<i64>>(row, 0)?.map(HostId),
                term: self.get::<Option<i64>>(row, 1)?.map(TermId),
                account: account_id(self.get(row, 2)?),
                seats: self.get::<i32>(row, 3)?.cast_unsigned(),
                handed_out: self.get::<i32>(row, 4)?.cast_unsigned(),
            })
        });
        seats.collect()
    }

    /// Ends the access of a host (admins): its role cannot log in any more, its connections end, its refresh claims count
    /// as reported. Its seats stay taken until its heartbeat was silent for ttl + margin. Replace the keys next
    /// ([`rekey`](Self::rekey)). `false`: it had no access.
    ///
    /// # Errors
    /// When the database is away or this host is no admin.
    pub async fn evict(&self, host: HostId) -> Result<bool, SharedPoolError> {
        self.value("select lessor.evict($1)", &[int8(&host.0)]).await
    }

    /// Ends the access of this host itself. Its leases on shared accounts have ended before.
    ///
    /// # Errors
    /// When the database is away or this host is no member.
    pub async fn leave(&self) -> Result<(), SharedPoolError> {
        self.row("select lessor.leave()::text", &[]).await.map(drop)
    }

    /// Replaces the keys of the pool (admins): all credentials sealed again, and the new keys wrapped for every host that
    /// is in the pool or invited. `false`: a credential, the keys or the hosts have changed since they were read; read and
    /// try again.
    ///
    /// # Errors
    /// When the database is away or this host is no admin.
    pub async fn rekey(
        &self,
        keys: KeyGeneration,
        accounts: &[ResealedAccount],
        wrapped: &[(HostId, Vec<u8>)],
    ) -> Result<bool, SharedPoolError> {
        let accounts: Vec<_> = accounts
            .iter()
            .map(|sealed| {
                serde_json::json!({
                    "account": sql_id(sealed.account),
                    "generation": sealed.generation.0,
                    "access": hex_text::digits(&sealed.access),
                    "refresh": sealed.refresh.as_deref().map(hex_text::digits),
                })
            })
            .collect();
        let wrapped: Vec<_> = wrapped
            .iter()
            .map(|(host, keys)| serde_json::json!({ "host": host.0, "wrapped": hex_text::digits(keys) }))
            .collect();
        let (accounts, wrapped) =
            (serde_json::Value::from(accounts).to_string(), serde_json::Value::from(wrapped).to_string());
        let parameters = [int4(&keys.0), text(&accounts), text(&wrapped)];
        self.value("select lessor.rekey($1, $2::json, $3::json)", &parameters).await
    }
}
