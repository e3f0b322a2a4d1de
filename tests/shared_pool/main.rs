//! The shared pool against a real PostgreSQL: run by `.ci/pool`. Each test has a database of its own.

mod accounts;
mod connecting;
mod daemons;
mod guests;
mod harness;
#[path = "../daemon/host_links.rs"]
#[allow(dead_code)]
mod host_links;
mod hosts;
mod limits;
mod linked;
mod members;
mod moving;
mod news;
#[path = "../daemon/oauth_server.rs"]
#[allow(dead_code)]
mod oauth_server;
mod operating;
mod probes;
mod races;
mod refresh;
mod returns;
mod rights;
mod seats;
mod speed;
mod streams;
#[path = "../daemon/support.rs"]
#[allow(dead_code)]
mod support;
mod terms;
#[path = "../gateway/upstream.rs"]
#[allow(dead_code)]
mod upstream;
