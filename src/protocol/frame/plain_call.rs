//! Reads the calls that come most often without `serde`, by the rules of bincode. What is read here is read as `serde`
//! would; anything else is left to it: other calls, lists, what a report tells beyond success, a call that is refused.

use crate::protocol::call::{AcquireParams, BindTo, LeaseCall, LeaseRef, ReportParams};
use crate::protocol::message::{PlainMessage, RequestId};

// the places of the calls in `Call`
const ACQUIRE: u8 = 1;
const RENEW: u8 = 2;
const RELEASE: u8 = 3;
const REPORT: u8 = 6;
const TOKEN: u8 = 26;

/// The call of a body; `None` if it is not one of these, or not in a plain form.
pub fn parse(body: &[u8]) -> Option<PlainMessage<'_>> {
    let mut reader = CallReader { rest: body };
    let id = reader.number(8)?;
    let call = match reader.byte()? {
        ACQUIRE => LeaseCall::Acquire(reader.acquire()?),
        TOKEN => LeaseCall::Token(reader.acquire()?),
        RENEW => LeaseCall::Renew(reader.lease()?),
        RELEASE => LeaseCall::Release(reader.lease()?),
        REPORT => LeaseCall::Report(reader.success()?),
        _ => return None,
    };
    reader.rest.is_empty().then_some(PlainMessage { id: Some(RequestId::Number(id)), call })
}

/// What is left of a body.
struct CallReader<'a> {
    rest: &'a [u8],
}

impl<'a> CallReader<'a> {
    /// The fields are read in their order.
    fn acquire(&mut self) -> Option<AcquireParams<&'a str>> {
        Some(AcquireParams {
            provider: self.text()?,
            model: self.optional(Self::text)?,
            pool: self.optional(Self::text)?,
            session: self.optional(Self::text)?,
            label: self.optional(Self::text)?,
            account: self.optional(Self::text)?,
            exclude: self.nothing().map(|()| Vec::new())?,
            priority: self.byte()?.cast_signed(),
            wait_ms: self.optional(|reader| reader.number(8))?,
            ttl_ms: self.optional(|reader| reader.number(8))?,
            bind: match self.byte()? {
                0 => BindTo::Connection,
                1 => BindTo::Pid(u32::try_from(self.number(4)?).ok()?),
                2 => BindTo::Ttl,
                _ => return None,
            },
            credential: self.flag()?,
            agent: self.optional(Self::text)?,
            exclusive: self.flag()?,
            request_id: self.optional(Self::text)?,
            only: self.nothing().map(|()| None)?,
            directory: self.optional(Self::text)?,
        })
    }

    fn lease(&mut self) -> Option<LeaseRef<&'a str>> {
        Some(LeaseRef { lease: self.text()?, fence: self.optional(|reader| reader.number(8))? })
    }

    /// A report that tells no more than whether the request succeeded.
    fn success(&mut self) -> Option<ReportParams> {
        let (lease, ok) = (self.text()?.to_owned(), self.optional(Self::flag)?);
        // reason, wait, usage, status, headers, body
        for _ in 0..6 {
            self.nothing()?;
        }
        Some(ReportParams { lease, ok, ..ReportParams::default() })
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// A number that has so many bytes before it is encoded.
    fn number(&mut self, width: usize) -> Option<u64> {
        let bytes = match self.byte()? {
            short @ 0..=250 => return Some(u64::from(short)),
            251 => 2,
            252 => 4,
            253 => 8,
            _ => return None,
        };
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(self.take(bytes).filter(|_| bytes <= width)?);
        Some(u64::from_le_bytes(number))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number(8)?).ok()?;
        str::from_utf8(self.take(length)?).ok()
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    #[expect(clippy::option_option, reason = "an absent value, or a form that is left to `serde`")]
    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }

    /// An absent value or an empty list.
    fn nothing(&mut self) -> Option<()> {
        (self.byte()? == 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{encode_call, parse as parse_by_serde};
    use super::*;
    use crate::protocol::{Call, Incoming};

    fn read(body: &[u8]) -> Option<Incoming> {
        parse(body).map(|PlainMessage { id, call }| Incoming { id, call: Ok(call.into_call()) })
    }

    fn text() -> impl Strategy<Value = Option<String>> {
        prop::option::of(prop_oneof!["[a-zé]{0,12}", "[a-z]{249,253}"])
    }

    fn number() -> impl Strategy<Value = Option<u64>> {
        prop::option::of(prop_oneof![0..300_u64, any::<u64>(), 65_000..66_000_u64])
    }

    fn acquire() -> impl Strategy<Value = AcquireParams> {
        let texts = prop::array::uniform8(text());
        let bind = prop_oneof![Just(BindTo::Connection), Just(BindTo::Ttl), any::<u32>().prop_map(BindTo::Pid)];
        let list = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec("[a-z]{0,3}", 0..3)];
        let rest = (list, any::<i8>(), number(), number(), bind, any::<bool>(), any::<bool>(), any::<bool>());
        (texts, rest).prop_map(
            |(texts, (exclude, priority, wait_ms, ttl_ms, bind, credential, exclusive, has_only))| {
                let [model, pool, session, label, account, agent, request_id, directory] = texts;
                let provider = model.clone().unwrap_or_default();
                let only = has_only.then(Vec::new).filter(|_| priority > 100);
                AcquireParams {
                    provider,
                    model,
                    pool,
                    session,
                    label,
                    account,
                    exclude,
                    priority,
                    wait_ms,
                    ttl_ms,
                    bind,
                    credential,
                    agent,
                    exclusive,
                    request_id,
                    only,
                    directory,
                }
            },
        )
    }

    fn call() -> impl Strategy<Value = Call> {
        let lease =
            || (text(), number()).prop_map(|(lease, fence)| LeaseRef { lease: lease.unwrap_or_default(), fence });
        let report = (text(), prop::option::of(any::<bool>()), number()).prop_map(|(lease, ok, retry_after_ms)| {
            let lease = lease.unwrap_or_default();
            ReportParams { lease, ok, retry_after_ms, ..ReportParams::default() }
        });
        prop_oneof![
            acquire().prop_map(|params| Call::Acquire(Box::new(params))),
            acquire().prop_map(|params| Call::Token(Box::new(params))),
            lease().prop_map(Call::Release),
            lease().prop_map(Call::Renew),
            lease().prop_map(Call::Resume),
            report.prop_map(Call::Report),
        ]
    }

    #[test]
    fn the_usual_calls_are_read_here() {
        let acquire =
            AcquireParams { provider: "anthropic".into(), model: Some("m".into()), ..AcquireParams::default() };
        let lease = LeaseRef { lease: "ls_1".into(), fence: Some(1 << 40) };
        let report = ReportParams { lease: "ls_1".into(), ok: Some(true), ..ReportParams::default() };
        for call in [
            Call::Acquire(Box::new(acquire.clone())),
            Call::Token(Box::new(acquire)),
            Call::Release(lease.clone()),
            Call::Renew(lease),
            Call::Report(report),
        ] {
            let mut frame = Vec::new();
            encode_call(7, call.clone(), &mut frame).unwrap();
            let read = read(&frame[4..]).unwrap();
            assert_eq!((read.id, read.call), (Some(RequestId::Number(7)), Ok(call)));
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_as_by_serde(
            id: u64,
            call in call(),
            breaks in prop::option::of((0..400_usize, any::<u8>())),
            cut in prop::option::of(0..400_usize),
        ) {
            let mut frame = Vec::new();
            encode_call(id, call, &mut frame).unwrap();
            let mut body = frame.split_off(4);
            if let Some((place, byte)) = breaks {
                let place = place % body.len();
                body[place] = byte;
            }
            body.truncate(cut.unwrap_or(usize::MAX));
            if let Some(read) = read(&body) {
                prop_assert_eq!(Ok(read), parse_by_serde(&body), "{:?}", body);
            }
        }
    }
}
