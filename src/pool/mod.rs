//! The pure core: accounts, leases, queue, sessions, selection. It receives the time and a command, and returns a reply
//! and effects; it uses no socket, file, clock, thread or random source. [`Pool`] shows how to drive it.
//!
//! | where | what |
//! |---|---|
//! | `model` | plain values: ids, times, targets, requests, refusals, settings |
//! | `account`, `limit`, `lease`, `queue`, `session` | the sub-states, each with its own indices |
//! | `seats` | what this host may use of the accounts that several hosts share |
//! | `timers` | one table of everything that time changes |
//! | `select` | which account a request gets, and why |
//! | `report` | what a reported outcome means |
//! | `state`, `handle`, `read`, `snapshot`, `check` | the whole: its struct, its commands, reading, saving, invariants |

mod account;
mod check;
mod command;
mod handle;
pub(crate) mod in_flight;
mod lease;
mod limit;
mod model;
mod queue;
mod read;
mod report;
mod seats;
mod select;
mod session;
mod snapshot;
mod state;
mod timers;

pub use account::health::{Bucket, Health};
pub use account::record::{AccountChange, AccountRecord};
pub use account::usage::{Usage, Window};
pub use account::{Account, Renewing};
pub use command::{Command, DenialsEnd, Effect, Event, LeaseMove, MoveCause, MoveTime, NewLimit, RefusalOrigin, Reply};
pub use in_flight::{InFlight, TurnTicket};
pub use lease::comparison::{Comparison, Criterion, PassedAccount};
pub use lease::recent::RefusedRequest;
pub use lease::{ChosenBy, Ending, Lease, reacquire};
pub use limit::{Limit, LimitRecord, model_key};
pub(crate) use model::glob::matches as model_matches;
pub use model::{
    AccountId, AccountIdentity, AccountOwner, AccountSet, AccountSettings, Action, ApartFromParent, AttestPolicy,
    Attestation, BadAccountId, Bind, ConnectionId, CredentialKind, Deadline, Decision, DirectorySettings, Fallback,
    Fence, GuestId, GuestLimits, HealthSettings, Holder, IdentityMatch, Ineligible, IneligibleAccount, LeaseRequest,
    LeaseSettings, LimitSettings, LimitSource, LoginCandidate, LoginProblem, LoginState, Mode, Mono, Now, OtherQuota,
    OveragePolicy, Overflow, PoolSettings, Primary, Process, Protect, Quota, QuotaSettings, Refusal, RefusalDetails,
    RefusalKind, RequestNeeds, RequestOutcome, SelectionSettings, StatedWait, Strategy, Subagent, SubagentPlacement,
    Target, TargetNames, Ticket, Tier, TokenSettings, Verification, WaiterId, Wall, millis, spoken,
};
pub use queue::{MOST_WAITERS, QueuedRequest};
pub use report::backoff::first_wait;
pub use seats::{FenceBlock, SeatCounts, SeatDenial, SeatLimits};
pub use select::explain::{CandidateAccount, Exclusion, Explanation, LeaseExplanation, SelectionResult};
pub use select::forecast::{Forecast, Outlook};
pub use session::SessionRecord;
pub use snapshot::{PoolStart, Snapshot};
pub use state::Pool;
