//! `events`: recent events, and new ones as they happen.

use clap::Args;

use super::history::filter::since_time;
use crate::cli::ui::{self, Output, Tint, clean, format};
use crate::cli::{context::Context, error::CliError};
use crate::client::ClientError;
use crate::daemon::{DEFAULT_KINDS, KINDS, REPLAY_END};
use crate::protocol::{EventInfo, HistoryParams, SubscribeParams};
use crate::visible::escape_json;

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Print new events as they happen
    #[arg(long, short)]
    follow: bool,
    /// Print the kept events from then on, also of before the daemon was started: 2h, 01:30 or 2026-11-30
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    since: Option<String>,
    /// Print events of this kind only; may be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = KINDS)]
    kinds: Vec<String>,
    /// Print grants and ends of leases for single requests as well; on a terminal also readings of usage, and the end and
    /// the grant that a switch consists of
    #[arg(long, conflicts_with = "kinds")]
    all: bool,
}

/// Prints events: text on a terminal, else JSON lines.
pub(super) fn execute(options: EventsArgs, context: &Context) -> Result<(), CliError> {
    let output = &context.output;
    let as_json = output.json || !output.terminal;
    let mut lines = EventLines { all: options.all || !options.kinds.is_empty(), ..EventLines::default() };
    let mut seen = false;
    let mut print = |event: &EventInfo| -> Result<(), CliError> {
        if as_json {
            seen = true;
            let line = serde_json::to_string(event).map_err(|error| CliError::internal(error.to_string()))?;
            output.text(&(escape_json(&line) + "\n"))?;
        } else if let Some(line) = lines.line(event, format::now(), output) {
            seen = true;
            output.text(&line)?;
        }
        Ok(())
    };
    if let Some(since) = &options.since {
        for event in kept(since, &options.kinds, context)?.iter().rev() {
            print(event)?;
        }
        if !seen && !as_json {
            output.note("no events are kept of this time");
        }
        return Ok(());
    }
    let client = context.connect()?;
    let kinds = match options.all {
        true => [DEFAULT_KINDS, "lease.granted", "lease.ended"].map(str::to_owned).to_vec(),
        false => options.kinds,
    };
    for event in client.subscribe(SubscribeParams { kinds, recent: true })? {
        let event = match event {
            Ok(event) => event,
            // the daemon has ended
            Err(ClientError::Lost(_)) if options.follow => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if event.kind == REPLAY_END {
            if options.follow {
                continue;
            }
            break;
        }
        print(&event)?;
    }
    if !seen && !as_json {
        output.note("no events since the daemon was started");
    }
    Ok(())
}

/// The events that are kept since this time, the newest first.
fn kept(since: &str, kinds: &[String], context: &Context) -> Result<Vec<EventInfo>, CliError> {
    let since = since_time(since, format::now())?;
    let mut params = HistoryParams {
        of: Some("events".to_owned()),
        since: Some(since),
        kinds: kinds.to_vec(),
        limit: Some(1000),
        ..HistoryParams::default()
    };
    let mut events = Vec::new();
    loop {
        let page = context.ask(|client| client.history(params.clone()))?;
        events.extend(page.events);
        match page.next {
            Some(next) => params.before = Some(next),
            None => return Ok(events),
        }
    }
}

/// Events as lines for people.
#[derive(Default)]
struct EventLines {
    /// Print every event.
    all: bool,
    /// The lease of the last switch: its grant is part of the switch.
    moved: Option<u64>,
    /// The day of the last line.
    day: Option<String>,
}

impl EventLines {
    /// The line of an event, below the date when that is another one; `None` for what only `--all` prints.
    fn line(&mut self, event: &EventInfo, now: u64, output: &Output) -> Option<String> {
        let is_part_of_switch = match event.kind.as_str() {
            "lease.granted" => event.fence.is_some() && event.fence == self.moved,
            "lease.ended" => event.reason.as_deref() == Some("switched"),
            _ => false,
        };
        if event.kind == "lease.moved" {
            self.moved = event.fence;
        }
        if !self.all && (is_part_of_switch || event.kind == "usage.updated") {
            return None;
        }
        let (tint, text) = sentence(event, now);
        let mut line = String::new();
        let day = format::day(event.at);
        // the first line needs no date if it is of today
        if *self.day.get_or_insert_with(|| format::day(now)) != day {
            line += &format!("{}\n", output.tint(Tint::Faint, &day));
            self.day = Some(day);
        }
        let when = output.tint(Tint::Faint, &format::clock_with_seconds(event.at));
        Some(line + &output.hanging(&format!("{when}  "), &output.tint(tint, &clean(&text))))
    }
}

/// What happened, as a person would write it.
fn sentence(event: &EventInfo, now: u64) -> (Tint, String) {
    let account = event.account.as_ref().map_or("an account", ui::account::label);
    let holder = holder(event);
    let reason = event.reason.as_deref().unwrap_or_default();
    let key = event.key.as_deref().unwrap_or_default();
    match event.kind.as_str() {
        "lease.granted" => {
            let model = event.model.as_ref().map(|model| format!(" for {model}")).unwrap_or_default();
            (Tint::Good, format!("{holder}: on {account}{model}"))
        }
        "lease.ended" => (Tint::Faint, format!("{holder}: no longer on {account}, {}", ending(reason))),
        "lease.revoked" => (Tint::Warn, format!("{holder}: no longer on {account}, which was removed")),
        "lease.moved" => {
            let from = event.from.as_ref().map_or("an account", ui::account::label);
            (Tint::Warn, format!("{holder}: {from} → {account}, {}", cause(event, from, now)))
        }
        "account.limited" => (Tint::Warn, limited(event, account, now)),
        "account.ready" => {
            let of = quota(key).map(|key| format!(" for {key}")).unwrap_or_default();
            (Tint::Good, format!("{account} can serve again{of}"))
        }
        "account.changed" => match event.state.as_deref() {
            None => (Tint::Faint, format!("{account} was removed")),
            Some("ready") => (Tint::Good, format!("{account} was added or changed, and is ready")),
            Some(state @ ("needs_login" | "needs_verification" | "cannot_renew")) => {
                (Tint::Bad, format!("{account}: {}", format::spaced(state)))
            }
            Some(state) => (Tint::Faint, format!("{account} was changed: {}", format::spaced(state))),
        },
        "account.reset" => {
            let what = event.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            (Tint::Good, format!("{account}: a banked limit reset was used{what}"))
        }
        "usage.updated" => (Tint::Faint, format!("{account}: usage was read")),
        "queue.changed" => match event.queue {
            None | Some(0) => (Tint::Faint, "no request waits".to_owned()),
            Some(1) => (Tint::Warn, "1 request waits for an account".to_owned()),
            Some(number) => (Tint::Warn, format!("{number} requests wait for an account")),
        },
        "config.reloaded" => (Tint::Faint, "the configuration was reloaded".to_owned()),
        "config.rejected" => (Tint::Bad, format!("the configuration was rejected: {reason}")),
        "key.created" => (Tint::Faint, format!("the gateway key {} was created", gateway_key(event))),
        "key.revoked" => (Tint::Warn, format!("the gateway key {} was revoked", gateway_key(event))),
        // of a newer daemon
        other => (Tint::Faint, format!("{}: {account}", other.replace('.', " "))),
    }
}

/// `claude 1883`: the agent, else the program, and its process.
fn holder(event: &EventInfo) -> String {
    let pid = event.holder.as_ref().map(|holder| holder.pid);
    let program = event.holder.as_ref().and_then(|holder| holder.program.as_deref());
    match (event.agent.as_deref().or(program), pid) {
        (Some(name), Some(pid)) => format!("{name} {pid}"),
        (Some(name), None) => name.to_owned(),
        (None, Some(pid)) => format!("process {pid}"),
        (None, None) => event.label.clone().unwrap_or_else(|| "a lease".to_owned()),
    }
}

/// Why a lease has ended.
fn ending(reason: &str) -> String {
    match reason {
        "released" => "released".to_owned(),
        "connection_closed" => "its connection was closed".to_owned(),
        "process_ended" => "its process ended".to_owned(),
        "expired" => "its time is over".to_owned(),
        "switched" => "it moves to another account".to_owned(),
        other => format::spaced(other),
    }
}

/// `work limited until 17:06, in 76 s`: why a lease has left an account.
fn cause(event: &EventInfo, from: &str, now: u64) -> String {
    let until = event.until.map(|until| format!(" {}", until_words(event.at, until, now))).unwrap_or_default();
    match event.reason.as_deref().unwrap_or_default() {
        "requested" => "as requested".to_owned(),
        "turn" => "the accounts take turns".to_owned(),
        "overage" => format!("the plan of {from} is used up"),
        reason @ ("disabled" | "needs_login" | "needs_verification" | "cannot_renew" | "waiting_for_token") => {
            format!("{from} {}{until}", format::spaced(reason))
        }
        "limited" => format!("{from} limited{until}"),
        "lacks_model" => format!("{from} lacks the model"),
        reason if event.until.is_none() => format!("{from}: {}", format::reason(reason)),
        reason => {
            let scope = event.scope.as_deref().unwrap_or_default();
            let model = ui::account::missing_model(scope, reason, event.key.as_deref().unwrap_or_default());
            match model {
                Some(model) => format!("{from} lacks {model}"),
                None if ui::account::is_denial(scope, reason) => format!("{from} refused{until}"),
                None => format!("{from} limited{until}"),
            }
        }
    }
}

/// `work limited for opus until 17:06, in 76 s: rate limit`
fn limited(event: &EventInfo, account: &str, now: u64) -> String {
    let (scope, reason) = (event.scope.as_deref().unwrap_or_default(), event.reason.as_deref().unwrap_or_default());
    let key = event.key.as_deref().unwrap_or_default();
    let until = event.until.map(|until| format!(" {}", until_words(event.at, until, now))).unwrap_or_default();
    if let Some(model) = ui::account::missing_model(scope, reason, key) {
        return format!("{account} lacks {model}, asked again{}", until.replacen(" until", " at", 1));
    }
    let of = quota(key).map(|key| format!(" for {key}")).unwrap_or_default();
    let what = if ui::account::is_denial(scope, reason) { "refused by its provider" } else { "limited" };
    format!("{account} {what}{of}{until}: {}", format::reason(reason))
}

/// `until 17:06, in 76 s`: the span as it was when it happened, unless it is still ahead.
fn until_words(at: u64, until: u64, now: u64) -> String {
    let seen = if until > now { now } else { at };
    if until > seen { format::until_clock(seen, until) } else { format!("until {}", format::clock(until)) }
}

/// The model of a limit, else its quota.
fn quota(key: &str) -> Option<&str> {
    Some(key.split_once(':').map_or(key, |(_, model)| model)).filter(|key| !key.is_empty())
}

/// The label of a gateway key, else its id.
fn gateway_key(event: &EventInfo) -> String {
    event.label.clone().or_else(|| event.key.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{AccountLabel, HolderInfo};

    const AT: u64 = 1_790_000_000_000;

    fn account(label: &str) -> Option<AccountLabel> {
        Some(AccountLabel { id: "ac_1".into(), label: Some(label.into()), email: None })
    }

    fn event(kind: &str) -> EventInfo {
        EventInfo {
            kind: kind.into(),
            at: AT,
            account: account("work"),
            agent: Some("claude".into()),
            holder: Some(HolderInfo { pid: 1883, program: Some("node".into()) }),
            fence: Some(7),
            ..EventInfo::default()
        }
    }

    fn lines(events: &[EventInfo], all: bool) -> Vec<String> {
        let mut lines = EventLines { all, ..EventLines::default() };
        let output = Output::plain(80);
        let text: String = events.iter().filter_map(|event| lines.line(event, AT, &output)).collect();
        text.lines().map(str::to_owned).collect()
    }

    fn limit(kind: &str) -> EventInfo {
        EventInfo {
            key: Some("claude:claude-opus-4-1".into()),
            reason: Some("rate_limit_exceeded".into()),
            scope: Some("model".into()),
            until: Some(AT + 76_000),
            status: Some(429),
            ..event(kind)
        }
    }

    #[test]
    fn a_switch_is_one_line_with_the_holder_both_accounts_and_the_cause() {
        let ended = EventInfo { fence: Some(6), reason: Some("switched".into()), ..event("lease.ended") };
        let moved = EventInfo { from: account("work"), account: account("home"), ..limit("lease.moved") };
        let granted = EventInfo { account: account("home"), ..event("lease.granted") };
        let other = EventInfo { fence: Some(8), agent: None, holder: None, label: Some("l".into()), ..granted.clone() };
        let events = [limit("account.limited"), ended, moved, granted, other];
        let until = format::until_clock(AT, AT + 76_000);
        let clock = format::clock_with_seconds(AT);
        assert_eq!(
            lines(&events, false),
            [
                format!("{clock}  work limited for claude-opus-4-1 {until}: rate limit"),
                format!("{clock}  claude 1883: work → home, work limited {until}"),
                format!("{clock}  l: on home"),
            ]
        );
        assert_eq!(lines(&events, true).len(), 5, "with the parts of the switch");
    }

    #[test]
    fn each_event_is_a_line_that_a_person_would_write() {
        let changed = |state: Option<&str>| EventInfo { state: state.map(Into::into), ..event("account.changed") };
        let moved = |reason: &str| EventInfo {
            from: account("work"),
            account: account("home"),
            reason: Some(reason.into()),
            ..event("lease.moved")
        };
        for (event, expected) in [
            (
                EventInfo { reason: Some("process_ended".into()), ..event("lease.ended") },
                "claude 1883: no longer on work, its process ended",
            ),
            (event("lease.revoked"), "claude 1883: no longer on work, which was removed"),
            (moved("disabled"), "claude 1883: work → home, work disabled"),
            (moved("requested"), "claude 1883: work → home, as requested"),
            (moved("server_error"), "claude 1883: work → home, work: server error"),
            (event("account.ready"), "work can serve again"),
            (event("account.reset"), "work: a banked limit reset was used"),
            (changed(None), "work was removed"),
            (changed(Some("needs_login")), "work: needs login"),
            (changed(Some("disabled")), "work was changed: disabled"),
            (EventInfo { queue: Some(2), ..event("queue.changed") }, "2 requests wait for an account"),
            (EventInfo { queue: Some(0), ..event("queue.changed") }, "no request waits"),
            (event("config.reloaded"), "the configuration was reloaded"),
            (
                EventInfo { label: Some("edi\ntor".into()), ..event("key.created") },
                "the gateway key edi\\ntor was created",
            ),
        ] {
            assert_eq!(lines(&[event], false), [format!("{}  {expected}", format::clock_with_seconds(AT))]);
        }
        assert_eq!(lines(&[event("usage.updated")], false), Vec::<String>::new());
        assert_eq!(lines(&[event("usage.updated")], true).len(), 1);
    }

    #[test]
    fn the_date_is_printed_where_it_changes() {
        let old = EventInfo { at: AT - 86_400_000, ..event("config.reloaded") };
        let lines = lines(&[old, event("config.reloaded")], false);
        assert_eq!(
            (lines.len(), lines[0] == format::day(AT - 86_400_000), lines[2] == format::day(AT)),
            (4, true, true)
        );
    }

    #[test]
    fn a_refusal_and_a_missing_model_are_no_quota() {
        let of = |scope: &str, key: &str| EventInfo {
            scope: Some(scope.into()),
            key: Some(key.into()),
            reason: Some("forbidden".into()),
            ..event("account.limited")
        };
        assert_eq!(limited(&of("account", ""), "work", AT), "work refused by its provider: forbidden");
        assert_eq!(limited(&of("model", "claude:opus"), "work", AT), "work lacks opus, asked again");
    }
}
