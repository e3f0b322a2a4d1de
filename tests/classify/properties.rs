//! Properties of every classification, of valid and hostile input.

use std::time::Duration;

use lessor::limits::{
    Backoff, Classification, Headers, LONGEST_BELIEVED, MAX_BODY, Reason, Scope, UpstreamResponse, Verdict, classify,
    classify_event, is_error_event, parse_duration,
};
use proptest::prelude::*;

const NOW: u64 = 1_789_997_600_000;

fn read(provider: &str, status: u16, headers: &[(String, String)], body: &[u8]) -> Classification {
    let headers = Headers::telling(headers.iter().map(|(name, value)| (name, value)));
    classify(&UpstreamResponse { provider, status, headers: &headers, body, now: NOW })
}

/// Invariants of every verdict.
fn sane(reading: &Classification) {
    for window in &reading.windows {
        assert!(window.utilization.is_none_or(|used| used.is_finite() && used >= 0.0), "{window:?}");
    }
    let Some(verdict) = &reading.verdict else { return };
    assert!(verdict.wait.is_none_or(|wait| !wait.is_zero() && wait <= LONGEST_BELIEVED), "{verdict:?}");
    assert_eq!(verdict.wait.is_none(), verdict.source.name() == "none", "{verdict:?}");
    assert!(verdict.wait.is_none_or(|wait| wait.subsec_nanos() % 1_000_000 == 0), "{verdict:?}");
    assert!(verdict.evidence.len() <= 240 && !verdict.evidence.contains(char::is_control), "{verdict:?}");
    assert!(Backoff::default().wait(verdict.reason, verdict.wait, 0) <= LONGEST_BELIEVED);
    let link = verdict.link.as_deref().unwrap_or("https://accounts.google.com/");
    let host = link.strip_prefix("https://").unwrap().split(['/', '?', '#']).next().unwrap();
    let vendors = ["google.com", "forms.gle", "claude.ai", "openai.com"];
    assert!(vendors.iter().any(|vendor| host == *vendor || host.ends_with(&format!(".{vendor}"))), "{verdict:?}");
    // only what is refused to an account, or to one of its models, can last
    let lasts = verdict.reason == Reason::Forbidden && matches!(verdict.scope, Scope::Account | Scope::Model);
    assert!(!verdict.lasting || lasts, "{verdict:?}");
}

fn provider() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["google", "anthropic", "openai", "mistral", ""])
}

fn header() -> impl Strategy<Value = (String, String)> {
    let names = prop::sample::select(vec![
        "retry-after",
        "retry-after-ms",
        "x-ratelimit-reset",
        "x-ratelimit-remaining",
        "x-ratelimit-limit",
        "ratelimit",
        "x-ratelimit-reset-tokens",
        "anthropic-ratelimit-unified-status",
        "anthropic-ratelimit-unified-reset",
        "anthropic-ratelimit-unified-5h-status",
        "anthropic-ratelimit-unified-5h-utilization",
        "anthropic-ratelimit-unified-5h-reset",
        "anthropic-ratelimit-unified-7d_x-status",
        "anthropic-ratelimit-unified-slow-status",
        "anthropic-ratelimit-unified-overage-in-use",
        "anthropic-ratelimit-unified-overage-disabled-reason",
        "anthropic-fast-input-tokens-remaining",
        "cf-mitigated",
        "x-codex-primary-used-percent",
        "x-codex-primary-window-minutes",
        "x-codex-primary-reset-at",
        "x-codex-secondary-reset-after-seconds",
    ]);
    let values = prop_oneof![
        "\\PC{0,40}",
        "[0-9.]{0,24}",
        "-?[0-9]{1,20}(ms|s|m|h|d|w)?",
        Just("rejected".to_owned()),
        Just("allowed".to_owned()),
        Just("Mon, 21 Sep 2026 14:13:20 GMT".to_owned()),
        Just("9999-12-31T23:59:60Z".to_owned()),
    ];
    (names.prop_map(str::to_owned), values)
}

#[test]
fn a_success_is_a_block_only_as_a_page() {
    let headers = [("cf-mitigated".to_owned(), "challenge".to_owned())];
    for (body, is_block) in [("<", false), ("<html><title>x</title>", true), ("{}", false), ("", false)] {
        assert_eq!(read("google", 200, &headers, body.as_bytes()).verdict.is_some(), is_block, "{body}");
    }
}

/// Documents built from the relevant keys and values.
fn document() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Value, json};
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        "-?[0-9.]{1,20}(ms|s|m|h|d)?".prop_map(Value::from),
        prop::sample::select(vec![
            "QUOTA_EXHAUSTED",
            "overloaded_error",
            "try again in 5 s",
            "{\"error\":{}}",
            "[\"x\"]",
            "HTTP 429: {\"error\":{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\"}}",
            "This organization has been disabled. Appeal at https://claude.ai/appeal or https://evil.example/claude.ai",
            "The model is not available on your plan: https://openai.com.evil.example/",
            "not used in project p-1: https://console.cloud.google.com/apis/api/x?project=p-1",
            "limit: 0, model: x",
            "<html><title>Attention Required!</title>",
        ])
        .prop_map(Value::from),
        Just(json!({"seconds": u64::MAX, "nanos": 999_999_999})),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let key = prop::sample::select(vec![
            "error",
            "errors",
            "details",
            "detail",
            "message",
            "code",
            "type",
            "status",
            "reason",
            "metadata",
            "raw",
            "headers",
            "response",
            "retryDelay",
            "quotaResetDelay",
            "quotaResetTimeStamp",
            "resets_at",
            "retry_after",
            "resets_in_seconds",
            "violations",
            "quotaId",
            "quotaValue",
            "activationUrl",
            "appeal_url",
            "consumer",
            "status_code",
            "reset_seconds",
            "links",
            "X-RateLimit-Reset",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6).prop_map(|pairs| Value::Object(
                pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(
        provider in provider(), status in 0u16..1000, headers in prop::collection::vec(header(), 0..12),
        body in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let reading = read(provider, status, &headers, &body);
        sane(&reading);
        prop_assert_eq!(&reading, &read(provider, status, &headers, &body));
        prop_assert_eq!(reading.verdict.is_some(), !(100..400).contains(&status));
    }

    #[test]
    fn no_document_panics(
        provider in provider(), status in prop::sample::select(vec![200_u16, 400, 401, 403, 429, 500, 503, 529]),
        headers in prop::collection::vec(header(), 0..8), document in document(),
    ) {
        let body = document.to_string();
        let reading = read(provider, status, &headers, body.as_bytes());
        sane(&reading);
        // an event of a stream is the same document
        let kept = Headers::telling(headers.iter().map(|(name, value)| (name, value)));
        let response = UpstreamResponse { provider, status: 200, headers: &kept, body: body.as_bytes(), now: NOW };
        let told = classify_event(&response, Some("error"));
        prop_assert!(told.is_some());
        prop_assert_eq!(classify_event(&response, None).is_some(), is_error_event(None, body.as_bytes()));
        let event = format!("event: error\ndata: {body}\n\n");
        let within = read(provider, 200, &headers, event.as_bytes()).verdict;
        // a number may be written in another form
        let told = told.map(|told| Verdict { evidence: String::new(), ..told });
        prop_assert_eq!(within.map(|within| Verdict { evidence: String::new(), ..within }), told);
    }

    #[test]
    fn no_text_panics(provider in provider(), text in "(\\PC|try again in |reset after |[0-9]| ?(s|m|h|ms)){0,60}") {
        sane(&read(provider, 429, &[], text.as_bytes()));
        let _ = parse_duration(&text);
    }

    #[test]
    fn waits_are_monotonic(a in 1u64..2_764_800, b in 1u64..2_764_800, provider in provider()) {
        let wait = |seconds: u64| {
            let headers = [("retry-after".to_owned(), seconds.to_string())];
            read(provider, 429, &headers, b"").verdict.unwrap().wait.unwrap()
        };
        prop_assert_eq!(wait(a), Duration::from_secs(a));
        prop_assert_eq!(a <= b, wait(a) <= wait(b));
    }

    #[test]
    fn a_duration_is_read_in_every_form(ms in 1u64..2_764_800_000) {
        let (seconds, rest) = (ms / 1000, ms % 1000);
        let go = format!("{}h{}m{}.{rest:03}s", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let iso = format!("PT{seconds}.{rest:03}S");
        for text in [go, iso, format!("{ms}ms"), format!("{seconds}.{rest:03}s"), format!("{seconds}.{rest:03}")] {
            prop_assert_eq!(parse_duration(&text), Some(Duration::from_millis(ms)), "{}", text);
        }
        let body = format!("Please try again in {}m{}.{rest:03}s.", seconds / 60, seconds % 60);
        prop_assert_eq!(read("openai", 429, &[], body.as_bytes()).verdict.unwrap().wait, Some(Duration::from_millis(ms)));
    }

    #[test]
    fn an_instant_is_read_in_every_form(seconds in 1u64..2_764_800) {
        let at = NOW / 1000 + seconds;
        let expected = Some(Duration::from_secs(seconds));
        for (name, value) in [
            ("anthropic-ratelimit-unified-5h-reset", at.to_string()),
            ("anthropic-ratelimit-unified-5h-reset", format!("{at}000")),
            ("Anthropic-RateLimit-Unified-Reset", at.to_string()),
        ] {
            let headers = [
                (name.to_owned(), value),
                ("anthropic-ratelimit-unified-status".to_owned(), "rejected".to_owned()),
                ("anthropic-ratelimit-unified-5h-status".to_owned(), "rejected".to_owned()),
            ];
            let verdict = read("anthropic", 429, &headers, b"").verdict.unwrap();
            prop_assert_eq!((verdict.wait, verdict.scope), (expected, Scope::Account));
        }
    }

    #[test]
    fn header_names_ignore_case(headers in prop::collection::vec(header(), 0..8)) {
        let shouted: Vec<_> = headers.iter().map(|(name, value)| (name.to_uppercase(), value.clone())).collect();
        prop_assert_eq!(read("anthropic", 429, &headers, b""), read("anthropic", 429, &shouted, b""));
    }
}

#[test]
fn only_the_beginning_of_a_large_body_is_read() {
    let units = [
        "[",
        "{\"error\":",
        "retry in ",
        "data: {\"error\":1}\n",
        "<title>",
        "https://accounts.google.com/",
        "\\",
        "é",
        "{",
        "[{\"a\":",
        "HTTP 429: {\"a\":1} ",
        "project ",
        "429 ",
        "limit: 0 ",
        "<html>",
        "{\"message\":\"",
    ];
    for unit in units {
        let body = unit.repeat(8 * MAX_BODY / unit.len());
        for status in [200, 403, 429, 500] {
            sane(&read("google", status, &[], body.as_bytes()));
        }
    }
}
