//! The state as answers of the protocol.

mod account;
mod credential;
mod denial;
mod gateway_key;
mod lease;
mod pool;
mod pool_seats;
mod provider;
mod remedy;
mod situation;
mod status;
mod warnings;

pub(crate) use account::{account_answer, account_info, limit, limits, refusal, state_reason};
pub(crate) use credential::{credential, credential_problem, owned_credential, why_renewing};
pub(crate) use denial::{denial_remedy, disabled, needs_login_words, still_unusable};
pub(crate) use gateway_key::gateway_key;
pub(crate) use lease::{decision, holder_info, lease_rows, with_lease, with_programs};
pub(crate) use pool::pool_summary;
pub(crate) use pool_seats::{PoolSeats, read_pool_seats};
pub(crate) use provider::provider_info;
pub use remedy::renewal_command;
pub(crate) use remedy::{client_check, login_command, refused_client_remedy, remedy, renewal_hint};
pub(crate) use situation::situation;
pub(crate) use status::{status, totals};
pub(crate) use warnings::{KEYRING_HINT, unmatched_accounts};
