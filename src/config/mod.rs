//! The configuration and the paths of all files.
//!
//! | part | job |
//! |---|---|
//! | `paths.rs` | where the configuration, the database, the socket and the log are |
//! | `schema/` | the table of keys, the kinds of their values, the generated documents |
//! | `directory.rs` | directories as `[directories]` compares them |
//! | `settings.rs` | the typed configuration; `origins.rs` and `setting.rs`: where each value came from |
//! | `file/` | reads, checks, edits and replaces `config.toml` |

pub mod directory;
mod file;
mod origins;
mod paths;
mod schema;
mod setting;
mod settings;
#[cfg(test)]
mod tests;

pub use file::atomic_replace::{LockedFile, ReplaceError};
pub use file::edit;
pub use file::load::{LoadState, LoadedConfig, MAX_FILE, read_file};
pub use file::problem::{ConfigErrors, ConfigProblem};
pub use paths::{AppPaths, BaseDirectories, Environment, Flags, PathsError};
pub use schema::json_schema::json_schema;
pub use schema::keys::{KEYS, KeySpec};
pub use schema::lookup::{format_key, nearest};
pub use schema::template::{reference, template};
pub use schema::types::{GatewaySocket, KeyLocation, KindMix, Listen, LogLevel};
pub use schema::value::ConfigValue;
pub use schema::value_kind::ValueKind;
pub use schema::{duration, size};
pub use setting::{Setting, SettingSource};
pub use settings::{
    AgentSection, Config, DaemonSection, GatewaySection, HistorySection, JoinSection, LimitsSection, NotifySection,
    OauthClientSection, OauthSection, PriceSection, ProviderSection, QuotaSection, RefreshSection, SecretsSection,
    ShareSection, SharedPoolSection, TelemetrySection,
};
