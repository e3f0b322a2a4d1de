//! The keys there are: one table, the kinds of their values, defaults, and what is generated from the table.

mod argument;
mod assign;
pub mod duration;
pub(super) mod json_schema;
pub(super) mod keys;
pub(super) mod lookup;
mod pool_url;
pub mod size;
pub(super) mod template;
pub(super) mod types;
mod units;
pub(super) mod value;
pub(super) mod value_kind;
