//! lessor over the socket against the limit: a bare server on the same kind of runtime, over the same kind of socket, that
//! answers the same bytes without deciding anything.
//!
//! `cargo bench --bench socket` (three minutes); `-- JSON` for the rows whose name contains that. Rounds of both servers
//! alternate, so that a noisy machine disturbs both; what counts is the ratio of the medians.

#[cfg(unix)]
mod cells;
#[cfg(unix)]
mod programs;
#[cfg(unix)]
mod servers;

#[cfg(unix)]
fn main() {
    let mut words = std::env::args().skip(1);
    match (words.next().as_deref(), words.next()) {
        (Some(servers::ECHO), Some(socket)) => servers::echo(socket.as_ref()),
        (Some(programs::CLIENT), Some(socket)) => programs::bare_client(socket.as_ref()),
        (only, _) => {
            let only = only.filter(|word| !word.starts_with('-')).unwrap_or_default();
            cells::measure(only);
            programs::measure(only);
        }
    }
}

#[cfg(windows)]
fn main() {
    println!("the limit that this compares with is a bare server on a Unix socket");
}
