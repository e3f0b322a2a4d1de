//! `GET /api/oauth/usage` of Anthropic: the used quota of a Claude subscription.
//!
//! The response has two shapes, often both: flat keys (`five_hour`, `seven_day`, `seven_day_opus`…) and, since 2026, a
//! list (`limits`). Only the list contains the weekly limits of single models.

use serde_json::Value;

use super::value::{document, instant, percent, text};
use super::{UnexpectedAnswer, UsageReading};
use crate::pool::{Wall, Window};

/// The quota key of all Claude models.
const KEY: &str = "claude";
const FIVE_HOURS: &str = "5h";
const WEEK: &str = "7d";
/// The maximum number of windows that are read.
const MOST: usize = 32;
pub(super) fn usage(body: &[u8], now: Wall) -> Result<UsageReading, UnexpectedAnswer> {
    let document = document(body).ok_or(UnexpectedAnswer("Anthropic"))?;
    let mut windows = flat(&document, now);
    for window in listed(&document, now) {
        let known = |other: &Window| other.name == window.name && other.key == window.key;
        if windows.len() < MOST && !windows.iter().any(known) {
            windows.push(window);
        }
    }
    let says_something = ["five_hour", "seven_day", "limits", "extra_usage", "spend"];
    if windows.is_empty() && !says_something.iter().any(|key| document.get(*key).is_some()) {
        return Err(UnexpectedAnswer("Anthropic"));
    }
    Ok(UsageReading { windows, ..UsageReading::default() })
}

/// The windows of the flat keys: for all models, or for one family.
fn flat(document: &Value, now: Wall) -> Vec<Window> {
    let Some(object) = document.as_object() else { return Vec::new() };
    let named = object.iter().filter_map(|(key, value)| {
        let (name, of) = match key.as_str() {
            "five_hour" => (FIVE_HOURS.to_owned(), String::new()),
            "seven_day" => (WEEK.to_owned(), String::new()),
            // the share of other programs, which limits no lease
            "seven_day_oauth_apps" => return None,
            other => {
                let model = other.strip_prefix("seven_day_").filter(|model| is_word(model))?;
                (format!("{WEEK}_{model}"), of_model(model))
            }
        };
        Some(Window {
            name,
            utilization: percent(value.get("utilization")?)?,
            resets_at: value.get("resets_at").and_then(instant),
            as_of: now,
            key: of,
        })
    });
    let mut windows: Vec<Window> = named.take(MOST).collect();
    // sorted, because the order of the object's keys is arbitrary
    windows.sort_by(|a, b| (a.key.len(), &a.name).cmp(&(b.key.len(), &b.name)));
    windows
}

fn listed(document: &Value, now: Wall) -> Vec<Window> {
    let entries = document.get("limits").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let read = |entry: &Value| {
        let (name, key) = match entry.get("kind")?.as_str()? {
            "session" => (FIVE_HOURS.to_owned(), String::new()),
            "weekly_all" => (WEEK.to_owned(), String::new()),
            "weekly_scoped" => {
                let model = entry.get("scope")?.get("model")?;
                let named = ["id", "display_name"].iter().find_map(|field| text(model.get(*field)?));
                let name = named?.to_ascii_lowercase().replace(' ', "-");
                let short = name.strip_prefix("claude-").unwrap_or(&name);
                (format!("{WEEK}_{short}"), of_model(&name))
            }
            _ => return None,
        };
        Some(Window {
            name,
            utilization: percent(entry.get("percent")?)?,
            resets_at: entry.get("resets_at").and_then(instant),
            as_of: now,
            key,
        })
    };
    entries.iter().filter_map(read).take(MOST).collect()
}

/// The quota key with a pattern of the models: `opus` matches `claude-opus-4-1` and similar models.
fn of_model(model: &str) -> String {
    match model.strip_prefix("claude-") {
        Some(_) => format!("{KEY}:{model}*"),
        None => format!("{KEY}:claude-*{model}*"),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;
    use serde_json::json;

    const NOW: Wall = Wall(1_789_997_600_000);

    fn read(body: &Value) -> UsageReading {
        usage(body.to_string().as_bytes(), NOW).unwrap()
    }

    #[test]
    fn flat_keys_are_windows_of_the_account_or_of_models() {
        let body = json!({
            "five_hour": { "utilization": 42.0, "resets_at": "2026-09-21T15:33:20.123456+00:00" },
            "seven_day": { "utilization": 7, "resets_at": null },
            "seven_day_oauth_apps": { "utilization": 99 },
            "seven_day_opus": { "utilization": 101.5, "resets_at": "2026-09-21T13:33:32Z" },
            "seven_day_sonnet": null,
            "extra_usage": { "is_enabled": true, "monthly_limit": 5000, "used_credits": 5000, "utilization": 100 },
        });
        assert_eq!(
            rows(&read(&body), NOW),
            [
                ("5h", "", 0.42, Some(7_200_124)),
                ("7d", "", 0.07, None),
                ("7d_opus", "claude:claude-*opus*", 1.015, Some(12_000)),
            ]
        );
    }

    #[test]
    fn the_list_adds_windows_that_the_flat_keys_lack() {
        let scoped = |model: Value| json!({ "kind": "weekly_scoped", "percent": 55, "resets_at": null, "scope": { "model": model, "surface": null } });
        let body = json!({
            "five_hour": { "utilization": 10, "resets_at": null },
            "limits": [
                { "kind": "session", "percent": 11, "severity": "normal", "is_active": true },
                { "kind": "weekly_all", "percent": 80, "resets_at": "2026-09-21T13:33:32Z" },
                scoped(json!({ "id": "claude-fable-1", "display_name": "Fable" })),
                scoped(json!({ "id": null, "display_name": "Opus" })),
                scoped(Value::Null),
                { "kind": "monthly_all", "percent": 1 },
                { "kind": "weekly_all" },
                7,
            ],
        });
        assert_eq!(
            rows(&read(&body), NOW),
            [
                ("5h", "", 0.10, None),
                ("7d", "", 0.80, Some(12_000)),
                ("7d_fable-1", "claude:claude-fable-1*", 0.55, None),
                ("7d_opus", "claude:claude-*opus*", 0.55, None),
            ]
        );
    }

    #[test]
    fn unknown_is_not_zero() {
        for body in [
            json!({ "five_hour": null, "seven_day": null }),
            json!({ "five_hour": {}, "seven_day": { "utilization": null } }),
            json!({ "five_hour": { "utilization": "much" }, "limits": null }),
            json!({ "five_hour": { "resets_at": "2026-09-21T13:33:32Z" } }),
        ] {
            assert_eq!(read(&body).windows, [], "{body}");
        }
        for body in ["", "[]", "null", "{}", "<html>", r#"{"error":{"type":"x"}}"#] {
            assert!(usage(body.as_bytes(), NOW).is_err(), "{body}");
        }
    }
}
