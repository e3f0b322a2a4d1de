//! Settings of other tools: shown as changes of the configuration, and made when accepted.

use serde_json::{Value, json};

use super::machine::{Machine, tomorrow};

#[test]
fn are_shown_and_imported_when_accepted() {
    let machine = Machine::new();
    let settings = json!({ "account_selection_strategy": "sticky", "max_cache_first_wait_seconds": 60,
        "soft_quota_threshold_percent": 80, "health_score": { "max_score": 0 } });
    machine.write(".config/opencode/antigravity.json", &settings);
    let config = machine.lessor.path().join("config.toml");
    std::fs::write(&config, "# mine\n[leases]\nper_account = 2\n").unwrap();
    let done = machine.run(&["import"]).ok().says("selection.strategy = \"sticky\"").says("--accept-config");
    // an equal value is not a change, an invalid one is reported
    assert!(!done.out.contains("max_cache_wait"), "{done:?}");
    done.complains("health_score.max_score");
    assert_eq!(machine.json(&["import", "--dry-run"])["config"].as_array().unwrap().len(), 2);
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "# mine\n[leases]\nper_account = 2\n");
    machine.run(&["import", "--accept-config"]).ok().says("they are in the configuration now");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(
        text.starts_with("# mine\n[leases]\nper_account = 2\n") && text.contains("strategy = \"sticky\""),
        "{text}"
    );
    assert_eq!(machine.json(&["import"])["config"], json!([]));
}

#[test]
fn of_both_tools_take_effect_when_accepted() {
    let machine = Machine::new();
    machine.place(&[("antigravity-auth/antigravity.json", ".config/opencode/antigravity.json")], tomorrow());
    machine
        .run(&["import"])
        .ok()
        .says("- selection.strategy = \"hybrid\"")
        .says("+ selection.strategy = \"round-robin\"");
    machine
        .run(&["import", "--accept-config"])
        .ok()
        .says("they are in the configuration now")
        .says("no daemon is running");
    let value = |key: &str| machine.json(&["config", "get", key])["value"].clone();
    for (key, expected) in [
        ("selection.strategy", json!("round-robin")),
        ("selection.pid_offset", json!(true)),
        ("selection.mode", json!("cache-first")),
        ("selection.max_cache_wait", json!("90s")),
        ("limits.switch_on_first_rate_limit", json!(false)),
        ("limits.unknown_backoff", json!("30s")),
        ("limits.quota_failure_ttl", json!("30m")),
        ("quota.soft_threshold", json!(0.85)),
        ("quota.fallback", json!("accounts-first")),
        ("selection.health.initial", json!(80.0)),
        ("selection.health.rate_limit", json!(-5.0)),
        ("selection.health.min_usable", json!(40.0)),
        ("selection.tokens.max", json!(30.0)),
        ("selection.tokens.per_minute", json!(3.0)),
        ("notify.desktop", json!(false)),
    ] {
        assert_eq!(value(key), expected, "{key}");
    }
    let left: Vec<Value> = machine.json(&["import"])["config_left_out"].as_array().unwrap().clone();
    assert_eq!((left.len(), &left[0]["from"]), (1, &json!("request_jitter_max_ms")), "{left:?}");

    std::fs::write(machine.lessor.path().join("config.toml"), "nonsense = 1\n").unwrap();
    machine.run(&["import", "--no-start"]).complains("configuration is not valid").complains("nonsense");

    let manager = Machine::new();
    let account = "accounts/0c1f0000-0000-4000-8000-000000000001.json";
    manager.place(
        &[
            ("antigravity-manager/gui_config.json", ".antigravity_tools/gui_config.json"),
            (&format!("antigravity-manager/{account}"), &format!(".antigravity_tools/{account}")),
        ],
        tomorrow(),
    );
    let done = manager.run(&["import", "--accept-config"]).ok();
    done.complains("scheduled_warmup").complains("custom_mapping");
    let value = |key: &str| manager.json(&["config", "get", key])["value"].clone();
    for (key, expected) in [
        ("selection.mode", json!("performance-first")),
        ("selection.strategy", json!("round-robin")),
        ("selection.tier_first", json!(true)),
        ("selection.max_cache_wait", json!("30s")),
        ("selection.preferred_account", json!("one@example.org")),
        ("limits.quota_backoff", json!(["30s", "2m", "10m"])),
        ("quota.poll", json!("20m")),
        ("quota.protect", json!([{ "models": ["claude*", "gemini*flash*"], "below": 0.2 }])),
    ] {
        assert_eq!(value(key), expected, "{key}");
    }
}
