//! Errors of invalid files, and their positions.

use super::*;

/// Line, column, key and message of every error.
fn bad(text: &str) -> Vec<(u32, u32, String, String)> {
    let errors = parse(text).expect_err(text);
    errors.problems.into_iter().map(|p| (p.line, p.column, p.key, p.message)).collect()
}

#[test]
fn errors_have_exact_positions() {
    let cases: &[(&str, u32, u32, &str, &str)] = &[
        (
            "[leases]\nper_acount = 2",
            2,
            1,
            "leases.per_acount",
            "unknown key `per_acount`; did you mean `per_account`?",
        ),
        ("[lease]\nttl = \"1m\"", 1, 2, "lease", "unknown section `[lease]`; did you mean `[leases]`?"),
        ("[selection.helth]", 1, 12, "selection.helth", "did you mean `[selection.health]`?"),
        ("[daemon]\nttl = \"1m\"", 2, 1, "daemon.ttl", "did you mean `leases.ttl`?"),
        ("[notify]\nzzzzzz = 1", 2, 1, "notify.zzzzzz", "keys of [notify]: desktop"),
        ("leases = 3", 1, 1, "leases", "is a section; write [leases]"),
        ("[[leases]]\nttl = \"1m\"", 1, 3, "leases", "is a section; write [leases] once"),
        ("[leases]\nper_account = 0", 2, 15, "leases.per_account", "is 0; allowed: a whole number from 1 to 10000"),
        ("[leases]\nper_account = 1.5", 2, 15, "leases.per_account", "is 1.5; allowed"),
        ("[leases]\nper_account = \"2\"", 2, 15, "leases.per_account", "is \"2\"; allowed: a whole number"),
        ("[leases]\nttl = \"30\"", 2, 7, "leases.ttl", "write 30s or 30m"),
        ("[leases]\nttl = 30", 2, 7, "leases.ttl", "write 30s or 30m"),
        ("[leases]\nttl = \"-1s\"", 2, 7, "leases.ttl", "negative"),
        ("[leases]\nttl = \"off\"", 2, 7, "leases.ttl", "a number first"),
        (
            "[leases]\ngrace = \"3s\"",
            2,
            9,
            "leases.grace",
            "out of range; allowed: a duration such as 500ms, 30s, 10m, 1h30m or 2d (0s to 2s)",
        ),
        (
            "[leases]\noverflow = \"Share\"",
            2,
            12,
            "leases.overflow",
            "is \"Share\"; allowed: \"share\", \"wait\", \"fail\"",
        ),
        ("[leases.ttl]\nx = 1", 1, 9, "leases.ttl", "is a section; allowed: a duration"),
        ("quota.soft_threshold = 1.01", 1, 24, "quota.soft_threshold", "is 1.01; allowed: a number from 0 to 1"),
        ("quota.soft_threshold = nan", 1, 24, "quota.soft_threshold", "is NaN; allowed"),
        ("daemon.log = true", 1, 14, "daemon.log", "is true; allowed: \"error\""),
        ("daemon.log = 1979-05-27", 1, 14, "daemon.log", "is a date or time"),
        ("limits.quota_backoff = []", 1, 24, "limits.quota_backoff", "is an empty list; allowed"),
        ("[limits]\nquota_backoff = [\n  \"1m\",\n  5,\n]", 4, 3, "limits.quota_backoff", "write 5s or 5m"),
        ("gateway.max_body = 32", 1, 20, "gateway.max_body", "write 32MiB or 32KiB"),
        ("gateway.listen = \"0.0.0.0:80\"", 1, 9, "gateway.listen", "allow_remote = true"),
        ("gateway.listen = \"here\"", 1, 18, "gateway.listen", "ADDRESS:PORT"),
        ("quota.protect = [{ models = [\"a\"] }]", 1, 18, "quota.protect", "without `below`"),
        ("[[quota.protect]]\nmodels = [\"a\"]\nbelow = 2", 3, 9, "quota.protect", "not from 0 to 1"),
        ("quota.protect = [{ models = [\"a\"], below = 0, x = 1 }]", 1, 47, "quota.protect", "unknown entry `x`"),
        ("[accounts.\"a@b.c\"]\nuse = []", 2, 7, "accounts.\"a@b.c\".use", "a list of 1 to 64 texts"),
        ("[accounts.\"a@b.c\"]\nmax_lease = 1", 2, 1, "accounts.\"a@b.c\".max_lease", "did you mean `max_leases`?"),
        ("accounts = 1", 1, 1, "accounts", "is a section"),
        ("[providers.Ollama]", 1, 12, "providers.Ollama", "lower-case"),
        ("[providers.ui]", 1, 12, "providers.ui", "reserved path of the gateway"),
        ("[providers.mine]", 1, 12, "providers.mine", "needs a `base_url`"),
        ("[providers.openai]\nbase_url = \"ftp://x\"", 2, 12, "providers.openai.base_url", "an http or https URL"),
        ("[leases]\nttl = \"1m\"\nttl = \"2m\"", 3, 1, "leases.ttl", "`leases.ttl` is defined twice"),
        ("[leases]\n[leases]", 2, 2, "leases", "`leases` is defined twice"),
        ("[leases]\nttl = 10m", 2, 7, "leases.ttl", "needs quotes around its value"),
        ("[leases]\nper_account =\n", 2, 14, "leases.per_account", "invalid TOML"),
        (
            "[leases]\nper_account = 17",
            2,
            1,
            "leases.per_account",
            "must not be above `leases.max_per_account` (16, by default)",
        ),
        (
            "[selection.health]\nmax = 60",
            2,
            1,
            "selection.health.max",
            "`selection.health.initial` (70, by default) must not",
        ),
        ("# ä\n\"ö\" = 1", 2, 1, "\"ö\"", "unknown key"),
        ("daemon.\"ö\" = 1", 1, 8, "daemon.\"ö\"", "unknown key `ö`; keys of [daemon]: log, idle_exit"),
        ("\u{feff}x = 1", 1, 1, "x", "unknown key"),
        ("[leases]\r\nttl = 1\r\n", 2, 7, "leases.ttl", "write 1s"),
    ];
    for (text, line, column, key, part) in cases {
        let found = bad(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        let (at, col, of, message) = &found[0];
        assert_eq!((*at, *col, of.as_str()), (*line, *column, *key), "{text}: {message}");
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn all_errors_are_reported_at_once() {
    let text =
        "[leases]\nttl = 5\nttl = 6\ngrce = \"1s\"\noverflow = share\n[quota\nprimary = \"x\"\n[notify]\ndesktop = 1\n";
    let lines: Vec<u32> = bad(text).iter().map(|error| error.0).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6, 9]);
}

#[test]
fn a_broken_list_is_one_error() {
    let found = bad("[limits]\nquota_backoff = [ \"1m\" \"2m\",\n  \"5m\",\n]\nretry_delay = 3\n");
    assert_eq!(found.iter().map(|error| error.0).collect::<Vec<_>>(), [2, 5], "{found:?}");
}

#[test]
fn an_error_shows_its_line_and_a_mark() {
    let errors = parse("[leases]\nper_account = 0  # none\n").unwrap_err();
    let expected = "/etc/config.toml:2:15: `leases.per_account` is 0; allowed: a whole number from 1 to 10000\n  \
                    2 | per_account = 0  # none\n    |               ^";
    assert_eq!(errors.to_string(), expected);
    let json = serde_json::to_value(&errors).unwrap();
    assert_eq!(json[0]["line"], 2);
    assert_eq!(json[0]["column"], 15);
    assert_eq!(json[0]["file"], "/etc/config.toml");
    assert_eq!(json[0]["key"], "leases.per_account");
    assert_eq!(json[0].as_object().unwrap().len(), 5);
}

#[test]
fn many_and_long_errors_are_shortened() {
    let text: String = (0..50).map(|n| format!("unheard_of_{n} = 1\n")).collect();
    let shown = parse(&text).unwrap_err().to_string();
    assert_eq!(shown.lines().count(), 61);
    assert!(shown.ends_with("… and 30 more"));
    let long = format!("x{} = 1", "y".repeat(5000));
    assert!(parse(&long).unwrap_err().to_string().lines().skip(1).all(|line| line.len() < 220));
}

#[test]
fn a_misplaced_secret_is_not_repeated() {
    for text in [
        "[providers.openai]\napi_key = \"sk-hush\"",
        "[providers.openai.oauth]\nclient_secret_env = \"hush-hush\"",
        "[providers.openai.oauth]\nclient_secret_env = sk-hush",
        "[providers.openai.oauth]\nclient_secret = \"hush\"",
        "[providers.openai]\nbase_url = \"https://me:hush@x.example\"",
    ] {
        let shown = parse(text).unwrap_err().to_string();
        assert!(!shown.contains("hush"), "{shown}");
    }
}
