//! A real daemon in a process of its own, real sockets, real files: what DESIGN promises, seen from outside.

#![cfg(unix)]

mod activation;
mod asking;
mod bounds;
mod chaos;
mod config;
mod disk;
mod endings;
#[cfg(target_os = "linux")]
mod keyring;
mod leases;
mod life;
mod login;
mod oauth_server;
mod refreshing;
mod report;
mod restart;
mod secrets;
mod support;
mod upstream;
mod usage;
mod wire;
