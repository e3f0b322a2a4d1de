//! What users see: output and colour, tables, wrapped prose, prompts, and the text for accounts, leases and times.

pub(crate) mod account;
pub(crate) mod browser;
pub(crate) mod distinct;
pub(crate) mod format;
pub(crate) mod lease;
mod output;
pub(crate) mod pool;
pub(crate) mod progress;
pub(crate) mod prompt;
mod table;
pub(crate) mod wrap;

pub(crate) use output::{Output, Tint, clean, help_width};
pub(crate) use table::{Column, Table};
pub(crate) use wrap::{columns, cut, wrap_after};
