//! `forecast` and `explain`, over a real socket.

use serde_json::{Value, json};

use crate::support::{Home, label, reference};

#[test]
fn a_forecast_counts_grantable_leases_and_names_the_next_time() {
    let home = Home::with_accounts("[leases]\nmax_per_account = 2", 3);
    let mut client = home.client();
    let forecast = client.call("forecast", json!({"provider": "anthropic"}));
    assert_eq!((&forecast["grantable"], &forecast["unshared"]), (&json!(6), &json!(3)));
    let lease = client.acquire();
    client
        .call("lease.report", json!({"lease": lease["lease"], "reason": "quota_exhausted", "retry_after_ms": 600_000}));
    let forecast = client.call("forecast", json!({"provider": "anthropic", "model": "claude-sonnet-4-5", "count": 4}));
    assert_eq!(forecast["grantable"], 3, "one account is limited, another has the lease: {forecast}");
    let limited: Vec<&Value> =
        forecast["accounts"].as_array().unwrap().iter().filter(|one| one["why"] == "limited").collect();
    assert_eq!((limited.len(), &limited[0]["label"]), (1, &lease["account"]["label"]));
    assert_eq!(limited[0]["until"], forecast["next_at"], "with that one there are four");
    for n in 0..3 {
        client.call("lease.acquire", json!({"provider": "anthropic", "label": format!("{n}")}));
    }
    assert_eq!(client.refused("lease.acquire", json!({"provider": "anthropic", "wait_ms": 0})), "no_capacity");
    assert_eq!(client.call("forecast", json!({"provider": "anthropic"}))["grantable"], 0);
    assert_eq!(
        client.call("forecast", json!({"provider": "openai"})),
        json!({"grantable": 0, "unshared": 0, "next_at": null, "accounts": [], "set": null})
    );
    assert_eq!(client.refused("forecast", json!({"provider": "nosuch"})), "unknown_provider");
    assert_eq!(client.refused("forecast", json!({"provider": "anthropic", "cuont": 1})), "bad_request");
}

#[test]
fn explain_names_the_reason_for_each_account() {
    let home = Home::with_accounts("", 3);
    let mut client = home.client();
    assert_eq!(client.refused("explain", json!({})), "unknown_lease", "nothing has happened yet");
    client.call("account.disable", json!({"account": "a2", "reason": "holiday"}));
    let lease = client.call("lease.acquire", json!({"provider": "anthropic", "session": "s1"}));
    let decision = client.call(
        "lease.report",
        json!({"lease": lease["lease"], "status": 429,
        "headers": {"retry-after": "700"}, "body": "{\"error\":{\"details\":[{\"reason\":\"QUOTA_EXHAUSTED\"}]}}"}),
    );
    let moved = &decision["lease"];
    let explained = client.call("explain", json!({"what": moved["lease"]}));
    assert_eq!(
        explained["decided"],
        client.call("explain", json!({"what": "LAST"}))["decided"],
        "it is the last decision"
    );
    assert_eq!(explained["subject"], "lease");
    let decided = &explained["decided"];
    assert_eq!((&decided["account"]["label"], &decided["held"]), (&moved["account"]["label"], &json!(true)));
    assert_eq!(
        (&decided["moved_from"]["label"], &decided["moved_because"]),
        (&lease["account"]["label"], &json!("quota_exhausted"))
    );
    assert_eq!((&decided["by"], &explained["request"]["session"]), (&json!("strategy"), &json!("s1")));
    let candidates = explained["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 3);
    assert_eq!((&candidates[0]["label"], &candidates[0]["rank"]), (&moved["account"]["label"], &json!(1)));
    let of = |name: &Value| candidates.iter().find(|one| one["label"] == *name).unwrap();
    let limited = of(&lease["account"]["label"]);
    assert_eq!(limited["why"], "limited");
    let evidence = limited["limits"][0]["evidence"].as_str().unwrap();
    assert!(evidence.contains("QUOTA_EXHAUSTED") && evidence.contains("retry-after: 700"), "{evidence}");
    let disabled = of(&json!("a2"));
    assert_eq!((&disabled["why"], &disabled["note"]), (&json!("disabled"), &json!("holiday")));
    // an account, and a lease that has ended
    let explained = client.call("explain", json!({"what": label(&lease)}));
    assert_eq!(
        (&explained["subject"], &explained["limits"][0]["reason"]),
        (&json!("account"), &json!("quota_exhausted"))
    );
    assert_eq!(explained["now"]["account"]["label"], moved["account"]["label"]);
    client.call("lease.release", reference(moved));
    let explained = client.call("explain", json!({"what": &moved["lease"].as_str().unwrap()[..20]}));
    assert_eq!(
        (&explained["decided"]["held"], &explained["decided"]["account"]["label"]),
        (&json!(false), &moved["account"]["label"])
    );
    // a refusal
    client.call("account.disable", json!({"account": label(moved)}));
    assert_eq!(client.refused("lease.acquire", json!({"provider": "anthropic", "wait_ms": 0})), "all_limited");
    let explained = client.call("explain", json!({"what": "last"}));
    assert_eq!((&explained["subject"], &explained["decided"]["kind"]), (&json!("refusal"), &json!("all_limited")));
    assert_eq!(explained["now"]["outcome"], "wait");
    assert_eq!(client.refused("explain", json!({"what": "ls_nonsense"})), "unknown_lease");
    assert_eq!(client.refused("explain", json!({"what": "unknown"})), "unknown_account");
    assert_eq!(client.refused("explain", json!({"what": "LAST", "model": "m"})), "bad_request");
}
