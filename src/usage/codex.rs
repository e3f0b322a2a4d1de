//! `GET /backend-api/wham/usage` of ChatGPT: the quota of a plan that Codex used.

use serde_json::Value;

use super::value::{document, instant, number, percent, text};
use super::{UnexpectedAnswer, UsageReading, known_tier};
use crate::limits::window_name;
use crate::pool::{Wall, Window};

/// The quota key of all models of a ChatGPT plan.
const KEY: &str = "openai";
/// The maximum number of windows that are read.
const MOST: usize = 32;
pub(super) fn usage(body: &[u8], now: Wall) -> Result<UsageReading, UnexpectedAnswer> {
    let document = document(body).ok_or(UnexpectedAnswer("OpenAI"))?;
    let plan = document.get("plan_type").and_then(text);
    let mut windows = Vec::new();
    if let Some(limit) = document.get("rate_limit") {
        windows.extend(of(limit, None, now));
    }
    let more = document.get("additional_rate_limits").and_then(Value::as_array);
    for entry in more.into_iter().flatten().take(MOST) {
        let named = ["metered_feature", "limit_name"].iter().find_map(|field| text(entry.get(*field)?));
        let model = ["limit_name", "metered_feature"].iter().find_map(|field| text(entry.get(*field)?));
        if let (Some(named), Some(model), Some(limit)) = (named, model, entry.get("rate_limit")) {
            windows.extend(of(limit, Some((&plain(named), &plain(model))), now));
        }
    }
    if windows.is_empty() && plan.is_none() && document.get("rate_limit").is_none() {
        return Err(UnexpectedAnswer("OpenAI"));
    }
    windows.truncate(MOST);
    Ok(UsageReading {
        windows,
        plan: plan.map(str::to_owned),
        tier: plan.and_then(|plan| known_tier("openai", plan)),
        ..UsageReading::default()
    })
}

/// The windows of a limit: of the whole account, or of the models named by `of`.
fn of(limit: &Value, of: Option<(&str, &str)>, now: Wall) -> impl Iterator<Item = Window> {
    ["primary", "secondary"].into_iter().filter_map(move |slot| {
        let window = limit.get(format!("{slot}_window"))?;
        // windows are added and removed: the first one may be the weekly one
        let length = match window.get("limit_window_seconds") {
            // a blank length or one of zero fills a place in which there is no window
            Some(seconds) => window_name(number(seconds)? / 60.0)?,
            None => slot.to_owned(),
        };
        Some(Window {
            name: of.map_or_else(|| length.clone(), |(name, _)| format!("{length} {name}")),
            utilization: percent(window.get("used_percent")?)?,
            resets_at: reset(window, now),
            as_of: now,
            key: of.map(|(_, model)| format!("{KEY}:{model}*")).unwrap_or_default(),
        })
    })
}

/// The relative time is preferred, because it does not depend on clocks.
fn reset(window: &Value, now: Wall) -> Option<Wall> {
    let span = window.get("reset_after_seconds").and_then(number).filter(|seconds| (0.0..1e8).contains(seconds));
    let after = span.map(|seconds| now.after(std::time::Duration::from_secs_f64(seconds)));
    after.or_else(|| instant(window.get("reset_at")?))
}

/// Writes `GPT-5.3-Codex-Spark` and `codex_spark` like headers and requests do.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace([' ', '_'], "-")
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;
    use crate::pool::Tier;
    use serde_json::json;

    const NOW: Wall = Wall(1_789_997_600_000);

    #[test]
    fn windows_are_named_by_their_length() {
        let body = json!({
            "plan_type": "plus",
            "rate_limit": {
                "allowed": true,
                "primary_window": { "used_percent": 12.5, "limit_window_seconds": 18_000, "reset_after_seconds": 60, "reset_at": 1 },
                "secondary_window": { "used_percent": 100, "limit_window_seconds": 604_800, "reset_at": 1_789_997_660 },
            },
            "additional_rate_limits": [
                { "limit_name": "GPT-5.3-Codex-Spark", "metered_feature": "codex_spark",
                  "rate_limit": { "primary_window": { "used_percent": 3, "limit_window_seconds": 86_400 }, "secondary_window": null } },
                { "limit_name": null, "metered_feature": null, "rate_limit": null },
            ],
            "credits": { "has_credits": false, "unlimited": false, "balance": "0" },
        });
        let reading = usage(body.to_string().as_bytes(), NOW).unwrap();
        assert_eq!(
            rows(&reading, NOW),
            [
                ("5h", "", 0.125, Some(60_000)),
                ("7d", "", 1.0, Some(60_000)),
                ("1d codex-spark", "openai:gpt-5.3-codex-spark*", 0.03, None),
            ]
        );
        assert_eq!((reading.plan.as_deref(), reading.tier), (Some("plus"), Some(Tier::Pro)));
    }

    #[test]
    fn unknown_is_not_zero() {
        for limit in [
            json!(null),
            json!({ "primary_window": null, "secondary_window": null }),
            json!({ "primary_window": { "limit_window_seconds": 18_000 } }),
            json!({ "primary_window": { "used_percent": null, "reset_after_seconds": -5 } }),
        ] {
            let body = json!({ "plan_type": "mystery", "rate_limit": limit });
            let reading = usage(body.to_string().as_bytes(), NOW).unwrap();
            assert_eq!((reading.windows.len(), reading.tier), (0, None), "{body}");
        }
        let body = json!({ "rate_limit": { "primary_window": { "used_percent": 5 } } });
        assert_eq!(usage(body.to_string().as_bytes(), NOW).unwrap().windows[0].name, "primary");
        for seconds in [json!(0), json!(null), json!(""), json!(-1)] {
            let window = json!({ "used_percent": 0, "limit_window_seconds": seconds, "reset_after_seconds": 0 });
            let body = json!({ "rate_limit": { "secondary_window": window } });
            assert_eq!(usage(body.to_string().as_bytes(), NOW).unwrap().windows, [], "{body}");
        }
        for body in ["", "[]", "{}", "<html>", r#"{"detail":"Unauthorized"}"#] {
            assert!(usage(body.as_bytes(), NOW).is_err(), "{body}");
        }
    }
}
