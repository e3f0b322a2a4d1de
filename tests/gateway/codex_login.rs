//! Codex with a ChatGPT login: the gateway answers whose its token is, and serves what Codex uses of ChatGPT beside the
//! Responses API, without that its refusals count against the account.

use serde_json::{Value, json};

use crate::harness::{HttpClient, request};
use crate::support::{Client, Home};
use crate::upstream::{Message, Upstream, respond};

/// 2100.
const FAR: u64 = 4_102_444_800_000;
const WHOSE: &str = "GET /openai/api/accounts/v1/user-auth-credential/whoami";
const WORKSPACES: &str = "GET /openai/backend-api/wham/accounts/check";

/// A daemon with an API key and the logins `ws-a` and `ws-b`, of which the one at the lease is `ws-a`.
struct CodexHome {
    home: Home,
    upstream: Upstream,
    holder: Client,
    lease: Value,
    key: String,
    port: u16,
}

impl CodexHome {
    fn new() -> Self {
        let upstream = Upstream::start(|request, stream| {
            let status = if request.target().contains("/plugins/") { 403 } else { 200 };
            respond(stream, status, "content-type: application/json\r\n", "{}")
        });
        let url = upstream.url();
        let mut home = Home::new(&format!(
            "[quota]\npoll = \"off\"\n[providers.openai]\nbase_url = \"{url}\"\n[providers.openai.oauth]\nbase_url = \
             \"{url}/backend-api/codex\"\n"
        ));
        home.start();
        let mut holder = home.client();
        holder.call("account.add", json!({ "provider": "openai", "kind": "api_key", "secret": "k", "label": "key" }));
        for name in ["a", "b"] {
            let login = json!({ "provider": "openai", "kind": "oauth", "secret": format!("t-{name}"), "label": name,
                "refresh_token": format!("r-{name}"), "expires_at": FAR, "account_id": format!("ws-{name}"),
                "email": format!("{name}@example.com") });
            holder.call("account.add", login);
        }
        let lease = holder
            .call("lease.acquire", json!({ "provider": "openai", "account": "a", "agent": "codex", "wait_ms": 0 }));
        let access = holder.call("gateway.key", json!({ "lease": lease["lease"] }));
        let key = access["key"].as_str().unwrap().to_owned();
        let port = access["url"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        Self { home, upstream, holder, lease, key, port }
    }

    fn ask(&self, line: &str, headers: &str) -> Message {
        let key = format!("authorization: Bearer at-{}\r\n{headers}", self.key);
        HttpClient::connect(self.port).send(&request(line, &key, ""))
    }
}

#[test]
fn the_gateway_answers_whose_the_token_is() {
    let mut codex = CodexHome::new();
    let whose = codex.ask(WHOSE, "").json();
    assert_eq!(whose["chatgpt_account_id"], "ws-a", "{whose}");
    assert_eq!((&whose["email"], &whose["chatgpt_plan_type"]), (&json!("a@example.com"), &json!("unknown")));
    let found = codex.ask(WORKSPACES, "chatgpt-account-id: ws-a\r\n").json();
    assert_eq!(found["accounts"][0]["id"], "ws-a", "{found}");
    // the lease moves to another account: the program keeps the one that it has seen
    codex.holder.call("lease.move", json!({ "lease": codex.lease["lease"], "to": "b" }));
    assert_eq!(codex.ask("POST /openai/responses", "").status(), 200);
    assert_eq!(codex.ask(WORKSPACES, "chatgpt-account-id: ws-a\r\n").json()["accounts"][0]["id"], "ws-a");
    assert_eq!(codex.ask(WHOSE, "").json()["chatgpt_account_id"], "ws-b");
    let received = codex.upstream.received();
    let [only] = received.as_slice() else { panic!("the gateway answers itself: {received:?}") };
    assert_eq!((only.key().as_str(), only.header("chatgpt-account-id")), ("t-b", Some("ws-b")));
    // without a valid key there is no answer
    let other = request(WHOSE, "authorization: Bearer at-lk_000000000000000000000000\r\n", "");
    assert_eq!(HttpClient::connect(codex.port).send(&other).status(), 401);
}

#[test]
fn a_key_without_a_lease_is_answered_with_a_login_that_its_agent_may_use() {
    let codex = CodexHome::new();
    for (agent, status) in [("codex", 200), ("opencode", 404)] {
        let access = codex.home.client().call("gateway.key", json!({ "agent": agent }));
        let key = format!("authorization: Bearer {}\r\n", access["key"].as_str().unwrap());
        let answer = HttpClient::connect(codex.port).send(&request(WHOSE, &key, ""));
        assert_eq!(answer.status(), status, "{agent}: {answer:?}");
    }
}

#[test]
fn what_codex_uses_of_chatgpt_reaches_it_with_the_login_and_nothing_else_does() {
    let codex = CodexHome::new();
    for (line, expected) in [
        ("GET /openai/backend-api/wham/usage", "/backend-api/wham/usage"),
        ("GET /openai/backend-api/codex/models?x=1", "/backend-api/codex/models?x=1"),
        ("GET /openai/models", "/backend-api/codex/models"),
        ("POST /openai/responses", "/backend-api/codex/responses"),
        // below the base of logins, where there is nothing
        ("GET /openai/backend-api/conversations", "/backend-api/codex/backend-api/conversations"),
    ] {
        codex.upstream.forget();
        assert_eq!(codex.ask(line, "").status(), 200, "{line}");
        let received = codex.upstream.received();
        assert_eq!((received[0].target(), received[0].key().as_str()), (expected, "t-a"), "{line}");
    }
}

#[test]
fn a_refusal_beside_the_api_goes_to_codex_and_counts_against_no_account() {
    let codex = CodexHome::new();
    for _ in 0..3 {
        assert_eq!(codex.ask("GET /openai/backend-api/ps/plugins/installed", "").status(), 403);
    }
    assert_eq!(codex.upstream.keys(), ["t-a", "t-a", "t-a"], "no other account is asked");
    let accounts = codex.home.client().call("account.list", json!({}));
    for account in accounts.as_array().unwrap() {
        assert_eq!((&account["state"], &account["limits"]), (&json!("ready"), &json!([])), "{account}");
    }
    assert_eq!(codex.ask("POST /openai/responses", "").status(), 200);
}
