//! What the user decides: places, keys, their values and where each came from.

mod argument;
mod check;
pub mod duration;
pub mod edit;
mod json_schema;
mod keys;
mod kind;
mod load;
mod measure;
mod place;
mod places;
mod problem;
mod read;
mod reference;
mod schema;
mod settings;
mod show;
pub mod size;
mod slot;
mod suggest;
mod swap;
mod syntax;
mod template;
#[cfg(test)]
mod tests;
mod value;

pub use json_schema::json_schema;
pub use keys::KEYS;
pub use kind::ValueKind;
pub use load::{LoadState, LoadedConfig, MAX_FILE, read_file};
pub use places::{AppPaths, BaseDirectories, Environment, Flags, PathsError};
pub use problem::{ConfigErrors, ConfigProblem};
pub use reference::reference;
pub use schema::{KeySpec, format_key};
pub use settings::{
    Config, DaemonSection, GatewaySection, GatewaySocket, KeyLocation, LimitsSection, Listen, LogLevel, NotifySection,
    OauthSection, ProviderSection, QuotaSection, RefreshSection, SecretsSection,
};
pub use show::{Setting, SettingSource};
pub use swap::{LockedFile, ReplaceError};
pub use template::template;
pub use value::ConfigValue;
