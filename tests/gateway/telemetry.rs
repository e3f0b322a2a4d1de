//! Metrics and traces on their way to a collector.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{TestGateway, request};
use crate::support::wait_until;
use crate::upstream::{Upstream, respond};

const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"the words of the provider"}}"#;

/// An upstream that answers by account: `a` is limited.
fn upstream() -> Upstream {
    Upstream::by_key(|key| match key {
        "k-a" => (429, "retry-after: 3600\r\n", LIMITED),
        _ => (200, "content-type: application/json\r\n", r#"{"usage":{"input_tokens":5,"output_tokens":7}}"#),
    })
}

/// A gateway that sends to this collector.
fn exporting(collector: &Upstream) -> TestGateway {
    let config = format!(
        "[selection]\npreferred_account = \"a\"\n[telemetry]\notlp = \"{}/\"\ninterval = \"1s\"\n",
        collector.url()
    );
    TestGateway::with(&config, "ab", upstream())
}

fn documents(collector: &Upstream, path: &str) -> Vec<Value> {
    let received = collector.received();
    let of_path = received.iter().filter(|message| message.target() == path);
    of_path.map(|message| message.json()).collect()
}

/// The attributes of a span, an event or a value.
fn attributes(of: &Value) -> BTreeMap<String, String> {
    let all = of["attributes"].as_array().unwrap().iter();
    let text = |value: &Value| {
        let known = ["stringValue", "intValue"].iter().find_map(|kind| value[kind].as_str());
        known.unwrap_or_else(|| panic!("{value}")).to_owned()
    };
    all.map(|attribute| (attribute["key"].as_str().unwrap().to_owned(), text(&attribute["value"]))).collect()
}

/// The values of a metric in the last document, with their attributes.
fn values(collector: &Upstream, metric: &str) -> Vec<(BTreeMap<String, String>, Value)> {
    let documents = documents(collector, "/v1/metrics");
    let Some(last) = documents.last() else { return Vec::new() };
    let metrics = last["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
    let found = metrics.iter().filter(|found| found["name"] == metric);
    let data = found.flat_map(|found| ["sum", "gauge", "histogram"].into_iter().filter_map(|kind| found.get(kind)));
    let points = data.flat_map(|data| data["dataPoints"].as_array().unwrap());
    points.map(|point| (attributes(point), point.clone())).collect()
}

fn ask(gateway: &TestGateway) -> u16 {
    let headers = format!("x-api-key: {}\r\nx-claude-code-session-id: s-1\r\n", gateway.key);
    let request =
        request("POST /anthropic/v1/messages?secret=lk_query", &headers, r#"{"model":"m","messages":"canary"}"#);
    gateway.http_client().send(&request).status()
}

#[test]
fn a_collector_gets_metrics_and_a_span_for_each_request() {
    let collector = Upstream::by_key(|_| (200, "", "{}"));
    let gateway = exporting(&collector);
    assert_eq!(ask(&gateway), 200);
    wait_until("the span has come", || !documents(&collector, "/v1/traces").is_empty());
    let traces = documents(&collector, "/v1/traces");
    let spans = traces[0]["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
    assert_eq!(spans.len(), 1);
    let span = attributes(&spans[0]);
    for (key, value) in [
        ("lessor.outcome", "ok"),
        ("lessor.account", "b"),
        ("lessor.agent", "test"),
        ("gen_ai.request.model", "m"),
        ("url.path", "/v1/messages"),
        ("http.response.status_code", "200"),
        ("gen_ai.usage.output_tokens", "7"),
    ] {
        assert_eq!(span.get(key).map(String::as_str), Some(value), "{span:?}");
    }
    let events: Vec<_> = spans[0]["events"].as_array().unwrap().iter().map(attributes).collect();
    assert_eq!((events.len(), events[0]["lessor.account"].as_str()), (2, "a"), "{events:?}");
    assert_eq!(events[0]["lessor.reason"], "rate_limit_exceeded");
    assert!(events[0]["lessor.limited_until"].parse::<u64>().unwrap() > 0 && !events[1].contains_key("lessor.reason"));
    let service = attributes(&traces[0]["resourceSpans"][0]["resource"]);
    assert_eq!(service["service.name"], "lessor");
    wait_until("the counts have come", || !values(&collector, "lessor_requests").is_empty());
    let requests = values(&collector, "lessor_requests");
    assert_eq!((requests[0].0["outcome"].as_str(), &requests[0].1["asDouble"]), ("ok", &Value::from(1.0)));
    assert_eq!(values(&collector, "lessor_first_byte_seconds")[0].1["count"], "1");
    let all = collector.received().iter().map(|message| message.text()).collect::<String>();
    for secret in ["canary", "lk_", "words of the provider", gateway.key.as_str(), "k-b"] {
        assert!(!all.contains(secret), "{secret} was sent");
    }
    assert!(collector.received().iter().all(|message| message.header("authorization").is_none()));
}

#[test]
fn a_configuration_that_changes_all_the_time_does_not_put_off_the_export() {
    let collector = Upstream::by_key(|_| (200, "", "{}"));
    let gateway = exporting(&collector);
    let path = gateway.home.path().join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let (mut client, mut number) = (gateway.home.client(), 0);
    wait_until("metrics are exported", || {
        number += 1;
        std::fs::write(&path, format!("{config}\n[leases]\nper_account = {}\n", number % 9 + 1)).unwrap();
        client.call("config.reload", serde_json::json!({}));
        !documents(&collector, "/v1/metrics").is_empty()
    });
    assert!(number > 10, "{number} changes");
}

#[test]
fn the_last_requests_are_sent_when_the_daemon_ends() {
    let collector = Upstream::by_key(|_| (200, "", "{}"));
    let mut gateway = exporting(&collector);
    gateway.home.client().call("config.reload", serde_json::json!({}));
    assert_eq!(ask(&gateway), 200);
    gateway.home.stop();
    let count = |document: &Value| document["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().len();
    assert_eq!(documents(&collector, "/v1/traces").iter().map(count).sum::<usize>(), 1);
}

#[test]
fn a_collector_that_never_answers_does_not_delay_the_end_of_the_daemon() {
    let collector = Upstream::start(|_, stream| {
        let _closed = std::io::Read::read(stream, &mut [0]);
        false
    });
    let mut gateway = exporting(&collector);
    wait_until("it is asked", || !documents(&collector, "/v1/metrics").is_empty());
    let begin = std::time::Instant::now();
    gateway.home.stop();
    assert!(begin.elapsed() < std::time::Duration::from_secs(6), "{:?}", begin.elapsed());
}

#[test]
fn a_collector_that_fails_is_warned_of_once_and_export_begins_and_ends_with_the_setting() {
    let collector = Upstream::start(|_, stream| respond(stream, 500, "", "{}"));
    let gateway = exporting(&collector);
    wait_until("two attempts", || documents(&collector, "/v1/metrics").len() >= 2);
    assert_eq!(ask(&gateway), 200);
    let log = gateway.home.output();
    assert_eq!(log.matches("the collector of telemetry.otlp does not take").count(), 1, "{log}");
    // another collector takes all that has happened, and none gets anything when the setting is gone
    let good = Upstream::by_key(|_| (200, "", "{}"));
    let path = gateway.home.path().join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace(&collector.url(), &good.url())).unwrap();
    gateway.home.client().call("config.reload", serde_json::json!({}));
    wait_until("the other one has it", || !values(&good, "lessor_requests").is_empty());
    let set = |url: &str| {
        std::fs::write(&path, config.replace(&format!("{}/", collector.url()), url)).unwrap();
        gateway.home.client().call("config.reload", serde_json::json!({}));
    };
    set("");
    // what was being sent when the setting went arrives
    wait_until("nothing more comes", || {
        let before = good.received().len();
        std::thread::sleep(std::time::Duration::from_millis(1200));
        good.received().len() == before
    });
    let before = good.received().len();
    assert_eq!(ask(&gateway), 200);
    gateway.home.client().call("config.reload", serde_json::json!({}));
    assert_eq!(good.received().len(), before);
    set(&good.url());
    wait_until("it is sent again", || good.received().len() > before);
}
