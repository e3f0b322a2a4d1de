//! The rules of the pool, one by one, with times and accounts that a person can follow.

mod blame;
mod choosing;
mod explaining;
mod fixture;
mod guests;
mod keys;
mod life;
mod limits;
mod pools;
mod recovery;
mod refusals;
mod seeds;
mod sets;
mod subagents;
mod waiting;
