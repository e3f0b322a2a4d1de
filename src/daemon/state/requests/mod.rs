//! Requests to upstreams: how many are in flight on each account, what their responses mean for the pool, and which
//! account must serve the requests that follow up on them.

pub(super) mod in_flight;
pub(super) mod report;
pub(super) mod served;
pub(super) mod session_accounts;
