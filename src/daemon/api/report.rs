//! `lease.report`

use std::time::Duration;

use serde_json::{Map, Value};

use super::reply::{CallReply, CallResult, LeaseReply};
use super::session::{bad, fence_of, refused};
use crate::daemon::state::{Daemon, Unsaved, UpstreamOutcome};
use crate::daemon::{os::clock, view};
use crate::limits::{Classification, Headers, epoch_ms};
use crate::pool::{Action, Usage, Wall, Window};
use crate::protocol::{ErrorInfo, HeaderList, ObjectText, ReportParams};

/// The valid HTTP status codes.
const STATUSES: std::ops::RangeInclusive<u16> = 100..=999;

/// Applies the report of an upstream response, and answers the next action.
pub fn report(daemon: &Daemon, reply: &mut CallReply<'_>, params: &ReportParams) -> CallResult {
    let headers = headers(params.headers.as_ref());
    let outcome = outcome_of(params, &headers)?;
    let fence = fence_of(daemon, &reply.issued, &params.lease, None)?;
    let now = clock::now();
    let classified = if outcome.is_bare_success() {
        Classification::default()
    } else {
        let provider = daemon.state().pool.lease(fence).map(|lease| lease.target.provider.clone());
        outcome.classify(provider.as_deref().unwrap_or_default(), now.wall)
    };
    let usage = params.usage.as_ref().map(|usage| stated_usage(usage, now.wall)).transpose()?;
    let state = &mut *daemon.state();
    let account = state.pool.lease(fence).map(|lease| lease.account);
    let learnt = match (usage, account) {
        (Some(usage), Some(account)) => state.learn_stated_usage(now, account, usage),
        _ => Unsaved::nothing_to_save(()),
    };
    let result = learnt.then(state.report(now, (fence, None), outcome, classified));
    match result.into_result() {
        Err(refusal) => reply.saved(refusal.map(|refusal| Err(refused(state, &refusal, now)))),
        Ok(outcome) => match outcome.peek().decision.lease {
            None => {
                // only where the lease goes on, it says nothing of other accounts
                let goes_on = outcome.peek().decision.action == Action::Continue;
                let others = if goes_on { state.pending_of(fence) } else { state.shared().unsaved() };
                reply.own_saved_as(outcome.or_at_least(others), |outcome| view::decision(outcome, None))
            }
            Some(lease) => {
                let decided = Box::new(outcome.peek().clone());
                reply.lease(state, now, outcome.map(|_| lease), (LeaseReply::Decision(decided), true))
            }
        },
    }
}

/// The outcome, from one of the three forms of a report.
fn outcome_of<'a>(params: &'a ReportParams, headers: &'a Headers) -> Result<UpstreamOutcome<'a>, ErrorInfo> {
    let ReportParams { ok, status, reason, .. } = params;
    let has_response = params.headers.is_some() || params.body.is_some();
    match (ok, status, reason) {
        (Some(true), None, None) if params.body.is_none() && params.retry_after_ms.is_none() => {
            Ok(UpstreamOutcome::Response { status: 200, headers, body: &[] })
        }
        (None | Some(false), Some(status), None) if params.retry_after_ms.is_none() && params.usage.is_none() => {
            if !STATUSES.contains(status) {
                return Err(bad(format!("`status` is {status}; it may be from 100 to 999")));
            }
            let body = params.body.as_ref().map_or(&[][..], |body| body.0.as_bytes());
            Ok(UpstreamOutcome::Response { status: *status, headers, body })
        }
        (None | Some(false), None, Some(reason)) if !has_response && params.usage.is_none() => {
            Ok(UpstreamOutcome::Stated { reason: *reason, wait: params.retry_after_ms.map(Duration::from_millis) })
        }
        _ => Err(bad(FORMS)),
    }
}

const FORMS: &str = "a report is one of: `\"ok\": true` (with `usage`, `headers`), `status` (with `headers`, `body`), or \
                     `reason` (with `retry_after_ms`)";

fn headers(list: Option<&HeaderList>) -> Headers {
    Headers::telling(list.into_iter().flat_map(|list| &list.0).map(|(name, value)| (name, value)))
}

/// The windows that a holder reports: one, as `account.list` has it, or several by name. Other fields, such as the
/// tokens of a response, are ignored.
fn stated_usage(text: &ObjectText, now: Wall) -> Result<Usage, ErrorInfo> {
    let stated: Map<String, Value> =
        serde_json::from_str(&text.0).map_err(|error| bad(format!("`usage` is not an object: {error}")))?;
    let one = match stated.get("window") {
        Some(Value::String(name)) => Some((name.as_str(), &stated)),
        _ => None,
    };
    let several = stated.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_object()?)));
    let windows = one.into_iter().chain(several).filter(|(_, window)| window.contains_key("utilization"));
    let windows: Result<Vec<Window>, ErrorInfo> =
        windows.take(MOST_WINDOWS).map(|(name, window)| stated_window(name, window, now)).collect();
    Ok(Usage { windows: windows?, ..Usage::default() })
}

const MOST_WINDOWS: usize = 32;
const LONGEST_NAME: usize = 64;

fn stated_window(name: &str, window: &Map<String, Value>, now: Wall) -> Result<Window, ErrorInfo> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(bad(format!("the name of a window may have from 1 to {LONGEST_NAME} bytes")));
    }
    let utilization = window.get("utilization").and_then(Value::as_f64).filter(|used| (0.0..=2.0).contains(used));
    let utilization = utilization.ok_or_else(|| bad(format!("`utilization` of {name} is a number from 0 to 1")))?;
    let resets_at = window.get("resets_at").filter(|at| !at.is_null()).map(|at| {
        let at = at.as_str().map_or_else(|| epoch_ms(&at.to_string()), epoch_ms);
        at.map(Wall).ok_or_else(|| bad(format!("`resets_at` of {name} is no time: epoch ms, or RFC 3339")))
    });
    let resets_at = resets_at.transpose()?;
    let key = window.get("key").and_then(Value::as_str).unwrap_or_default();
    let key = key[..key.floor_char_boundary(LONGEST_NAME)].to_owned();
    Ok(Window { name: name.to_owned(), utilization, resets_at, as_of: now, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_790_000_000_000);

    fn windows(text: &str) -> Result<Vec<(String, f64, Option<u64>)>, String> {
        let usage = stated_usage(&ObjectText(text.to_owned()), NOW).map_err(|error| error.message)?;
        Ok(usage.windows.into_iter().map(|w| (w.name, w.utilization, w.resets_at.map(|at| at.0))).collect())
    }

    #[test]
    fn windows_are_reported_in_two_shapes() {
        let at = 1_790_000_600_000;
        for (text, expected) in [
            (r#"{"window":"5h","utilization":0.5,"resets_at":1790000600000}"#, vec![("5h", 0.5, Some(at))]),
            (
                r#"{"5h":{"utilization":1,"resets_at":"2026-09-21T14:23:20Z"},"7d":{"utilization":0.25}}"#,
                vec![("5h", 1.0, Some(at)), ("7d", 0.25, None)],
            ),
            (
                r#"{"input_tokens":12,"cache_creation":{"ephemeral_5m_input_tokens":0},"service_tier":"standard"}"#,
                vec![],
            ),
            ("{}", vec![]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(name, used, at)| (name.to_owned(), used, at)).collect();
            assert_eq!(windows(text).unwrap(), expected, "{text}");
        }
        for (text, why) in [
            (r#"{"window":"5h","utilization":34}"#, "from 0 to 1"),
            (r#"{"5h":{"utilization":"full"}}"#, "from 0 to 1"),
            (r#"{"5h":{"utilization":0.1,"resets_at":"soon"}}"#, "no time"),
            (r#"{"":{"utilization":0.1}}"#, "name"),
        ] {
            assert!(windows(text).unwrap_err().contains(why), "{text}");
        }
    }
}
