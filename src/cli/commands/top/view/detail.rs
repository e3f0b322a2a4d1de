//! Everything about one row, as lines of a box.

use super::paint::columns;
use crate::cli::commands::top::cells::{Pieces, bar, for_how_long, pad, state_word, tone_of_use};
use crate::cli::commands::top::dashboard::{Dashboard, ended_at};
use crate::cli::commands::top::input::holder_text;
use crate::cli::commands::top::look::{Tone, of_state};
use crate::cli::commands::top::panel::Panel;
use crate::cli::commands::top::traffic::{agent, event_text, result, took};
use crate::cli::ui::{account, clean, format, wrap_after};
use unicode_width::UnicodeWidthStr;

use crate::protocol::{AccountInfo, AttemptRow, EventInfo, LeaseRow, QueueRow, RequestRow, UsageInfo};

/// The column of the names of fields.
const NAMES: usize = 13;
const BAR: usize = 20;

/// The title and the lines for a row; one line if it is gone.
pub(super) fn lines(dashboard: &Dashboard, panel: Panel, key: &str, width: usize) -> (String, Vec<Pieces>) {
    let row = (0..dashboard.count(panel)).find(|row| dashboard.row_key(panel, *row) == key);
    let Some(row) = row else {
        let text = "It is gone: the lease has ended, or the row is too old to be kept.";
        return (panel.title().to_owned(), vec![vec![(text.to_owned(), Tone::Plain)]]);
    };
    let mut fields = Fields { width, lines: Vec::new() };
    let title = match panel {
        Panel::Accounts => of_account(&mut fields, dashboard, &dashboard.accounts()[row]),
        Panel::Leases => of_lease(&mut fields, dashboard, &dashboard.leases()[row]),
        Panel::Queue => of_waiting(&mut fields, &dashboard.queue()[row], dashboard.now),
        Panel::Requests => of_request(&mut fields, &dashboard.requests[row].row, dashboard.now),
        Panel::Events => of_event(&mut fields, dashboard, &dashboard.events[row].row),
    };
    (title, fields.lines)
}

/// Lines of a name and a value.
struct Fields {
    width: usize,
    lines: Vec<Pieces>,
}

impl Fields {
    fn add(&mut self, name: &str, value: &str) {
        self.toned(name, value, Tone::Plain);
    }

    fn toned(&mut self, name: &str, value: &str, tone: Tone) {
        self.lines.extend(beside((&pad(name, NAMES), Tone::Faint), &clean(value), tone, self.width));
    }

    fn maybe(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.add(name, value);
        }
    }

    fn heading(&mut self, text: &str) {
        self.lines.push(Vec::new());
        self.lines.push(vec![(text.to_owned(), Tone::Strong)]);
    }
}

/// Text that wraps beside its beginning.
pub(super) fn beside(first: (&str, Tone), text: &str, tone: Tone, width: usize) -> Vec<Pieces> {
    let indent = columns(&vec![(first.0.to_owned(), first.1)]);
    let wrapped = wrap_after(first.0, text, width, indent);
    let mut lines = wrapped.lines();
    let begin: Pieces = lines.next().map_or_else(Vec::new, |line| {
        let rest = line.strip_prefix(first.0).unwrap_or_default();
        vec![(first.0.to_owned(), first.1), (rest.to_owned(), tone)]
    });
    std::iter::once(begin).chain(lines.map(|line| vec![(line.to_owned(), tone)])).collect()
}

fn of_account(fields: &mut Fields, dashboard: &Dashboard, info: &AccountInfo) -> String {
    let now = dashboard.now;
    let (mark, tone) = of_state(&info.state);
    fields.toned("state", &format!("{mark} {}", state_word(info)), tone);
    account::state_details(info).iter().for_each(|why| fields.add("", why));
    if let Some(remedy) = &info.remedy {
        fields.toned("what helps", remedy, Tone::Strong);
    }
    let plan = info.plan.as_deref().unwrap_or_else(|| account::tier(info.tier));
    let plan = if plan == "unknown" { String::new() } else { format!(", plan {plan}") };
    fields.add("provider", &format!("{} ({}{plan})", info.provider, account::kind(info.kind)));
    fields.maybe("email", info.email.as_deref());
    fields.maybe("organization", info.organization.as_deref());
    fields.add("id", &info.id);
    let requests = format::count(usize::try_from(info.in_flight).unwrap_or(usize::MAX), "request");
    fields.add("leases", &format!("{} of {}, {requests} under way", info.leases, info.capacity));
    fields.maybe("seats", account::elsewhere(info).as_deref());
    fields.maybe("account of", Some(account::sharing(info)));
    fields.add("use", &info.allowed_agents.join(", "));
    if info.priority != 0 {
        fields.add("priority", &info.priority.to_string());
    }
    if info.reserve > 0.0 {
        fields.add("reserve", &format!("{:.0} %", info.reserve * 100.0));
    }
    if info.fallback_only {
        fields.add("fallback", "only");
    }
    fields.add("last used", &format::last(now, info.last_used_at));
    if let Some(at) = info.credential_expires_at {
        fields.add("token", &format!("ends {}", format::clock_and_span(now, at)));
    }
    if !info.limits.is_empty() {
        fields.heading("LIMITS");
        for limit in &info.limits {
            fields.toned("", &account::limit(limit, now), Tone::Warn);
            limit.evidence.iter().for_each(|words| fields.toned("", &format!("“{words}”"), Tone::Faint));
        }
    }
    fields.heading("QUOTA");
    let mut windows: Vec<(String, &UsageInfo)> = Vec::new();
    for (pool, of_pool) in account::pools(info) {
        let name = |window: &UsageInfo| match pool {
            Some(pool) if pool != window.window => format!("{pool}: {}", window.window),
            _ => window.window.clone(),
        };
        windows.extend(of_pool.into_iter().map(|window| (clean(&name(window)), window)));
    }
    let names = windows.iter().map(|(name, _)| name.width()).max().unwrap_or(0).max(NAMES - 2);
    for (name, window) in &windows {
        fields.lines.push(window_line(&pad(name, names + 2), window, now, fields.width));
    }
    if let Some(why) = &info.usage_trouble {
        let next = info
            .usage_next_at
            .filter(|at| *at > now)
            .map(|at| format!("; next one at {}", format::clock_and_span(now, at)));
        fields.toned("", &format!("the last reading failed: {why}{}", next.unwrap_or_default()), Tone::Warn);
    } else if windows.is_empty() {
        fields.toned("", "no reading yet", Tone::Faint);
    }
    let held: Vec<&LeaseRow> = dashboard.leases().iter().filter(|row| row.account.id == info.id).collect();
    if !held.is_empty() {
        fields.heading("HELD BY");
        for row in held {
            fields.add("", &format!("{}, for {}", dashboard.lease_name(row), for_how_long(now, row.granted_at)));
        }
    }
    clean(account::name(info))
}

/// The bar is shorter where the name is long, so that the end of the line has room.
fn window_line(name: &str, window: &UsageInfo, now: u64, width: usize) -> Pieces {
    const BEHIND: usize = 38;
    let mut line: Pieces = vec![(name.to_owned(), Tone::Plain)];
    line.extend(bar(window.utilization, width.saturating_sub(name.width() + BEHIND).clamp(5, BAR), window.stale));
    line.push((format!(" {:>5}", account::percent(window.utilization)), tone_of_use(window)));
    if let Some(at) = window.resets_at {
        let reset = if at > now { format::clock_and_span(now, at) } else { "now".to_owned() };
        line.push((format!("  resets {reset}"), Tone::Plain));
    }
    if window.stale {
        line.push((format!("  read {}", format::ago(now, window.as_of)), Tone::Faint));
    }
    line
}

fn of_lease(fields: &mut Fields, dashboard: &Dashboard, row: &LeaseRow) -> String {
    let now = dashboard.now;
    let name = holder_text(row);
    fields.add("account", &format!("{} ({})", account::label(&row.account), row.account.id));
    fields.add("provider", &row.provider);
    fields.maybe("pool", row.pool.as_deref());
    fields.maybe("model", row.model.as_deref());
    if let Some(holder) = &row.holder {
        fields.add("process", &format!("{} {}", holder.program.as_deref().unwrap_or("pid"), holder.pid));
    }
    fields.maybe("agent", row.agent.as_deref());
    fields.maybe("directory", row.directory.as_deref());
    fields.maybe("session", row.session.as_deref());
    fields.maybe("label", row.label.as_deref());
    let since = format::day_and_clock(now, row.granted_at);
    fields.add("held", &format!("since {since}, for {}", for_how_long(now, row.granted_at)));
    let with = match row.bind.as_str() {
        "connection" => "with its connection",
        "pid" => "with its process",
        _ => "by its time",
    };
    let at = row.expires_at.map(|at| format!(", at {}", format::clock_and_span(now, at))).unwrap_or_default();
    fields.add("ends", &format!("{with}{at}"));
    fields.add("lease", &format!("{} (fence {})", row.lease, row.fence));
    clean(&name)
}

fn of_waiting(fields: &mut Fields, row: &QueueRow, now: u64) -> String {
    fields.add("provider", &row.provider);
    fields.maybe("model", row.model.as_deref());
    fields.maybe("label", row.label.as_deref());
    let at = row.eta_at.map(|at| format!("at {}", format::clock_and_span(now, at)));
    fields.add("served", at.as_deref().unwrap_or("when an account is free"));
    format!("Waiting request {}", row.position)
}

fn of_request(fields: &mut Fields, row: &RequestRow, now: u64) -> String {
    let (text, tone) = result(row);
    let why = row.reason.as_deref().map(|why| format!(": {}", format::spaced(why))).unwrap_or_default();
    fields.toned("result", &format!("{text}{why}"), tone);
    fields.add("received", &format!("{} ({})", format::clock_with_seconds(row.at), format::ago(now, row.at)));
    let first = row.first_byte_ms.map(|ms| format!(", first byte after {}", took(ms))).unwrap_or_default();
    let waited =
        if row.waited_ms == 0 { String::new() } else { format!(", waited {} for an account", took(row.waited_ms)) };
    fields.add("took", &format!("{}{first}{waited}", took(row.duration_ms)));
    fields.maybe("agent", Some(&agent(row)));
    fields.maybe("directory", row.directory.as_deref());
    fields.maybe("session", row.session.as_deref());
    fields.maybe("label", row.label.as_deref());
    fields.add("provider", &row.provider);
    fields.maybe("pool", row.pool.as_deref());
    fields.maybe("model", row.model.as_deref());
    fields.add("path", &row.path);
    if let Some(sums) = row.tokens {
        let cost = row.cost_usd.map(|cost| format!(", {cost:.4} US dollars")).unwrap_or_default();
        let text = format!("{} in ({} of them cached), {} out{cost}", sums.input, sums.cached, sums.output);
        fields.add("tokens", &text);
    }
    fields.heading("ATTEMPTS");
    if row.attempts.is_empty() {
        fields.toned("", "none: lessor answered itself", Tone::Faint);
    }
    row.attempts.iter().for_each(|attempt| of_attempt(fields, attempt, now));
    format!("Request of {}", format::clock_with_seconds(ended_at(row)))
}

fn of_attempt(fields: &mut Fields, attempt: &AttemptRow, now: u64) {
    let status = attempt.status.map_or_else(|| "no response".to_owned(), |status| status.to_string());
    let why = attempt.reason.as_deref().map(|why| format!(", {}", format::spaced(why))).unwrap_or_default();
    let of = attempt.scope.as_deref().map(|scope| format!(" of the {scope}")).unwrap_or_default();
    let until = attempt.until.map(|at| format!(", {}", format::until_clock(now, at))).unwrap_or_default();
    let after = format!("after {}", took(attempt.after_ms));
    let tone = if attempt.reason.is_some() { Tone::Warn } else { Tone::Plain };
    let text =
        format!("{}: {status}{why}{of}{until} ({})", account::label(&attempt.account), took(attempt.duration_ms));
    fields.toned(&after, &text, tone);
    attempt.evidence.iter().for_each(|words| fields.toned("", &format!("“{words}”"), Tone::Faint));
}

fn of_event(fields: &mut Fields, dashboard: &Dashboard, event: &EventInfo) -> String {
    let now = dashboard.now;
    let (_, text, tone) = event_text(event, now, &dashboard.names);
    fields.toned("", &text, tone);
    fields.add("kind", &event.kind);
    fields.add("time", &format!("{} ({})", format::clock_with_seconds(event.at), format::ago(now, event.at)));
    fields.maybe("account", event.account.as_ref().map(account::label));
    fields.maybe("from", event.from.as_ref().map(account::label));
    fields.maybe("provider", event.provider.as_deref());
    fields.maybe("pool", event.pool.as_deref());
    fields.maybe("model", event.model.as_deref());
    fields.maybe("quota", event.key.as_deref());
    fields.maybe("reason", event.reason.as_deref().map(format::spaced).as_deref());
    fields.maybe("applies to", event.scope.as_deref());
    fields.maybe("until", event.until.map(|at| format::clock_and_span(now, at)).as_deref());
    fields.maybe("status", event.status.map(|status| status.to_string()).as_deref());
    fields.maybe("stated wait", event.stated_wait_ms.map(took).as_deref());
    fields.maybe("words", event.evidence.as_deref());
    if let Some(holder) = &event.holder {
        fields.add("process", &format!("{} {}", holder.program.as_deref().unwrap_or("pid"), holder.pid));
    }
    fields.maybe("agent", event.agent.as_deref());
    fields.maybe("label", event.label.as_deref());
    fields.maybe("session", event.session.as_deref());
    fields.maybe("lease", event.lease.as_deref());
    "Event".to_owned()
}
