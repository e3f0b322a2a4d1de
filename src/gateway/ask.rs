//! A client's request: its head, its body as far as it is kept, and what can be read from both.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use hyper::http::Extensions;
use hyper::http::request::Parts;
use hyper::{Method, Request, Uri};
use tokio::time::timeout;

use super::body::{Budget, Sent, Share};
use super::decode::Decoder;
use super::scan::Scan;

/// A client that sends nothing of a body that it has announced for so long is given up.
const SILENCE: Duration = Duration::from_secs(60);
/// So much of a body that is not kept is read before it is passed on: the model stands near the beginning.
const BEGINNING: u64 = 64 * 1024;

/// Keys of a body that are of interest.
const KEYS: &[&str] = &["model"];
const KEYS_WITH_SESSION: &[&str] = &["model", "prompt_cache_key"];

/// A request, ready to be sent as often as may be.
#[derive(Debug)]
pub(super) struct Asked {
    method: Method,
    pub(super) headers: HeaderMap,
    /// The case of the headers' names, among others.
    extensions: Extensions,
    body: Kept,
    /// The model that the body names.
    pub(super) model: Option<String>,
    /// The conversation that the body names.
    pub(super) session: Option<String>,
}

#[derive(Debug)]
enum Kept {
    Whole {
        pieces: Vec<Bytes>,
        trailers: Option<HeaderMap>,
        chunked: bool,
        /// How often it can be sent, where that is not as often as one likes.
        left: Option<u32>,
        _share: Share,
    },
    /// There was no room to keep it: it can be sent once.
    Once(Option<Box<Passing>>),
}

/// A body that is sent while it is read.
#[derive(Debug)]
struct Passing {
    first: Vec<Bytes>,
    rest: Incoming,
    length: Option<u64>,
    /// How much more there may be.
    room: u64,
}

/// Why a request is not even begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unread {
    TooLarge,
    /// The client has stopped sending.
    Stalled,
}

/// How much may be kept.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) budget: Arc<Budget>,
    /// Of one request.
    pub(super) max_body: u64,
    /// Of all.
    pub(super) total: u64,
}

impl Asked {
    /// Reads a request.
    pub(super) async fn read(head: Parts, body: Incoming, room: &Room, session_in_body: bool) -> Result<Self, Unread> {
        let Parts { method, headers, extensions, .. } = head;
        let keys = if session_in_body { KEYS_WITH_SESSION } else { KEYS };
        let mut reading = Reading::new(&headers, keys);
        let body = reading.read(body, room, headers.contains_key(TRANSFER_ENCODING)).await?;
        let (model, session) = (reading.scan.take(0), reading.scan.take(1));
        Ok(Self { method, headers, extensions, body, model, session })
    }

    /// Whether it can be sent another time.
    pub(super) fn can_be_sent(&self) -> bool {
        !matches!(self.body, Kept::Once(None) | Kept::Whole { left: Some(0), .. })
    }

    /// The request for an upstream; `None` when it cannot be sent any more.
    pub(super) fn to(&mut self, uri: Uri, headers: HeaderMap) -> Option<Request<Sent>> {
        let body = match &mut self.body {
            Kept::Whole { left: Some(0), .. } => return None,
            Kept::Whole { pieces, trailers, chunked, left, .. } => {
                if let Some(left) = left {
                    *left -= 1;
                }
                Sent::Kept {
                    left: pieces.iter().map(|piece| piece.len() as u64).sum(),
                    pieces: pieces.clone().into_iter(),
                    trailers: trailers.clone(),
                    chunked: *chunked,
                }
            }
            Kept::Once(once) => {
                let Passing { first, rest, length, room } = *once.take()?;
                Sent::Passing { first: first.into_iter(), rest, length, room }
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        *request.extensions_mut() = self.extensions.clone();
        Some(request)
    }
}

/// A body that is being read.
struct Reading {
    decoder: Decoder,
    scan: Scan,
    more: bool,
    length: Option<u64>,
}

impl Reading {
    fn new(headers: &HeaderMap, keys: &'static [&'static str]) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { decoder: Decoder::of(headers), scan: Scan::new(keys), more: true, length }
    }

    async fn read(&mut self, mut body: Incoming, room: &Room, chunked: bool) -> Result<Kept, Unread> {
        if self.length.is_some_and(|length| length > room.max_body) {
            return Err(Unread::TooLarge);
        }
        let (mut share, mut pieces, mut read) = (Share::none(&room.budget), Vec::new(), 0_u64);
        let mut trailers = None;
        // what was announced is taken at once: half a body is of no use
        let mut is_kept = share.grow(self.length.unwrap_or(0), room.total);
        while !body.is_end_stream() {
            if !is_kept && read >= BEGINNING {
                let (length, room) = (self.length, room.max_body.saturating_sub(read));
                return Ok(Kept::Once(Some(Box::new(Passing { first: pieces, rest: body, length, room }))));
            }
            let frame = match timeout(SILENCE, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => break,
                Ok(Some(Err(_))) | Err(_) => return Err(Unread::Stalled),
            };
            let piece = match frame.into_data() {
                Ok(piece) => piece,
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    continue;
                }
            };
            read += piece.len() as u64;
            if read > room.max_body {
                return Err(Unread::TooLarge);
            }
            if self.length.is_none() && is_kept {
                is_kept = share.grow(piece.len() as u64, room.total);
            }
            if self.more {
                let (scan, more) = (&mut self.scan, &mut self.more);
                self.decoder.push(&piece, |bytes| *more = *more && scan.push(bytes));
            }
            pieces.push(piece);
        }
        if self.more {
            let scan = &mut self.scan;
            self.decoder.end(|bytes| _ = scan.push(bytes));
        }
        // a small one is here already; but there is no room to keep it
        let left = (!is_kept && read > 0).then_some(1);
        Ok(Kept::Whole { pieces, trailers, chunked, left, _share: share })
    }
}
