//! What came back from an upstream.

use super::headers::Headers;

/// No more of a body is read; refusals are small.
pub const MAX_BODY: usize = 256 * 1024;

/// An upstream's answer, as far as it tells something.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamResponse<'a> {
    /// Who answered: a provider's name, which says what shapes to expect.
    pub provider: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: &'a Headers,
    /// The body or its beginning; beyond [`MAX_BODY`] it is not looked at.
    pub body: &'a [u8],
    /// When it came, epoch ms.
    pub now: u64,
}
