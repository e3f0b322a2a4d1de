//! Leases as text: the table of `leases` and `status`, one lease in detail, and how long the wait for one will be.

use super::output::{Output, Tint, clean};
use super::table::{Column, Table};
use super::{account, format};
use crate::protocol::{DaemonStatus, HolderInfo, LeaseInfo, LeaseRow};

/// The letters of a lease id that are always shown: the account's part and some of the rest.
const SHOWN: usize = 14;
const NAMES: usize = 9;
/// No more holders are named in a sentence.
const MOST_NAMED: usize = 8;

/// The leases with their ids, for commands that take one.
pub(crate) fn table(leases: &[LeaseRow], now: u64, output: &Output) -> String {
    rows(leases, true, now, output)
}

/// The leases by holder.
pub(crate) fn by_holder(leases: &[LeaseRow], now: u64, output: &Output) -> String {
    let mut leases = with_subagents_together(leases);
    let place = |row: &LeaseRow| {
        let holder = row.holder.clone().unwrap_or_default();
        (row.holder.is_none(), holder.program, holder.pid, row.granted_at)
    };
    leases.sort_by_key(place);
    rows(&leases, false, now, output)
}

/// One row for all sub-agents of a holder on one account: there may be many.
fn with_subagents_together(leases: &[LeaseRow]) -> Vec<LeaseRow> {
    let mut rows: Vec<LeaseRow> = Vec::new();
    let mut counts: Vec<(usize, usize)> = Vec::new();
    for lease in leases {
        let is_same = |row: &LeaseRow| {
            row.subagent.is_some()
                && row.holder == lease.holder
                && row.account == lease.account
                && row.bind == lease.bind
        };
        let same = rows.iter().position(is_same).filter(|_| lease.subagent.is_some());
        match same {
            Some(at) => counts.iter_mut().filter(|(of, _)| *of == at).for_each(|(_, count)| *count += 1),
            None => {
                counts.extend(lease.subagent.is_some().then_some((rows.len(), 1)));
                rows.push(lease.clone());
            }
        }
    }
    for (at, count) in counts {
        rows[at].label = Some(if count == 1 { "1 sub-agent".to_owned() } else { format!("{count} sub-agents") });
        rows[at].expires_at = rows[at].expires_at.filter(|_| count == 1);
    }
    rows
}

fn rows(leases: &[LeaseRow], with_ids: bool, now: u64, output: &Output) -> String {
    let mut table = Table::new(&[
        Column::name("LEASE"),
        Column::name("HOLDER"),
        Column::name("ACCOUNT"),
        Column::name("FOR").left_out(3),
        Column::name("DIRECTORY").left_out(4),
        Column::fixed("SINCE").left_out(1),
        Column::fixed("ENDS").left_out(2),
    ]);
    let shown = shown_length(leases);
    for row in leases {
        let subagent = row.subagent.as_ref().filter(|_| with_ids).map(|id| format!("sub-agent {id}"));
        let named = subagent.as_ref().or(row.label.as_ref()).or(row.session.as_ref());
        let what = named.or(row.model.as_ref()).unwrap_or(&row.provider);
        table.row(vec![
            (if with_ids { row.lease.chars().take(shown).collect() } else { String::new() }, None),
            (holder(row), None),
            (account::label(&row.account).to_owned(), Some(Tint::Strong)),
            (what.clone(), None),
            (row.directory.clone().unwrap_or_default(), None),
            (format::ago(now, row.granted_at), Some(Tint::Faint)),
            (row.expires_at.map(|at| format::clock_and_span(now, at)).unwrap_or_default(), None),
        ]);
    }
    table.render(output)
}

/// The program that holds a lease, with its process id: `claude 1883`.
pub(crate) fn holder(row: &LeaseRow) -> String {
    match (&row.holder, row.bind.as_str()) {
        // the process that acquired it may have ended
        (_, "ttl") => "no process".to_owned(),
        (None, _) => "ended".to_owned(),
        (Some(HolderInfo { pid, program: Some(program) }), _) => format!("{program} {pid}"),
        (Some(HolderInfo { pid, program: None }), _) => format!("process {pid}"),
    }
}

/// How many letters of the ids make them distinct.
fn shown_length(leases: &[LeaseRow]) -> usize {
    let common = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let mut ids: Vec<&str> = leases.iter().map(|row| row.lease.as_str()).collect();
    ids.sort_unstable();
    ids.windows(2).map(|pair| common(pair[0], pair[1]) + 1).max().unwrap_or(0).max(SHOWN)
}

/// Who holds leases: `3 agents hold leases: claude (pid 123, work), …`.
pub(crate) fn holders(leases: &[LeaseRow]) -> String {
    let one = |row: &LeaseRow| {
        let account = account::label(&row.account);
        let name = row.label.as_ref().or(row.session.as_ref());
        match (&row.holder, row.bind.as_str()) {
            (Some(HolderInfo { pid, program }), "pid" | "connection") => {
                let program = program.as_deref().unwrap_or("a process");
                format!("{program} (pid {pid}, {account})")
            }
            _ => format!("{} ({account})", name.map_or("a lease without a process", String::as_str)),
        }
    };
    // they end with their agents
    let leases: Vec<&LeaseRow> = leases.iter().filter(|row| row.subagent.is_none()).collect();
    let mut named: Vec<String> = leases.iter().copied().take(MOST_NAMED).map(|row| clean(&one(row))).collect();
    if leases.len() > MOST_NAMED {
        named.push(format!("and {} more", leases.len() - MOST_NAMED));
    }
    let many = match leases.len() {
        1 => "1 agent holds a lease".to_owned(),
        many => format!("{many} agents hold leases"),
    };
    format!("{many}: {}", named.join(", "))
}

/// One lease; `bound_to` names what else ends it.
pub(crate) fn describe(lease: &LeaseInfo<'_>, bound_to: &str, now: u64, output: &Output) -> String {
    let account = &lease.account;
    let name = account.label.as_ref().or(account.email.as_ref()).unwrap_or(&account.id);
    let time = lease.expires_at.map(|at| format!("ends {}", format::clock_and_span(now, at)));
    let life: Vec<&str> = time.as_deref().into_iter().chain([bound_to]).filter(|part| !part.is_empty()).collect();
    let shared = match lease.shared_with {
        0 => String::new(),
        others => format!(", shared with {others}"),
    };
    output.field("lease", NAMES, &lease.lease)
        + &output.field("account", NAMES, &format!("{name} ({}{shared})", lease.provider))
        + &output.field("life", NAMES, &clean(&life.join(", ")))
}

/// How long the wait for an account will be, for the user.
pub(crate) fn waiting_text(provider: &str, status: &DaemonStatus, now: u64) -> String {
    let ours: Vec<_> = status.queue.iter().filter(|row| row.provider == provider).collect();
    let served = match ours.iter().find_map(|row| row.eta_at) {
        Some(at) => format!("the next is expected {}", format::clock_and_span(now, at)),
        None => "served when one is free".to_owned(),
    };
    let others = match ours.len() {
        0 | 1 => String::new(),
        all => format!(", {all} requests wait"),
    };
    format!("lessor: waiting for an account of {}{others}; {served} (Ctrl-C cancels)", clean(provider))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::AccountTotals;
    use unicode_width::UnicodeWidthStr;

    fn row(id: &str) -> LeaseRow {
        let row = serde_json::json!({
            "lease": id, "fence": 1, "account": { "id": "ac_1a2b3c4d", "label": "work" }, "provider": "anthropic",
            "model": "claude-sonnet-4-5", "bind": "pid", "holder": { "pid": 42, "program": "claude" },
            "granted_at": 0, "expires_at": 700_000
        });
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn the_table_shows_enough_of_each_id_to_be_distinct() {
        let first = format!("ls_{}x{}", "0".repeat(20), "1".repeat(40));
        let second = format!("ls_{}y{}", "0".repeat(20), "2".repeat(40));
        assert_eq!(shown_length(&[row(&first)]), SHOWN);
        assert_eq!(shown_length(&[row(&first), row(&second)]), 24);
        let mut long = row(&first);
        long.label = Some("漢字".repeat(30));
        long.account.label = Some("l".repeat(100));
        let text = table(&[long, row(&second)], 60_000, &Output::plain(80));
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        assert!(text.contains("claude 42") && text.contains("work"), "{text}");
    }

    #[test]
    fn the_sub_agents_of_an_agent_on_one_account_are_one_row() {
        let of = |id: &str, account: &str| {
            let mut row = row(id);
            (row.subagent, row.account.id) = (Some(id.to_owned()), account.to_owned());
            row.account.label = Some(account.to_owned());
            row
        };
        let leases = [row("ls_0"), of("a", "home"), of("b", "home"), of("c", "spare")];
        let text = by_holder(&leases, 60_000, &Output::plain(80));
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.contains("2 sub-agents") && text.contains("1 sub-agent "), "{text}");
        let text = table(&leases, 60_000, &Output::plain(80));
        assert!(text.contains("sub-agent a") && text.lines().count() == 5, "{text}");
        assert!(holders(&leases).starts_with("1 agent holds a lease"));
    }

    #[test]
    fn holders_are_named_with_their_process_and_account() {
        let mut timed = row("ls_2");
        (timed.bind, timed.label) = ("ttl".to_owned(), Some("nightly".to_owned()));
        assert_eq!(holders(&[row("ls_1")]), "1 agent holds a lease: claude (pid 42, work)");
        assert_eq!(holders(&[row("ls_1"), timed]), "2 agents hold leases: claude (pid 42, work), nightly (work)");
        let text = holders(&vec![row("ls_1"); 11]);
        assert!(text.starts_with("11 agents hold leases: ") && text.ends_with(", and 3 more"), "{text}");
    }

    #[test]
    fn a_waiting_user_sees_the_expected_time() {
        let row = |provider: &str, eta_at: Option<u64>| serde_json::json!({ "position": 1, "provider": provider, "eta_at": eta_at });
        let status = serde_json::json!({
            "version": "", "pid": 1, "uptime_ms": 0, "socket": "", "leases": 0, "warnings": [],
            "config": { "path": "", "state": "ok" }, "accounts": AccountTotals::default(),
            "queue": [row("openai", Some(9)), row("anthropic", Some(241_000)), row("anthropic", None)]
        });
        let mut status: DaemonStatus = serde_json::from_value(status).unwrap();
        let text = waiting_text("anthropic", &status, 1000);
        assert!(text.contains("2 requests wait; the next is expected 00:04, in 4 min"), "{text}");
        status.queue.truncate(1);
        assert!(waiting_text("anthropic", &status, 1000).contains("anthropic; served when one is free"));
    }
}
