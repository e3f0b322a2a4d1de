//! A client's request: its head, its body as far as it is buffered, and what was read from both.

use std::{pin::pin, sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, TRANSFER_ENCODING, USER_AGENT};
use hyper::http::Extensions;
use hyper::http::request::Parts;
use hyper::{Method, Request, Uri};

use super::json_scan::JsonScan;
use super::request_text::{MAX_SESSION_NAME, RequestText, WantedText};
use super::upstream_body::{BufferBudget, BufferShare, UpstreamBody};
use crate::gateway::{content_decoder::ContentDecoder, memory::KeptBytes, waiting::in_time};
use crate::provider::{self, NamedSubagent, SESSION_HEADERS};

/// From this length on a body takes more memory than many small requests.
const LARGE_BODY: usize = 4 << 20;
/// A client that sends nothing of an announced body for this long has lost the connection.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a body that is buffered may take in all.
const BODY_TIMEOUT: Duration = Duration::from_secs(600);
/// So much of a body is decoded and scanned at once.
const SCAN_STEP: usize = 4096;
/// How much of an unbuffered body is read before it is forwarded: the model stands near the beginning.
const UNBUFFERED_START: u64 = 64 * 1024;

/// A request that can be sent, usually more than once.
#[derive(Debug)]
pub(crate) struct BufferedRequest {
    method: Method,
    pub(crate) headers: HeaderMap,
    /// The case of the headers' names, among others.
    extensions: Extensions,
    body: RequestBody,
    pub(crate) text: RequestText,
    limits: BufferLimits,
}

/// Why a request is not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum CannotSend {
    #[error("the request is too large to be sent again")]
    Again,
    #[error(
        "overloaded: there is no memory to put the account's project into the request; send it again, or raise \
         gateway.buffer_total"
    )]
    NoMemory,
}

#[derive(Debug)]
enum RequestBody {
    Buffered {
        pieces: Vec<Bytes>,
        trailers: Option<HeaderMap>,
        chunked: bool,
        /// How often it can still be sent; unlimited if `None`.
        sends_left: Option<u32>,
        _share: BufferShare,
    },
    /// The budget had no room for it: it can be sent once.
    Streamed(Option<Box<StreamedBody>>),
}

/// A body with another project: its beginning, or all of a buffered one, and the length of all.
struct RewrittenBody {
    start: Bytes,
    length: u64,
    share: BufferShare,
}

#[derive(Debug)]
struct StreamedBody {
    first: Vec<Bytes>,
    rest: Incoming,
    length: Option<u64>,
    /// How many bytes may still come.
    max_left: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RequestReadError {
    TooLarge,
    /// The client has stopped sending.
    Incomplete,
}

#[derive(Clone, Debug)]
pub(crate) struct BufferLimits {
    pub(crate) budget: Arc<BufferBudget>,
    /// Of one request, in bytes.
    pub(crate) max_body: u64,
    /// Of all requests, in bytes.
    pub(crate) total: u64,
}

impl BufferedRequest {
    /// Reads a request; a session in its headers comes before one in its body.
    pub(crate) async fn read(
        head: Parts,
        body: Incoming,
        limits: &BufferLimits,
        wanted: &WantedText,
    ) -> Result<Self, RequestReadError> {
        let Parts { method, headers, extensions, .. } = head;
        let mut reader = BodyReader::new(&headers, wanted);
        let read = reader.read(body, limits, headers.contains_key(TRANSFER_ENCODING));
        let body = in_time(BODY_TIMEOUT, pin!(read)).await.unwrap_or(Err(RequestReadError::Incomplete))?;
        let mut text = wanted.read(reader.scan);
        text.session = session_of(&headers).or(text.session);
        // most requests are of none, and no header says so
        if headers.keys().any(|name| provider::marks_subagent(name.as_str())) {
            text.subagent = subagent_of(&headers, |_| None);
        }
        Ok(Self { method, headers, extensions, body, text, limits: limits.clone() })
    }

    /// Whether its body takes much memory while it is in flight.
    pub(crate) fn is_large(&self) -> bool {
        match &self.body {
            RequestBody::Buffered { pieces, .. } => pieces.iter().map(Bytes::len).sum::<usize>() >= LARGE_BODY,
            RequestBody::Streamed(_) => true,
        }
    }

    /// A request that came as one message: its text, with the headers of its connection; `metadata` is what it states in
    /// place of such headers.
    pub(crate) fn of_message<'a>(
        (headers, metadata): (HeaderMap, impl Fn(&'static str) -> Option<&'a str>),
        message: Bytes,
        limits: &BufferLimits,
        wanted: &WantedText,
    ) -> Self {
        let mut scan = wanted.scan();
        scan.push(&message);
        let mut text = wanted.read(scan);
        text.session = session_of(&headers).or(text.session);
        text.subagent = subagent_of(&headers, metadata);
        let mut share = BufferShare::empty(&limits.budget);
        let sends_left = (!share.grow(message.len() as u64, limits.total)).then_some(1);
        let body =
            RequestBody::Buffered { pieces: vec![message], trailers: None, chunked: false, sends_left, _share: share };
        let (method, extensions) = (Method::POST, Extensions::new());
        Self { method, headers, extensions, body, text, limits: limits.clone() }
    }

    /// A message was sent; one that the budget had no room for is sent once.
    pub(crate) fn message_sent(&mut self) {
        if let RequestBody::Buffered { sends_left: Some(left), .. } = &mut self.body {
            *left = left.saturating_sub(1);
        }
    }

    /// What opens a connection of the same kind: the headers, and the case of their names.
    pub(crate) fn head(&self) -> (HeaderMap, Extensions) {
        (self.headers.clone(), self.extensions.clone())
    }

    /// The project that the request names, if it can be replaced.
    pub(crate) fn replaceable_project(&self) -> Option<&str> {
        let is_whole =
            matches!(self.body, RequestBody::Buffered { .. }) || !self.headers.contains_key(CONTENT_ENCODING);
        self.text.project.as_ref().filter(|_| is_whole).map(|project| project.name.as_str())
    }

    /// Whether only the account that served earlier requests can serve this one.
    pub(crate) fn is_bound(&self) -> bool {
        !self.text.stored_ids.is_empty() || self.text.project.is_some() && self.replaceable_project().is_none()
    }

    pub(crate) fn can_be_sent(&self) -> bool {
        !matches!(self.body, RequestBody::Streamed(None) | RequestBody::Buffered { sends_left: Some(0), .. })
    }

    pub(crate) fn user_agent(&self) -> &str {
        self.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default()
    }

    /// The request for an upstream, with the project of its account if that must replace the client's.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub(crate) fn next_request(
        &mut self,
        uri: Uri,
        mut headers: HeaderMap,
        project: Option<&str>,
    ) -> Result<Request<UpstreamBody>, CannotSend> {
        if !self.can_be_sent() {
            return Err(CannotSend::Again);
        }
        let rewritten = project.map(|project| self.with_project(project)).transpose()?.flatten();
        if let Some(body) = &rewritten {
            // a compressed body is sent as it was read
            headers.remove(CONTENT_ENCODING);
            if headers.contains_key(CONTENT_LENGTH) {
                headers.insert(CONTENT_LENGTH, body.length.into());
            }
        }
        let body = match &mut self.body {
            RequestBody::Buffered { pieces, trailers, chunked, sends_left, .. } => {
                if let Some(left) = sends_left {
                    *left -= 1;
                }
                let (pieces, share) =
                    rewritten.map_or_else(|| (pieces.clone(), None), |body| (vec![body.start], Some(body.share)));
                UpstreamBody::Buffered {
                    _share: share,
                    left: pieces.iter().map(|piece| piece.len() as u64).sum(),
                    pieces: pieces.into_iter(),
                    trailers: trailers.clone(),
                    chunked: *chunked,
                }
            }
            RequestBody::Streamed(body) => {
                let StreamedBody { first, rest, length, max_left } = *body.take().ok_or(CannotSend::Again)?;
                let length = length.map(|length| rewritten.as_ref().map_or(length, |body| body.length));
                let (first, share) = rewritten.map_or((first, None), |body| (vec![body.start], Some(body.share)));
                UpstreamBody::Streamed { first: first.into_iter(), rest, length, max_left, _share: share }
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        *request.extensions_mut() = self.extensions.clone();
        Ok(request)
    }

    /// The body, or its beginning, with this project in place of the client's; `None` if it names none, or cannot be read.
    fn with_project(&self, project: &str) -> Result<Option<RewrittenBody>, CannotSend> {
        let Some(named) = self.text.project.as_ref() else { return Ok(None) };
        let (pieces, length) = match &self.body {
            RequestBody::Buffered { pieces, .. } => (pieces, None),
            RequestBody::Streamed(Some(body)) => (&body.first, body.length),
            RequestBody::Streamed(None) => return Ok(None),
        };
        let (mut share, total) = (BufferShare::empty(&self.limits.budget), self.limits.total);
        // the beginning of a streamed body is short
        let is_streamed = matches!(self.body, RequestBody::Streamed(_));
        let room = |bytes: usize| is_streamed || share.grow(bytes as u64, total);
        let Some(start) = named.replaced_by(project, pieces, &self.headers, room) else {
            return if share.has_failed() { Err(CannotSend::NoMemory) } else { Ok(None) };
        };
        let before: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let length = length.unwrap_or(before).saturating_sub(before) + start.len() as u64;
        Ok(Some(RewrittenBody { start, length, share }))
    }
}

/// The sub-agent that a request is of, by what it states, or else by its headers.
fn subagent_of<'s>(headers: &HeaderMap, stated: impl Fn(&'static str) -> Option<&'s str>) -> Option<NamedSubagent> {
    provider::subagent_of(|name| stated(name).or_else(|| first_value(headers, name)))
}

/// The session that a vendor's agent names in a header.
fn session_of(headers: &HeaderMap) -> Option<Arc<str>> {
    // a request has few headers, and mostly none of these: they are looked at once
    let position = |name: &HeaderName| SESSION_HEADERS.iter().position(|known| *known == name.as_str());
    let found = headers.iter().filter_map(|(name, value)| Some((position(name)?, value.to_str().ok()?)));
    let named = found.min_by_key(|(position, _)| *position).map(|(_, value)| value);
    named.filter(|name| !name.is_empty() && name.len() <= MAX_SESSION_NAME).map(Into::into)
}

/// The first value of a header, if it is text. A request has few headers: comparing all their names takes less time than
/// hashing one.
fn first_value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let value = headers.iter().find_map(|(known, value)| (known.as_str() == name).then_some(value))?;
    value.to_str().ok()
}

struct BodyReader {
    decoder: ContentDecoder,
    scan: JsonScan,
    is_scanning: bool,
    length: Option<u64>,
}

impl BodyReader {
    fn new(headers: &HeaderMap, wanted: &WantedText) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { decoder: ContentDecoder::of_request(headers), scan: wanted.scan(), is_scanning: true, length }
    }

    async fn read(
        &mut self,
        mut body: Incoming,
        limits: &BufferLimits,
        chunked: bool,
    ) -> Result<RequestBody, RequestReadError> {
        if self.length.is_some_and(|length| length > limits.max_body) {
            return Err(RequestReadError::TooLarge);
        }
        let (mut share, mut kept, mut read) = (BufferShare::empty(&limits.budget), KeptBytes::default(), 0_u64);
        let mut trailers = None;
        // an announced length is reserved at once: half a body is of no use
        let mut is_buffered = share.grow(self.length.unwrap_or(0), limits.total);
        while !body.is_end_stream() {
            if !is_buffered && read >= UNBUFFERED_START {
                let (length, max_left) = (self.length, limits.max_body.saturating_sub(read));
                let streamed = StreamedBody { first: kept.into_blocks(), rest: body, length, max_left };
                return Ok(RequestBody::Streamed(Some(Box::new(streamed))));
            }
            let frame = match in_time(READ_TIMEOUT, pin!(body.frame())).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => break,
                Ok(Some(Err(_))) | Err(_) => return Err(RequestReadError::Incomplete),
            };
            let piece = match frame.into_data() {
                Ok(piece) => piece,
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    continue;
                }
            };
            read += piece.len() as u64;
            if read > limits.max_body {
                return Err(RequestReadError::TooLarge);
            }
            if self.length.is_none() && is_buffered {
                is_buffered = share.grow(piece.len() as u64, limits.total);
            }
            self.scan(&piece).await;
            kept.push(&piece);
        }
        if self.is_scanning {
            let scan = &mut self.scan;
            self.decoder.finish(|bytes| _ = scan.push(bytes));
        }
        // a small body is complete by now, but the budget has no room to keep it for a second attempt
        let sends_left = (!is_buffered && read > 0).then_some(1);
        let pieces = kept.into_blocks();
        Ok(RequestBody::Buffered { pieces, trailers, chunked, sends_left, _share: share })
    }

    async fn scan(&mut self, piece: &Bytes) {
        for part in piece.chunks(SCAN_STEP) {
            if !self.is_scanning {
                return;
            }
            let (scan, is_scanning) = (&mut self.scan, &mut self.is_scanning);
            self.decoder.push_in_turns(part, |bytes| *is_scanning = *is_scanning && scan.push(bytes)).await;
        }
        // of a body that is not decoded any more, nothing is read
        self.is_scanning &= !self.decoder.is_unreadable();
    }
}
