//! Whole files: their meaning, and the errors of invalid ones.

use std::{path::Path, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::pool;

mod errors;

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("/etc/config.toml"))
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("{errors}\nin\n{text}"))
}

/// The documented file without its example sections: every key at its default.
const DOCUMENTED: &str = r#"
[daemon]
log = "info"
idle_exit = "never"
[leases]
per_account = 1
overflow = "share"
max_per_account = 16
ttl = "10m"
grace = "2s"
max_in_flight = 0
max_in_flight_per_key = 0
[selection]
strategy = "hybrid"
mode = "balance"
preferred_account = ""
pid_offset = false
max_cache_wait = "60s"
session_ttl = "1h"
reuse_window = "60s"
tier_first = false
subagents = "auto"
[selection.health]
initial = 70
success = 1
rate_limit = -10
failure = -20
recovery_per_hour = 2
min_usable = 50
max = 100
[selection.tokens]
max = 50
initial = 50
per_minute = 6
[limits]
switch_on_first_rate_limit = true
max_rate_limit_wait = "5m"
quota_backoff = ["1m", "5m", "30m", "2h"]
rate_limit_backoff = "30s"
capacity_backoff = "15s"
server_error_backoff = "20s"
unknown_backoff = "60s"
dedup_window = "2s"
reset_after = "2m"
quota_failure_ttl = "1h"
retry_delay = "1s"
max_attempts = 3
[quota]
primary = "antigravity"
fallback = "off"
soft_threshold = 0.90
overage = "avoid"
protect = []
poll = "15m"
[refresh]
ahead = "30m"
min_life = "60s"
wait = "5s"
[gateway]
enabled = true
listen = "127.0.0.1:0"
max_body = "32MiB"
buffer_total = "48MiB"
socket = ""
tls = false
allow_remote = false
websocket = true
[notify]
desktop = false
command = []
webhook = ""
[join]
host = ""
options = []
program = "lessor"
grace = "30s"

[telemetry]
otlp = ""
interval = "15s"
[history]
max_age = "30d"
max_size = "64MiB"
[secrets]
key = "file"
[pool]
url = ""
refresher = true
own_accounts = []
linger = "30s"
root_certificate = ""
"#;

const EXAMPLES: &str = r#"
[providers.anthropic]
base_url = "https://api.example"
usage_url = "https://api.example/usage"
[providers.anthropic.oauth]
base_url = ""
issuer = ""
authorize_url = ""
token_url = ""
device_url = ""
client_id = ""
client_secret_env = ""
scopes = []
redirect_port = 0
[accounts."work"]
enabled = true
max_leases = 2
priority = 0
use = ["claude"]
"#;

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = good(DOCUMENTED);
    assert_eq!(config, Config::default());
    assert_eq!(config.pool, pool::PoolSettings::default());
    assert_eq!(good(""), Config::default());
    let fixed = KEYS.iter().filter(|key| !key.key.contains('*'));
    assert_eq!(fixed.filter(|key| config.get(key.key).unwrap().source == SettingSource::Default).count(), 0);
}

#[test]
fn typed_defaults_equal_the_documented_ones() {
    let config = Config::default();
    assert_eq!(config.daemon, DaemonSection { log: LogLevel::Info, idle_exit: None });
    assert_eq!(config.limits.max_attempts, 3);
    assert_eq!(config.pool.limits.quota_failure_ttl, Duration::from_secs(3600));
    assert!(config.pool.limits.switch_on_first_rate_limit);
    assert_eq!(config.quota.poll, Some(Duration::from_secs(900)));
    assert_eq!(config.refresh.ahead, Duration::from_secs(1800));
    assert_eq!((config.gateway.max_body, config.gateway.buffer_total), (32 << 20, 48 << 20));
    assert_eq!(config.gateway.listen.0.to_string(), "127.0.0.1:0");
    assert_eq!(config.gateway.socket, GatewaySocket::Beside);
    assert_eq!(config.secrets.key, KeyLocation::File);
    assert_eq!(config.shared_pool, SharedPoolSection::default());
    assert_eq!(config.pool.leases.linger, Duration::from_secs(30));
}

#[test]
fn the_example_sections_parse() {
    let config = good(&format!("{DOCUMENTED}{EXAMPLES}"));
    let [work] = &config.pool.accounts[..] else { panic!("{:?}", config.pool.accounts) };
    assert_eq!(
        (work.name.as_str(), work.enabled, work.max_leases, work.priority),
        ("work", Some(true), Some(2), Some(0))
    );
    assert_eq!(work.allowed_agents.as_deref(), Some(&["claude".to_owned()][..]));
    let anthropic = &config.providers["anthropic"];
    assert_eq!(anthropic.base_url.as_deref(), Some("https://api.example"));
    assert_eq!(anthropic.oauth, OauthSection::default());
}

/// A value of the kind that differs from the default, as a TOML literal; all of them are valid together.
pub(super) fn sample(key: &KeySpec) -> String {
    let value = match (key.key, &key.kind) {
        ("selection.tokens.max", _) => "60",
        ("selection.health.max", _) => "200",
        ("gateway.listen", _) => "\"127.0.0.2:8080\"",
        ("refresh.ahead", _) => "\"1h\"",
        ("refresh.min_life", _) => "\"7s\"",
        ("agents.*.programs", _) if cfg!(windows) => r#"["C:\\a"]"#,
        ("agents.*.programs", _) => "[\"/opt/a\"]",
        (_, ValueKind::Bool) if key.default == Some("true") => "false",
        (_, ValueKind::Bool) => "true",
        (_, ValueKind::Integer(..)) => "7",
        (_, ValueKind::Number(-1e6, _)) => "-3.5",
        (_, ValueKind::Number(_, 1.0)) => "0.50",
        (_, ValueKind::Number(..)) => "7.5",
        (_, ValueKind::Duration(..)) => "\"1500ms\"",
        (_, ValueKind::Durations(..)) => "[\"3s\", \"2m\"]",
        (_, ValueKind::Size(..)) => "\"3MiB\"",
        (_, ValueKind::OneOf(words)) => return format!("{:?}", words[usize::from(key.default == Some(words[0]))]),
        (_, ValueKind::Url) => "\"https://x.example/v1\"",
        (_, ValueKind::ProxyUrl) => "\"socks5h://x.example:1080\"",
        (_, ValueKind::Variable) => "\"SECRET_9\"",
        (_, ValueKind::Texts(..)) => "[\"a\", \"b\"]",
        (_, ValueKind::Protect) => "[{ models = [\"claude-opus*\"], below = 0.1 }]",
        (_, ValueKind::Webhook) => "\"https://x\"",
        (_, ValueKind::PoolUrl) => "\"postgres://a@x/lessor\"",
        (_, ValueKind::Command) => "[\"x\", \"a b\"]",
        (_, ValueKind::Text | ValueKind::Listen | ValueKind::SshHost) => "\"x\"",
    };
    value.to_owned()
}

#[test]
fn every_key_can_be_set_and_shown() {
    for row in KEYS {
        let key = row.key.replace('*', "openai");
        let config = good(&format!("{key} = {}", sample(row)));
        assert_ne!(config, Config::default(), "{key} changes nothing");
        let setting = config.get(&key).unwrap();
        assert_eq!(setting.to_string(), format!("{key} = {}", sample(row)));
        assert!(matches!(setting.source, SettingSource::File { .. }));
        assert!(config.check().iter().all(|warning| warning.key != key), "{key}");
        let shown: Vec<_> = config.show().iter().map(|s| s.key.clone()).collect();
        assert_eq!(shown.iter().filter(|shown| **shown == key).count(), 1, "{key}");
    }
}

#[test]
fn sections_in_every_toml_form() {
    let wanted = good("[leases]\nper_account = 2\nttl = \"1m\"\n");
    assert_eq!(wanted, good("leases.per_account = 2\nleases.ttl = \"60s\""));
    assert_eq!(wanted, good("leases = { per_account = 2, ttl = \"60000ms\" }"));
    let tables = good("[[quota.protect]]\nmodels = [\"a\"]\nbelow = 0.5\n");
    assert_eq!(tables, good("quota.protect = [{ models = [\"a\"], below = 0.5 }]"));
}

#[test]
fn the_lines_of_settings_are_kept() {
    let config = good("[daemon]\n[accounts.\"a@b.c\"]\n\nmax_leases = 99\n[accounts.b]\n");
    assert_eq!(config.location_of(&["accounts", "a@b.c", "max_leases"]).as_deref(), Some("config.toml:4"));
    assert_eq!(config.location_of(&["accounts", "b"]).as_deref(), Some("config.toml:5"));
    assert_eq!(config.location_of(&["accounts", "b", "enabled"]), None);
    assert_eq!(config.pool.accounts.len(), 2);
    let [warning] = config.check() else { panic!("{:?}", config.check()) };
    assert!(warning.message.contains("which takes precedence"), "{}", warning.message);
    assert_eq!(config.get("accounts.\"a@b.c\".max_leases").unwrap().source.to_string(), "/etc/config.toml:4");
    assert_eq!(config.get("accounts.b.enabled").unwrap().value, None);
}

#[test]
fn get_rejects_sections_and_unknown_keys() {
    let config = Config::default();
    assert!(config.get("leases").unwrap_err().contains("is a section; its keys: per_account"));
    assert!(config.get("leases.tll").unwrap_err().contains("did you mean `ttl`?"));
    assert!(config.get("accounts.a@b.c.use").unwrap_err().contains("quoted"));
    assert_eq!(config.get("leases.ttl").unwrap().value.unwrap().plain(), "10m");
}

#[test]
fn the_environment_overrides_the_file() {
    let mut config = good("[daemon]\nlog = \"warn\"");
    config.set_from_environment("daemon.log", "LESSOR_LOG", "").unwrap();
    assert_eq!(config.daemon.log, LogLevel::Warn);
    config.set_from_environment("daemon.log", "LESSOR_LOG", "trace").unwrap();
    assert_eq!(config.daemon.log, LogLevel::Trace);
    assert_eq!(config.get("daemon.log").unwrap().source.to_string(), "LESSOR_LOG");
    let error = config.set_from_environment("daemon.log", "LESSOR_LOG", "loud").unwrap_err();
    assert!(error.starts_with("LESSOR_LOG is \"loud\"; allowed: \"error\""), "{error}");
}

#[test]
fn the_reference_equals_the_defaults() {
    let text = reference();
    assert_eq!(good(&text), Config::default());
    for key in KEYS {
        assert!(text.contains(key.doc), "{}", key.key);
    }
}

#[test]
fn the_template_equals_the_defaults_until_a_key_is_uncommented() {
    let text = template();
    assert_eq!(good(&text), Config::default());
    let open = text.replace("#ttl = \"10m\"", "ttl = \"11m\"");
    assert_eq!(good(&open).get("leases.ttl").unwrap().value.unwrap().plain(), "11m");
    let words = text.replace("\n#     ", " ").replace("\n# ", " ");
    let missing: Vec<_> = KEYS.iter().filter(|key| !words.contains(key.doc)).map(|key| key.key).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(text.lines().all(|line| line.len() < 120), "{text}");
    // with every key uncommented it is valid, too
    let keys = text.lines().map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line));
    let all = good(&keys.map(|line| format!("{}\n", line.replace("NAME", "openai"))).collect::<String>());
    assert_eq!(all.show().iter().filter(|setting| setting.source == SettingSource::Default).count(), 0);
}

/// A file of some keys, each at its sample.
fn some_file() -> impl Strategy<Value = String> {
    let rows = proptest::sample::subsequence(KEYS.iter().collect::<Vec<_>>(), 0..=KEYS.len());
    rows.prop_map(|mut rows| {
        // a guest has no pool of its own
        if rows.iter().any(|row| row.key == "pool.url") {
            rows.retain(|row| row.key != "join.host");
        }
        let line = |row: &&KeySpec| format!("{} = {}\n", row.key.replace('*', "\"openai\""), sample(row));
        rows.iter().map(line).collect()
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_text_like_toml_panics(
        lines in proptest::collection::vec("\\[?\\[?(leases|accounts|quota|providers|\"ä\"|x)?\\.?(ttl|use|protect|a)?\\]?\\]?( = )?(\"1m\"|\\[|\\]|\\{|\\}|3|\"\"\"|')?(\r)?", 0..12),
    ) {
        if let Err(errors) = parse(&lines.join("\n")) {
            prop_assert!(!errors.problems.is_empty());
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn shown_settings_parse_to_the_same_configuration(text in some_file()) {
        let config = good(&text);
        let shown: String = config.show().iter().map(|setting| format!("{setting}\n")).collect();
        prop_assert_eq!(good(&shown), config);
    }

    #[test]
    fn any_account_name_parses_back(name in "[^\\p{Cc}]{1,30}") {
        let key = format_key(&["accounts", &name, "max_leases"]);
        let config = good(&format!("{key} = 3"));
        prop_assert_eq!(&config.pool.accounts[0].name, &name);
        let shown: String = config.show().iter().map(|setting| format!("{setting}\n")).collect();
        prop_assert_eq!(good(&shown), config);
    }
}
