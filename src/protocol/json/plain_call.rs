//! Reads the calls that come most often without `serde`, in the plain form in which most clients write them.
//!
//! What is read here is read as `serde` would. Anything else is left to it: an escape, a character that is not ASCII, a
//! number that is not whole, a name that is not known or comes twice, a call that is refused.

use crate::protocol::call::{AcquireParams, BindTo, CredentialParams, LeaseCall, LeaseRef, ReportParams};
use crate::protocol::message::{PlainMessage, RequestId};

/// The call of a line; `None` if it is not one of these, or not in a plain form.
pub fn parse(line: &[u8]) -> Option<PlainMessage<'_>> {
    // without a branch, so that many bytes are compared at a time
    let is_odd = line.iter().fold(false, |odd, byte| odd | !(0x20..0x7f).contains(byte) | (*byte == b'\\'));
    if is_odd {
        return None;
    }
    let mut scanner = Scanner { rest: line };
    let (mut has_version, mut id, mut method, mut call) = (false, None, None, None);
    scanner.take(b'{')?;
    loop {
        match scanner.name()? {
            b"jsonrpc" if !has_version => has_version = (scanner.text()? == b"2.0").then_some(true)?,
            b"id" if id.is_none() => id = Some(scanner.id()?),
            b"method" if method.is_none() => method = Some(scanner.text()?),
            b"params" if call.is_none() => call = Some(scanner.params(method?)?),
            _ => return None,
        }
        if !scanner.goes_on()? {
            break;
        }
    }
    scanner.skip_spaces();
    (has_version && scanner.rest.is_empty()).then_some(PlainMessage { id, call: call? })
}

/// What is left of a line in ASCII, without escapes.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn params(&mut self, method: &[u8]) -> Option<LeaseCall<'a>> {
        self.take(b'{')?;
        Some(match method {
            b"lease.acquire" => LeaseCall::Acquire(self.acquire()?),
            b"lease.token" => LeaseCall::Token(self.acquire()?),
            b"lease.release" => LeaseCall::Release(self.lease()?),
            b"lease.renew" => LeaseCall::Renew(self.lease()?),
            b"lease.report" => LeaseCall::Report(self.report()?),
            b"lease.credential" => LeaseCall::Credential(self.credential()?),
            _ => return None,
        })
    }

    fn acquire(&mut self) -> Option<AcquireParams<&'a str>> {
        let (mut params, mut provider) = (AcquireParams::default(), None);
        let (mut bind, mut credential, mut exclusive) = (None, None, None);
        loop {
            match self.name()? {
                b"provider" => once(&mut provider, self.value_text()?)?,
                b"model" => once(&mut params.model, self.value_text()?)?,
                b"session" => once(&mut params.session, self.value_text()?)?,
                b"label" => once(&mut params.label, self.value_text()?)?,
                b"agent" => once(&mut params.agent, self.value_text()?)?,
                b"request_id" => once(&mut params.request_id, self.value_text()?)?,
                b"wait_ms" => once(&mut params.wait_ms, self.number()?)?,
                b"ttl_ms" => once(&mut params.ttl_ms, self.number()?)?,
                b"bind" => once(&mut bind, self.bind()?)?,
                b"credential" => once(&mut credential, self.flag()?)?,
                b"exclusive" => once(&mut exclusive, self.flag()?)?,
                _ => return None,
            }
            if !self.goes_on()? {
                return Some(AcquireParams {
                    provider: provider?,
                    bind: bind.unwrap_or_default(),
                    credential: credential.unwrap_or(true),
                    exclusive: exclusive.unwrap_or_default(),
                    ..params
                });
            }
        }
    }

    fn lease(&mut self) -> Option<LeaseRef<&'a str>> {
        let (mut lease, mut fence) = (None, None);
        loop {
            match self.name()? {
                b"lease" => once(&mut lease, self.value_text()?)?,
                b"fence" => once(&mut fence, self.number()?)?,
                _ => return None,
            }
            if !self.goes_on()? {
                return Some(LeaseRef { lease: lease?, fence });
            }
        }
    }

    fn report(&mut self) -> Option<ReportParams> {
        let (mut lease, mut params) = (None, ReportParams::default());
        loop {
            match self.name()? {
                b"lease" => once(&mut lease, self.value_text()?.to_owned())?,
                b"ok" => once(&mut params.ok, self.flag()?)?,
                b"status" => once(&mut params.status, self.number()?.try_into().ok()?)?,
                b"retry_after_ms" => once(&mut params.retry_after_ms, self.number()?)?,
                _ => return None,
            }
            if !self.goes_on()? {
                return Some(ReportParams { lease: lease?, ..params });
            }
        }
    }

    fn credential(&mut self) -> Option<CredentialParams> {
        let (mut lease, mut force) = (None, None);
        loop {
            match self.name()? {
                b"lease" => once(&mut lease, self.value_text()?.to_owned())?,
                b"force" => once(&mut force, self.flag()?)?,
                _ => return None,
            }
            if !self.goes_on()? {
                return Some(CredentialParams { lease: lease?, force: force.unwrap_or_default() });
            }
        }
    }

    fn bind(&mut self) -> Option<BindTo> {
        match self.text()? {
            b"connection" => Some(BindTo::Connection),
            b"ttl" => Some(BindTo::Ttl),
            _ => None,
        }
    }

    #[inline]
    fn skip_spaces(&mut self) {
        while let Some((b' ', rest)) = self.rest.split_first() {
            self.rest = rest;
        }
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        self.skip_spaces();
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// The name of a member.
    #[inline]
    fn name(&mut self) -> Option<&'a [u8]> {
        let name = self.text()?;
        self.take(b':')?;
        Some(name)
    }

    /// Whether another member follows.
    #[inline]
    fn goes_on(&mut self) -> Option<bool> {
        match self.next()? {
            b',' => Some(true),
            b'}' => Some(false),
            _ => None,
        }
    }

    #[inline]
    fn text(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let length = next_quote(self.rest)?;
        let (text, rest) = self.rest.split_at(length);
        self.rest = &rest[1..];
        Some(text)
    }

    fn value_text(&mut self) -> Option<&'a str> {
        str::from_utf8(self.text()?).ok()
    }

    /// A whole number that is surely not too large.
    #[inline]
    fn number(&mut self) -> Option<u64> {
        self.skip_spaces();
        let length = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(length);
        let is_written_so = (1..=MOST_DIGITS).contains(&length) && (length == 1 || digits[0] != b'0');
        if !is_written_so || matches!(rest.first(), None | Some(b'.' | b'e' | b'E')) {
            return None;
        }
        self.rest = rest;
        Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    fn flag(&mut self) -> Option<bool> {
        self.skip_spaces();
        let flag = self.rest.starts_with(b"true");
        self.rest = self.rest.strip_prefix(if flag { &b"true"[..] } else { b"false" })?;
        Some(flag)
    }

    /// The id of a call: a whole number or a text.
    fn id(&mut self) -> Option<RequestId> {
        self.skip_spaces();
        if !self.rest.starts_with(b"\"") {
            return self.number().map(RequestId::Number);
        }
        let from = self.rest;
        self.text()?;
        let text = str::from_utf8(&from[..from.len() - self.rest.len()]).ok()?;
        Some(RequestId::Json(text.into()))
    }
}

/// The digits of every number of this length are those of a `u64`.
const MOST_DIGITS: usize = 18;

/// Where the next quote is. Most texts are short: eight bytes are compared at a time.
#[inline]
fn next_quote(bytes: &[u8]) -> Option<usize> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = bytes.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let differs = u64::from_le_bytes(*word) ^ (EACH * 0x22);
        // the lowest bit that is set here is in the first byte without a difference
        let same = differs.wrapping_sub(EACH) & !differs & (EACH << 7);
        if same != 0 {
            return Some(8 * place + same.trailing_zeros() as usize / 8);
        }
    }
    let before = bytes.len() - rest.len();
    rest.iter().position(|byte| *byte == b'"').map(|place| before + place)
}

/// Sets a member; one that comes twice is an error, which `serde` describes.
#[inline]
fn once<T>(member: &mut Option<T>, value: T) -> Option<()> {
    member.is_none().then(|| *member = Some(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::super::parse as parse_by_serde;
    use super::*;
    use crate::protocol::Incoming;

    fn read(line: &[u8]) -> Option<Incoming> {
        parse(line).map(|PlainMessage { id, call }| Incoming { id, call: Ok(call.into_call()) })
    }

    fn is_read(line: &str) -> bool {
        let read = read(line.as_bytes());
        if let Some(read) = &read {
            assert_eq!(*read, parse_by_serde(line.as_bytes()), "{line}");
        }
        read.is_some()
    }

    #[test]
    fn the_usual_calls_are_read_here() {
        for line in [
            r#"{"jsonrpc":"2.0","id":1,"method":"lease.acquire","params":{"provider":"anthropic","model":"claude"}}"#,
            r#"{"jsonrpc": "2.0", "id": "a-1", "method": "lease.release", "params": {"lease": "ls_1", "fence": 7}} "#,
            r#"{"method":"lease.report","params":{"lease":"ls_1","ok":true},"id":18446744073709,"jsonrpc":"2.0"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"lease.report","params":{"lease":"ls_1","status":529}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"lease.renew","params":{"lease":"ls_1"}}"#,
            r#"{"jsonrpc":"2.0","method":"lease.credential","params":{"force":true,"lease":"ls_1"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"lease.token","params":{"provider":"p","bind":"ttl","ttl_ms":5,
                "wait_ms":0,"session":"s","label":"","agent":"claude","request_id":"r","credential":false,"exclusive":true}}"#,
        ] {
            assert!(is_read(&line.replace('\n', "")), "{line}");
        }
    }

    #[test]
    fn the_next_quote_is_found_wherever_it_is() {
        for length in 0..40 {
            assert_eq!(next_quote(&vec![b'!'; length]), None);
            for place in 0..length {
                let mut text = vec![b'!'; length];
                text[place..].fill(b'"');
                assert_eq!(next_quote(&text), Some(place));
                text[place + 1..].fill(b'#');
                assert_eq!(next_quote(&text), Some(place));
            }
        }
    }

    #[test]
    fn anything_else_is_left_to_serde() {
        let call = |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"lease.acquire","params":{params}}}"#);
        for line in [
            call(r#"{"provider":"a\u0062"}"#),
            call(r#"{"provider":"é"}"#),
            call("{\"provider\":\"a\u{7f}\"}"),
            call(r#"{"provider":"a","provider":"a"}"#),
            call(r#"{"provider":"a","wait_ms":1.5}"#),
            call(r#"{"provider":"a","wait_ms":01}"#),
            call(r#"{"provider":"a","wait_ms":-1}"#),
            call(r#"{"provider":"a","wait_ms":9999999999999999999}"#),
            call(r#"{"provider":"a","bind":{"pid":1}}"#),
            call(r#"{"provider":"a","nothing":1}"#),
            call(r#"{"provider":"a"},"id":2"#),
            call(r#"{"provider":"a",}"#),
            call(r#"["a"]"#),
            call("{}"),
            call("null"),
            r#"{"jsonrpc":"1.0","id":1,"method":"lease.release","params":{"lease":"a"}}"#.to_owned(),
            r#"{"jsonrpc":"1.0","jsonrpc":"2.0","id":1,"method":"lease.release","params":{"lease":"a"}}"#.to_owned(),
            r#"{"id":1,"method":"lease.release","params":{"lease":"a"}}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":null,"method":"lease.release","params":{"lease":"a"}}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":1,"params":{"lease":"a"},"method":"lease.release"}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":1,"method":"lease.release","params":{"lease":"a"}}{"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":1,"method":"lease.release","params":{"lease":"a"}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":1,"method":"lease.list","params":{}}"#.to_owned(),
        ] {
            assert!(!is_read(&line), "{line}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            4 => "[ -~]{0,6}|connection|ttl".prop_map(Value::from),
            2 => any::<bool>().prop_map(Value::from),
            3 => prop_oneof![any::<u64>(), 0..1000_u64].prop_map(Value::from),
            1 => prop_oneof![Just(Value::Null), Just(json!({ "pid": 1 })), Just(json!(1.5)), Just(json!([])), Just(json!("é"))],
        ]
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_as_by_serde(
            method in prop::sample::select(vec!["acquire", "token", "release", "renew", "report", "credential", "list"]),
            members in prop::collection::vec((prop::sample::select(vec![
                "provider", "model", "session", "label", "agent", "request_id", "wait_ms", "ttl_ms", "bind", "credential",
                "exclusive", "lease", "fence", "ok", "status", "retry_after_ms", "force", "priority", "x",
            ]), value()), 0..4),
            id in value(),
            breaks in prop::option::of((0..120_usize, any::<u8>())),
        ) {
            let params: Map<String, Value> = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let call = json!({ "jsonrpc": "2.0", "id": id, "method": format!("lease.{method}"), "params": params });
            let mut line = call.to_string().into_bytes();
            if let Some((place, byte)) = breaks {
                let place = place % line.len();
                line[place] = byte;
            }
            if let Some(read) = read(&line) {
                prop_assert_eq!(read, parse_by_serde(&line), "{}", String::from_utf8_lossy(&line));
            }
        }
    }
}
