//! An upstream on loopback that says what each test wants, byte for byte, and keeps what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A message, as it came over the wire.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The first line, without its end.
    pub line: String,
    /// The headers, as they were written.
    pub headers: Vec<(String, String)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// What follows a chunked body.
    pub trailers: Vec<(String, String)>,
    /// Whether the body came to its end.
    pub whole: bool,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The account's key, wherever it is.
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

    /// Reads a message; `None` when there is none. `bodiless` says that it has no body, whatever its headers say.
    pub fn read(from: &mut impl BufRead, bodiless: bool) -> Option<Self> {
        let mut message = Self { whole: true, ..Self::default() };
        message.line = line(from)?;
        message.headers = headers(from)?;
        let length = message.header("content-length").and_then(|length| length.parse::<usize>().ok());
        let chunked = message.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
        if bodiless {
            return Some(message);
        }
        if chunked {
            message.whole = message.read_chunks(from).is_some();
        } else if let Some(length) = length {
            message.body = vec![0; length];
            let mut read = 0;
            while read < length {
                match from.read(&mut message.body[read..]) {
                    Ok(more) if more > 0 => read += more,
                    _ => break,
                }
            }
            message.whole = read == length;
            message.body.truncate(read);
        } else if message.line.starts_with("HTTP/") && ![204, 304].contains(&message.status()) {
            message.whole = from.read_to_end(&mut message.body).is_ok();
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

/// How a test answers a request; `false` closes the connection.
type Answer = dyn Fn(&Message, &mut TcpStream) -> bool + Send + Sync;

/// A server on a port of its own, until the test ends.
pub struct Upstream {
    pub port: u16,
    asked: Arc<Mutex<Vec<Message>>>,
}

impl Upstream {
    pub fn start(answer: impl Fn(&Message, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<Message>>> = Arc::default();
        let (kept, answer): (_, Arc<Answer>) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, asked, answer) = (stream.unwrap(), kept.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &asked, &*answer));
            }
        });
        Self { port, asked }
    }

    /// Answers with a status and a body that depend on the account's key.
    pub fn by_key(answer: impl Fn(&str) -> (u16, &'static str, &'static str) + Send + Sync + 'static) -> Self {
        Self::start(move |asked, stream| {
            let (status, headers, body) = answer(&asked.key());
            say(stream, status, headers, body)
        })
    }

    /// All that was asked so far.
    pub fn asked(&self) -> Vec<Message> {
        self.asked.lock().unwrap().clone()
    }

    /// The keys of all that was asked so far.
    pub fn keys(&self) -> Vec<String> {
        self.asked().iter().map(Message::key).collect()
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn serve(stream: TcpStream, asked: &Mutex<Vec<Message>>, answer: &Answer) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(message) = Message::read(&mut reader, false) {
        asked.lock().unwrap().push(message.clone());
        if !answer(&message, &mut stream) {
            let _gone = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

/// A whole answer; `headers` are lines, each with its end.
pub fn say(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> bool {
    let length = body.len();
    let text = format!("HTTP/1.1 {status} Said\r\n{headers}content-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).is_ok()
}

/// The head of a stream.
pub fn begin_stream(stream: &mut TcpStream) -> bool {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).is_ok()
}

/// A piece of it.
pub fn chunk(stream: &mut TcpStream, text: &str) -> bool {
    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
    stream.write_all(chunk.as_bytes()).is_ok()
}

/// Its end.
pub fn end_stream(stream: &mut TcpStream) -> bool {
    stream.write_all(b"0\r\n\r\n").is_ok()
}
