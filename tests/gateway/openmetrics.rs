//! `/metrics` in both formats, read by the rules of their grammars; and the dashboard, which asks for metrics that exist.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::{TestGateway, request};
use crate::support::wait_until;
use crate::upstream::{Upstream, respond};

const OPEN: &str = "application/openmetrics-text; version=1.0.0";
const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit"}}"#;
const USAGE: &str = r#"{"type":"message","usage":{"input_tokens":5,"output_tokens":7,"cache_read_input_tokens":2}}"#;

/// A gateway that has met a limit, an error, a refusal and successes.
fn used() -> TestGateway {
    let upstream = Upstream::start(|received, stream| match (received.key().as_str(), received.target()) {
        (_, target) if target.ends_with("/bad") => respond(stream, 404, "", r#"{"error":{"type":"not_found_error"}}"#),
        ("k-a", _) => respond(stream, 429, "retry-after: 3600\r\n", LIMITED),
        _ => respond(stream, 200, "content-type: application/json\r\n", USAGE),
    });
    let gateway = TestGateway::with("[selection]\npreferred_account = \"a\"", "ab", upstream);
    let ask = |path: &str, model: &str| {
        let headers = format!("x-api-key: {}\r\ncontent-type: application/json\r\n", gateway.key);
        let body = format!(r#"{{"model":{model}}}"#);
        gateway.http_client().send(&request(&format!("POST /anthropic/v1/{path}"), &headers, &body)).status()
    };
    assert_eq!(ask("messages", r#""m""#), 200);
    assert_eq!(ask("messages", r#""a \"quoted\" \\ name""#), 200);
    assert_eq!(ask("bad", r#""m""#), 404);
    // no account of this provider
    let headers = format!("authorization: Bearer {}\r\n", gateway.key);
    let refused = request("POST /openai/v1/responses", &headers, r#"{"model":"gpt-5"}"#);
    assert_eq!(gateway.http_client().send(&refused).status(), 429);
    wait_until("all are counted", || gateway.metrics().matches("lessor_requests_total{").count() == 4);
    gateway
}

fn page(gateway: &TestGateway, accept: &str) -> (String, String) {
    let head =
        format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\naccept: {accept}\r\n\r\n", gateway.key);
    let response = gateway.http_client().send(head.as_bytes());
    (response.header("content-type").unwrap().to_owned(), response.text())
}

/// One sample: its name, its labels, and its value.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Sample {
    /// Reads a line by the grammar: a name, labels in braces with escaped values, one blank, a number.
    fn read(line: &str) -> Self {
        let is_name = |text: &str| {
            let mut letters = text.chars();
            letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
                && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        };
        let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
        let (name, mut rest) = line.split_at(end);
        assert!(is_name(name), "{line}");
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            loop {
                let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
                assert!(is_name(label), "{label} in {line}");
                let (mut value, mut letters) = (String::new(), after.char_indices());
                let end = loop {
                    match letters.next().unwrap_or_else(|| panic!("no end of {label}: {line}")) {
                        (at, '"') => break at,
                        (_, '\\') => match letters.next().unwrap().1 {
                            'n' => value.push('\n'),
                            escaped @ ('"' | '\\') => value.push(escaped),
                            other => panic!("escaped {other} in {line}"),
                        },
                        (_, letter) => value.push(letter),
                    }
                };
                assert!(!labels.iter().any(|(known, _)| known == label), "{label} twice: {line}");
                labels.push((label.to_owned(), value));
                rest = &after[end + 1..];
                match rest.chars().next() {
                    Some(',') => rest = &rest[1..],
                    Some('}') => break,
                    other => panic!("{other:?} after {label}: {line}"),
                }
            }
            rest = &rest[1..];
        }
        let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no blank before the value: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        Self { name: name.to_owned(), labels, value }
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Checks a text by the rules of its format; returns the samples by family.
fn check(text: &str, is_open: bool) -> BTreeMap<String, Vec<Sample>> {
    let body = if is_open { text.strip_suffix("# EOF\n").expect("it ends with # EOF") } else { text };
    assert!(body.ends_with('\n') && !body.contains("# EOF") && !body.contains("\n\n"), "{text}");
    let (mut families, mut kinds) = (BTreeMap::<String, Vec<Sample>>::new(), BTreeMap::new());
    let (mut current, mut seen, mut described) = (String::new(), BTreeSet::new(), BTreeSet::new());
    for line in body.lines() {
        if let Some(about) = line.strip_prefix("# ") {
            let mut words = about.splitn(3, ' ');
            let (what, family, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
            assert!(described.insert((what.to_owned(), family.to_owned())), "{what} of {family} twice");
            if family != current {
                assert!(seen.insert(family.to_owned()), "{family} is interleaved");
                current = family.to_owned();
                families.entry(current.clone()).or_default();
            }
            // what is said of a family comes before its samples
            assert!(families[family].is_empty(), "{line}");
            match what {
                "TYPE" => {
                    assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                    kinds.insert(family.to_owned(), rest.to_owned());
                    let has_suffix = family.ends_with("_total");
                    assert_eq!(has_suffix, rest == "counter" && !is_open, "{line}");
                }
                "UNIT" => assert!(is_open && family.ends_with(&format!("_{rest}")), "{line}"),
                "HELP" => assert!(rest.ends_with('.'), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let sample = Sample::read(line);
        let suffix = sample.name.strip_prefix(&current).unwrap_or_else(|| panic!("{line} is not of {current}"));
        let allowed: &[&str] = match kinds[&current].as_str() {
            "counter" if is_open => &["_total"],
            "histogram" => &["_bucket", "_count", "_sum"],
            _ => &[""],
        };
        assert!(allowed.contains(&suffix), "{line}");
        assert!(kinds[&current] == "gauge" || sample.value >= 0.0, "{line}");
        let known = families.get_mut(&current).unwrap();
        let is_same = |other: &Sample| other.name == sample.name && other.labels == sample.labels;
        assert!(!known.iter().any(is_same), "{line} twice");
        known.push(sample);
    }
    for (family, _) in kinds.iter().filter(|(_, kind)| *kind == "histogram") {
        check_histogram(family, &families[family]);
    }
    families
}

/// Buckets grow, the last one is `+Inf` and has the count.
fn check_histogram(family: &str, samples: &[Sample]) {
    let of = |suffix: &str| {
        let name = format!("{family}{suffix}");
        samples.iter().filter(move |sample| sample.name == name)
    };
    for count in of("_count") {
        let is_of_it = |bucket: &&Sample| bucket.label("provider") == count.label("provider");
        let buckets: Vec<&Sample> = of("_bucket").filter(is_of_it).collect();
        let bounds: Vec<f64> = buckets.iter().map(|bucket| bucket.label("le").unwrap().parse().unwrap()).collect();
        assert!(bounds.is_sorted() && bounds.last() == Some(&f64::INFINITY), "{family}: {bounds:?}");
        assert!(buckets.is_sorted_by_key(|bucket| bucket.value), "{family}");
        assert_eq!(buckets.last().unwrap().value, count.value, "{family}");
        assert_eq!(of("_sum").filter(is_of_it).count(), 1, "{family}");
    }
}

#[test]
fn both_formats_follow_their_grammar_and_have_the_same_values() {
    let gateway = used();
    let (plain_type, plain) = page(&gateway, "text/plain");
    let (open_type, open) = page(&gateway, OPEN);
    assert!(plain_type.starts_with("text/plain; version=0.0.4"), "{plain_type}");
    assert!(open_type.starts_with("application/openmetrics-text; version=1.0.0"), "{open_type}");
    let (plain, open) = (check(&plain, false), check(&open, true));
    let values = |families: BTreeMap<String, Vec<Sample>>| -> BTreeMap<String, f64> {
        let all = families.into_values().flatten().filter(|sample| !sample.name.contains("_debug_"));
        all.map(|sample| (format!("{} {:?}", sample.name, sample.labels), sample.value)).collect()
    };
    let (plain, open) = (values(plain), values(open));
    assert_eq!(plain, open);
    assert!(open.len() > 40, "{open:#?}");
}

#[test]
fn the_metrics_say_what_has_happened() {
    let gateway = used();
    let families = check(&page(&gateway, OPEN).1, true);
    let sum = |family: &str, labels: &[(&str, &str)]| -> f64 {
        let has = |sample: &&Sample| labels.iter().all(|(label, value)| sample.label(label) == Some(value));
        families[family].iter().filter(has).map(|sample| sample.value).sum()
    };
    assert_eq!(sum("lessor_requests", &[("outcome", "ok"), ("account", "b")]), 2.0);
    assert_eq!(sum("lessor_requests", &[("outcome", "ok"), ("model", "a \"quoted\" \\ name")]), 1.0);
    assert_eq!(sum("lessor_requests", &[("outcome", "refused"), ("account", "b")]), 1.0);
    assert_eq!(sum("lessor_requests", &[("outcome", "refused"), ("provider", "openai"), ("account", "")]), 1.0);
    assert_eq!(sum("lessor_attempts", &[]), 4.0, "one of them was refused by a");
    assert_eq!(sum("lessor_switches", &[("account", "a")]), 1.0);
    assert_eq!(sum("lessor_limits", &[("account", "a"), ("reason", "rate_limit_exceeded")]), 1.0);
    assert_eq!(sum("lessor_limits", &[("account", "b")]), 0.0);
    assert_eq!(sum("lessor_tokens", &[("kind", "input")]), 14.0);
    assert_eq!(sum("lessor_tokens", &[("kind", "output")]), 14.0);
    assert_eq!(sum("lessor_tokens", &[("kind", "cached")]), 4.0);
    assert_eq!(sum("lessor_accounts", &[]), 2.0);
    assert_eq!(sum("lessor_account_in_flight", &[]), 0.0);
}

#[test]
fn the_dashboard_asks_only_for_metrics_that_exist() {
    let gateway = used();
    let families = check(&page(&gateway, "text/plain").1, false);
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/grafana-dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    let mut asked = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        assert!(!panel["title"].as_str().unwrap().is_empty());
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            asked.extend(words.filter(|word| word.starts_with("lessor_")).map(str::to_owned));
        }
    }
    let exists = |name: &str| {
        let parts = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
        families.contains_key(name) || parts.is_some_and(|family| families.contains_key(family))
    };
    let unknown: Vec<&String> = asked.iter().filter(|name| !exists(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} of {:?}", families.keys());
    let shown = |family: &String| asked.iter().any(|name| name.starts_with(family.as_str()));
    let missing: Vec<&String> =
        families.keys().filter(|family| !family.contains("_debug_") && !shown(family)).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|variable| variable["name"] == "datasource" && variable["type"] == "datasource"));
}
