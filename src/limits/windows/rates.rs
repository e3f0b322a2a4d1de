//! Limits of requests and tokens in a short time, in the many spellings of their headers.

use super::window::{Window, WindowFamily};
use crate::limits::reason::Scope;
use crate::limits::response::Headers;
use crate::limits::time::{When, duration, instant};

/// More windows than any upstream has are ignored.
pub(super) const MOST: usize = 32;

/// Reads the limits of requests and tokens: `x-ratelimit-…`, `ratelimit-…`, `anthropic-ratelimit-…`, by what is
/// counted.
pub(super) fn rates(headers: &Headers, now: u64) -> Vec<Window> {
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
                (rate.reset, rate.reset_header) = (When::parse(value), name.to_owned());
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
    reset_header: String,
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
        // some send 0 or -1 for unknown
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
            reset_header: self.reset_header,
        })
    }
}

/// What a header counts, and which field it is; the field is written before or after what is counted.
fn field_of(name: &str) -> Option<(&str, Field)> {
    let rest = ["anthropic-ratelimit-", "x-ratelimit-", "ratelimit-", "x-rate-limit-"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .filter(|rest| !rest.starts_with("unified"))?;
    // of Anthropic's, only the known ones; the others describe no rate
    let is_known =
        |counted: &str| !name.starts_with("anthropic-") || counted.ends_with("requests") || counted.ends_with("tokens");
    FIELDS.iter().find_map(|(word, field)| {
        let before = rest
            .strip_prefix(word)
            .and_then(|counted| if counted.is_empty() { Some(counted) } else { counted.strip_prefix('-') });
        let after = || rest.strip_suffix(word).and_then(|counted| counted.strip_suffix('-'));
        before.or_else(after).filter(|counted| is_known(counted)).map(|counted| (counted, *field))
    })
}

/// Reads several fields in one header: `limit=10, remaining=0, reset=50`, or `"default";r=0;t=50`.
fn combined(name: &str, value: &str) -> Option<Rate> {
    let mut rate = Rate { reset_header: name.to_owned(), ..Rate::default() };
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

/// A count; negative values and other texts are unknown.
fn count(value: &str) -> Option<f64> {
    // a policy may follow: `100;w=60`
    instant::plain_number(value.split([';', ',']).next()?.trim())
}

#[cfg(test)]
mod tests {
    use super::super::window::blocking;
    use super::*;

    const NOW: u64 = 1_789_997_600_000;

    fn told(headers: &str) -> Vec<(String, Option<f64>, Option<u64>, bool)> {
        let headers = headers.split(" | ").map(|header| header.split_once(": ").unwrap());
        let windows = rates(&Headers::telling(headers), NOW);
        windows.into_iter().map(|w| (w.name, w.utilization, w.resets_at.map(|at| at - NOW), w.spent)).collect()
    }

    #[test]
    fn rates_in_every_spelling() {
        for (headers, expected) in [
            (
                "x-ratelimit-limit-requests: 100 | x-ratelimit-remaining-requests: 25 | x-ratelimit-reset-requests: 6m0s",
                ("requests", Some(0.75), Some(360_000), false),
            ),
            (
                "anthropic-ratelimit-output-tokens-limit: 8000 | anthropic-ratelimit-output-tokens-remaining: 0 | anthropic-ratelimit-output-tokens-reset: 2026-09-21T13:33:32Z",
                ("output-tokens", Some(1.0), Some(12_000), true),
            ),
            (
                "X-RateLimit-Limit: 50 | X-RateLimit-Remaining: 0 | X-RateLimit-Reset: 1789997660000",
                ("requests", Some(1.0), Some(60_000), true),
            ),
            ("x-ratelimit-reset: 1789997660", ("requests", None, Some(60_000), false)),
            (
                "x-ratelimit-remaining-tokens-minute: 0 | x-ratelimit-reset-tokens-minute: 11.38",
                ("tokens-minute", None, Some(11_380), true),
            ),
            ("ratelimit: limit=10, remaining=0, reset=50", ("requests", Some(1.0), Some(50_000), true)),
            ("ratelimit: \"default\";r=0;t=50", ("requests", None, Some(50_000), true)),
            ("ratelimit-remaining: 0 | ratelimit-reset: 5", ("requests", None, Some(5_000), true)),
            // unknown, not empty
            (
                "x-ratelimit-limit-tokens: 0 | x-ratelimit-remaining-tokens: 0 | x-ratelimit-reset-tokens: 1s",
                ("tokens", None, Some(1_000), false),
            ),
            ("x-ratelimit-remaining-tokens: -1 | x-ratelimit-reset-tokens: 1s", ("tokens", None, Some(1_000), false)),
            ("x-ratelimit-remaining-tokens: 0 | x-ratelimit-reset-tokens: 0", ("tokens", None, None, true)),
        ] {
            let (name, used, reset, spent) = expected;
            assert_eq!(told(headers), [(name.to_owned(), used, reset, spent)], "{headers}");
        }
        assert_eq!(told("x-ratelimit-remaining-tokens: -1 | x-ratelimit-limit-tokens: NaN"), []);
    }

    #[test]
    fn the_spent_window_that_resets_last_blocks() {
        let headers = Headers::telling([
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "6m0s"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "10ms"),
            ("x-ratelimit-remaining-images", "5"),
            ("x-ratelimit-reset-images", "1h"),
        ]);
        assert_eq!(blocking(&rates(&headers, NOW)).unwrap().name, "requests");
        assert_eq!(blocking(&[]), None);
    }
}
