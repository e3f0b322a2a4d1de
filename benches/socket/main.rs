//! Acquire and release over the socket, against the limit; see `rounds`.

#[cfg(unix)]
mod rounds;

#[cfg(unix)]
fn main() {
    rounds::main();
}

#[cfg(windows)]
fn main() {
    println!("the limit that this compares with is a bare server on a Unix socket");
}
