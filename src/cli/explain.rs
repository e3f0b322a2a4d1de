//! `explain`: why this account, and why not the others.

use clap::Args;
use unicode_width::UnicodeWidthStr;

use crate::pool::spoken;
use crate::protocol::{AccountLabel, CandidateInfo, DecidedInfo, ExplainInfo, ExplainParams, LimitInfo, VerdictInfo};

use super::context::{self, Context};
use super::failure::Failure;
use super::output::{Output, Tint, clean};
use super::table::{Column, Table};
use super::words;

/// `explain`
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A lease or the beginning of its id, an account, or LAST for the last decision
    #[arg(value_name = "LEASE|ACCOUNT|LAST", default_value = "LAST")]
    what: String,
    /// For an account: the model it would be asked for
    #[arg(short, long)]
    model: Option<String>,
}

/// Prints what decided, what stands in the way of whom, and what showed it.
pub(super) fn explain(options: Explain, context: &Context) -> Result<(), Failure> {
    let what = ExplainParams { what: Some(options.what), model: options.model };
    let info = context.ask(|client| client.explain(what.clone()))?;
    context.output.result(&info, || text(&info, context::now(), &context.output))
}

fn text(info: &ExplainInfo, now: u64, output: &Output) -> String {
    let mut text = match &info.decided {
        Some(decided) => past(info, decided, now, output),
        None => about_account(info, now, output),
    };
    let same = if info.decided.is_some() { "the same request now" } else { "a plain request now" };
    text += &format!("{same}: {}\n\n", verdict(info, now));
    text += &candidates(info, now, output);
    text
}

/// How it was decided.
fn past(info: &ExplainInfo, decided: &DecidedInfo, now: u64, output: &Output) -> String {
    let ago = words::ago(now, decided.at);
    let wanted = wanted(info);
    let Some(account) = &decided.account else {
        let message = decided.message.as_deref().unwrap_or_default();
        return format!("{} {ago}: {wanted}\n{}\n", output.tint(Tint::Bad, "refused"), clean(message));
    };
    let held = if decided.held { "" } else { ", ended since" };
    let chosen = output.tint(Tint::Strong, &clean(name(account)));
    let why = why(decided.by.as_deref().unwrap_or_default(), &info.strategy);
    let mut text = format!("granted {ago}{held}: {wanted}\n{chosen} was chosen: {why}\n");
    if let (Some(from), Some(reason)) = (&decided.moved_from, &decided.moved_because) {
        text += &format!("it came from {}: {}\n", clean(name(from)), reason.replace('_', " "));
    }
    text
}

fn about_account(info: &ExplainInfo, now: u64, output: &Output) -> String {
    let account = info.account.as_ref().map(name).unwrap_or_default();
    let mut text = format!("{} ({})\n", output.tint(Tint::Strong, &clean(account)), clean(&info.request.provider));
    // those that stand in the way of a plain request are told below
    let below = |limit: &&LimitInfo| info.candidates.iter().any(|one| one.limits.contains(*limit));
    for known in info.limits.iter().filter(|limit| !below(limit)) {
        text += &format!("{}\n", clean(&limit(known, now)));
        let evidence = known.evidence.iter().flat_map(|text| wrapped(text, output.width - INDENT));
        text.extend(evidence.map(|line| format!("  {}\n", output.tint(Tint::Faint, &clean(&line)))));
    }
    text
}

/// What was asked for.
fn wanted(info: &ExplainInfo) -> String {
    let request = &info.request;
    let mut words = vec![request.model.clone().unwrap_or_else(|| "any model".to_owned())];
    words.push(format!("of {}", request.provider));
    words.extend(request.pool.as_ref().map(|pool| format!("in {pool}")));
    words.extend(request.account.as_ref().map(|account| format!("on {account} only")));
    words.extend(request.session.as_ref().map(|session| format!("for session {session}")));
    words.extend(request.label.as_ref().map(|label| format!("({label})")));
    clean(&words.join(" "))
}

/// What decided, as a sentence's end.
fn why(by: &str, strategy: &str) -> String {
    match by {
        "account" => "the request named it".to_owned(),
        "session" => "its conversation lives there".to_owned(),
        "preferred" => "the configuration prefers it".to_owned(),
        "reuse" => "its process had it a moment before".to_owned(),
        "pid_offset" => "by the number of its process".to_owned(),
        "strategy" => format!("fewest leases per capacity, priority, then {strategy}"),
        "current" => "the current account, on its other quota".to_owned(),
        "same_account" => "it had the lease before, and has another quota".to_owned(),
        "resumed" => "it had the lease before the daemon was started".to_owned(),
        other => other.replace('_', " "),
    }
}

fn verdict(info: &ExplainInfo, now: u64) -> String {
    let VerdictInfo { outcome, account, by, kind, until, message, .. } = &info.now;
    let kind = kind.as_deref().unwrap_or_default().replace('_', " ");
    match (outcome.as_str(), account) {
        ("grant", Some(account)) => {
            format!("{}, {}", clean(name(account)), why(by.as_deref().unwrap_or_default(), &info.strategy))
        }
        ("wait", _) => match until {
            Some(until) => format!("waits ({kind}), served {} at the earliest", words::until(now, *until)),
            None => format!("waits ({kind}) until an account is free"),
        },
        _ => format!("refused ({kind}): {}", clean(message.as_deref().unwrap_or_default())),
    }
}

/// Everybody who could have been chosen, and what speaks for and against each.
fn candidates(info: &ExplainInfo, now: u64, output: &Output) -> String {
    let mut table = Table::new(&[
        Column::number("#"),
        Column::flexible("ACCOUNT", 10),
        Column::number("LEASES"),
        Column::number("PRIO"),
        Column::number("HEALTH"),
        Column::number("TOKENS"),
        Column::number("SCORE"),
        Column::number("5H"),
        Column::number("7D"),
        Column::flexible("NOTES", 14),
    ]);
    let hybrid = info.strategy == "hybrid";
    let has_priority = info.candidates.iter().any(|one| one.priority != 0);
    let used = |used: Option<f64>| used.map(|used| format!("{:.0} %", used * 100.0)).unwrap_or_default();
    for one in &info.candidates {
        let tint = if one.why.is_some() { Tint::Faint } else { Tint::Strong };
        table.row(vec![
            (one.rank.map(|rank| rank.to_string()).unwrap_or_default(), None),
            (candidate_name(one).to_owned(), Some(tint)),
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
            table.detail(&limit(known, now));
            let evidence = known.evidence.iter().flat_map(|text| wrapped(text, output.width - INDENT));
            evidence.for_each(|line| table.detail(&format!("  {line}")));
        }
        one.note.iter().flat_map(|note| wrapped(note, output.width - INDENT)).for_each(|line| table.detail(&line));
    }
    table.render(output)
}

fn notes(one: &CandidateInfo, now: u64) -> String {
    if let Some(why) = &one.why {
        let until = one.until.map(|until| format!(", free {}", words::until(now, until))).unwrap_or_default();
        return format!("{}{until}", why.replace('_', " "));
    }
    let mut notes = Vec::new();
    notes.extend(one.current.then(|| "current".to_owned()));
    notes.extend(one.pool.clone());
    notes.extend(one.over_threshold.then(|| "nearly used up".to_owned()));
    notes.extend(one.resets_7d_at.map(|at| format!("week new {}", words::until(now, at))));
    if notes.is_empty() {
        let idle = |ms| format!("idle {}", spoken(std::time::Duration::from_millis(ms)));
        notes.push(one.idle_ms.map_or_else(|| "never used".to_owned(), idle));
    }
    notes.join(", ")
}

/// How far evidence stands from the left.
const INDENT: usize = 4;

/// Lines of whole words, none wider than `width` unless a word is.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.width() + 1 + word.width() <= width) {
            Some(line) => *line += &format!(" {word}"),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A limit in a line.
pub(super) fn limit(limit: &LimitInfo, now: u64) -> String {
    let of = if limit.key.is_empty() { "the account" } else { limit.key.as_str() };
    let reason = limit.reason.replace('_', " ");
    let until = words::until(now, limit.until);
    format!("{reason} of {of}, ends {until} (by {}, {})", limit.source, words::ago(now, limit.since))
}

fn name(account: &AccountLabel) -> &str {
    account.label.as_deref().unwrap_or(&account.id)
}

fn candidate_name(one: &CandidateInfo) -> &str {
    one.label.as_deref().or(one.email.as_deref()).unwrap_or(&one.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Tier;
    use crate::protocol::RequestInfo;

    const NOW: u64 = 1_790_000_000_000;

    fn label(label: &str) -> AccountLabel {
        AccountLabel { id: "ac_1".into(), label: Some(label.into()) }
    }

    fn candidate(name: &str) -> CandidateInfo {
        CandidateInfo {
            id: "ac_1".into(),
            label: Some(name.into()),
            email: None,
            rank: None,
            why: None,
            until: None,
            note: None,
            limits: Vec::new(),
            pool: None,
            leases: 0,
            capacity: 1,
            priority: 0,
            tier: Tier::Pro,
            over_threshold: false,
            health: 70.0,
            tokens: 49.9,
            idle_ms: None,
            score: 640.0,
            current: false,
            used_5h: None,
            used_7d: None,
            resets_7d_at: None,
        }
    }

    fn info() -> ExplainInfo {
        let limited = CandidateInfo {
            why: Some("limited".into()),
            until: Some(NOW + 46_800_000),
            limits: vec![LimitInfo {
                key: String::new(),
                reason: "quota_exhausted".into(),
                scope: "account".into(),
                until: NOW + 46_800_000,
                source: "server".into(),
                since: NOW - 5_000,
                evidence: Some("429 rate_limit_error “This request would exceed your account's rate limit”".into()),
                link: None,
            }],
            used_5h: Some(1.0),
            ..candidate("work")
        };
        let nothing = VerdictInfo {
            outcome: "grant".into(),
            account: Some(label("home")),
            by: Some("session".into()),
            kind: None,
            until: None,
            message: None,
            hint: None,
        };
        ExplainInfo {
            subject: "lease".into(),
            request: RequestInfo {
                provider: "anthropic".into(),
                model: Some("claude-sonnet-4-5".into()),
                pool: None,
                quota_key: "claude".into(),
                session: Some("s1".into()),
                label: None,
                agent: None,
                account: None,
            },
            decided: Some(DecidedInfo {
                at: NOW - 4_000,
                lease: Some("ls_1".into()),
                fence: Some(7),
                held: true,
                account: Some(label("home")),
                by: Some("strategy".into()),
                moved_from: Some(label("work")),
                moved_because: Some("quota_exhausted".into()),
                kind: None,
                message: None,
            }),
            account: None,
            limits: Vec::new(),
            now: nothing,
            strategy: "hybrid".into(),
            mode: "balance".into(),
            candidates: vec![
                CandidateInfo { rank: Some(1), used_5h: Some(0.2), current: true, leases: 1, ..candidate("home") },
                limited,
            ],
        }
    }

    #[test]
    fn a_decision_is_told_from_its_beginning_to_now() {
        assert_eq!(
            text(&info(), NOW, &Output::plain(80)),
            "granted 4 s ago: claude-sonnet-4-5 of anthropic for session s1\n\
             home was chosen: fewest leases per capacity, priority, then hybrid\n\
             it came from work: quota exhausted\n\
             the same request now: home, its conversation lives there\n\
             \n\
             #  ACCOUNT  LEASES  HEALTH  TOKENS  SCORE     5H  NOTES\n\
             1  home        1/1      70      49    640   20 %  current\n\
             \u{20}  work        0/1      70      49    640  100 %  limited, free in 13 h\n\
             \u{20} quota exhausted of the account, ends in 13 h (by server, 5 s ago)\n\
             \u{20}   429 rate_limit_error “This request would exceed your account's rate limit”\n"
        );
    }

    #[test]
    fn however_much_there_is_to_say_it_fits() {
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
