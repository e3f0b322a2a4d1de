//! The gateway's own errors, in the shape that the provider's agents understand.

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use jiff::{Timestamp, tz::TimeZone};

use super::response::{self, ClientBody};
use crate::daemon::{NoAccount, UnavailableAccount};
use crate::limits::Reason;
use crate::pool::{Ineligible, Refusal, RefusalKind, Wall, spoken};
use crate::provider::{LimitReset, Patience, StopSignal, error_body, limit_body};

/// Agents hang when `retry-after` names more seconds than this.
const MAX_RETRY_AFTER: u64 = 60;
/// Most accounts that a message names for each reason.
const MOST_NAMED: usize = 8;
const DAY: Duration = Duration::from_secs(86_400);
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const X_LESSOR_RETRY_AFTER: HeaderName = HeaderName::from_static("x-lessor-retry-after");

pub(super) fn error(provider: &str, status: StatusCode, message: &str) -> Response<ClientBody> {
    response::json(status, &error_body(provider, status.as_u16(), message))
}

/// The request has no valid key; the message does not tell a wrong key from a missing one.
pub(super) fn unauthorized(provider: &str) -> Response<ClientBody> {
    let message = "lessor: a gateway key is required; create one with `lessor gateway key`";
    error(provider, StatusCode::UNAUTHORIZED, message)
}

/// What the client is to do after a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NextRequest {
    /// It sends the request again, and waits for another while.
    ComesBack,
    /// Waiting does not help: it stops.
    Stops,
}

/// No account can serve the request now.
pub(super) fn no_account(
    provider: &str,
    patience: Patience,
    found: &NoAccount,
    next: NextRequest,
    now: Wall,
) -> Response<ClientBody> {
    let message = message(provider, found, now);
    if matches!(found.refusal.kind, RefusalKind::ShuttingDown | RefusalKind::Overloaded) {
        return error(provider, StatusCode::SERVICE_UNAVAILABLE, &message);
    }
    let end = found.refusal.retry_at.map(|at| {
        let after = at.since(now);
        let seconds = after.as_millis().div_ceil(1000).max(1) as u64;
        LimitReset { after, seconds, at_seconds: at.0.div_ceil(1000) }
    });
    let comes_back = next == NextRequest::ComesBack;
    let body = limit_body(provider, &message, end, comes_back);
    let mut response = response::json(StatusCode::TOO_MANY_REQUESTS, &body);
    let headers = response.headers_mut();
    if let Some(LimitReset { seconds, .. }) = end {
        headers.insert(X_LESSOR_RETRY_AFTER, seconds.into());
        if comes_back || seconds <= MAX_RETRY_AFTER {
            headers.insert(RETRY_AFTER, seconds.min(MAX_RETRY_AFTER).into());
        }
    }
    if !comes_back {
        headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        stop(headers, patience.stops, &message);
    }
    response
}

/// Adds what makes a program stop that does not stop for the error alone.
fn stop(headers: &mut HeaderMap, signal: StopSignal, message: &str) {
    match signal {
        StopSignal::Error => {}
        StopSignal::QuickRefusals(millis) => {
            headers.insert(RETRY_AFTER, millis.div_ceil(1000).into());
            headers.insert(RETRY_AFTER_MS, millis.into());
        }
        StopSignal::MessageHeader(name) => {
            if let Ok(message) = HeaderValue::from_str(message) {
                headers.insert(name, message);
            }
        }
    }
}

/// The provider has refused every account, in an answer that was not kept.
pub(super) fn denied(provider: &str, found: &NoAccount, now: Wall) -> Response<ClientBody> {
    let is_unauthorized = found.accounts.iter().any(|account| account.reason == Some(Reason::AuthFailed));
    let status = if is_unauthorized { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
    let mut response = error(provider, status, &message(provider, found, now));
    response.headers_mut().insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
    response
}

/// Why no account can serve, for the record of the request: the message that its client gets.
pub(super) fn reason(provider: &str, found: &NoAccount, now: Wall) -> String {
    without_prefix(&message(provider, found, now)).to_owned()
}

/// A message of the gateway, without what names its origin.
pub(super) fn without_prefix(message: &str) -> &str {
    message.strip_prefix("lessor: ").unwrap_or(message)
}

/// Which accounts cannot serve, and which of them is free first. No words of an upstream: agents act on some of them.
fn message(provider: &str, found: &NoAccount, now: Wall) -> String {
    let Refusal { kind, message, hint, retry_at, .. } = &found.refusal;
    let is_passing = matches!(kind, RefusalKind::AllLimited | RefusalKind::NoCapacity | RefusalKind::WaitTimeout);
    if !is_passing || found.accounts.is_empty() {
        let hint = hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        return format!("lessor: {message}{hint}");
    }
    let mut text = format!("lessor: no {provider} account is free ({})", reasons(&found.accounts));
    if let Some(at) = *retry_at {
        let first = found.accounts.iter().filter(|account| account.until.is_some());
        let first = first.min_by_key(|account| account.until).map(|account| format!("{} is ", account.name));
        let (first, time) = (first.unwrap_or_default(), local_time(at, now));
        let wait = spoken(at.since(now).max(Duration::from_secs(1)));
        text.push_str(&format!("; {first}first free at {time}, in {wait}"));
    }
    if let Some(restricted) = &found.restricted {
        text.push_str(&format!("; {restricted}"));
    }
    text
}

/// The accounts' names, grouped by why they cannot serve.
fn reasons(accounts: &[UnavailableAccount]) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for account in accounts {
        let why = match account.why {
            Ineligible::Limited if account.is_denied() => "refused by the provider".to_owned(),
            Ineligible::Busy => "in use".to_owned(),
            other => other.name().replace('_', " "),
        };
        match groups.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(&account.name),
            None => groups.push((why, vec![&account.name])),
        }
    }
    let group = |(why, names): &(String, Vec<&str>)| {
        let more = names.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}: {why}", names[..names.len().min(MOST_NAMED)].join(", "))
    };
    groups.iter().map(group).collect::<Vec<_>>().join("; ")
}

/// The time of day where the daemon runs, rounded up to a second; with the date if it is not within a day.
fn local_time(at: Wall, now: Wall) -> String {
    let format = if at.since(now) < DAY { "%H:%M:%S" } else { "%H:%M:%S on %Y-%m-%d" };
    let seconds = i64::try_from(at.0.div_ceil(1000)).unwrap_or(i64::MAX);
    // a time beyond the calendar is as good as its last day
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    time.to_zoned_datetime(TimeZone::system()).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    fn read(response: Response<ClientBody>) -> (u16, Vec<(String, String)>, Value) {
        let status = response.status().as_u16();
        let headers =
            response.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        let headers = headers.filter(|(name, _)| name != "content-type").collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
        (status, headers, serde_json::from_slice(&body).unwrap())
    }

    /// Accounts `a` and `b` are limited, `c` is in use.
    fn limited(after_ms: Option<u64>) -> NoAccount {
        let account = |name: &str, why, until| UnavailableAccount { name: name.into(), why, reason: None, until };
        let retry_at = after_ms.map(|after| Wall(1_000_000 + after));
        let later = retry_at.map(|at| Wall(at.0 + 1));
        NoAccount {
            restricted: None,
            refusal: Refusal {
                kind: RefusalKind::AllLimited,
                message: "every account is limited".into(),
                retry_at,
                accounts: Vec::new(),
                hint: None,
            },
            accounts: vec![
                account("a", Ineligible::Limited, later),
                account("b", Ineligible::Limited, retry_at),
                account("c", Ineligible::Busy, None),
            ],
        }
    }

    fn of(
        provider: &str,
        user_agent: &str,
        after_ms: Option<u64>,
        next: NextRequest,
    ) -> (Vec<(String, String)>, Value) {
        let patience = Patience::of(user_agent, None);
        let (status, headers, body) = read(no_account(provider, patience, &limited(after_ms), next, Wall(1_000_000)));
        assert_eq!(status, 429);
        (headers, body)
    }

    fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
        headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Provider, program, wait; the headers retry-after, x-should-retry and x-lessor-retry-after.
    #[test]
    fn an_agent_that_is_to_come_back_gets_a_short_delay_and_one_that_is_to_stop_none() {
        use NextRequest::{ComesBack, Stops};
        for (provider, agent, after, next, expected) in [
            ("anthropic", "claude-cli/2", Some(240_000), ComesBack, (Some("60"), None, Some("240"))),
            ("anthropic", "claude-cli/2", Some(7_001), ComesBack, (Some("8"), None, Some("8"))),
            ("anthropic", "", None, ComesBack, (None, None, None)),
            ("anthropic", "claude-cli/2", Some(7_200_001), Stops, (None, Some("false"), Some("7201"))),
            ("openai", "codex_exec/1", Some(30_000), Stops, (Some("30"), Some("false"), Some("30"))),
            ("openai", "opencode/1", Some(7_200_000), Stops, (Some("1"), Some("false"), Some("7200"))),
            ("my-llm", "", None, Stops, (None, Some("false"), None)),
        ] {
            let (headers, _) = of(provider, agent, after, next);
            let found = ["retry-after", "x-should-retry", "x-lessor-retry-after"].map(|name| header(&headers, name));
            assert_eq!((found[0], found[1], found[2]), expected, "{provider} {agent} {after:?} {next:?}");
        }
    }

    #[test]
    fn a_refusal_has_the_provider_s_shape() {
        use NextRequest::{ComesBack, Stops};
        assert_eq!(of("anthropic", "", None, Stops).1["error"]["type"], "rate_limit_error");
        let error = of("openai", "", Some(30_000), Stops).1["error"].clone();
        assert_eq!((&error["type"], &error["resets_at"]), (&json!("usage_limit_reached"), &json!(1030)));
        // Codex stops at this type
        assert_eq!(of("openai", "", Some(30_000), ComesBack).1["error"]["type"], "rate_limit_exceeded");
        let details = |after, next| of("google", "", after, next).1["error"]["details"].clone();
        assert_eq!(details(Some(1_500), ComesBack)[0]["retryDelay"], "1.500s");
        assert_eq!(details(Some(7_200_000), ComesBack)[0]["retryDelay"], "60.000s");
        assert_eq!(details(None, ComesBack), json!([]));
        let stop = details(Some(7_200_000), Stops);
        assert_eq!((&stop[0]["reason"], &stop[1]["retryDelay"]), (&json!("QUOTA_EXHAUSTED"), &json!("60.000s")));
    }

    #[test]
    fn the_message_names_the_accounts_and_which_is_free_first() {
        for next in [NextRequest::ComesBack, NextRequest::Stops] {
            let (headers, body) = of("openai", "codex_exec/1", Some(76_000), next);
            let message = body["error"]["message"].as_str().unwrap();
            let rest = message
                .strip_prefix("lessor: no openai account is free (a, b: limited; c: in use); b is first free at ");
            let (time, wait) = rest.unwrap_or_else(|| panic!("{message}")).split_once(", in ").unwrap();
            assert!(time.len() == 8 && time.matches(':').count() == 2 && wait == "76 s", "{message}");
            let shown = header(&headers, "x-codex-promo-message");
            assert_eq!(shown, (next == NextRequest::Stops).then_some(message));
        }
        let (_, body) = of("anthropic", "", Some(200_000_000), NextRequest::Stops);
        assert!(body["error"]["message"].as_str().unwrap().contains(" on 1970-01-0"), "{body}");
        let (_, body) = of("anthropic", "", None, NextRequest::Stops);
        let message = "lessor: no anthropic account is free (a, b: limited; c: in use)";
        assert_eq!(body["error"]["message"], message);
    }

    #[test]
    fn a_long_list_of_accounts_is_cut() {
        let mut found = limited(None);
        found.accounts = (0..50).map(|_| found.accounts[0].clone()).collect();
        let text = message("openai", &found, Wall(0));
        assert_eq!(text, "lessor: no openai account is free (a, a, a, a, a, a, a, a and 42 more: limited)");
    }

    #[test]
    fn what_the_provider_has_refused_is_no_limit() {
        let mut found = limited(Some(10_000));
        found.accounts.truncate(2);
        for (reasons, expected) in [
            ([Reason::Forbidden, Reason::Forbidden], (403, "permission_error")),
            ([Reason::AuthFailed, Reason::Forbidden], (401, "authentication_error")),
        ] {
            for (account, reason) in found.accounts.iter_mut().zip(reasons) {
                account.reason = Some(reason);
            }
            let (status, _, body) = read(denied("anthropic", &found, Wall(1_000_000)));
            assert_eq!((status, &body["error"]["type"]), (expected.0, &json!(expected.1)));
            assert!(body["error"]["message"].as_str().unwrap().contains("a, b: refused by the provider"), "{body}");
        }
    }
}
