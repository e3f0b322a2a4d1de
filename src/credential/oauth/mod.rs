//! OAuth 2.0, as a client: logging in by code with PKCE, by pasted code and by device code, and renewing what came of it.
//!
//! A standard server is described by its `issuer` and a client id; each URL can be given by itself. Whose client it is,
//! is the user's to say: no id and no secret of anybody's is in here.

mod attempt;
mod code;
mod device;
mod fetch;
mod identity;
mod loopback;
mod pkce;
mod server;
mod settings;
mod token;

pub use attempt::{Refreshed, Sent, refresh};
pub use code::{Arrival, BadPaste, Request, read_pasted};
pub use device::{Device, begin as begin_device, poll as poll_device};
pub use identity::{Identity, identify};
pub use loopback::{Loopback, Redirect};
pub use server::{Server, ServerError};
pub use settings::{Given, Missing, Settings};
pub use token::{Grant, TokenError, Tokens};

/// An error code of a server's, if it looks like one: what is printed must not be able to hold a token.
fn code_of(text: &str) -> Option<String> {
    let is_code = |c: char| c.is_ascii_lowercase() || c == '_' || c == '-' || c == '.' || c.is_ascii_digit();
    let fits = !text.is_empty() && text.len() <= 48 && text.chars().all(is_code);
    // a word of letters: a token has digits all over
    let digits = text.chars().filter(char::is_ascii_digit).count();
    (fits && digits <= 3).then(|| text.to_owned())
}
