//! What stands in a request and belongs to one account: its project is replaced by that of the account that serves it,
//! and what the account stores leads back to it.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{TestGateway, request};
use crate::support::wait_until;
use crate::upstream::{Message, Upstream, respond};

/// 2100.
const FAR: u64 = 4_102_444_800_000;
const JSON: &str = "content-type: application/json\r\n";
const SPENT: &str = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"QUOTA_EXHAUSTED","domain":"cloudcode-pa.googleapis.com","metadata":{"quotaResetDelay":"2h37m22.7s","model":"gemini-3-pro"}}]}}"#;
const DENIED: &str = r#"[{"error":{"code":403,"message":"Permission 'cloudaicompanion.companions.generateChat' denied on resource '//cloudaicompanion.googleapis.com/projects/PROJECT/locations/global' (or it may not exist).","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"IAM_PERMISSION_DENIED","domain":"cloudaicompanion.googleapis.com","metadata":{"resource":"projects/PROJECT/locations/global"}}]}}]"#;

/// Adds Google logins `t-X` with the project `p-X`, or without one; returns a key for their agent.
fn google(gateway: &TestGateway, accounts: &[(&str, bool)]) -> String {
    let mut client = gateway.home.client();
    for (label, has_project) in accounts {
        let mut account = json!({ "provider": "google", "kind": "oauth", "secret": format!("t-{label}"),
            "refresh_token": format!("r-{label}"), "expires_at": FAR, "label": label });
        if *has_project {
            account["project_id"] = json!(format!("p-{label}"));
        }
        client.call("account.add", account);
    }
    client.call("gateway.key", json!({ "agent": "gemini" }))["key"].as_str().unwrap().to_owned()
}

fn generate(key: &str, session: &str, body: &str) -> Vec<u8> {
    let headers = format!("authorization: Bearer {key}\r\n{JSON}x-session-id: {session}\r\n");
    request("POST /google/v1internal:generateContent", &headers, body)
}

/// Each login may use its own project only; the login `a` is spent.
fn by_project(received: &Message, stream: &mut std::net::TcpStream) -> bool {
    let own = received.key().replacen("t-", "p-", 1);
    let body = if received.header("content-encoding").is_some() { Value::Null } else { received.json() };
    let project = body["project"].as_str().unwrap_or_default().trim_start_matches("projects/");
    match (received.key().as_str(), project == own) {
        (_, false) => respond(stream, 403, JSON, &DENIED.replace("PROJECT", project)),
        ("t-a", true) => respond(stream, 429, JSON, SPENT),
        _ => respond(stream, 200, JSON, r#"{"response":{"candidates":[]}}"#),
    }
}

#[test]
fn a_project_of_another_account_is_replaced_by_that_of_the_leased_one() {
    let config = "[selection]\npreferred_account = \"a\"";
    let gateway = TestGateway::with(config, "", Upstream::start(by_project));
    let key = google(&gateway, &[("a", true), ("b", true), ("c", false)]);
    let body =
        r#"{ "model":"gemini-3-pro" ,"project":"p-a","request":{"project":"p-a","text":"é \"project\":\"p-a\""}}"#;
    let mut http = gateway.http_client();
    let response = http.send(&generate(&key, "s", body));
    assert_eq!((response.status(), response.header("x-lessor-account")), (200, Some("b")), "{response:?}");
    let sent = gateway.upstream.received();
    assert_eq!((sent[0].key().as_str(), sent[0].text().as_str()), ("t-a", body), "its own project stays");
    assert_eq!(sent[1].text(), body.replacen("\"p-a\"", "\"p-b\"", 1));
    assert_eq!(http.send(&generate(&key, "s", body)).status(), 200, "the connection is still in step");
    let longer = body.replacen("p-a", "projects/p-a", 1);
    assert_eq!(http.send(&generate(&key, "s", &longer)).status(), 200);
    assert!(gateway.upstream.received().last().unwrap().text().contains(r#""project":"projects/p-b""#));
    assert_eq!(gateway.account("b")["state"], "ready", "{}", gateway.account("b"));
}

#[test]
fn without_memory_for_the_project_a_request_is_refused_as_overloaded_and_recorded() {
    let gateway = TestGateway::with("[gateway]\nbuffer_total = \"64KiB\"", "", Upstream::start(by_project));
    let key = google(&gateway, &[("a", true), ("b", true)]);
    gateway.home.client().call("account.disable", json!({ "account": "a" }));
    let body = format!(r#"{{"project":"p-a","model":"gemini-3-pro","text":"{}"}}"#, "x".repeat(40_000));
    let response = gateway.http_client().send(&generate(&key, "s", &body));
    assert_eq!(response.status(), 503, "{response:?}");
    assert!(response.text().contains("overloaded") && gateway.upstream.received().is_empty(), "{response:?}");
    let mut row = Value::Null;
    wait_until("it is recorded", || {
        row = gateway.home.client().call("history.query", json!({ "of": "requests" }))["requests"][0].clone();
        !row.is_null()
    });
    assert_eq!((&row["outcome"], &row["status"]), (&json!("refused"), &json!(503)), "{row}");
    assert_eq!(row["attempts"][0]["reason"], "not_sent", "{row}");
    assert!(row["reason"].as_str().unwrap().contains("overloaded"), "{row}");
}

#[test]
fn a_project_in_a_compressed_or_chunked_body_is_replaced_too() {
    let gateway = TestGateway::new("", Upstream::start(by_project));
    let key = google(&gateway, &[("a", true), ("b", true)]);
    let body = r#"{"project":"p-a","model":"gemini-3-pro"}"#;
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    zipped.write_all(body.as_bytes()).unwrap();
    let zipped = zipped.finish().unwrap();
    let headers = format!("authorization: Bearer {key}\r\n{JSON}");
    let line = "POST /google/v1internal:generateContent HTTP/1.1\r\nHost: 127.0.0.1\r\n";
    let mut compressed =
        format!("{line}{headers}content-encoding: gzip\r\ncontent-length: {}\r\n\r\n", zipped.len()).into_bytes();
    compressed.extend_from_slice(&zipped);
    let chunked = format!("{line}{headers}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    gateway.home.client().call("account.disable", json!({ "account": "a" }));
    for sent in [&compressed, chunked.as_bytes()] {
        let response = gateway.http_client().send(sent);
        assert_eq!((response.status(), response.header("x-lessor-account")), (200, Some("b")), "{response:?}");
        let received = gateway.upstream.received().pop().unwrap();
        assert_eq!(
            (received.text().as_str(), received.header("content-encoding")),
            (r#"{"project":"p-b","model":"gemini-3-pro"}"#, None)
        );
    }
}

#[test]
fn an_unknown_project_keeps_its_session_on_one_account_and_blames_none() {
    let upstream = Upstream::start(|_, stream| respond(stream, 403, JSON, &DENIED.replace("PROJECT", "p-x")));
    let gateway = TestGateway::new("", upstream);
    let key = google(&gateway, &[("a", true), ("b", true)]);
    for _ in 0..2 {
        let response = gateway.http_client().send(&generate(&key, "s", r#"{"project":"p-x","model":"gemini-3-pro"}"#));
        assert_eq!((response.status(), response.header("x-lessor-attempts")), (403, Some("1")), "{response:?}");
        assert!(response.text().contains("projects/p-x"), "the provider's own answer: {}", response.text());
    }
    for label in ["a", "b"] {
        assert_eq!(gateway.account(label)["state"], "ready");
    }
}

/// Responses are stored by the account that made them; `o1` is refused while `is_limited`.
fn storing(is_limited: &'static AtomicBool) -> Upstream {
    Upstream::start(move |received, stream| {
        let account = received.key();
        let text = received.text();
        if account == "k-o1" && is_limited.load(Ordering::SeqCst) {
            return respond(
                stream,
                429,
                "retry-after: 3600\r\ncontent-type: application/json\r\n",
                r#"{"error":{"type":"usage_limit_reached","message":"limit"}}"#,
            );
        }
        if text.contains("resp_") && !text.contains(&format!("resp_{account}")) {
            return respond(
                stream,
                404,
                JSON,
                r#"{"error":{"code":"previous_response_not_found","message":"not found"}}"#,
            );
        }
        respond(stream, 200, JSON, &format!(r#"{{"id":"resp_{account}","object":"response","status":"completed"}}"#))
    })
}

fn respond_to(gateway: &TestGateway, session: &str, body: &Value) -> Message {
    let session = if session.is_empty() { String::new() } else { format!("session_id: {session}\r\n") };
    let headers = format!("authorization: Bearer {}\r\n{JSON}{session}", gateway.key);
    gateway.http_client().send(&request("POST /openai/v1/responses", &headers, &body.to_string()))
}

#[test]
fn an_id_leads_to_the_account_that_created_it_and_a_limit_does_not_move_it() {
    static IS_LIMITED: AtomicBool = AtomicBool::new(false);
    let gateway = TestGateway::with(
        "[selection]\nmode = \"performance-first\"\nstrategy = \"round-robin\"",
        "",
        storing(&IS_LIMITED),
    );
    for label in ["o1", "o2", "o3"] {
        gateway.add("openai", "api_key", label);
    }
    let first = |session: &str| {
        let response = respond_to(&gateway, session, &json!({ "model": "gpt-5", "input": "x" }));
        (response.header("x-lessor-account").unwrap().to_owned(), response.json()["id"].clone())
    };
    let created: Vec<_> = ["s1", "s2", "s3"].map(first).to_vec();
    assert_eq!(created.iter().map(|(account, _)| account).collect::<std::collections::BTreeSet<_>>().len(), 3);
    for (account, id) in &created {
        for session in ["s1", "unknown"] {
            let body = json!({ "model": "gpt-5", "previous_response_id": id });
            let response = respond_to(&gateway, session, &body);
            assert_eq!((response.status(), response.header("x-lessor-account")), (200, Some(account.as_str())));
        }
        let path = format!("GET /openai/v1/responses/{}", id.as_str().unwrap());
        let headers = format!("authorization: Bearer {}\r\n", gateway.key);
        let response = gateway.http_client().send(&request(&path, &headers, ""));
        assert_eq!(response.header("x-lessor-account"), Some(account.as_str()));
    }
    // an id of unknown origin goes where the session was served
    let (account, _) = first("s4");
    let unknown =
        json!({ "model": "gpt-5", "input": [{ "content": [{ "type": "input_file", "file_id": "file-9" }] }] });
    for _ in 0..3 {
        assert_eq!(respond_to(&gateway, "s4", &unknown).header("x-lessor-account"), Some(account.as_str()));
    }
    IS_LIMITED.store(true, Ordering::SeqCst);
    let (_, id) = created.iter().find(|(account, _)| account == "o1").unwrap();
    let before = gateway.upstream.keys().len();
    let response = respond_to(&gateway, "s1", &json!({ "model": "gpt-5", "previous_response_id": id }));
    assert_eq!(response.status(), 429, "{response:?}");
    assert!(gateway.upstream.keys()[before..].iter().all(|key| key == "k-o1"), "no other account was asked");
    let response = respond_to(&gateway, "s1", &json!({ "model": "gpt-5", "previous_response_id": id }));
    assert_eq!(response.status(), 429, "{response:?}");
    assert!(response.text().contains("o1"), "it names the account: {}", response.text());
    assert_eq!(respond_to(&gateway, "s1", &json!({ "model": "gpt-5", "input": "x" })).status(), 200, "all else moves");
    // an account that is gone for good binds nothing: the provider's own answer lets a client begin anew
    gateway.home.client().call("account.disable", json!({ "account": "o1" }));
    let response = respond_to(&gateway, "s1", &json!({ "model": "gpt-5", "previous_response_id": id }));
    assert_eq!(response.status(), 404, "{response:?}");
}

#[test]
fn headers_that_name_the_client_s_own_account_do_not_reach_the_upstream() {
    let gateway = TestGateway::new("", Upstream::by_key(|_| (200, "", "{}")));
    gateway.add("openai", "api_key", "o1");
    let headers = format!(
        "authorization: Bearer {}\r\nChatGPT-Account-ID: mine\r\nopenai-organization: mine\r\nx-kept: 1\r\n",
        gateway.key
    );
    let response = gateway.http_client().send(&request("POST /openai/v1/responses", &headers, "{}"));
    assert_eq!(response.status(), 200);
    let received = gateway.upstream.received().pop().unwrap();
    assert_eq!(received.header("x-kept"), Some("1"));
    assert!(!received.headers.iter().any(|(_, value)| value == "mine"), "{received:?}");
}
