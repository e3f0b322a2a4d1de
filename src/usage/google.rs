//! Google's Code Assist: the used quota of a login's two pools, and the plan (`loadCodeAssist`).
//!
//! `retrieveUserQuotaSummary` returns Antigravity's quotas, two windows for each group of models; older servers only
//! have `fetchAvailableModels`, a window for each model. `retrieveUserQuota` returns Gemini CLI's.

use serde_json::Value;

use super::value::{document, instant, text, used_of_remaining};
use super::{UnexpectedAnswer, UsageReading, known_tier};
use crate::limits::line_without_secrets;
use crate::pool::{Primary, Wall, Window};
use crate::provider::Catalog;

/// The maximum number of windows that are read.
const MOST: usize = 48;
/// The longest reason of Google's that is shown.
const LONGEST_REASON: usize = 200;
/// The models that leases can request; others are ignored.
const SERVED: [&str; 2] = ["gemini", "claude"];

/// Parses the response of `retrieveUserQuotaSummary`.
pub(super) fn quota_summary(body: &[u8], now: Wall) -> Result<UsageReading, UnexpectedAnswer> {
    let document = document(body).ok_or(UnexpectedAnswer("Google"))?;
    let wrapped = ["response", "quotaSummary"].iter().find_map(|key| document.get(*key)).unwrap_or(&document);
    let groups = wrapped.get("groups").and_then(Value::as_array).ok_or(UnexpectedAnswer("Google"))?;
    let buckets = groups.iter().flat_map(|group| {
        let buckets = group.get("buckets").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        buckets.iter().map(move |bucket| (group, bucket))
    });
    let mut windows: Vec<Window> =
        buckets.filter_map(|(group, bucket)| summed(group, bucket, now)).take(MOST).collect();
    windows.sort_by(|a, b| (&a.key, &a.name).cmp(&(&b.key, &b.name)));
    if windows.is_empty() {
        return Err(UnexpectedAnswer("Google"));
    }
    Ok(UsageReading { windows, ..UsageReading::default() })
}

/// A window of a group of models, under the quota key of all of them.
fn summed(group: &Value, bucket: &Value, now: Wall) -> Option<Window> {
    let word = |value: &Value, key: &str| value.get(key).and_then(text).unwrap_or_default().to_ascii_lowercase();
    let id = word(bucket, "bucketId");
    let (models, _) = id.split_once('-').unwrap_or((&id, ""));
    let group = word(group, "displayName");
    let (model, pool) = match models {
        "gemini" => ("gemini-3-pro", Some("antigravity")),
        "3p" => ("claude", None),
        _ if group.contains("gemini") => ("gemini-3-pro", Some("antigravity")),
        _ if group.contains("claude") => ("claude", None),
        _ => return None,
    };
    let length = [word(bucket, "window"), id.rsplit('-').next().unwrap_or_default().to_owned()];
    let name = length.iter().find_map(|length| match length.as_str() {
        "weekly" => Some("7d".to_owned()),
        "daily" => Some("1d".to_owned()),
        length => super::window_length(length).map(|_| length.to_owned()),
    })?;
    let target = Catalog::default().target("google", Some(model), pool, Primary::Antigravity).ok()?;
    let remaining = bucket.get("remainingFraction").or_else(|| bucket.get("remaining")?.get("remainingFraction"))?;
    Some(Window {
        name,
        utilization: used_of_remaining(remaining)?,
        resets_at: bucket.get("resetTime").and_then(instant),
        as_of: now,
        key: target.key.to_string(),
    })
}

/// Parses the response of `fetchAvailableModels`. Some servers answer that every model is unused, whatever was used:
/// such an answer says nothing.
pub(super) fn available_models(body: &[u8], now: Wall) -> Result<UsageReading, UnexpectedAnswer> {
    let document = document(body).ok_or(UnexpectedAnswer("Google"))?;
    let models = document.get("models").and_then(Value::as_object).ok_or(UnexpectedAnswer("Google"))?;
    let told = models.iter().filter_map(|(model, facts)| Some((model.as_str(), facts.get("quotaInfo")?)));
    let mut windows = windows(told, "antigravity", now);
    if windows.iter().all(is_unused) {
        windows.clear();
    }
    Ok(UsageReading { windows, ..UsageReading::default() })
}

/// Whether nothing of a window is used.
pub(super) fn is_unused(window: &Window) -> bool {
    window.utilization <= 0.0
}

/// Parses the response of `retrieveUserQuota`.
pub(super) fn user_quota(body: &[u8], now: Wall) -> Result<UsageReading, UnexpectedAnswer> {
    let document = document(body).ok_or(UnexpectedAnswer("Google"))?;
    let buckets = match document.get("buckets") {
        Some(Value::Array(buckets)) => buckets.as_slice(),
        // an empty list is omitted in the response
        None if document.as_object().is_some_and(serde_json::Map::is_empty) => &[],
        _ => return Err(UnexpectedAnswer("Google")),
    };
    let told = buckets.iter().filter_map(|bucket| Some((text(bucket.get("modelId")?)?, bucket)));
    Ok(UsageReading { windows: windows(told, "gemini-cli", now), ..UsageReading::default() })
}

/// Parses the response of `loadCodeAssist`.
pub(super) fn code_assist(body: &[u8]) -> Result<UsageReading, UnexpectedAnswer> {
    let document = document(body).ok_or(UnexpectedAnswer("Google"))?;
    let known = ["currentTier", "paidTier", "allowedTiers", "ineligibleTiers", "cloudaicompanionProject"];
    if !known.iter().any(|key| document.get(*key).is_some()) {
        return Err(UnexpectedAnswer("Google"));
    }
    // a paying user has both plans
    let plans = ["paidTier", "currentTier"].iter().filter_map(|key| document.get(*key));
    let words = plans.flat_map(|plan| ["name", "id"].iter().filter_map(|field| text(plan.get(*field)?)));
    let words: Vec<&str> = words.collect();
    let project = document.get("cloudaicompanionProject");
    let project = project.and_then(|project| text(project).or_else(|| text(project.get("id")?)));
    Ok(UsageReading {
        plan: words.first().map(|word| (*word).to_owned()),
        tier: words.iter().find_map(|word| known_tier("google", word)),
        project: project.map(str::to_owned),
        not_served: not_served(&document),
        ..UsageReading::default()
    })
}

/// Why Google serves a login nothing: it has no plan, and Google says why it gets none.
fn not_served(document: &Value) -> Option<String> {
    if ["currentTier", "paidTier"].iter().any(|plan| document.get(*plan).is_some()) {
        return None;
    }
    let refused = document.get("ineligibleTiers")?.as_array()?.first()?;
    let said = ["reasonMessage", "reasonCode"].iter().find_map(|name| text(refused.get(*name)?));
    let said = line_without_secrets(said?, LONGEST_REASON);
    // as Gemini CLI is answered for a Free, Pro or Ultra plan
    let ended = if said.to_lowercase().contains("client") {
        "; consumer logins of Gemini CLI ended in June 2026: use an enterprise login, an API key, or `lessor login agy`"
    } else {
        ""
    };
    Some(format!("Google does not serve this login: {said}{ended}"))
}

/// A window per model, under the quota key of its requests; of two names of one model the more used one.
fn windows<'a>(told: impl Iterator<Item = (&'a str, &'a Value)>, pool: &str, now: Wall) -> Vec<Window> {
    let catalog = Catalog::default();
    let mut windows: Vec<Window> = Vec::new();
    for (model, quota) in told {
        let served = SERVED.iter().any(|family| model.starts_with(family));
        // a missing fraction means unknown: some plans omit it for quotas that they have
        let Some(used) = quota.get("remainingFraction").and_then(used_of_remaining).filter(|_| served) else {
            continue;
        };
        let pinned = Some(pool).filter(|_| !model.contains("claude"));
        let Ok(target) = catalog.target("google", Some(model), pinned, Primary::Antigravity) else { continue };
        let Some(name) = target.quota().limited_as().map(str::to_owned) else { continue };
        let window = Window {
            key: format!("{}:{name}", target.key),
            name,
            utilization: used,
            resets_at: quota.get("resetTime").and_then(instant),
            as_of: now,
        };
        match windows.iter().position(|known| known.key == window.key) {
            Some(at) if windows[at].utilization < window.utilization => windows[at] = window,
            None if windows.len() < MOST => windows.push(window),
            Some(_) | None => {}
        }
    }
    windows.sort_by(|a, b| a.key.cmp(&b.key));
    windows
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;
    use crate::pool::Tier;
    use serde_json::json;

    const NOW: Wall = Wall(1_789_997_600_000);

    #[test]
    fn antigravity_models_get_the_key_of_their_requests() {
        let body = json!({ "models": {
            "gemini-3-pro-low": { "displayName": "Gemini 3 Pro", "quotaInfo": { "remainingFraction": 0.75, "resetTime": "2026-09-21T13:33:32Z" } },
            "gemini-3-pro-high": { "quotaInfo": { "remainingFraction": 0.5, "resetTime": "2026-09-21T13:33:32Z" } },
            "gemini-3-flash": { "quotaInfo": { "remainingFraction": 0 } },
            "claude-sonnet-4-5": { "quotaInfo": { "remainingFraction": "1" } },
            "claude-opus-4-6": { "quotaInfo": { "resetTime": "2026-09-21T13:33:32Z" } },
            "gemini-2.5-pro": {},
            "gpt-oss-120b": { "quotaInfo": { "remainingFraction": 0.1 } },
            "gemini-x": { "quotaInfo": null },
        }, "deprecatedModelIds": {} });
        let reading = available_models(body.to_string().as_bytes(), NOW).unwrap();
        assert_eq!(
            rows(&reading, NOW),
            [
                ("claude-sonnet-4-5", "claude:claude-sonnet-4-5", 0.0, None),
                ("gemini-3-flash", "gemini-antigravity:gemini-3-flash", 1.0, None),
                ("gemini-3-pro", "gemini-antigravity:gemini-3-pro", 0.5, Some(12_000)),
            ]
        );
        // the key is the one of the requests for this model
        let target = Catalog::default().target("google", Some("gemini-3-pro-preview"), None, Primary::Antigravity);
        assert!(target.unwrap().quota().is_under(&reading.windows[2].key));
    }

    #[test]
    fn a_summary_has_two_windows_for_each_group_of_models() {
        let bucket = |id: &str, window: &str, left: Value| json!({ "bucketId": id, "window": window, "remainingFraction": left, "resetTime": "2026-09-21T13:33:32Z" });
        let groups = json!({ "groups": [
            { "displayName": "Gemini Models", "buckets": [
                bucket("gemini-weekly", "weekly", json!(0.75)),
                { "bucketId": "gemini-5h", "remaining": { "remainingFraction": 0.5 } },
                bucket("gemini-5h", "soon", json!(null)),
            ] },
            { "displayName": "Claude and GPT models", "buckets": [
                bucket("3p-5h", "5h", json!(1)),
                { "displayName": "Weekly Limit", "window": "weekly", "remainingFraction": 0 },
            ] },
            { "displayName": "Images", "buckets": [bucket("image-5h", "5h", json!(0))] },
            { "displayName": "Nothing" },
        ] });
        for body in [groups.clone(), json!({ "response": groups }), json!({ "quotaSummary": groups })] {
            let reading = quota_summary(body.to_string().as_bytes(), NOW).unwrap();
            assert_eq!(
                rows(&reading, NOW),
                [
                    ("5h", "claude", 0.0, Some(12_000)),
                    ("7d", "claude", 1.0, None),
                    ("5h", "gemini-antigravity", 0.5, None),
                    ("7d", "gemini-antigravity", 0.25, Some(12_000)),
                ]
            );
            let target = Catalog::default().target("google", Some("gemini-3-flash"), None, Primary::Antigravity);
            assert!(target.unwrap().quota().is_under(&reading.windows[2].key));
        }
    }

    #[test]
    fn models_that_are_all_unused_are_not_believed() {
        let model = |left: f64| json!({ "quotaInfo": { "remainingFraction": left } });
        let read = |body: Value| available_models(body.to_string().as_bytes(), NOW).unwrap().windows.len();
        assert_eq!(read(json!({ "models": { "gemini-3-pro": model(1.0), "claude-sonnet-4-6": model(1.0) } })), 0);
        assert_eq!(read(json!({ "models": { "gemini-3-pro": model(1.0), "claude-sonnet-4-6": model(0.9) } })), 2);
        assert_eq!(read(json!({ "models": {} })), 0);
    }

    #[test]
    fn gemini_cli_buckets_get_the_key_of_their_requests() {
        let body = json!({ "buckets": [
            { "modelId": "gemini-2.5-pro", "remainingFraction": 0.25, "remainingAmount": "10", "tokenType": "REQUESTS", "resetTime": "2026-09-21T13:33:32Z" },
            { "modelId": "gemini-2.5-pro", "remainingFraction": 0.9 },
            { "modelId": "gemini-3-pro-preview", "remainingFraction": 1.5 },
            { "remainingFraction": 0.5 },
            { "modelId": "gemini-2.5-flash" },
        ] });
        let reading = user_quota(body.to_string().as_bytes(), NOW).unwrap();
        assert_eq!(
            rows(&reading, NOW),
            [
                ("gemini-2.5-pro", "gemini-cli:gemini-2.5-pro", 0.75, Some(12_000)),
                ("gemini-3-pro", "gemini-cli:gemini-3-pro", 0.0, None),
            ]
        );
        assert_eq!(user_quota(b"{}", NOW).unwrap(), UsageReading::default());
    }

    #[test]
    fn plans_and_projects_are_read() {
        let plan = |body: Value| {
            let reading = code_assist(body.to_string().as_bytes()).unwrap();
            (reading.plan, reading.tier, reading.project)
        };
        let paid = json!({ "currentTier": { "id": "standard-tier" }, "paidTier": { "id": "g1-ultra-tier", "name": "Google AI Ultra" },
                           "cloudaicompanionProject": "proj-1" });
        assert_eq!(plan(paid), (Some("Google AI Ultra".into()), Some(Tier::Ultra), Some("proj-1".into())));
        let free = json!({ "currentTier": { "id": "free-tier", "name": "Gemini Code Assist" }, "cloudaicompanionProject": { "id": "p2" } });
        assert_eq!(plan(free), (Some("Gemini Code Assist".into()), Some(Tier::Free), Some("p2".into())));
        assert_eq!(plan(json!({ "allowedTiers": [{ "id": "free-tier" }] })), (None, None, None));
    }

    #[test]
    fn an_unexpected_answer_is_an_error() {
        for body in ["", "[]", "null", "<html>", r#"{"error":{"code":403}}"#] {
            assert!(available_models(body.as_bytes(), NOW).is_err(), "{body}");
            assert!(quota_summary(body.as_bytes(), NOW).is_err(), "{body}");
            assert!(user_quota(body.as_bytes(), NOW).is_err(), "{body}");
            assert!(code_assist(body.as_bytes()).is_err(), "{body}");
        }
    }
}
