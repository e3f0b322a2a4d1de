//! The windows of a Claude subscription: `anthropic-ratelimit-unified-…`.

use super::window::{Window, WindowFamily};
use crate::limits::reason::{Reason, Scope};
use crate::limits::response::Headers;
use crate::limits::time::{When, instant};

const PREFIX: &str = "anthropic-ratelimit-unified-";

/// Whether a status refuses requests. The others (`allowed`, `allowed_warning`, `queueing_…`) do not.
fn refuses(status: &str) -> bool {
    ["rejected", "rate_limited", "blocked", "exceeded"].iter().any(|known| status.eq_ignore_ascii_case(known))
}
pub(super) fn windows(headers: &Headers) -> Vec<Window> {
    let mut names: Vec<&str> = Vec::new();
    for (header, _) in headers.iter() {
        let name = header.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('-'));
        if let Some((name, "status" | "utilization" | "reset")) = name
            && is_window(name)
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    let refused = headers.get("anthropic-ratelimit-unified-status").is_some_and(refuses);
    let mut found: Vec<Window> = names.iter().map(|name| window(headers, name, refused)).collect();
    if refused && !found.iter().any(|window| window.spent) {
        found.extend(represented(headers));
    }
    found
}

fn window(headers: &Headers, name: &str, refused: bool) -> Window {
    let field = |field: &str| headers.get(&format!("{PREFIX}{name}-{field}"));
    let utilization = field("utilization").and_then(instant::plain_number);
    let spent = match field("status") {
        Some(status) => refuses(status),
        // if it has no status, a full window is the one that refuses
        None => refused && utilization.is_some_and(|used| used >= 1.0),
    };
    Window {
        name: name.to_owned(),
        utilization,
        resets_at: reset(field("reset")),
        scope: scope(name),
        spent,
        kind: WindowFamily::Unified,
        reset_header: format!("{PREFIX}{name}-reset"),
    }
}

/// Whether a name has the form of a window's: a length, and possibly what it counts, as in `5h`, `7d` and `7d_opus`.
/// Other headers with this prefix (extra usage, fallbacks, grace periods) describe no window.
fn is_window(name: &str) -> bool {
    let (length, counted) = name.split_once('_').map_or((name, None), |(length, counted)| (length, Some(counted)));
    let is_word = |word: &str| {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        (1..=24).contains(&word.len()) && word.bytes().all(is_letter)
    };
    is_length(length) && counted.is_none_or(is_word)
}

/// A number above zero with a unit: `5h`.
fn is_length(name: &str) -> bool {
    let digits = name.strip_suffix(['m', 'h', 'd', 'w']).unwrap_or_default();
    digits.len() <= 4 && digits.parse::<u16>().is_ok_and(|number| number > 0)
}

/// The window of a claim: `seven_day_opus` is the claim of `7d_opus`. Other claims are not about a window.
fn claimed(claim: Option<&str>) -> Option<String> {
    match claim {
        None | Some("five_hour") => Some("5h".to_owned()),
        Some("seven_day") => Some("7d".to_owned()),
        Some("seven_day_overage_included") => Some("7d_oi".to_owned()),
        Some(other) => other.strip_prefix("seven_day_").map(|of| format!("7d_{of}")).filter(|name| is_window(name)),
    }
}

/// The window that the overall refusal names, when no window's own status refuses.
fn represented(headers: &Headers) -> Option<Window> {
    let name = claimed(headers.get("anthropic-ratelimit-unified-representative-claim"))?;
    Some(Window {
        scope: scope(&name),
        name,
        utilization: None,
        resets_at: reset(headers.get("anthropic-ratelimit-unified-reset")),
        spent: true,
        kind: WindowFamily::Unified,
        reset_header: "anthropic-ratelimit-unified-reset".to_owned(),
    })
}

/// A window named by its length alone applies to the account; one with a suffix (`7d_oi`) applies to some models.
fn scope(name: &str) -> Scope {
    if is_length(name) { Scope::Account } else { Scope::Model }
}

fn reset(value: Option<&str>) -> Option<u64> {
    match When::parse(value?)? {
        When::At(at) => Some(at),
        When::In(_) => None,
    }
}

/// Whether a response has no window headers: such a 429 is about the request, not the account.
pub(in crate::limits) fn is_windowless(headers: &Headers) -> bool {
    !headers.iter().any(|(name, _)| name.starts_with("anthropic-ratelimit-"))
}

/// Whether the account must pay first.
pub(in crate::limits) fn is_unpaid(headers: &Headers) -> bool {
    headers.get("anthropic-ratelimit-unified-status") == Some("payment_required")
}

/// Whether a success is paid as extra usage: the upstream says so, or the plan refuses and extra usage is allowed.
pub(super) fn is_paid_overage(headers: &Headers) -> bool {
    let field = |field: &str| {
        let mut fields = headers.iter().filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value)));
        fields.find(|(name, _)| *name == field).map(|(_, value)| value)
    };
    let in_use = field("overage-in-use").map(|value| value.eq_ignore_ascii_case("true"));
    let allowed = || field("overage-status").is_some_and(|status| status.starts_with("allowed"));
    in_use.unwrap_or_else(|| field("status").is_some_and(refuses) && allowed())
}

/// What the plan as a whole refuses: the account, or some models if a claim that is not the account's is named.
pub(in crate::limits) fn refused(headers: &Headers) -> Option<Scope> {
    headers.get("anthropic-ratelimit-unified-status").filter(|status| refuses(status))?;
    let claim = headers.get("anthropic-ratelimit-unified-representative-claim");
    Some(claimed(claim).map_or(Scope::Model, |name| scope(&name)))
}

/// The refusal of extra usage beyond windows that are not exhausted. Every response of an organisation that has no
/// extra usage says so; it is the reason only if the plan refuses, or if bought credit is used up.
pub(in crate::limits) fn overage(headers: &Headers) -> Option<(Reason, Scope)> {
    let refused_extra = headers.get("anthropic-ratelimit-unified-overage-status").is_some_and(refuses);
    let why = headers.get("anthropic-ratelimit-unified-overage-disabled-reason")?;
    let used_up = why.contains("out_of_credit") || why.contains("spend") || why.contains("cap_reached");
    // other models and ordinary requests of the account still work
    (used_up || (refused_extra && refused(headers).is_some())).then_some((Reason::OutOfCredit, Scope::Model))
}

/// Whether a limit of fast mode is met, which has buckets of its own.
pub(in crate::limits) fn is_fast_mode_spent(headers: &Headers) -> bool {
    let is_spent = |(name, value): (&str, &str)| {
        name.starts_with("anthropic-fast-") && name.ends_with("-remaining") && instant::plain_number(value) == Some(0.0)
    };
    headers.iter().any(is_spent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_windows_are_learnt() {
        for name in ["5h", "7d", "7d_opus", "7d_oi", "7d_oauth_apps", "30d", "90m", "1w"] {
            assert!(is_window(name), "{name}");
        }
        for name in
            ["", "h", "0h", "5", "5x", "overage", "fallback", "slow", "grace", "overage-period-monthly", "7d_", "7d-x"]
        {
            assert!(!is_window(name), "{name}");
        }
    }

    #[test]
    fn an_organisation_without_extra_usage_lacks_no_credit() {
        for (headers, expected) in [
            ("status=allowed overage-status=rejected overage-disabled-reason=org_level_disabled", false),
            ("overage-status=rejected overage-disabled-reason=org_service_zero_credit_limit", false),
            ("status=rejected overage-status=rejected overage-disabled-reason=org_level_disabled", true),
            ("status=allowed overage-status=rejected overage-disabled-reason=out_of_credits", true),
            ("overage-disabled-reason=org_spend_cap_reached", true),
            ("overage-status=rejected", false),
        ] {
            let named = headers.split_whitespace().map(|header| header.split_once('=').unwrap());
            let headers = Headers::telling(named.map(|(name, value)| (format!("{PREFIX}{name}"), value)));
            assert_eq!(overage(&headers).is_some(), expected, "{headers:?}");
        }
    }

    const NOW: u64 = 1_789_997_600_000;

    /// The window that blocks for headers such as `5h-status=rejected`: its name, its scope, the seconds to its reset.
    fn blocking(headers: &str) -> Option<(String, Scope, Option<u64>)> {
        let headers = headers.split_whitespace().map(|header| header.split_once('=').unwrap());
        let headers = Headers::telling(headers.map(|(name, value)| (format!("{PREFIX}{name}"), value)));
        let windows = windows(&headers);
        super::super::window::blocking(&windows)
            .map(|w| (w.name.clone(), w.scope, w.resets_at.map(|at| (at - NOW) / 1000)))
    }

    #[test]
    fn the_window_that_blocks() {
        let is = |name: &str, scope, reset| Some((name.to_owned(), scope, reset));
        for (headers, expected) in [
            ("5h-status=rejected 5h-reset=1790001200 7d-status=allowed", is("5h", Scope::Account, Some(3600))),
            (
                "5h-status=rejected 5h-reset=1790001200 7d-status=rejected 7d-reset=1790397600",
                is("7d", Scope::Account, Some(400_000)),
            ),
            // the account is back before the model is
            (
                "5h-status=rejected 5h-reset=1790001200 7d_oi-status=rejected 7d_oi-reset=1790397600",
                is("5h", Scope::Account, Some(3600)),
            ),
            ("7d_opus-status=rejected 7d_opus-reset=1790397600", is("7d_opus", Scope::Model, Some(400_000))),
            (
                "status=rejected reset=1790397600 representative-claim=seven_day",
                is("7d", Scope::Account, Some(400_000)),
            ),
            (
                "status=rejected reset=1790397600 representative-claim=seven_day_opus",
                is("7d_opus", Scope::Model, Some(400_000)),
            ),
            ("status=rejected reset=1790397600 representative-claim=grace", None),
            ("status=rejected grace-status=rejected slow-utilization=1.0", is("5h", Scope::Account, None)),
            ("status=rate_limited reset=1790001200", is("5h", Scope::Account, Some(3600))),
            (
                "status=rejected 5h-utilization=1.0 5h-reset=1790001200 7d-utilization=0.5",
                is("5h", Scope::Account, Some(3600)),
            ),
            ("status=allowed 5h-utilization=1.0", None),
            ("status=allowed_warning 5h-status=allowed_warning 5h-utilization=0.95", None),
            ("status=allowed overage-status=rejected overage-reset=1790397600", None),
            ("", None),
        ] {
            assert_eq!(blocking(headers), expected, "{headers}");
        }
    }
}
