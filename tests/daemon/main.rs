//! A real daemon in a separate process, with real sockets and files: its promises, tested from outside.

#![cfg(unix)]

mod acknowledged;
mod activation;
mod bounds;
mod chaos;
mod chatgpt;
mod chatgpt_server;
mod config;
mod credentials;
mod disk;
mod ending;
mod explain;
mod fairness;
mod guest_attacks;
mod guests;
mod host_links;
#[cfg(target_os = "linux")]
mod keyring;
mod leases;
mod limit_resets;
mod login;
mod login_homes;
mod moving;
mod notifications;
mod oauth_server;
mod refresh;
mod report;
mod restart;
mod secrets;
mod sets;
mod shares;
mod start;
mod stop;
mod stored_clients;
mod support;
mod upstream;
mod usage;
mod vendor_login;
mod ways_out;
mod wire;
