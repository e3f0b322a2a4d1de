//! The windows of a ChatGPT plan in the headers for Codex: `x-codex-primary-…`, `x-codex-secondary-…`, and the same for
//! further limits.

use super::window::{Window, WindowFamily};
use crate::limits::reason::Scope;
use crate::limits::response::Headers;
use crate::limits::time::{When, instant};

/// A share from here on counts as full: the header's percentage is rounded.
const FULL: f64 = 0.995;
pub(super) fn windows(headers: &Headers, now: u64) -> Vec<Window> {
    let mut found = Vec::new();
    for (header, value) in headers.iter() {
        let Some(start) = header.strip_suffix("-used-percent") else { continue };
        let Some((family, slot)) = start.rsplit_once('-') else { continue };
        if !matches!(slot, "primary" | "secondary") {
            continue;
        }
        let Some(percent) = instant::plain_number(value) else { continue };
        let field = |field: &str| headers.get(&format!("{start}-{field}"));
        // a blank length or one of zero fills a place in which there is no window
        let length = match field("window-minutes") {
            Some(minutes) => match instant::plain_number(minutes).and_then(window_name) {
                Some(length) => length,
                None => continue,
            },
            None => slot.to_owned(),
        };
        let (scope, name) = match family {
            "x-codex" => (Scope::Account, length),
            other => (Scope::Model, format!("{length} {}", other.trim_start_matches("x-"))),
        };
        // a duration is correct whatever the clocks say
        let told = ["reset-after-seconds", "reset-at"].iter().find_map(|name| {
            let when = When::parse(field(name)?)?;
            when.wait(now).map(|wait| (wait, format!("{start}-{name}")))
        });
        let resets_at = told.as_ref().and_then(|(wait, _)| now.checked_add(u64::try_from(wait.as_millis()).ok()?));
        let reset_header = told.map(|(_, header)| header).unwrap_or_default();
        let used = percent / 100.0;
        found.push(Window {
            name,
            utilization: Some(used),
            resets_at,
            scope,
            spent: used >= FULL,
            kind: WindowFamily::Codex,
            reset_header,
        });
    }
    found
}

/// The name of a window of this length, in minutes: `5h`, `7d`, `90m`.
#[must_use]
pub fn window_name(minutes: f64) -> Option<String> {
    let minutes = minutes.round();
    (1.0..1e6).contains(&minutes).then(|| match minutes as u64 {
        m if m % 1440 == 0 => format!("{}d", m / 1440),
        m if m % 60 == 0 => format!("{}h", m / 60),
        m => format!("{m}m"),
    })
}

/// Whether the plan's credits are used up too.
pub(in crate::limits) fn credits_depleted(headers: &Headers) -> bool {
    headers.get("x-codex-rate-limit-reached-type").is_some_and(|why| why.contains("credits_depleted"))
}

/// Whether the account has bought credits, which pay when the plan's windows are used up.
pub(super) fn pays_with_credits(headers: &Headers) -> bool {
    let says = |name: &str| headers.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    says("x-codex-credits-has-credits") && !says("x-codex-credits-unlimited")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_789_997_600_000;

    #[test]
    fn windows_are_named_by_their_length() {
        let headers = Headers::telling([
            ("x-codex-primary-used-percent", "100.0"),
            ("x-codex-primary-window-minutes", "300"),
            ("x-codex-primary-reset-after-seconds", "600"),
            ("x-codex-secondary-used-percent", "40.5"),
            ("x-codex-secondary-window-minutes", "10080"),
            ("x-codex-secondary-reset-at", "1790087600"),
            ("x-codex-spark-primary-used-percent", "3"),
            ("x-codex-plan-type", "pro"),
        ]);
        let told: Vec<_> = windows(&headers, NOW)
            .into_iter()
            .map(|w| (w.name, w.utilization, w.resets_at.map(|at| at - NOW), w.scope, w.spent))
            .collect();
        assert_eq!(
            told,
            [
                ("5h".into(), Some(1.0), Some(600_000), Scope::Account, true),
                ("7d".into(), Some(0.405), Some(90_000_000), Scope::Account, false),
                ("primary codex-spark".into(), Some(0.03), None, Scope::Model, false),
            ]
        );
        assert_eq!(windows(&Headers::telling([("x-codex-primary-used-percent", "NaN")]), NOW), []);
        for minutes in ["0", "", "0.0", "-5", "x"] {
            let headers = [("x-codex-secondary-used-percent", "100"), ("x-codex-secondary-window-minutes", minutes)];
            assert_eq!(windows(&Headers::telling(headers), NOW), [], "{minutes}");
        }
    }
}
