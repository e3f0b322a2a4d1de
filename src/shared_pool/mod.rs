//! The pool that several machines share: its data in PostgreSQL, as typed calls.
//!
//! [`create_pool`] makes it once in a database; every host has one [`PoolClient`] for its calls and one [`PoolNotices`],
//! which only says that there may be news. The rules of what hosts agree on are functions in the database
//! (`schema/1/*.sql`), one call and one round trip each, so that a host that is not trusted cannot break them: no role
//! may touch a table. Nothing here decides who gets a lease; that is the [`pool`](crate::pool) of each host.
//!
//! Times are milliseconds since 1970 on the database's clock. Secrets are sealed by their host before they come here.

mod accounts;
mod address;
mod client;
mod connect;
mod create;
mod error;
mod fences;
mod heartbeat;
mod hosts;
mod ids;
mod invitation;
mod join_token;
mod keys;
mod limits;
mod membership;
mod news;
mod notices;
mod password;
mod records;
mod refresh;
mod seats;
mod settings;
mod terms;

pub use accounts::PoolCredential;
pub use address::PoolAddress;
pub use client::PoolClient;
pub use create::{CreatedPool, NewHost, create_pool, new_pool_id, upgrade_pool};
pub use error::{SharedPoolError, SharedPoolErrorKind};
pub use fences::FenceRange;
pub use heartbeat::{SeatValidity, SilentTerms};
pub use hosts::{HostSeats, PoolHost, ResealedAccount};
pub use ids::{HostId, KeyGeneration, NewsPosition, TermId, TokenGeneration};
pub use invitation::{Invited, NewInvitation, OwnHost};
pub use join_token::{JoinToken, JoinTokenError};
pub use keys::{HostKeyPair, HostPublicKey, PoolKeyError, PoolKeys};
pub use limits::{ProbeClaim, ProbeEnd};
pub use membership::Membership;
pub use news::{PoolNews, SharedAccount, SharedLimit, SharedUsage};
pub use notices::{PoolNotice, PoolNoticeKind, PoolNotices};
pub use refresh::{RefreshClaim, RefreshRefusal, StoredRefresh};
pub use seats::SeatClaim;
pub use settings::{PoolInfo, SCHEMA, SharedPoolSettings};
pub use terms::BeatAnswer;
