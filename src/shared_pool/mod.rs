//! The pool that several machines share: its data in PostgreSQL, as typed calls.
//!
//! [`create_pool`] makes it once in a database; every host has one [`PoolClient`] for its calls and one [`PoolNotices`],
//! which only says that there may be news. The rules of what hosts agree on are functions in the database
//! (`schema/1/*.sql`), one call and one round trip each, so that a host that is not trusted cannot break them: no role
//! may touch a table. Nothing here decides who gets a lease; that is the [`pool`](crate::pool) of each host.
//!
//! Times are milliseconds since 1970 on the database's clock. Secrets are sealed by their host before they come here.

mod calls;
mod database;
mod heartbeat;
mod ids;
mod join_token;
mod keys;
mod membership;

pub use calls::accounts::PoolCredential;
pub use calls::create::{CreatedPool, NewHost, create_pool, new_pool_id, upgrade_pool};
pub use calls::fences::FenceRange;
pub use calls::hosts::{HostSeats, PoolHost, ResealedAccount};
pub use calls::invitation::{Invited, NewInvitation, OwnHost};
pub use calls::limits::{ProbeClaim, ProbeEnd};
pub use calls::news::{PoolNews, SharedAccount, SharedLimit, SharedUsage};
pub use calls::refresh::{RefreshClaim, RefreshRefusal, StoredRefresh};
pub use calls::seats::SeatClaim;
pub use calls::settings::{PoolInfo, SCHEMA, SharedPoolSettings};
pub use calls::terms::BeatAnswer;
pub use database::address::PoolAddress;
pub use database::client::PoolClient;
pub use database::error::{SharedPoolError, SharedPoolErrorKind};
pub use database::notices::{PoolNotice, PoolNoticeKind, PoolNotices};
pub use heartbeat::{SeatValidity, SilentTerms};
pub use ids::{HostId, KeyGeneration, NewsPosition, TermId, TokenGeneration};
pub use join_token::{JoinToken, JoinTokenError};
pub use keys::{HostKeyPair, HostPublicKey, PoolKeyError, PoolKeys};
pub use membership::Membership;
