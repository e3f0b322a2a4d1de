//! An upstream on loopback with scripted responses, byte for byte; it records what it receives.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// An HTTP message as it was received.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The first line, without its line ending.
    pub line: String,
    /// The headers, in their original order and case.
    pub headers: Vec<(String, String)>,
    /// The body, without chunk framing.
    pub body: Vec<u8>,
    /// The headers after a chunked body.
    pub trailers: Vec<(String, String)>,
    /// Whether the body is complete.
    pub complete: bool,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The account's key, from any of its headers.
    pub fn key(&self) -> String {
        let header = ["x-api-key", "authorization", "x-goog-api-key"].iter().find_map(|name| self.header(name));
        header.unwrap_or_default().trim_start_matches("Bearer ").to_owned()
    }

    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    pub fn status(&self) -> u16 {
        self.line.split(' ').nth(1).unwrap_or_default().parse().unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Reads a message; `None` at the end of the connection. With `bodiless` no body is read, whatever the headers say.
    pub fn read(from: &mut impl BufRead, bodiless: bool) -> Option<Self> {
        let mut message = Self { complete: true, ..Self::default() };
        message.line = line(from)?;
        message.headers = headers(from)?;
        let length = message.header("content-length").and_then(|length| length.parse::<usize>().ok());
        let chunked = message.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
        if bodiless {
            return Some(message);
        }
        if chunked {
            message.complete = message.read_chunks(from).is_some();
        } else if let Some(length) = length {
            message.body = vec![0; length];
            let mut read = 0;
            while read < length {
                match from.read(&mut message.body[read..]) {
                    Ok(more) if more > 0 => read += more,
                    _ => break,
                }
            }
            message.complete = read == length;
            message.body.truncate(read);
        } else if message.line.starts_with("HTTP/") && ![204, 304].contains(&message.status()) {
            message.complete = from.read_to_end(&mut message.body).is_ok();
        }
        Some(message)
    }

    fn read_chunks(&mut self, from: &mut impl BufRead) -> Option<()> {
        loop {
            let size = usize::from_str_radix(line(from)?.split(';').next()?.trim(), 16).ok()?;
            if size == 0 {
                self.trailers = headers(from)?;
                return Some(());
            }
            let mut chunk = vec![0; size];
            from.read_exact(&mut chunk).ok()?;
            self.body.extend_from_slice(&chunk);
            line(from)?;
        }
    }
}

fn line(from: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).ok()?;
    let line = line.strip_suffix(b"\r\n")?;
    Some(String::from_utf8_lossy(line).into_owned())
}

fn headers(from: &mut impl BufRead) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = line(from)?;
        if line.is_empty() {
            return Some(headers);
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// How a test responds to a request; `false` closes the connection.
type Responder = dyn Fn(&Message, &mut TcpStream) -> bool + Send + Sync;

/// A server that runs until the test ends.
#[derive(Clone)]
pub struct Upstream {
    pub port: u16,
    received: Arc<Mutex<Vec<Message>>>,
}

impl Upstream {
    pub fn start(respond: impl Fn(&Message, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let received: Arc<Mutex<Vec<Message>>> = Arc::default();
        let (kept, respond): (_, Arc<Responder>) = (received.clone(), Arc::new(respond));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, received, respond) = (stream.unwrap(), kept.clone(), respond.clone());
                std::thread::spawn(move || serve(stream, &received, &*respond));
            }
        });
        Self { port, received }
    }

    /// Responds with status, header lines and body that depend on the account's key.
    pub fn by_key(choose: impl Fn(&str) -> (u16, &'static str, &'static str) + Send + Sync + 'static) -> Self {
        Self::start(move |received, stream| {
            let (status, headers, body) = choose(&received.key());
            respond(stream, status, headers, body)
        })
    }

    /// All requests so far.
    pub fn received(&self) -> Vec<Message> {
        self.received.lock().unwrap().clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.received.lock().unwrap().clear();
    }

    /// The keys of all requests so far.
    pub fn keys(&self) -> Vec<String> {
        self.received().iter().map(Message::key).collect()
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn serve(stream: TcpStream, received: &Mutex<Vec<Message>>, respond: &Responder) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(message) = Message::read(&mut reader, false) {
        received.lock().unwrap().push(message.clone());
        if !respond(&message, &mut stream) {
            let _closed = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

/// Sends a complete response; `headers` are lines with their line endings.
pub fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> bool {
    respond_bytes(stream, status, headers, body.as_bytes())
}

/// The same with a body of any bytes.
pub fn respond_bytes(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> bool {
    let head = format!("HTTP/1.1 {status} Status\r\n{headers}content-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).is_ok()
}

/// Sends the head of a stream.
pub fn begin_stream(stream: &mut TcpStream) -> bool {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).is_ok()
}

/// Sends one chunk of it.
pub fn chunk(stream: &mut TcpStream, text: &str) -> bool {
    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
    stream.write_all(chunk.as_bytes()).is_ok()
}

/// Ends it.
pub fn end_stream(stream: &mut TcpStream) -> bool {
    stream.write_all(b"0\r\n\r\n").is_ok()
}
