//! Rules by which requests go to accounts: lessor's own, and those of others as their sources state them.

mod manager;
mod multi_auth;
mod perfect;
mod plugin;
mod pooled;

pub(super) use manager::Manager;
pub(super) use multi_auth::MultiAuth;
pub(super) use perfect::Perfect;
pub(super) use plugin::Plugin;
pub(super) use pooled::Pooled;
