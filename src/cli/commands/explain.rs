//! `explain`: why an account was chosen, and why the others were not.

use clap::Args;

use crate::cli::ui::{self, Column, Output, Table, Tint, clean, format};
use crate::cli::{context::Context, error::CliError};
use crate::pool::spoken;
use crate::protocol::{CandidateInfo, DecidedInfo, ExplainInfo, ExplainParams, LimitInfo, VerdictInfo};

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
}

pub(super) fn execute(options: ExplainArgs, context: &Context) -> Result<(), CliError> {
    let what = ExplainParams { what: Some(options.what), model: options.model };
    let info = context.ask(|client| client.explain(what.clone()))?;
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
        return output.prose(&format!("{refused} {ago}: {wanted}\n{}\n", clean(message)));
    };
    let held = if decided.held { "" } else { ", since ended" };
    let chosen = output.tint(Tint::Strong, &clean(ui::account::label(account)));
    let why = why(decided.by.as_deref().unwrap_or_default(), &info.strategy);
    let mut text = format!("granted {ago}{held}: {wanted}\n{chosen} was chosen: {why}\n");
    if let (Some(from), Some(reason)) = (&decided.moved_from, &decided.moved_because) {
        text += &format!("the lease moved from {}: {}\n", clean(ui::account::label(from)), format::spaced(reason));
    }
    output.prose(&text)
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
    parts.extend(request.account.as_ref().map(|account| format!("on {account} only")));
    parts.extend(request.session.as_ref().map(|session| format!("for session {session}")));
    parts.extend(request.label.as_ref().map(|label| format!("({label})")));
    clean(&parts.join(" "))
}

fn why(by: &str, strategy: &str) -> String {
    match by {
        "account" => "the request named it".to_owned(),
        "session" => "its conversation is on this account".to_owned(),
        "preferred" => "the configuration prefers it".to_owned(),
        "reuse" => "its process used it just before".to_owned(),
        "pid_offset" => "chosen by the process id".to_owned(),
        "strategy" => format!("fewest leases per capacity, priority, then {strategy}"),
        "current" => "the current account, with its other quota".to_owned(),
        "same_account" => "it had the lease before, and has another quota".to_owned(),
        "resumed" => "it had the lease before the daemon was restarted".to_owned(),
        other => format::spaced(other),
    }
}

fn now_text(info: &ExplainInfo, now: u64) -> String {
    let VerdictInfo { outcome, account, by, kind, until, message, .. } = &info.now;
    let kind = kind.as_ref().map(|kind| format::spaced(kind.name())).unwrap_or_default();
    match (outcome.as_str(), account) {
        ("grant", Some(account)) => {
            let lacks = |one: &CandidateInfo| one.id == account.id && one.why.as_deref() == Some(LACKS_MODEL);
            let why = match info.candidates.iter().any(lacks) {
                true => "to ask again: no account is known to have the model".to_owned(),
                false => why(by.as_deref().unwrap_or_default(), &info.strategy),
            };
            format!("{}, {why}", clean(ui::account::label(account)))
        }
        ("wait", _) => match until {
            Some(until) => format!("waits ({kind}), served {} at the earliest", format::until(now, *until)),
            None => format!("waits ({kind}) until an account is free"),
        },
        _ => format!("refused ({kind}): {}", clean(message.as_deref().unwrap_or_default())),
    }
}

/// Every account that could have been chosen, with its figures and what excludes it.
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
        let name = one.label.as_ref().or(one.email.as_ref()).unwrap_or(&one.id);
        table.row(vec![
            (one.rank.map(|rank| rank.to_string()).unwrap_or_default(), None),
            (name.clone(), Some(tint)),
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
        let then = if why == LACKS_MODEL { "asked again" } else { "free" };
        let until = one.until.map(|until| format!(", {then} {}", format::until(now, until))).unwrap_or_default();
        return format!("{}{until}", format::spaced(why));
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
                "moved_from": label("work"), "moved_because": "quota_exhausted"
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
             home was chosen: fewest leases per capacity, priority, then hybrid\n\
             the lease moved from work: quota exhausted\n\
             the same request now: home, its conversation is on this account\n\
             \n\
             #  ACCOUNT  LEASES  HEALTH  TOKENS  SCORE     5H  NOTES\n\
             1  home        1/1      70      49    640   20 %  current\n\
             \u{20}  work        0/1      70      49    640  100 %  limited, free in 13 h\n\
             \u{20} quota exhausted of the account until Tue 03:13, in 13 h (stated 5 s ago)\n\
             \u{20}   429 rate_limit_error “This request would exceed your account's rate limit”\n"
        );
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
