//! The plain values that the rest of the pool is built from: ids, times, targets, requests, refusals, settings.

/// Gives every variant of an enum its stable name, as the protocol, the store and the configuration have it.
macro_rules! stable_names {
    ($enum:ident: $($variant:ident = $name:literal),+ $(,)?) => {
        impl $enum {
            /// The stable name, as in the protocol, the store and the configuration.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}
pub(crate) use stable_names;

mod credential;
pub(crate) mod glob;
mod guest;
mod id;
mod identity;
mod outcome;
mod refusal;
mod request;
mod settings;
mod target;
mod time;

pub use credential::{CredentialKind, LoginProblem, LoginState, Tier, Verification};
pub use guest::GuestLimits;
pub(crate) use guest::LimitedGuests;
pub use id::{AccountId, BadAccountId, ConnectionId, Fence, GuestId, Process, WaiterId};
pub use identity::{AccountIdentity, AccountOwner, IdentityMatch, LoginCandidate};
pub use outcome::{Action, Decision, LimitSource, RefusalDetails, RequestOutcome, StatedWait};
pub use refusal::{Ineligible, IneligibleAccount, Refusal, RefusalKind};
pub use request::{
    AccountSet, ApartFromParent, Attestation, Bind, Holder, LeaseRequest, RequestNeeds, Subagent, Ticket,
};
pub use settings::{
    AccountSettings, AttestPolicy, DirectorySettings, Fallback, HealthSettings, LeaseSettings, LimitSettings, Mode,
    OveragePolicy, Overflow, PoolSettings, Primary, Protect, QuotaSettings, SelectionSettings, Strategy,
    SubagentPlacement, TokenSettings,
};
pub use target::{OtherQuota, Quota, Target, TargetNames};
pub(crate) use target::{QuotaChoice, QuotaChoices};
pub(crate) use time::Past;
pub use time::{Deadline, Mono, Now, Wall, millis, spoken};
