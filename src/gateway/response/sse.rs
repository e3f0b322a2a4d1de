//! Splits an event stream into its server-sent events.

/// A longer event is content that the gateway does not read, in bytes.
const MAX_EVENT: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct SseParser {
    line: Vec<u8>,
    name: String,
    has_name: bool,
    data: Vec<u8>,
    /// The event is too long and is skipped.
    overlong: bool,
    after_return: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SseEvent<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) data: &'a [u8],
}

impl SseParser {
    /// Reads more and passes the complete events to `each`; those without data, such as comments, are skipped.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(SseEvent<'_>)) {
        if self.after_return && bytes.first() == Some(&b'\n') {
            bytes = &bytes[1..];
        }
        self.after_return = false;
        while let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) {
            self.keep(&bytes[..end]);
            let mut next = end + 1;
            if bytes[end] == b'\r' {
                match bytes.get(next) {
                    Some(b'\n') => next += 1,
                    Some(_) => {}
                    None => self.after_return = true,
                }
            }
            bytes = &bytes[next..];
            self.line_ended(&mut each);
        }
        self.keep(bytes);
    }

    /// How many bytes of an unfinished event were received.
    pub(super) fn pending(&self) -> usize {
        self.line.len() + self.data.len()
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.line.len() + self.data.len() + bytes.len() > MAX_EVENT {
            self.overlong = true;
            self.line.clear();
            self.data.clear();
        }
        if !self.overlong {
            self.line.extend_from_slice(bytes);
        } else if !bytes.is_empty() {
            // so that the end of an overlong line does not look like an empty line
            self.line.clear();
            self.line.push(b':');
        }
    }

    fn line_ended(&mut self, each: &mut impl FnMut(SseEvent<'_>)) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            if !self.data.is_empty() && !self.overlong {
                each(SseEvent { name: self.has_name.then_some(&*self.name), data: &self.data });
            }
            self.has_name = false;
            self.data.clear();
            self.overlong = false;
        } else if let Some(value) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        } else if let Some(value) = line.strip_prefix(b"event:") {
            let name = std::str::from_utf8(value).ok().map(str::trim);
            self.has_name = name.is_some();
            name.unwrap_or_default().clone_into(&mut self.name);
        }
        self.line = line;
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&str]) -> Vec<(Option<String>, String)> {
        let (mut parser, mut found) = (SseParser::default(), Vec::new());
        for piece in pieces {
            parser.push(piece.as_bytes(), |event| {
                found.push((event.name.map(str::to_owned), String::from_utf8_lossy(event.data).into_owned()));
            });
        }
        found
    }

    #[test]
    fn a_stream_is_split_into_its_events() {
        let one = |name: Option<&str>, data: &str| (name.map(str::to_owned), data.to_owned());
        let text = ": ping\n\nevent: a\ndata: 1\ndata: 2\n\ndata:3\r\n\r\nevent: b\n\ndata: 4\r\rdata: unfinished\n";
        let expected = [one(Some("a"), "1\n2"), one(None, "3"), one(None, "4")];
        assert_eq!(events(&[text]), expected);
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(events(&letters), expected);
    }

    #[test]
    fn an_overlong_event_is_skipped() {
        let long = format!("data: {}\n", "x".repeat(MAX_EVENT));
        assert_eq!(events(&[&long, "data: y\n", "\n", "data: z\n\n"]), [(None, "z".to_owned())]);
        let pieces: Vec<String> = (0..80).map(|_| "x".repeat(1024)).collect();
        let mut pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        pieces.insert(0, "data: ");
        pieces.extend(["\n", "\n", "data: z\n\n"]);
        assert_eq!(events(&pieces), [(None, "z".to_owned())]);
    }
}
