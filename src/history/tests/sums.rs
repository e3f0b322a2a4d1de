//! Sums, groups and pages, against a model in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::{Offset, TimeZone};
use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::history::groups::{day, hour, json_bytes};
use crate::history::query::answer;
use crate::history::reader::define_functions;
use crate::history::{database, rows};
use crate::protocol::{HistoryGroup, MAX_MESSAGE, RequestSums};

const HOUR: u64 = 3_600_000;

pub(super) fn history_of(requests: &[RequestRow]) -> Connection {
    let database = database::in_memory();
    define_functions(&database).unwrap();
    for request in requests {
        rows::insert_request(&database, request, 1).unwrap();
    }
    database
}

pub(super) fn ask(database: &mut Connection, params: &HistoryParams, zone: &TimeZone) -> HistoryInfo {
    let query = HistoryQuery::new(params, params.account.clone(), NOW).unwrap();
    answer(database, &query, zone).unwrap()
}

pub(super) fn everything() -> HistoryParams {
    HistoryParams { since: Some(0), ..HistoryParams::default() }
}

fn shared(text: Option<String>) -> Option<Arc<str>> {
    text.map(Into::into)
}

/// Whether a request matches, as the documentation says.
fn matches(params: &HistoryParams, row: &RequestRow) -> bool {
    let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
    let of_account = |wanted: &String| {
        row.account.iter().chain(row.attempts.iter().map(|attempt| &attempt.account)).any(|found| found.id == *wanted)
    };
    let of_directory = |wanted: &String| {
        row.directory.as_deref().is_some_and(|found| found == wanted || found.starts_with(&format!("{wanted}/")))
    };
    let of_status = |wanted: &str| match wanted {
        "limited" => row.attempts.iter().any(AttemptRow::met_limit),
        class if class.ends_with("xx") => {
            row.status.is_some_and(|status| class.starts_with(&(status / 100).to_string()))
        }
        other => row.outcome == other || row.status.is_some_and(|status| status.to_string() == other),
    };
    row.at >= params.since.unwrap()
        && params.until.is_none_or(|until| row.at < until)
        && params.account.as_ref().is_none_or(of_account)
        && is(&params.provider, Some(&row.provider))
        && is(&params.agent, row.agent.as_deref())
        && is(&params.session, row.session.as_deref())
        && params.model.as_ref().is_none_or(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => row.model.as_ref().is_some_and(|model| model.starts_with(beginning)),
            None => row.model.as_deref() == Some(pattern),
        })
        && params.directory.as_ref().is_none_or(of_directory)
        && params.status.as_deref().is_none_or(of_status)
}

fn sums<'a>(rows: impl IntoIterator<Item = &'a RequestRow>) -> RequestSums {
    let mut sums = RequestSums::default();
    for row in rows {
        let tokens = row.tokens.unwrap_or_default();
        sums.requests += 1;
        sums.ok += u64::from(row.outcome == "ok");
        sums.refused += u64::from(row.outcome == "refused");
        sums.broken += u64::from(row.outcome == "broken");
        sums.cancelled += u64::from(row.outcome == "cancelled");
        sums.attempts += row.attempts.len() as u64;
        sums.limited += row.attempts.iter().filter(|attempt| attempt.met_limit()).count() as u64;
        sums.waited_ms += row.waited_ms;
        sums.tokens.input += tokens.input;
        sums.tokens.output += tokens.output;
        sums.tokens.cached += tokens.cached;
        sums.tokens.cache_written += tokens.cache_written;
        // quarters, which are exact in any order
        sums.cost_usd += row.cost_usd.unwrap_or_default();
    }
    sums
}

/// The groups by the number of requests.
fn sorted(groups: BTreeMap<String, RequestSums>) -> Vec<(String, RequestSums)> {
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|one, other| {
        let size = |sums: &RequestSums| (sums.requests, sums.attempts);
        size(&other.1).cmp(&size(&one.1)).then_with(|| one.0.cmp(&other.0))
    });
    groups
}

fn named(groups: &[HistoryGroup]) -> Vec<(String, RequestSums)> {
    groups.iter().map(|group| (group.name.clone(), group.sums)).collect()
}

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop::sample::select(texts).prop_map(str::to_owned))
}

prop_compose! {
    fn any_attempt()(
        id in prop::sample::select(&["ac_1", "ac_2", "ac_3"][..]),
        until in prop::option::of(0..NOW),
        scope in one_of(&["request", "model", "account", "service"]),
    ) -> AttemptRow {
        AttemptRow { account: account(id).into(), until, scope, ..AttemptRow::default() }
    }
}

prop_compose! {
    pub(super) fn any_request()(
        (at, waited_ms, quarters) in (0..40 * 86_400_000u64, 0..90_000u64, 0..400u32),
        attempts in prop::collection::vec(any_attempt(), 0..4),
        (agent, session, model) in (one_of(&["claude", "codex"]), one_of(&["s1", "s2"]), one_of(&["m-1", "m-2", "n"])),
        directory in one_of(&["/a", "/a/b", "/ab", "/c"]),
        outcome in prop::sample::select(&["ok", "refused", "broken", "cancelled"][..]),
        status in prop::option::of(prop::sample::select(&[200u16, 429, 500, 529][..])),
        tokens in prop::option::of((0..1000u64, 0..1000u64)),
        provider in prop::sample::select(&["anthropic", "openai"][..]),
        served in any::<bool>(),
    ) -> RequestRow {
        RequestRow {
            at: NOW - at - 1,
            account: attempts.last().filter(|_| served).map(|last| last.account.clone()),
            attempts, agent: shared(agent), session: shared(session), model: shared(model), directory: shared(directory), status,
            waited_ms,
            provider: provider.into(),
            outcome: outcome.into(),
            tokens: tokens.map(|(input, output)| TokenSums { input, output, cached: input / 2, cache_written: 1 }),
            cost_usd: tokens.map(|_| f64::from(quarters) / 4.0),
            ..RequestRow::default()
        }
    }
}

prop_compose! {
    fn any_query()(
        (since, until) in (0..45 * 86_400_000u64, prop::option::of(0..20 * 86_400_000u64)),
        account in one_of(&["ac_1", "ac_2"]),
        provider in one_of(&["anthropic", "openai"]),
        model in one_of(&["m-1", "m-*", "*"]),
        (agent, session) in (one_of(&["claude", "codex"]), one_of(&["s1"])),
        directory in one_of(&["/a", "/a/b"]),
        status in one_of(&["429", "5xx", "2xx", "ok", "refused", "limited"]),
    ) -> HistoryParams {
        let until = until.map(|until| NOW - until);
        let since = (NOW - since).min(until.unwrap_or(NOW));
        HistoryParams {
            since: Some(since), until, account, provider, model, agent, session, directory, status,
            ..HistoryParams::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sums_and_groups_are_those_of_the_model(
        requests in prop::collection::vec(any_request(), 0..60),
        params in any_query(),
        offset in -47i32..48,
    ) {
        let zone = TimeZone::fixed(Offset::from_seconds(offset * 900).unwrap());
        let mut database = history_of(&requests);
        let found: Vec<&RequestRow> = requests.iter().filter(|row| matches(&params, row)).collect();
        let wanted = sums(found.iter().copied());
        for by in ["hour", "day", "account", "model", "agent", "dir", "provider"] {
            let query = HistoryParams { by: Some(by.to_owned()), limit: Some(0), ..params.clone() };
            let info = ask(&mut database, &query, &zone);
            prop_assert_eq!(info.totals, wanted);
            prop_assert!(info.requests.is_empty());
            let mut groups: BTreeMap<String, Vec<&RequestRow>> = BTreeMap::new();
            for row in &found {
                let at = i64::try_from(row.at).unwrap();
                let name = match by {
                    "hour" => format!("{:020}", hour(at, &zone)),
                    "day" => format!("{:020}", day(at, &zone)),
                    "model" => row.model.as_deref().unwrap_or_default().to_owned(),
                    "agent" => row.agent.as_deref().unwrap_or_default().to_owned(),
                    "dir" => row.directory.as_deref().unwrap_or_default().to_owned(),
                    "provider" => row.provider.to_string(),
                    _ => row.account.as_ref().map(|account| account.id.clone()).unwrap_or_default(),
                };
                groups.entry(name).or_default().push(row);
            }
            let mut groups: BTreeMap<String, RequestSums> =
                groups.into_iter().map(|(name, rows)| (name, sums(rows))).collect();
            match by {
                "hour" | "day" => {
                    let at = |group: &HistoryGroup| (format!("{:020}", group.at.unwrap()), group.sums);
                    let wanted: Vec<_> = groups.into_iter().collect();
                    prop_assert_eq!(info.groups.iter().map(at).collect::<Vec<_>>(), wanted);
                }
                "account" => {
                    // attempts belong to the account that was tried
                    groups.values_mut().for_each(|sums| (sums.attempts, sums.limited) = (0, 0));
                    for attempt in found.iter().flat_map(|row| &row.attempts) {
                        let sums = groups.entry(attempt.account.id.clone()).or_default();
                        sums.attempts += 1;
                        sums.limited += u64::from(attempt.met_limit());
                    }
                    let id = |group: &HistoryGroup| group.account.as_ref().map(|one| one.id.clone()).unwrap_or_default();
                    let by_id: BTreeMap<_, _> = info.groups.iter().map(|group| (id(group), group.sums)).collect();
                    prop_assert_eq!(by_id, groups);
                }
                _ => prop_assert_eq!(named(&info.groups), sorted(groups)),
            }
            let attempts: u64 = info.groups.iter().map(|group| group.sums.attempts).sum();
            prop_assert_eq!(attempts, wanted.attempts, "groups add up to the totals");
        }
    }

    #[test]
    fn pages_together_are_all_rows_that_match(
        requests in prop::collection::vec(any_request(), 0..60),
        params in any_query(),
        limit in 1u32..20,
    ) {
        let mut database = history_of(&requests);
        let wanted: Vec<u64> = requests.iter().filter(|row| matches(&params, row)).map(|row| row.at).rev().collect();
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let info = ask(&mut database, &HistoryParams { limit: Some(limit), before, ..params.clone() }, &TimeZone::UTC);
            prop_assert!(info.requests.len() <= limit as usize);
            found.extend(info.requests.iter().map(|row| row.at));
            before = info.next;
            if before.is_none() {
                break;
            }
        }
        prop_assert_eq!(found, wanted);
    }
}

#[test]
fn a_row_comes_back_as_it_was_recorded() {
    let holder = Some(crate::protocol::HolderInfo { pid: 7, program: Some("claude".to_owned()) });
    let text = |text: &str| Some(text.to_owned());
    let mut row = RequestRow {
        id: 1,
        agent: shared(text("claude")),
        holder: holder.map(Into::into),
        directory: shared(text("/work")),
        session: shared(text("s")),
        lease: text("ls_1"),
        label: shared(text("agent-1")),
        pool: shared(text("antigravity")),
        reason: text("quota_exhausted"),
        waited_ms: 5,
        first_byte_ms: Some(6),
        duration_ms: 7,
        cost_usd: Some(0.5),
        ..request(NOW - 1)
    };
    row.attempts.push(AttemptRow {
        account: account("ac_2").into(),
        after_ms: 1,
        duration_ms: 2,
        status: Some(429),
        reason: text("rate_limit_exceeded"),
        scope: text("account"),
        until: Some(NOW),
        evidence: text("slow down"),
    });
    let mut database = history_of(std::slice::from_ref(&row));
    let found = ask(&mut database, &everything(), &TimeZone::UTC).requests.remove(0);
    let accounts = row.account.iter_mut().chain(row.attempts.iter_mut().map(|one| &mut one.account));
    accounts.for_each(|one| Arc::make_mut(one).email = None);
    assert_eq!(found, row);
}

#[test]
fn a_page_of_large_rows_fits_into_a_message_and_names_the_next_page() {
    let large = |n: u64| {
        let attempt = AttemptRow { evidence: Some("\u{1}".repeat(5000)), ..request(n).attempts[0].clone() };
        RequestRow {
            directory: Some("\"".repeat(100_000).into()),
            attempts: vec![attempt; 200],
            ..request(NOW - 100 + n)
        }
    };
    let requests: Vec<RequestRow> = (0..50).map(large).collect();
    let mut database = history_of(&requests);
    let (mut found, mut before) = (0, None);
    loop {
        let query = HistoryParams { by: Some("dir".to_owned()), before, limit: Some(1000), ..everything() };
        let info = ask(&mut database, &query, &TimeZone::UTC);
        assert!(json_bytes(&info) < MAX_MESSAGE - 4096, "{} bytes", json_bytes(&info));
        assert!(!info.requests.is_empty());
        found += info.requests.len();
        before = info.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(found, 50);
}

#[test]
fn many_groups_fit_into_an_answer() {
    let requests: Vec<RequestRow> = (0..2000u64)
        .map(|n| RequestRow {
            directory: Some(format!("/{n}/{}", "x".repeat(500)).into()),
            ..request(NOW - 1 - n * HOUR)
        })
        .collect();
    let mut database = history_of(&requests);
    let by = |by: &str| HistoryParams { by: Some(by.to_owned()), ..everything() };
    let info = ask(&mut database, &by("dir"), &TimeZone::UTC);
    assert!(json_bytes(&info) < MAX_MESSAGE - 4096);
    assert_eq!(info.groups.last().unwrap().name, "(others)");
    assert_eq!(info.groups.iter().map(|group| group.sums.requests).sum::<u64>(), 2000);
    let query = HistoryQuery::new(&by("hour"), None, NOW).unwrap();
    let refused = answer(&mut database, &query, &TimeZone::UTC).unwrap_err();
    assert!(refused.to_string().contains("by = \"day\""), "{refused}");
    assert_eq!(ask(&mut database, &by("day"), &TimeZone::UTC).groups.len(), 84);
}

#[test]
fn hours_and_days_are_those_of_the_time_zone() {
    // 2026-03-29 01:00 UTC: the clocks of Berlin go from 02:00 to 03:00
    let change = 1_774_746_000_000;
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let quarter = 15 * 60_000;
    assert_eq!(hour(change - quarter, &berlin), change - 3_600_000);
    assert_eq!(hour(change + quarter, &berlin), change);
    let midnight = change - 2 * 3_600_000;
    for at in [midnight, change, change + 20 * 3_600_000] {
        assert_eq!(day(at, &berlin), midnight);
    }
    assert_eq!(day(midnight + 23 * 3_600_000, &berlin), midnight + 23 * 3_600_000, "that day has 23 hours");
    let nepal = TimeZone::fixed(Offset::from_seconds(20_700).unwrap());
    assert_eq!(hour(change, &nepal) % 3_600_000, quarter, "its hours begin a quarter past those of UTC");
}

#[test]
fn absurd_numbers_of_an_upstream_break_no_sum() {
    let tokens = Some(TokenSums { input: u64::MAX, output: u64::MAX, cached: u64::MAX, cache_written: u64::MAX });
    let requests = vec![RequestRow { tokens, waited_ms: u64::MAX, duration_ms: u64::MAX, ..request(NOW - 1) }; 20];
    let info = ask(&mut history_of(&requests), &everything(), &TimeZone::UTC);
    assert_eq!(info.totals.requests, 20);
}

#[test]
fn a_query_ends_with_its_guard_and_the_next_one_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let history = TestHistory::start(&directory.path().join("history.db"), settings(64 << 20));
    (0..8_000).for_each(|n| history.history.request(request(NOW + n)));
    history.flush();
    // a pattern that is slow to match, on every row
    let model = Some(format!("{}x", "*a*e*".repeat(6)));
    let params = HistoryParams { model, since: Some(0), ..HistoryParams::default() };
    let query = HistoryQuery::new(&params, None, NOW + 86_400_000).unwrap();
    // the system may let a query end before its guard is dropped
    let ends = |_| {
        let (done, answer) = channel();
        drop(history.history.query(query.clone(), move |result| _ = done.send(result)).unwrap());
        matches!(answer.recv().unwrap(), Err(QueryFault::Ended))
    };
    assert!((0..100).any(ends));
    assert_eq!(history.all("requests").totals.requests, 8_000);
}
