//! Tests of the daemon as a whole, without its sockets.

mod simulation;
