//! Recorded upstream responses and how they must be classified.

mod command;
mod properties;
mod table;
