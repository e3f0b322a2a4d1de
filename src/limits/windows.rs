//! What headers say of an account's quota windows: how much is used, and when each starts anew.

use super::duration;
use super::headers::Headers;
use super::reason::Scope;
use super::stated::{StatedDelay, When};
use super::verdict::WaitSource;
use super::{anthropic, instant, openai};

/// More windows are nobody's.
const MOST: usize = 32;

/// A window of a quota.
#[derive(Clone, PartialEq, Debug)]
pub struct Window {
    /// Its name: `5h`, `7d`, `7d_oi`, `requests`, `tokens`…
    pub name: String,
    /// How much is used, from 0 to 1; more when overdrawn. `None` when only its end is known.
    pub utilization: Option<f64>,
    /// When it starts anew, epoch ms.
    pub resets_at: Option<u64>,
    /// What it counts: the whole account, or one model or family of it.
    pub scope: Scope,
    /// The upstream refuses because of it.
    pub spent: bool,
    /// Whose header it is.
    pub(super) kind: WindowFamily,
    /// The header that told the reset.
    pub(super) told_by: String,
}

/// A family of headers, the most telling first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum WindowFamily {
    /// A subscription's windows.
    Unified,
    /// A ChatGPT plan's windows.
    Codex,
    /// Requests and tokens in a short time.
    Rate,
}

/// All windows that the headers tell of.
pub(super) fn read(headers: &Headers, now: u64) -> Vec<Window> {
    let mut windows = anthropic::windows(headers, now);
    windows.extend(openai::codex_windows(headers, now));
    windows.extend(rates(headers, now));
    windows.truncate(MOST);
    windows
}

/// The window that stands in the way longest: of the account, unless only models are refused.
pub(super) fn blocking(windows: &[Window]) -> Option<&Window> {
    let kind = windows.iter().filter(|window| window.spent).map(|window| window.kind).min()?;
    let spent = || windows.iter().filter(|window| window.spent && window.kind == kind);
    let scope = spent().map(|window| window.scope).max()?;
    spent().filter(|window| window.scope == scope).max_by_key(|window| window.resets_at)
}

impl Window {
    /// Whether it counts requests or tokens in a short time, not a plan's quota.
    #[must_use]
    pub fn is_rate(&self) -> bool {
        self.kind == WindowFamily::Rate
    }

    /// The wait until it starts anew.
    pub(super) fn stated(&self, now: u64) -> Option<StatedDelay> {
        let stated = When::At(self.resets_at?).stated(now, WaitSource::header(&self.told_by))?;
        // the others are mostly told as spans
        let is_time_of_day = self.kind == WindowFamily::Unified || self.told_by.ends_with("-reset-at");
        Some(StatedDelay { at: stated.at.filter(|_| is_time_of_day), ..stated })
    }
}

/// Requests and tokens: `x-ratelimit-…`, `ratelimit-…`, `anthropic-ratelimit-…`, by what is counted.
fn rates(headers: &Headers, now: u64) -> Vec<Window> {
    let mut found: Vec<Rate> = Vec::new();
    for (name, value) in headers.iter() {
        if matches!(name, "ratelimit" | "x-ratelimit") {
            found.extend(combined(name, value));
            continue;
        }
        let Some((counted, field)) = field_of(name) else { continue };
        let at = found.iter().position(|rate| rate.counted == counted).unwrap_or_else(|| {
            found.push(Rate { counted: counted.to_owned(), ..Rate::default() });
            found.len() - 1
        });
        let rate = &mut found[at];
        match field {
            Field::Limit => rate.limit = rate.limit.or(count(value)),
            Field::Remaining => rate.remaining = rate.remaining.or(count(value)),
            Field::Reset if rate.reset.is_none() => {
                (rate.reset, rate.told_by) = (when(value, now), name.to_owned());
            }
            Field::Reset => {}
        }
        if found.len() >= MOST {
            break;
        }
    }
    found.into_iter().filter_map(|rate| rate.window(now)).collect()
}

#[derive(Default)]
struct Rate {
    counted: String,
    limit: Option<f64>,
    remaining: Option<f64>,
    reset: Option<When>,
    told_by: String,
}

#[derive(Clone, Copy)]
enum Field {
    Limit,
    Remaining,
    Reset,
}

const FIELDS: [(&str, Field); 3] = [("limit", Field::Limit), ("remaining", Field::Remaining), ("reset", Field::Reset)];

impl Rate {
    fn window(self, now: u64) -> Option<Window> {
        // some send 0 or -1 for what they do not know
        let limit = self.limit.filter(|limit| *limit > 0.0);
        let remaining = self.remaining.filter(|_| self.limit.is_none() || limit.is_some());
        if remaining.is_none() && self.reset.is_none() {
            return None;
        }
        let utilization = remaining.zip(limit).map(|(remaining, limit)| ((limit - remaining) / limit).max(0.0));
        let resets_at = self.reset.and_then(|reset| match reset {
            When::At(at) => Some(at),
            When::In(_) => reset.wait(now).and_then(|wait| now.checked_add(u64::try_from(wait.as_millis()).ok()?)),
        });
        let name = if self.counted.is_empty() { "requests".to_owned() } else { self.counted };
        let spent = remaining == Some(0.0);
        Some(Window {
            name,
            utilization,
            resets_at,
            scope: Scope::Pool,
            spent,
            kind: WindowFamily::Rate,
            told_by: self.told_by,
        })
    }
}

/// What a header counts, and which of its fields it is; the field stands before or after what is counted.
fn field_of(name: &str) -> Option<(&str, Field)> {
    let rest = ["anthropic-ratelimit-", "x-ratelimit-", "ratelimit-", "x-rate-limit-"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .filter(|rest| !rest.starts_with("unified"))?;
    FIELDS.iter().find_map(|(word, field)| {
        let before = rest
            .strip_prefix(word)
            .and_then(|counted| if counted.is_empty() { Some(counted) } else { counted.strip_prefix('-') });
        let after = || rest.strip_suffix(word).and_then(|counted| counted.strip_suffix('-'));
        before.or_else(after).map(|counted| (counted, *field))
    })
}

/// Several fields in one header: `limit=10, remaining=0, reset=50`, or `"default";r=0;t=50`.
fn combined(name: &str, value: &str) -> Option<Rate> {
    let mut rate = Rate { told_by: name.to_owned(), ..Rate::default() };
    for part in value.split([';', ',']).take(MOST) {
        let Some((key, value)) = part.split_once('=') else { continue };
        match key.trim() {
            "limit" | "q" => rate.limit = count(value),
            "remaining" | "r" => rate.remaining = count(value),
            "reset" | "t" => rate.reset = duration::parse(value).map(When::In),
            _ => {}
        }
    }
    (rate.remaining.is_some() || rate.reset.is_some()).then_some(rate)
}

/// A count; what is negative or no number is unknown.
fn count(value: &str) -> Option<f64> {
    // a policy may follow: `100;w=60`
    instant::plain_number(value.split([';', ',']).next()?.trim())
}

/// A reset as headers state it: an instant or a span.
pub(super) fn when(value: &str, now: u64) -> Option<When> {
    match instant::epoch_ms(value, now) {
        Some(at) => Some(When::At(at)),
        None => duration::parse(value).map(When::In),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_789_997_600_000;

    fn told(headers: &[(&str, &str)]) -> Vec<(String, Option<f64>, Option<u64>, bool)> {
        let windows = read(&Headers::telling(headers.iter().copied()), NOW);
        windows.into_iter().map(|w| (w.name, w.utilization, w.resets_at.map(|at| at - NOW), w.spent)).collect()
    }

    #[test]
    fn rates_of_every_spelling() {
        for (headers, expected) in [
            (
                &[
                    ("x-ratelimit-limit-requests", "100"),
                    ("x-ratelimit-remaining-requests", "25"),
                    ("x-ratelimit-reset-requests", "6m0s"),
                ][..],
                ("requests", Some(0.75), Some(360_000), false),
            ),
            (
                &[
                    ("anthropic-ratelimit-output-tokens-limit", "8000"),
                    ("anthropic-ratelimit-output-tokens-remaining", "0"),
                    ("anthropic-ratelimit-output-tokens-reset", "2026-09-21T13:33:32Z"),
                ],
                ("output-tokens", Some(1.0), Some(12_000), true),
            ),
            (
                &[("X-RateLimit-Limit", "50"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "1789997660000")],
                ("requests", Some(1.0), Some(60_000), true),
            ),
            (&[("x-ratelimit-reset", "1789997660")], ("requests", None, Some(60_000), false)),
            (
                &[("x-ratelimit-remaining-tokens-minute", "0"), ("x-ratelimit-reset-tokens-minute", "11.38")],
                ("tokens-minute", None, Some(11_380), true),
            ),
            (&[("ratelimit", "limit=10, remaining=0, reset=50")], ("requests", Some(1.0), Some(50_000), true)),
            (&[("ratelimit", "\"default\";r=0;t=50")], ("requests", None, Some(50_000), true)),
            (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "5")], ("requests", None, Some(5_000), true)),
            // unknown, not empty
            (
                &[
                    ("x-ratelimit-limit-tokens", "0"),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "1s"),
                ],
                ("tokens", None, Some(1_000), false),
            ),
            (
                &[("x-ratelimit-remaining-tokens", "-1"), ("x-ratelimit-reset-tokens", "1s")],
                ("tokens", None, Some(1_000), false),
            ),
            (&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "0")], ("tokens", None, None, true)),
        ] {
            let (name, used, reset, spent) = expected;
            assert_eq!(told(headers), [(name.to_owned(), used, reset, spent)], "{headers:?}");
        }
        assert_eq!(told(&[("x-ratelimit-remaining-tokens", "-1"), ("x-ratelimit-limit-tokens", "NaN")]), []);
    }

    #[test]
    fn the_longest_spent_one_blocks() {
        let headers = Headers::telling([
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "6m0s"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "10ms"),
            ("x-ratelimit-remaining-images", "5"),
            ("x-ratelimit-reset-images", "1h"),
        ]);
        assert_eq!(blocking(&read(&headers, NOW)).unwrap().name, "requests");
        assert_eq!(blocking(&[]), None);
    }
}
