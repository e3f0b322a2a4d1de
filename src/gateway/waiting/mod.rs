//! Requests that no account can serve now: how long each may wait, the sessions that wait over several requests, and the
//! provider's own refusals that they get.

mod in_time;
mod kept_answers;
mod patience;
mod sessions;

pub(super) use in_time::in_time;
pub(super) use kept_answers::KeptAnswers;
pub(super) use patience::{RequestPatience, now};
pub(super) use sessions::{WaitKey, WaitSession, WaitingSessions};
