//! Input that has the shape of an HTTP message, so that the corpus can be read and written by hand.

/// A first line of words, lines `name: value`, an empty line, and a body. Anything is a message; what is missing is empty.
pub(crate) struct Message<'a> {
    start: Vec<&'a str>,
    /// Names and values of the lines that have both.
    pub(crate) headers: Vec<(&'a [u8], &'a [u8])>,
    pub(crate) body: &'a [u8],
}

impl<'a> Message<'a> {
    pub(crate) fn of(input: &'a [u8]) -> Self {
        let end = memchr::memmem::find(input, b"\n\n");
        let (head, body) = end.map_or((input, &[][..]), |end| (&input[..end], &input[end + 2..]));
        let mut lines = head.split(|byte| *byte == b'\n');
        let start = lines.next().and_then(|line| str::from_utf8(line).ok()).unwrap_or_default();
        let header = |line: &'a [u8]| {
            let colon = memchr::memchr(b':', line)?;
            let value = &line[colon + 1..];
            Some((&line[..colon], value.strip_prefix(b" ").unwrap_or(value)))
        };
        Self { start: start.split(' ').collect(), headers: lines.filter_map(header).collect(), body }
    }

    /// A word of the first line.
    pub(crate) fn word(&self, number: usize) -> &'a str {
        self.start.get(number).copied().unwrap_or_default()
    }

    /// A word of the first line as a number.
    pub(crate) fn number(&self, number: usize) -> u16 {
        self.word(number).parse().unwrap_or_default()
    }

    /// The headers that HTTP allows.
    pub(crate) fn header_map(&self) -> hyper::HeaderMap {
        let mut map = hyper::HeaderMap::new();
        for (name, value) in self.headers.iter().take(256) {
            let parsed = (hyper::header::HeaderName::from_bytes(name), hyper::header::HeaderValue::from_bytes(value));
            if let (Ok(name), Ok(value)) = parsed {
                map.append(name, value);
            }
        }
        map
    }
}

/// How long a secret is at least whose text may not be printed: a shorter one may also be a part of another text.
const SHORTEST_SECRET: usize = 12;

/// Checks that `printed` does not contain a secret which `input` contains once, that is, as a secret only.
pub(crate) fn assert_hidden(secret: &str, input: &[u8], printed: &str) {
    let is_only_secret = || memchr::memmem::find_iter(input, secret.as_bytes()).count() == 1;
    if secret.len() >= SHORTEST_SECRET && printed.contains(secret) {
        assert!(!is_only_secret(), "a secret is printed: {printed}");
    }
}
