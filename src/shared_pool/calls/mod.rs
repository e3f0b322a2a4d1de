//! The calls of a host to the pool's database: each is one function of `schema/`, with its types here.

pub(super) mod accounts;
pub(super) mod create;
pub(super) mod fences;
pub(super) mod hosts;
pub(super) mod invitation;
pub(super) mod limits;
pub(super) mod news;
mod records;
pub(super) mod refresh;
pub(super) mod seats;
pub(super) mod settings;
pub(super) mod terms;
