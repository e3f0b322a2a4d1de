//! Quota windows that an agent states, such as Claude Code to its status line: which of them can be believed of an account,
//! and which are news. Pure.
//!
//! An agent states what its last response said, and not of which account. It may state that for long, while other sessions
//! use the same account.

use std::time::Duration;

use crate::pool::{Wall, Window};

/// The names of the windows that are known, as the agent and as lessor calls them, and how long they last at most.
const KNOWN: [(&str, &str, Duration); 2] =
    [("five_hour", "5h", Duration::from_secs(5 * 3600)), ("seven_day", "7d", Duration::from_secs(7 * 86_400))];
/// Two times this close are the same reset.
const SLACK: Duration = Duration::from_secs(60);
/// Agents state whole percents.
const ROUNDING: f64 = 0.01;
/// A higher use is not believed.
const MOST_USED: f64 = 2.0;

/// What an agent states of a window: its name for it, the used percentage, and the reset.
#[must_use]
pub fn stated_window(name: &str, used_percentage: f64, resets_at: Option<Wall>, as_of: Wall) -> Option<Window> {
    let (_, name, length) = KNOWN.iter().find(|(stated, ..)| *stated == name)?;
    let utilization = used_percentage / 100.0;
    let is_possible = (0.0..=MOST_USED).contains(&utilization);
    let is_live = resets_at.is_none_or(|at| at > as_of && at <= as_of.after(*length + SLACK));
    let window = Window { name: (*name).to_owned(), utilization, resets_at, as_of, key: String::new() };
    (is_possible && is_live).then_some(window)
}

/// Whether these windows can be those of the account of which `known` is known: none has another reset.
#[must_use]
pub fn can_be(known: &[Window], stated: &[Window], now: Wall) -> bool {
    stated.iter().all(|window| {
        let resets = live(known, window, now).and_then(|known| known.resets_at).zip(window.resets_at);
        resets.is_none_or(|(known, stated)| is_same(known, stated))
    })
}

/// The windows that say more than what is known of the same account: that more of a window is used, or that a later one
/// has begun.
#[must_use]
pub fn newer_windows(known: &[Window], stated: Vec<Window>, now: Wall) -> Vec<Window> {
    let is_news = |window: &Window| match live(known, window, now) {
        None => true,
        Some(known) if known.as_of > window.as_of => false,
        Some(known) => match (known.resets_at, window.resets_at) {
            (Some(known_reset), Some(stated)) if !is_same(known_reset, stated) => stated > known_reset,
            _ => window.utilization >= known.utilization + ROUNDING,
        },
    };
    stated.into_iter().filter(is_news).collect()
}

/// What is known of a window of the whole account that has not been reset since.
fn live<'a>(known: &'a [Window], stated: &Window, now: Wall) -> Option<&'a Window> {
    let is_it = |known: &&Window| known.name == stated.name && known.key.is_empty();
    known.iter().find(is_it).filter(|known| known.resets_at.is_none_or(|at| at > now))
}

fn is_same(one: Wall, other: Wall) -> bool {
    one.since(other).max(other.since(one)) <= SLACK
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_789_997_600_000);

    fn at(seconds: u64) -> Wall {
        NOW.after(Duration::from_secs(seconds))
    }

    fn window(name: &str, used: f64, resets_in: Option<u64>, as_of: Wall) -> Window {
        Window { name: name.to_owned(), utilization: used, resets_at: resets_in.map(at), as_of, key: String::new() }
    }

    #[test]
    fn only_known_windows_with_possible_values_are_read() {
        let read = |name, used, resets_in: Option<u64>| stated_window(name, used, resets_in.map(at), NOW);
        assert_eq!(read("five_hour", 42.0, Some(3600)), Some(window("5h", 0.42, Some(3600), NOW)));
        assert_eq!(read("seven_day", 101.0, Some(600_000)).map(|window| window.name), Some("7d".to_owned()));
        assert_eq!(read("five_hour", 0.0, None), Some(window("5h", 0.0, None, NOW)));
        for (name, used, resets_in) in [
            ("spend_limit", 1.0, Some(60)),
            ("5h", 1.0, Some(60)),
            ("five_hour", -1.0, Some(60)),
            ("five_hour", 201.0, Some(60)),
            ("five_hour", f64::NAN, Some(60)),
            ("five_hour", f64::INFINITY, Some(60)),
            ("five_hour", 1.0, Some(0)),
            ("five_hour", 1.0, Some(5 * 3600 + 61)),
            ("seven_day", 1.0, Some(8 * 86_400)),
        ] {
            assert_eq!(read(name, used, resets_in), None, "{name} {used} {resets_in:?}");
        }
    }

    #[test]
    fn windows_of_another_account_have_another_reset() {
        let known = [window("5h", 0.3, Some(1000), NOW), window("7d", 0.5, Some(90_000), NOW)];
        let can = |five_hour: u64, seven_day: u64| {
            let stated = [window("5h", 0.4, Some(five_hour), NOW), window("7d", 0.5, Some(seven_day), NOW)];
            can_be(&known, &stated, NOW)
        };
        assert!(can(1000, 90_000) && can(1060, 89_940), "within the jitter");
        assert!(!can(1061, 90_000) && !can(1000, 80_000) && !can(500, 90_000));
        assert!(can_be(&[], &[window("5h", 1.0, Some(9), NOW)], NOW), "nothing contradicts it");
        let over = [window("5h", 0.3, Some(10), NOW)];
        assert!(can_be(&over, &[window("5h", 0.0, Some(9000), at(20))], at(20)), "the known one has been reset");
        let of_model = [Window { key: "claude:claude-*opus*".to_owned(), ..window("7d", 0.3, Some(10), NOW) }];
        assert!(can_be(&of_model, &[window("7d", 0.0, Some(9000), NOW)], NOW));
    }

    #[test]
    fn only_more_use_or_a_later_window_is_news() {
        let news = |known: Window, stated: Window| !newer_windows(&[known], vec![stated], NOW).is_empty();
        let known = || window("5h", 0.30, Some(1000), NOW);
        for (stated, expected) in [
            (window("5h", 0.42, Some(1000), NOW), true),
            (window("5h", 0.42, Some(1030), at(1)), true),
            (window("5h", 0.305, Some(1000), at(1)), false),
            (window("5h", 0.30, Some(1000), at(1)), false),
            (window("5h", 0.10, Some(1000), at(1)), false),
            (window("5h", 0.42, Some(1000), Wall(NOW.0 - 1)), false),
            (window("5h", 0.02, Some(9000), at(1)), true),
            (window("5h", 0.99, Some(100), at(1)), false),
            (window("5h", 0.42, None, at(1)), true),
            (window("7d", 0.01, Some(1000), NOW), true),
        ] {
            assert_eq!(news(known(), stated.clone()), expected, "{stated:?}");
        }
        let over = Window { resets_at: Some(Wall(NOW.0 - 1)), ..known() };
        assert!(news(over, window("5h", 0.01, Some(9000), NOW)));
    }
}
