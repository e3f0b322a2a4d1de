//! Errors of invalid files, and their positions.

use super::*;

/// Line, column, key and message of every error.
fn bad(text: &str) -> Vec<(u32, u32, String, String)> {
    let errors = parse(text).expect_err(text);
    errors.problems.into_iter().map(|p| (p.line, p.column, p.key, p.message)).collect()
}

#[test]
fn errors_have_exact_positions() {
    // position, key, text, part of the message
    let cases = r#"
        2:1 | leases.per_acount | [leases]\nper_acount = 2 | unknown key `per_acount`; did you mean `per_account`?
        1:2 | lease | [lease]\nttl = "1m" | unknown section `[lease]`; did you mean `[leases]`?
        1:12 | selection.helth | [selection.helth] | did you mean `[selection.health]`?
        2:1 | daemon.ttl | [daemon]\nttl = "1m" | did you mean `leases.ttl`?
        2:1 | notify.zzzzzz | [notify]\nzzzzzz = 1 | keys of [notify]: desktop, command, webhook
        1:1 | leases | leases = 3 | is a section; write [leases]
        1:3 | leases | [[leases]]\nttl = "1m" | is a section; write [leases] once
        2:15 | leases.per_account | [leases]\nper_account = 0 | is 0; allowed: a whole number from 1 to 10000
        2:15 | leases.per_account | [leases]\nper_account = 1.5 | is 1.5; allowed
        2:15 | leases.per_account | [leases]\nper_account = "2" | is "2"; allowed: a whole number
        2:7 | leases.ttl | [leases]\nttl = "30" | write 30s or 30m
        2:7 | leases.ttl | [leases]\nttl = 30 | write 30s or 30m
        2:7 | leases.ttl | [leases]\nttl = "-1s" | negative
        2:7 | leases.ttl | [leases]\nttl = "off" | a number first
        2:9 | leases.grace | [leases]\ngrace = "3s" | out of range; allowed: a duration such as 500ms, 30s, 10m, 1h30m or 2d (0s to 2s)
        2:12 | leases.overflow | [leases]\noverflow = "Share" | is "Share"; allowed: "share", "wait", "fail"
        1:9 | leases.ttl | [leases.ttl]\nx = 1 | is a section; allowed: a duration
        1:24 | quota.soft_threshold | quota.soft_threshold = 1.01 | is 1.01; allowed: a number from 0 to 1
        1:24 | quota.soft_threshold | quota.soft_threshold = nan | is NaN; allowed
        1:14 | daemon.log | daemon.log = true | is true; allowed: "error"
        1:14 | daemon.log | daemon.log = 1979-05-27 | is a date or time
        1:24 | limits.quota_backoff | limits.quota_backoff = [] | is an empty list; allowed
        4:3 | limits.quota_backoff | [limits]\nquota_backoff = [\n  "1m",\n  5,\n] | write 5s or 5m
        1:20 | gateway.max_body | gateway.max_body = 32 | write 32MiB or 32KiB
        1:9 | gateway.listen | gateway.listen = "0.0.0.0:80" | allow_remote = true
        1:18 | gateway.listen | gateway.listen = "here" | ADDRESS:PORT
        1:12 | pool.url | pool.url = "postgres://me:x@db/l" | is a URL with a password, which is not allowed: `lessor pool init`
        1:12 | pool.url | pool.url = "mysql://db/l" | is "mysql://db/l"; allowed: postgres://[USER@]HOST[:PORT]/DATABASE without
        1:12 | pool.url | pool.url = "postgres:///l" | is a URL without a host
        1:18 | quota.protect | quota.protect = [{ models = ["a"] }] | without `below`
        3:9 | quota.protect | [[quota.protect]]\nmodels = ["a"]\nbelow = 2 | not from 0 to 1
        1:47 | quota.protect | quota.protect = [{ models = ["a"], below = 0, x = 1 }] | unknown entry `x`
        2:7 | accounts."a@b.c".use | [accounts."a@b.c"]\nuse = [] | a list of 1 to 64 texts
        2:1 | accounts."a@b.c".max_lease | [accounts."a@b.c"]\nmax_lease = 1 | did you mean `max_leases`?
        1:1 | accounts | accounts = 1 | is a section
        1:12 | providers.Ollama | [providers.Ollama] | lower-case
        1:12 | providers.ui | [providers.ui] | reserved path of the gateway
        1:12 | providers.mine | [providers.mine] | needs a `base_url`
        2:12 | providers.openai.base_url | [providers.openai]\nbase_url = "ftp://x" | an http or https URL
        3:1 | leases.ttl | [leases]\nttl = "1m"\nttl = "2m" | `leases.ttl` is defined twice
        2:2 | leases | [leases]\n[leases] | `leases` is defined twice
        2:7 | leases.ttl | [leases]\nttl = 10m | needs quotes around its value
        2:14 | leases.per_account | [leases]\nper_account =\n | invalid TOML
        2:1 | leases.per_account | [leases]\nper_account = 17 | must not be above `leases.max_per_account` (16, by default)
        2:1 | pool.url | [pool]\nurl = "postgres://db/lessor"\n[join]\nhost = "laptop" | cannot both be set
        2:1 | selection.health.max | [selection.health]\nmax = 60 | `selection.health.initial` (70, by default) must not
        2:1 | "ö" | # ä\n"ö" = 1 | unknown key
        1:8 | daemon."ö" | daemon."ö" = 1 | unknown key `ö`; keys of [daemon]: log, idle_exit
        1:1 | x | \u{feff}x = 1 | unknown key
        2:7 | leases.ttl | [leases]\r\nttl = 1\r\n | write 1s
        "#;
    for row in cases.trim().lines() {
        let cells: Vec<&str> = row.trim().split(" | ").collect();
        let [position, key, text, part] = cells[..] else { panic!("{row}") };
        let text = &text.replace("\\n", "\n").replace("\\r", "\r").replace("\\u{feff}", "\u{feff}");
        let found = bad(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        let (at, col, of, message) = &found[0];
        assert_eq!((format!("{at}:{col}").as_str(), of.as_str()), (position, key), "{text}: {message}");
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
        "[pool]\nurl = \"postgres://me:hush@x.example/lessor\"",
        "[pool]\nurl = \"postgres://x.example/lessor?password=hush\"",
        "[pool]\nurl = \"host=x.example password=hush\"",
    ] {
        let shown = parse(text).unwrap_err().to_string();
        assert!(!shown.contains("hush"), "{shown}");
    }
}

#[test]
fn thousands_of_sections_keys_and_problems_are_read_and_summed_up() {
    let read = |text: &str| Config::parse(text, Path::new("config.toml"));
    let all =
        |one: &dyn Fn(usize) -> String, between: &str| (0..10_000).rev().map(one).collect::<Vec<_>>().join(between);
    let sections = read(&all(&|n| format!("[accounts.a{n}]"), "\n")).unwrap();
    let names: Vec<&str> = sections.pool.accounts.iter().map(|section| section.name.as_str()).collect();
    assert!(names.len() == 10_000 && names.is_sorted());
    assert_eq!(sections.check(), []);
    // all in one line
    let line = read(&format!("accounts = {{ {} }}", all(&|n| format!("a{n}.priority=1"), ","))).unwrap();
    assert!(line.pool.accounts.len() == 10_000 && line.pool.accounts.iter().all(|one| one.priority == Some(1)));
    let above = read(&all(&|n| format!("[accounts.a{n}]\nmax_leases = 9000"), "\n")).unwrap();
    let warnings: Vec<&str> = above.check().iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(warnings[..3].iter().all(|one| one.contains("which takes precedence")));
    assert_eq!(warnings[3], "9997 more accounts have a `max_leases` above `leases.max_per_account`");
    let clients = read(&all(&|n| format!("[providers.openai.oauth.clients.c{n}]\nclient_id = \"x\""), "\n")).unwrap();
    assert!(clients.check()[3].message == "9996 more OAuth clients have no effect", "{:?}", clients.check());
    for text in
        [all(&|n| format!("[providers.p{n}]"), "\n"), format!("leases = {{ {} }}", all(&|n| format!("k{n}=1"), ","))]
    {
        let errors = read(&text).unwrap_err();
        assert_eq!(errors.problems.len(), 1001);
        assert_eq!(errors.problems[1000].message, "9000 more problems are not listed");
        assert!(errors.to_string().len() < 10_000, "{errors}");
    }
}
