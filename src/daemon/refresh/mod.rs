//! Refreshes logins: a worker that sends what the plan in [`crate::daemon::state::LoginRefresh`] calls for.

mod attempt;
mod ending;
mod over_hosts;
mod shared_login;
mod start_tool;
mod worker;

pub(crate) use ending::{LONGEST_ATTEMPT, awaited_refreshes};
#[cfg(test)]
pub(crate) use worker::ManualWorker;
pub(crate) use worker::start;
