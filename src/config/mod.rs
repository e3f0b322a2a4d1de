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
pub use kind::Kind;
pub use load::{LoadState, Loaded, MAX_FILE, read_file};
pub use places::{Base, Environment, Flags, Places, PlacesError};
pub use problem::{Errors, Problem};
pub use reference::reference;
pub use schema::{Key, format_key};
pub use settings::{
    Config, Daemon, Fallback, Gateway, GatewaySocket, KeyPlace, Limits, Listen, LogLevel, Notify, Oauth, Primary,
    Protect, Provider, Quota, Refresh, Secrets,
};
pub use show::{Setting, Source};
pub use swap::{Held, SwapError};
pub use template::template;
pub use value::Value;
