//! What upstreams answer, and what must be made of it.

mod command;
mod properties;
mod table;
