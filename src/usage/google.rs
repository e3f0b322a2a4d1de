//! Google's Code Assist: the used quota of a login's two pools (`fetchAvailableModels` returns Antigravity's,
//! `retrieveUserQuota` Gemini CLI's), and the plan (`loadCodeAssist`).

use serde_json::Value;

use super::value::{document, instant, text, used_of_remaining};
use super::{UnexpectedAnswer, UsageReading, known_tier};
use crate::pool::{Primary, Wall, Window};
use crate::provider::Catalog;

/// The maximum number of windows that are read.
const MOST: usize = 48;
/// The models that leases can request; others are ignored.
const SERVED: [&str; 2] = ["gemini", "claude"];

/// Parses the response of `fetchAvailableModels`.
pub(super) fn available_models(body: &[u8], now: Wall) -> Result<UsageReading, UnexpectedAnswer> {
    let document = document(body).ok_or(UnexpectedAnswer("Google"))?;
    let models = document.get("models").and_then(Value::as_object).ok_or(UnexpectedAnswer("Google"))?;
    let told = models.iter().filter_map(|(model, facts)| Some((model.as_str(), facts.get("quotaInfo")?)));
    Ok(UsageReading { windows: windows(told, "antigravity", now), ..UsageReading::default() })
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
        windows: Vec::new(),
        plan: words.first().map(|word| (*word).to_owned()),
        tier: words.iter().find_map(|word| known_tier("google", word)),
        project: project.map(str::to_owned),
    })
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
            assert!(user_quota(body.as_bytes(), NOW).is_err(), "{body}");
            assert!(code_assist(body.as_bytes()).is_err(), "{body}");
        }
    }
}
