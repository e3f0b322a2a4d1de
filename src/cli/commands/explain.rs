//! `explain`: why an account was chosen, and why the others were not.

use clap::Args;

use crate::cli::launch::working_directory;
use crate::cli::ui::{self, Column, Output, Table, Tint, clean, format};
use crate::cli::{context::Context, error::CliError};
use crate::pool::spoken;
use crate::protocol::{
    Call, CandidateInfo, ComparedInfo, DecidedInfo, ExplainInfo, ExplainParams, LimitInfo, PassedInfo, VerdictInfo,
};

/// Why an account is not chosen: its plan lacks the model.
const LACKS_MODEL: &str = "lacks_model";

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A lease (or the beginning of its id), an account, or LAST: the last decision
    #[arg(value_name = "LEASE|ACCOUNT|LAST", default_value = "LAST")]
    what: String,
    /// For an account: explain a request for this model
    #[arg(short, long)]
    model: Option<String>,
    /// For an account: explain a request that may use these accounts only
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    only: Vec<String>,
}

pub(super) fn execute(options: ExplainArgs, context: &Context) -> Result<(), CliError> {
    let is_decided = options.what == "LAST" || options.what.starts_with("ls_");
    if is_decided && !options.only.is_empty() {
        let hint = "for a set of accounts name one: lessor explain A --only A,B";
        return Err(CliError::usage("--only is for accounts: a decision has its own set").hint(hint));
    }
    if options.model.is_some() && is_decided {
        let hint = "for a model name an account: lessor explain A --model M";
        return Err(CliError::usage("--model is for accounts: a decision has its own model").hint(hint));
    }
    let what = ExplainParams {
        what: Some(options.what),
        model: options.model,
        only: Some(options.only).filter(|only| !only.is_empty()),
        directory: working_directory().filter(|_| !is_decided),
    };
    let call = Call::Explain(what.clone());
    let info = context.ask_ahead(&call, |client| client.explain(what.clone()))?;
    context.output.result(&info, || text(&info, format::now(), &context.output))
}

fn text(info: &ExplainInfo, now: u64, output: &Output) -> String {
    let mut text = match &info.decided {
        Some(decided) => decision(info, decided, now, output),
        None => about_account(info, now, output),
    };
    let same = if info.decided.is_some() { "the same request now" } else { "a plain request now" };
    text += &output.prose(&format!("{same}: {}\n\n", now_text(info, now)));
    text += &candidates(info, now, output);
    text
}

fn decision(info: &ExplainInfo, decided: &DecidedInfo, now: u64, output: &Output) -> String {
    let ago = format::ago(now, decided.at);
    let wanted = request_text(info);
    let Some(account) = &decided.account else {
        let message = decided.message.as_deref().unwrap_or_default();
        let refused = output.tint(Tint::Bad, "refused");
        let first = first_free(info, now).map(|first| format!("{first}\n")).unwrap_or_default();
        return output.prose(&format!("{refused} {ago}: {wanted}\n{}\n{first}", clean(message)));
    };
    let held = if decided.held { "" } else { ", since ended" };
    let chosen = output.tint(Tint::Strong, &clean(ui::account::label(account)));
    let by = decided.by.as_deref().unwrap_or_default();
    let mut text = format!("granted {ago}{held}: {wanted}\n{chosen}{}\n", over(by, decided.compared.as_ref(), info));
    text.extend(decided.compared.iter().filter_map(|compared| passed(compared, now)).map(|line| line + "\n"));
    text.extend(subagent(decided));
    if let (Some(from), Some(reason)) = (&decided.moved_from, &decided.moved_because) {
        text += &format!("the lease moved from {}: {}\n", clean(ui::account::label(from)), format::reason(reason));
    }
    output.prose(&text)
}

/// `for the sub-agent a1 of the agent on work, which had a limit`
fn subagent(decided: &DecidedInfo) -> Option<String> {
    let id = clean(decided.subagent.as_deref()?);
    let parent =
        decided.parent.as_ref().map(|parent| format!(" of the agent on {}", clean(ui::account::label(parent))));
    let why = decided.apart.as_deref().map(|apart| match apart {
        "setting" => "; selection.subagents spreads them".to_owned(),
        "subagents" => ", where as many sub-agents were as there is room for".to_owned(),
        "in_flight" => ", where too many requests were under way".to_owned(),
        "soft_threshold" => ", which was used beyond quota.soft_threshold".to_owned(),
        "limit" => ", which had a limit".to_owned(),
        "moved" => "; its lease has moved".to_owned(),
        other => format!("; {}", format::spaced(other)),
    });
    Some(format!("for the sub-agent {id}{}{}\n", parent.unwrap_or_default(), why.unwrap_or_default()))
}

fn about_account(info: &ExplainInfo, now: u64, output: &Output) -> String {
    let account = info.account.as_ref().map(ui::account::label).unwrap_or_default();
    let mut text = format!("{} ({})\n", output.tint(Tint::Strong, &clean(account)), clean(&info.request.provider));
    // the limits that exclude a plain request are in the table
    let below = |limit: &&LimitInfo| info.candidates.iter().any(|one| one.limits.contains(*limit));
    for known in info.limits.iter().filter(|limit| !below(limit)) {
        text += &output.prose(&format!("{}\n", clean(&ui::account::limit(known, now))));
        text.extend(known.evidence.iter().map(|evidence| output.hanging("  ", &clean(evidence))));
    }
    text
}

fn request_text(info: &ExplainInfo) -> String {
    let request = &info.request;
    let mut parts = vec![request.model.clone().unwrap_or_else(|| "any model".to_owned())];
    parts.push(format!("of {}", request.provider));
    parts.extend(request.pool.as_ref().map(|pool| format!("in {pool}")));
    parts.extend(request.account.as_ref().map(|account| format!("on {} only", name_of(account, info))));
    parts.extend(request.set.as_ref().map(|set| format!("on {set}")));
    parts.extend(request.session.as_ref().map(|session| format!("for session {session}")));
    parts.extend(request.label.as_ref().map(|label| format!("({label})")));
    clean(&parts.join(" "))
}

/// What people call the account that a request names.
fn name_of<'a>(account: &'a str, info: &'a ExplainInfo) -> &'a str {
    let named = info.candidates.iter().find(|one| one.id == account).map(candidate_name);
    let chosen = || info.decided.as_ref()?.account.as_ref().filter(|chosen| chosen.id == account);
    named.or_else(|| chosen().map(ui::account::label)).unwrap_or(account)
}

/// What decided, after the name of the chosen account: ` over home: 0/1 leases against 1/1`.
fn over(by: &str, compared: Option<&ComparedInfo>, info: &ExplainInfo) -> String {
    let other = compared.and_then(|compared| compared.over.as_ref()).map(ui::account::label);
    let over = other.map(|other| format!(" over {}", clean(other))).unwrap_or_default();
    let criterion = compared.and_then(|compared| criterion(compared, info));
    let is_only = compared.is_some_and(|compared| compared.over.is_none()) && ["strategy", "current"].contains(&by);
    let is_ordered = ["strategy", "pid_offset", "current"].contains(&by);
    let why = match criterion.filter(|_| is_ordered) {
        Some(criterion) => criterion,
        None if is_only => "the only account that can serve".to_owned(),
        None => why(by, &info.strategy),
    };
    format!("{over}: {why}")
}

/// The criterion in which the two accounts differ, with both values.
fn criterion(compared: &ComparedInfo, info: &ExplainInfo) -> Option<String> {
    let text = |text: &Option<String>| clean(text.as_deref().unwrap_or("unknown"));
    let (chosen, other) = (text(&compared.chosen), text(&compared.other));
    let against = format!("{chosen} against {other}");
    let over = compared.over.as_ref().map(ui::account::label).map(clean).unwrap_or_default();
    Some(match compared.criterion.as_deref()? {
        "leases" => format!("{chosen} leases against {other}"),
        "subagents" => format!("leases of agents: {against}"),
        "priority" => format!("priority {against}"),
        "tier" => format!("plan {against}"),
        "pid_offset" => format!("pid_offset (process {chosen})"),
        "quota_pool" => format!("only the second quota of {over} is open"),
        "overage" => format!("the plan of {over} is used up, and its requests are paid for"),
        "fallback_only" => format!("{over} serves only while no other account can"),
        "soft_threshold" => format!("{chosen} used against {other}, which is above the soft threshold"),
        "current" => format!("it is the current account ({})", info.strategy),
        "turn" => "the accounts take turns".to_owned(),
        "score" => format!("{} score {against}", info.strategy),
        "used_7d" => format!("{chosen} of the week used against {other}"),
        "used_5h" => format!("{chosen} of the 5 hours used against {other}"),
        "resets_7d_at" => format!("its week resets first ({against})"),
        "used" => format!("{chosen} used against {other}"),
        "idle" => format!("used longest ago ({against})"),
        "order" => "equal otherwise, and first in the order".to_owned(),
        criterion => format!("{} {against}", format::spaced(criterion)),
    })
}

/// `preferred k3 limited until 17:06, in 3 min`
fn passed(compared: &ComparedInfo, now: u64) -> Option<String> {
    let PassedInfo { account, by, why, until } = compared.passed.as_ref()?;
    let what = if by == "session" { "the session's account" } else { "preferred" };
    let until = until.map(|until| format!(" {}", until_words(now, until))).unwrap_or_default();
    let why = match why.as_str() {
        "overage" => "has used up its plan".to_owned(),
        "fallback_only" => "serves only while no other account can".to_owned(),
        why => format::obstacle(why),
    };
    Some(format!("{what} {} {why}{until}", clean(ui::account::label(account))))
}

/// `until 17:06, in 3 min`; a time that has passed is over.
fn until_words(now: u64, until: u64) -> String {
    if until <= now { "until just now".to_owned() } else { format::until_clock(now, until) }
}

/// The first account that can serve, and when: `k3 can serve first: 17:06, in 3 min`.
fn first_free(info: &ExplainInfo, now: u64) -> Option<String> {
    let excluded = info.candidates.iter().filter(|one| one.why.as_deref() != Some(LACKS_MODEL));
    let waiting = excluded.filter_map(|one| Some((one.until?, one)));
    let (until, first) = waiting.min_by_key(|(until, _)| *until)?;
    if info.now.outcome == "grant" {
        return None;
    }
    let at = if until <= now { "now".to_owned() } else { format::clock_and_span(now, until) };
    Some(format!("{} can serve first: {at}", clean(candidate_name(first))))
}

fn candidate_name(one: &CandidateInfo) -> &str {
    one.label.as_ref().or(one.email.as_ref()).unwrap_or(&one.id)
}

fn why(by: &str, strategy: &str) -> String {
    match by {
        "account" => "the request named it".to_owned(),
        "session" => "its conversation is on this account".to_owned(),
        "parent" => "it is the account of the agent that has started it".to_owned(),
        "preferred" => "the configuration prefers it".to_owned(),
        "reuse" => "its process used it just before".to_owned(),
        "pid_offset" => "chosen by the process id".to_owned(),
        "strategy" => format!("fewest leases per capacity, priority, then {strategy}"),
        "current" => "the current account, with its other quota".to_owned(),
        "moved" => "the lease was moved there by command".to_owned(),
        "same_account" => "it had the lease before, and has another quota".to_owned(),
        "resumed" => "it had the lease before the daemon was restarted".to_owned(),
        other => format::spaced(other),
    }
}

fn now_text(info: &ExplainInfo, now: u64) -> String {
    let VerdictInfo { outcome, account, by, kind, until, message, compared, .. } = &info.now;
    let kind = kind.as_ref().map(|kind| format::spaced(kind.name())).unwrap_or_default();
    match (outcome.as_str(), account) {
        ("grant", Some(account)) => {
            let lacks = |one: &CandidateInfo| one.id == account.id && one.why.as_deref() == Some(LACKS_MODEL);
            let why = match info.candidates.iter().any(lacks) {
                true => ", to ask again: no account is known to have the model".to_owned(),
                false => over(by.as_deref().unwrap_or_default(), compared.as_ref(), info),
            };
            let passed = compared.as_ref().and_then(|compared| passed(compared, now));
            let passed = passed.map(|passed| format!("; {passed}")).unwrap_or_default();
            format!("{}{why}{passed}", clean(ui::account::label(account)))
        }
        ("wait", _) => match (until, first_free(info, now)) {
            (_, Some(first)) => format!("waits ({kind}): {first}"),
            (Some(until), None) => {
                format!("waits ({kind}), served at the earliest {}", format::clock_and_span(now, *until))
            }
            (None, None) => format!("waits ({kind}) until an account is free"),
        },
        _ => format!("refused ({kind}): {}", clean(message.as_deref().unwrap_or_default())),
    }
}

/// Every account that could have been chosen, with its figures and what excludes it.
fn candidates(info: &ExplainInfo, now: u64, output: &Output) -> String {
    let mut table = Table::new(&[
        Column::number("#"),
        Column::name("ACCOUNT"),
        Column::number("LEASES").left_out(2),
        Column::number("PRIO").left_out(3),
        Column::number("HEALTH").left_out(5),
        Column::number("TOKENS").left_out(6),
        Column::number("SCORE").left_out(4),
        Column::number("5H"),
        Column::number("7D"),
        Column::flexible("NOTES", 14).moved_below(1),
    ]);
    let hybrid = info.strategy == "hybrid";
    let has_priority = info.candidates.iter().any(|one| one.priority != 0);
    let used = |used: Option<f64>| used.map(|used| format!("{:.0} %", used * 100.0)).unwrap_or_default();
    for one in &info.candidates {
        let tint = if one.why.is_some() { Tint::Faint } else { Tint::Strong };
        let name = candidate_name(one);
        table.row(vec![
            (one.rank.map(|rank| rank.to_string()).unwrap_or_default(), None),
            (name.to_owned(), Some(tint)),
            (format!("{}/{}", one.leases, one.capacity), None),
            (if has_priority { one.priority.to_string() } else { String::new() }, None),
            (format!("{:.0}", one.health), None),
            (format!("{:.0}", one.tokens.floor()), None),
            (if hybrid { format!("{:.0}", one.score) } else { String::new() }, None),
            (used(one.used_5h), None),
            (used(one.used_7d), None),
            (notes(one, now), one.why.as_ref().map(|_| Tint::Warn)),
        ]);
        for known in &one.limits {
            table.detail(0, &ui::account::limit(known, now));
            known.evidence.iter().for_each(|evidence| table.detail(1, evidence));
        }
        one.note.iter().for_each(|note| table.detail(0, note));
    }
    table.render(output)
}

fn notes(one: &CandidateInfo, now: u64) -> String {
    if let Some(why) = &one.why {
        let until = one.until.map(|until| match why == LACKS_MODEL {
            true => format!(", asked again {}", format::until(now, until)),
            false if until <= now => String::new(),
            false => format!(" until {}", format::day_and_clock(now, until)),
        });
        return format!("{}{}", format::obstacle(why), until.unwrap_or_default());
    }
    let mut notes = Vec::new();
    notes.extend(one.current.then(|| "current".to_owned()));
    notes.extend(one.pool.clone());
    notes.extend(one.over_threshold.then(|| "quota nearly used up".to_owned()));
    notes.extend(one.resets_7d_at.map(|at| format!("week resets {}", format::until(now, at))));
    if notes.is_empty() {
        let idle = |ms| format!("idle {}", spoken(std::time::Duration::from_millis(ms)));
        notes.push(one.idle_ms.map_or_else(|| "never used".to_owned(), idle));
    }
    notes.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};
    use unicode_width::UnicodeWidthStr;

    const NOW: u64 = 1_790_000_000_000;

    fn candidate(name: &str) -> CandidateInfo {
        let candidate = json!({
            "id": "ac_1", "label": name, "limits": [], "leases": 0, "capacity": 1, "priority": 0, "tier": "pro",
            "over_threshold": false, "health": 70.0, "tokens": 49.9, "score": 640.0, "current": false
        });
        from_value(candidate).unwrap()
    }

    fn info() -> ExplainInfo {
        let label = |label: &str| json!({ "id": "ac_1", "label": label });
        let limit = json!({
            "key": "", "reason": "quota_exhausted", "scope": "account", "until": NOW + 46_800_000, "source": "server",
            "since": NOW - 5_000,
            "evidence": "429 rate_limit_error “This request would exceed your account's rate limit”"
        });
        let (why, until) = (Some("limited".into()), Some(NOW + 46_800_000));
        let limits = vec![from_value(limit).unwrap()];
        let limited = CandidateInfo { why, until, limits, used_5h: Some(1.0), ..candidate("work") };
        let free = CandidateInfo { rank: Some(1), used_5h: Some(0.2), current: true, leases: 1, ..candidate("home") };
        let info = json!({
            "subject": "lease", "strategy": "hybrid", "mode": "balance", "limits": [], "candidates": [free, limited],
            "request": {
                "provider": "anthropic", "model": "claude-sonnet-4-5", "quota_key": "claude", "session": "s1"
            },
            "decided": {
                "at": NOW - 4_000, "lease": "ls_1", "fence": 7, "held": true, "account": label("home"), "by": "strategy",
                "moved_from": label("work"), "moved_because": "quota_exhausted",
                "compared": { "over": label("work"), "criterion": "leases", "chosen": "0/1", "other": "1/1" }
            },
            "now": { "outcome": "grant", "account": label("home"), "by": "session" }
        });
        from_value(info).unwrap()
    }

    #[test]
    fn a_decision_is_explained_with_every_candidate() {
        assert_eq!(
            text(&info(), NOW, &Output::plain(80)),
            "granted 4 s ago: claude-sonnet-4-5 of anthropic for session s1\n\
             home over work: 0/1 leases against 1/1\n\
             the lease moved from work: quota exhausted\n\
             the same request now: home: its conversation is on this account\n\
             \n\
             #  ACCOUNT  LEASES  HEALTH  TOKENS  SCORE     5H  NOTES\n\
             1  home        1/1      70      49    640   20 %  current\n\
             \u{20}  work        0/1      70      49    640  100 %  limited until Tue 03:13\n\
             \u{20} quota exhausted of the account until Tue 03:13, in 13 h (stated 5 s ago)\n\
             \u{20}   429 rate_limit_error “This request would exceed your account's rate limit”\n"
        );
    }

    #[test]
    fn what_decided_is_named_with_both_values() {
        let label = |label: &str| json!({ "id": "ac_1", "label": label });
        let said = |by: &str, compared: serde_json::Value| over(by, Some(&from_value(compared).unwrap()), &info());
        let compared = |criterion: &str, chosen: &str, other: &str| json!({ "over": label("home"), "criterion": criterion, "chosen": chosen, "other": other });
        for (by, compared, expected) in [
            ("strategy", compared("leases", "0/1", "1/1"), " over home: 0/1 leases against 1/1"),
            ("pid_offset", compared("pid_offset", "4711", ""), " over home: pid_offset (process 4711)"),
            ("pid_offset", compared("priority", "5", "0"), " over home: priority 5 against 0"),
            ("strategy", compared("score", "640.0", "600.0"), " over home: hybrid score 640.0 against 600.0"),
            ("session", json!({ "over": label("home") }), " over home: its conversation is on this account"),
            ("strategy", json!({}), ": the only account that can serve"),
        ] {
            assert_eq!(said(by, compared), expected);
        }
        let preferred = json!({ "passed": {
            "account": label("k3"), "by": "preferred", "why": "limited", "until": NOW + 180_000
        } });
        let text = passed(&from_value(preferred).unwrap(), NOW).unwrap();
        assert_eq!(text, format!("preferred k3 limited {}", format::until_clock(NOW, NOW + 180_000)));
    }

    #[test]
    fn long_names_and_notes_fit_the_width() {
        let mut info = info();
        info.candidates = (0..5)
            .map(|n| CandidateInfo {
                priority: -1000 * n,
                used_7d: Some(0.5),
                note: Some("only for claude, ".repeat(20)),
                ..candidate(&"漢字".repeat(30))
            })
            .collect();
        for line in candidates(&info, NOW, &Output::plain(80)).lines() {
            assert!(line.width() <= 80, "{line}");
        }
    }
}
