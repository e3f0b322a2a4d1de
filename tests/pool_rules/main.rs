//! The rules of the core, one by one, with times and accounts that a person can follow.

mod choosing;
mod desk;
mod keys;
mod life;
mod limits;
mod pools;
mod recovery;
mod seeds;
mod telling;
mod waiting;
