//! Where a response states how long to wait, the most reliable source first.

use super::body::prose_time;
use super::evidence::ResponseEvidence;
use super::reason::Reason;
use super::time::{StatedDelay, WaitSource, When, duration};
use super::windows::{self, WindowFamily};

impl ResponseEvidence<'_> {
    /// The stated wait from the most reliable source: a field of the body; the reset of a plan's window; `retry-after`;
    /// words; and last the reset of a rate. A rate's reset says when the bucket is full again, which is later than when
    /// it has room.
    pub(super) fn stated(&self, reason: Reason) -> Option<StatedDelay> {
        let of_window = matches!(
            reason,
            Reason::QuotaExhausted | Reason::RateLimitExceeded | Reason::OutOfCredit | Reason::Unknown
        );
        let blocking = windows::blocking(self.windows).filter(|_| of_window);
        let plan = blocking.filter(|window| window.kind != WindowFamily::Rate);
        self.stated_in_body()
            .or_else(|| plan?.stated(self.now))
            .or_else(|| self.unified_reset().filter(|_| of_window))
            .or_else(|| self.retry_header())
            .or_else(|| self.stated_in_words().filter(|_| reason != Reason::RequestRejected))
            .or_else(|| blocking?.stated(self.now))
            .or_else(|| self.only_reset().filter(|_| of_window))
    }

    /// The wait in a field of the body.
    pub(super) fn stated_in_body(&self) -> Option<StatedDelay> {
        self.body.waits.iter().find_map(|known| known.when.stated(self.now, WaitSource::body(known.source)))
    }

    /// The wait in words.
    pub(super) fn stated_in_words(&self) -> Option<StatedDelay> {
        prose_time::wait(&self.body.text)?.stated(self.now, WaitSource::PROSE)
    }

    /// The overall reset of a subscription's refusal, when its window states none.
    fn unified_reset(&self) -> Option<StatedDelay> {
        let refused = windows::refused(self.headers).is_some();
        let spent = windows::blocking(self.windows).is_some_and(|window| window.kind == WindowFamily::Unified);
        let name = "anthropic-ratelimit-unified-reset";
        When::parse(self.headers.get(name).filter(|_| refused || spent)?)?.stated(self.now, WaitSource::header(name))
    }

    /// The wait in a header of its own.
    pub(super) fn retry_header(&self) -> Option<StatedDelay> {
        const MILLIS: [&str; 2] = ["retry-after-ms", "x-ms-retry-after-ms"];
        const SECONDS: [&str; 2] = ["retry-after", "x-retry-after"];
        let all = |names: [&'static str; 2]| {
            names.into_iter().flat_map(|name| self.headers.all(name).map(move |value| (name, value)))
        };
        let millis = all(MILLIS).map(|(name, value)| (name, duration::parse(&format!("{value}ms")).map(When::In)));
        let seconds = all(SECONDS).map(|(name, value)| (name, retry_after(value)));
        millis.chain(seconds).find_map(|(name, when)| when?.stated(self.now, WaitSource::header(name)))
    }

    /// The reset of the only window, when nothing else is known about it.
    fn only_reset(&self) -> Option<StatedDelay> {
        match self.windows {
            [window] if window.utilization.is_none() => window.stated(self.now),
            _ => None,
        }
    }
}

/// The value of a header that a proxy may have joined with another one of the same name.
fn retry_after(value: &str) -> Option<When> {
    When::parse(value).or_else(|| When::parse(value.split_once(',')?.0))
}
