//! `statusline`: it says something useful with a daemon, without one, and whatever it is fed.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::support::{Home, feed};

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What Claude Code feeds, as far as it matters.
fn input() -> Value {
    json!({
        "session_id": "s1", "cwd": "/work", "version": "9.9.9", "model": { "id": "claude-sonnet-5-5" },
        "rate_limits": {
            "five_hour": { "used_percentage": 17, "resets_at": seconds() + 3600 },
            "seven_day": { "used_percentage": 93, "resets_at": seconds() + 86_400 },
            "spend_limit": { "used_percentage": 55, "resets_at": seconds() + 86_400 },
        },
        "prompt_cache": { "warm": true, "ttl": "1h", "expires_at": seconds() + 3000, "hit_ratio": 0.9 },
        "of_tomorrow": { "deep": [1, 2, 3] },
    })
}

/// The line without colours.
fn line(home: &Home, text: &str) -> String {
    let done = home.feed(&["statusline", "--no-color"], text).ok();
    assert_eq!(done.err, "", "{done:?}");
    done.out
}

#[test]
fn without_a_daemon_it_shows_what_it_was_fed_and_starts_none() {
    let home = Home::new();
    let text = line(&home, &input().to_string());
    assert!(
        text.starts_with("5h 17 % → ") && text.contains(" · 7d 93 % → ") && text.contains(" · cache until "),
        "{text}"
    );
    assert!(!text.contains("55 %") && text.lines().count() == 1, "{text}");
    for other in ["", "{", "null", "[]", "7", "{}", r#"{"rate_limits":7,"session_id":[],"prompt_cache":"x"}"#] {
        assert_eq!(line(&home, other), "", "{other}");
    }
    let odd =
        json!({ "rate_limits": { "five_hour": { "used_percentage": "17" }, "seven_day": { "used_percentage": 5 } } });
    assert_eq!(line(&home, &odd.to_string()), "7d 5 %\n");
    for impossible in [-1.0, 1e300] {
        let odd = json!({ "rate_limits": { "five_hour": { "used_percentage": impossible } } });
        assert_eq!(line(&home, &odd.to_string()), "");
    }
    let over = json!({ "rate_limits": { "five_hour": { "used_percentage": 5, "resets_at": 1 } } });
    assert_eq!(line(&home, &over.to_string()), "", "a window that has been reset says nothing");
    let endless = " ".repeat(3 << 20) + &input().to_string();
    assert_eq!(line(&home, &endless), "", "more than a bound is not read");
    let document: Value = serde_json::from_str(&home.feed(&["statusline", "--json"], "{}").ok().out).unwrap();
    assert_eq!((&document["account"], &document["learnt"]), (&Value::Null, &json!(false)), "{document}");
    assert!(!home.places().socket.exists(), "no daemon was started");
}

#[test]
fn with_a_daemon_it_shows_the_pool_until_the_session_has_an_account() {
    let home = Home::with_keys(&[("anthropic", "work"), ("anthropic", "home")]);
    let text = line(&home, &input().to_string());
    assert!(text.starts_with("claude 2/2 · 5h 17 % → "), "{text}");
    assert_eq!(line(&home, "{"), "claude 2/2\n");
    home.run(&["account", "disable", "home"]).ok();
    let document = home.feed(&["statusline", "--json"], &input().to_string()).ok();
    let document: Value = serde_json::from_str(&document.out).unwrap();
    assert_eq!((&document["learnt"], &document["provider"]["serving"]), (&json!(false), &json!(1)), "{document}");
}

#[test]
fn colours_can_be_turned_off_and_the_width_is_kept() {
    let home = Home::new();
    let text = input().to_string();
    let coloured = home.feed(&["statusline"], &text).ok().out;
    assert!(coloured.contains("\u{1b}[31m93 %"), "what is nearly used up is red: {coloured:?}");
    let with = |name: &str, value: &str| {
        let mut command = home.command(&["statusline"]);
        command.env(name, value);
        feed(command, &text).ok().out
    };
    assert!(!with("NO_COLOR", "1").contains('\u{1b}'));
    let narrow = with("COLUMNS", "20");
    assert!(narrow.contains("5h") && !narrow.contains("7d"), "{narrow:?}");
}

#[cfg(unix)]
#[test]
fn another_command_gets_the_same_input_and_its_lines_come_first() {
    let home = Home::new();
    let text = input().to_string();
    let own = |script: &str| home.feed(&["statusline", "--no-color", "--", "sh", "-c", script], &text).ok();
    let done = own("printf 'mine: '; sed 's/.*session_id\":\"//; s/\".*//'");
    assert!(done.out.starts_with("mine: s1\n5h 17 %") && done.out.lines().count() == 2, "{done:?}");
    let done = own("echo one; echo two; exit 3");
    assert!(done.out.starts_with("one\ntwo\n5h "), "{done:?}");
    assert!(own("exec <&- ; exit 1").out.starts_with("5h "));
    let missing = home.feed(&["statusline", "--no-color", "--", "/nowhere/line"], &text).ok();
    assert!(missing.out.starts_with("5h ") && missing.err.contains("/nowhere/line"), "{missing:?}");
}

/// A person who types the command gets the entry for the settings.
#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_it_says_where_it_belongs() {
    let home = Home::new();
    let lessor = home.command(&[]).get_program().to_string_lossy().into_owned();
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &format!("'{lessor}' statusline"), "/dev/null"]).env("LESSOR_HOME", home.path());
    feed(command, "").exits(2).says("settings.json");
}
