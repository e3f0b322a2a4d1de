//! Tests of the daemon as a whole, without its sockets.

mod growth;
mod simulation;
