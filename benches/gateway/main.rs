//! Compares the gateway, with and without a history, with nginx, with a proxy that is hyper alone, and with the upstream
//! itself: the same upstream, the same client, in turns.
//!
//! Compare the requests per second of the proxy's CPU time and the time to the first byte; client, proxy and upstream
//! share the machine's cores, so the plain rates say little. Install nginx with `apt-get install nginx-light`.

#[cfg(unix)]
mod bare;
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
    println!("this benchmark needs Unix");
}
