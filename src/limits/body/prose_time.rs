//! Waits and instants in prose: "Your quota will reset after 2h7m23s".
//!
//! Reads lower-case text, in time linear in its length.

use crate::limits::time::{When, duration, instant};

/// Words that a time follows, separated by `|`.
const ANCHORS: &str = "retry|try again|try it again|reset|quotareset|wait|back off|backoff|available|regain access|renew|refill|until|cool down|cooldown|cooling down|come back|lifted|unlock";
/// Words that may occur between an anchor and its time.
const FILLERS: &str = "in after for at on about approximately around roughly another the next again least until is be of request \
     requests your it";
/// The number of words allowed between an anchor and its time.
const MOST_FILLERS: usize = 6;

/// The first time that the text states.
pub(in crate::limits) fn wait(text: &str) -> Option<When> {
    // times begin with a digit or an article
    let mut starts = word_starts(text);
    starts.find_map(|at| {
        let rest = &text[at..];
        if let Some(epoch) = rest.strip_prefix("reached|") {
            return epoch_after(epoch);
        }
        let anchor = ANCHORS.split('|').find(|anchor| rest.starts_with(*anchor))?;
        time_after(&rest[anchor.len()..], anchor == "retry")
    })
}

/// The offsets where words begin.
fn word_starts(text: &str) -> impl Iterator<Item = usize> {
    let bytes = text.as_bytes();
    (0..bytes.len())
        .filter(move |at| bytes[*at].is_ascii_lowercase() && (*at == 0 || !bytes[at - 1].is_ascii_alphanumeric()))
}

/// An old format: `limit reached|1790000000`.
fn epoch_after(text: &str) -> Option<When> {
    let digits = text.bytes().take(16).take_while(u8::is_ascii_digit).count();
    instant::plain_number(&text[..digits]).and_then(instant::of_number).map(When::At)
}

/// Reads the time that follows an anchor.
fn time_after(text: &str, retry: bool) -> Option<When> {
    // "resets", "retrying"
    let mut rest = text.trim_start_matches(|letter: char| letter.is_ascii_lowercase());
    let mut after = false;
    for _ in 0..=MOST_FILLERS {
        rest = gap(rest)?;
        if rest.starts_with(|letter: char| letter.is_ascii_digit()) {
            return time(rest, retry && after);
        }
        let end = rest.find(|letter: char| !letter.is_ascii_lowercase()).unwrap_or(rest.len());
        let (word, next) = rest.split_at(end);
        if matches!(word, "a" | "an" | "one") {
            return duration::one_unit(next.trim_start()).map(When::In);
        }
        if !FILLERS.split(' ').any(|filler| filler == word) {
            return None;
        }
        after |= word == "after";
        rest = next;
    }
    None
}

/// Skips separators; a minus before a number makes the time invalid.
fn gap(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches([' ', '\t', '\n', '\r', ':', '=', '~', '_', '"', '\'', '(', '`', '\u{2248}']);
    match rest.strip_prefix('-') {
        Some(after) if after.starts_with(|letter: char| letter.is_ascii_lowercase()) => Some(after),
        Some(_) => None,
        None => Some(rest),
    }
}

/// Reads a time that begins with a digit; a bare number means seconds only after "retry after".
fn time(text: &str, bare: bool) -> Option<When> {
    // the text is in lower case, and so is the `t` of an instant
    if let Some((at, _)) = instant::leading(text) {
        return Some(When::At(at));
    }
    if let Some(found) = duration::leading(text) {
        return Some(When::In(found.duration));
    }
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let next = text[end..].trim_start();
    let counts_something = next.starts_with(|letter: char| letter.is_alphanumeric() || letter == '%' || letter == '/');
    if !bare || counts_something {
        return None;
    }
    duration::parse(text[..end].trim_end_matches('.')).map(When::In)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_in_sentences() {
        for (text, ms) in [
            ("Your quota will reset after 3h22m15s.", 12_135_000),
            ("Your quota will reset after 2h7m23.5s", 7_643_500),
            ("Please retry in 12.3s", 12_300),
            ("Please retry in 34.074824224s.", 34_074),
            ("Quota limit hit. Retry After 99 Seconds", 99_000),
            ("Please try again in 120ms.", 120),
            ("Please try again in 7m12s. Visit https://example.com", 432_000),
            ("Please try again in 9m38.016s. Need more tokens?", 578_016),
            ("Try again in 5 minutes.", 300_000),
            ("Try again in 5 minutes and 30 seconds.", 330_000),
            ("please wait 30 seconds before", 30_000),
            ("Rate limited (wait 30s)", 30_000),
            ("limit resets in 3 hours", 10_800_000),
            ("Your limit resets in: 2d 3h", 183_600_000),
            ("Quota resets in about 2 hours", 7_200_000),
            ("Try again in an hour", 3_600_000),
            ("try again in a minute", 60_000),
            ("back off for 10s", 10_000),
            ("retry_after: 30", 30_000),
            ("retry-after=30", 30_000),
            ("Retry after 30.", 30_000),
            ("Please retry your request after 20s", 20_000),
            ("will be available again in 15 min", 900_000),
            ("retrying is no use. Retry in 5s", 5_000),
            ("the account is cooling down for 4m59s", 299_000),
            ("cooldown: 45s", 45_000),
            ("the limit will be lifted in 10 minutes", 600_000),
            ("come back in 2 days", 172_800_000),
        ] {
            let expected = Some(When::In(Duration::from_millis(ms)));
            let found = wait(&text.to_lowercase()).map(|when| match when {
                When::In(span) => When::In(Duration::from_millis(u64::try_from(span.as_millis()).unwrap())),
                at @ When::At(_) => at,
            });
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn instants_in_sentences() {
        for text in [
            "Your quota resets at 2026-09-21T14:13:20Z.", "blocked until 2026-09-21 14:13:20 UTC",
            "Claude usage limit reached|1790000000", "Resets on 2026-09-21T16:13:20+02:00",
        ] {
            assert_eq!(wait(&text.to_lowercase()), Some(When::At(1_790_000_000_000)), "{text}");
        }
        let text =
            "you have reached your specified api usage limits. you will regain access on 2026-10-01 at 00:00 utc.";
        assert_eq!(wait(text), Some(When::At(1_790_812_800_000)));
    }

    #[test]
    #[rustfmt::skip]
    fn texts_without_a_time() {
        for text in [
            "limit of 1000 messages per day", "limit 10, used 10", "retry after 1000 messages",
            "retry after 5 attempts", "retry after 50%", "please try again later", "try again in 30",
            "wait -5 seconds", "retry in -5s", "resets 3pm (europe/berlin)", "resets at 3pm", "1000 m", "5 minutes",
            "retry 3 times", "waiting list of 5 hours", "reset after", "",
        ] {
            assert_eq!(wait(text), None, "{text}");
        }
    }
}
