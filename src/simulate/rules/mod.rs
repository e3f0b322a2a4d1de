//! Rules by which requests go to accounts: lessor's own, and those of others as their sources state them.

mod manager;
mod multi_auth;
mod perfect;
mod plugin;
mod pooled;

pub(super) use manager::ManagerRules;
pub(super) use multi_auth::MultiAuthRules;
pub(super) use perfect::PerfectRules;
pub(super) use plugin::PluginRules;
pub(super) use pooled::PoolRules;
