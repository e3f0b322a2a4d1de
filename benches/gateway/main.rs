//! The gateway beside nginx, and both beside the upstream itself: the same upstream, the same client, in turns.
//!
//! What counts is requests for each second of processor time that the proxy takes, and the time it adds to the first
//! byte; all share the machine's cores, so the plain rates say little. `apt-get install nginx-light` for the comparison.

#[cfg(unix)]
mod load;
#[cfg(unix)]
mod proxies;

#[cfg(unix)]
fn main() {
    load::main();
}

#[cfg(not(unix))]
fn main() {
    println!("nothing is measured here on this system");
}
