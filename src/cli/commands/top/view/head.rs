//! The lines above the lists: what the next agent would get, and how busy the last hour was.

use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use unicode_width::UnicodeWidthStr;

use super::paint::{Canvas, columns};
use crate::cli::commands::top::cells::{Pieces, for_how_long};
use crate::cli::commands::top::dashboard::{Dashboard, Gone, Hour};
use crate::cli::commands::top::look::Tone;
use crate::cli::ui::{account, clean, cut, format};
use crate::protocol::{AccountLabel, DaemonStatus, HistoryInfo, PoolSummaryInfo, ProviderInfo};

const MINUTES: usize = 60;
const MINUTE_MS: u64 = 60_000;
/// From this height on there is room for more lines.
const TALL: u16 = 34;

pub(super) fn height(dashboard: &Dashboard, area: Rect) -> u16 {
    let lines = answer(dashboard, area).len();
    2 + u16::try_from(lines).unwrap_or(1) + u16::from(area.height >= TALL)
}

pub(super) fn draw(dashboard: &Dashboard, canvas: &mut Canvas<'_>, whole: Rect) {
    title(dashboard, canvas);
    let lines = answer(dashboard, whole);
    for (number, line) in lines.iter().enumerate() {
        canvas.pieces(1, number + 1, canvas.width() - 2, line);
        if dashboard.gone.is_some() {
            canvas.highlight(number + 1, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
    hour(dashboard, canvas, lines.len() + 1);
}

/// Who uses lessor now, and the time.
fn title(dashboard: &Dashboard, canvas: &mut Canvas<'_>) {
    let width = canvas.width();
    let mut left: Pieces = vec![("lessor top".to_owned(), Tone::Accent)];
    if !dashboard.filter.is_empty() {
        left.push((format!("  filter: {}", cut(&clean(&dashboard.filter), 20)), Tone::Accent));
    }
    if let Some(state) = &dashboard.state {
        let leases = format::count(state.leases.len(), "lease");
        let requests = format::count(usize::try_from(state.status.in_flight).unwrap_or(usize::MAX), "request");
        let text = format!("  {leases} · {requests} under way · {} waiting", state.status.queue.len());
        left.push((text, Tone::Plain));
        left.extend(state.status.pool.as_ref().map(pool_text));
        left.extend(guests(&state.status));
    }
    let clock = format::clock_with_seconds(dashboard.now);
    canvas.pieces(1, 0, width.saturating_sub(clock.width() + 4), &left);
    canvas.piece(width - clock.width() - 1, 0, &clock, Tone::Strong.style());
}

/// How the shared pool is.
fn pool_text(pool: &PoolSummaryInfo) -> (String, Tone) {
    match pool.state.as_str() {
        "connected" => (format!(" · pool: {} of {} hosts online", pool.online, pool.hosts), Tone::Plain),
        "away" => (" · pool: database away".to_owned(), Tone::Bad),
        other => (format!(" · pool: {}", clean(&format::spaced(other))), Tone::Warn),
    }
}

/// The host whose accounts are used here, or the guests that use those of here.
fn guests(status: &DaemonStatus) -> Option<(String, Tone)> {
    if let Some(host) = &status.host {
        let tone = if host.state == "up" { Tone::Plain } else { Tone::Bad };
        return Some((format!(" · host {} {}", cut(&clean(&host.name), 24), host.state), tone));
    }
    let names: Vec<String> = status.guests.iter().map(|guest| clean(&guest.name)).collect();
    (!names.is_empty()).then(|| (format!(" · guests: {}", cut(&names.join(", "), 40)), Tone::Plain))
}

/// The lines that say whether an agent can start now: one text for each provider, several in a line where they fit.
fn answer(dashboard: &Dashboard, whole: Rect) -> Vec<Pieces> {
    const BETWEEN: usize = 4;
    let (width, most) = (usize::from(whole.width) - 2, if whole.height >= TALL { 5 } else { 2 });
    if let Some(gone) = &dashboard.gone {
        return gone_lines(gone, dashboard.state.is_some(), dashboard.now, width);
    }
    let Some(state) = &dashboard.state else { return vec![vec![("connecting…".to_owned(), Tone::Faint)]] };
    let providers = &state.status.providers;
    let mut texts: Vec<Pieces> = providers.iter().map(|info| provider_text(info, dashboard.now)).collect();
    if state.accounts.is_empty() {
        texts.push(vec![("no accounts yet, so no agent can start: lessor import".to_owned(), Tone::Warn)]);
    }
    texts.extend(warning(dashboard));
    let mut lines: Vec<Pieces> = Vec::new();
    let mut hidden = 0;
    for text in texts {
        let needed = columns(&text) + BETWEEN;
        if let Some(line) = lines.iter_mut().find(|line| columns(line) + needed <= width) {
            line.push((" ".repeat(BETWEEN), Tone::Plain));
            line.extend(text);
        } else if lines.len() < most {
            lines.push(text);
        } else {
            hidden += 1;
        }
    }
    if let (true, Some(last)) = (hidden > 0, lines.last_mut()) {
        let more = format!("  +{hidden} more: lessor status");
        let room = width.saturating_sub(more.width());
        if columns(last) > room {
            let text: String = last.iter().map(|(text, _)| text.as_str()).collect();
            *last = vec![(cut(&text, room), Tone::Plain)];
        }
        last.push((more, Tone::Faint));
    }
    lines
}

/// Whether an agent of a provider can start now: on what, or when.
fn provider_text(info: &ProviderInfo, now: u64) -> Pieces {
    let provider = (format!("{}: ", clean(&info.provider)), Tone::Strong);
    let name = |account: &Option<AccountLabel>| account.as_ref().map(|account| clean(account::label(account)));
    let (mark, tone, text) = if info.serving > 0 {
        let on = name(&info.next).map(|account| format!(" on {account}")).unwrap_or_default();
        ("● ", Tone::Good, format!("can start now{on}"))
    } else if let Some(at) = info.free_at {
        let on = name(&info.first_free).map(|account| format!(", {account}")).unwrap_or_default();
        ("○ ", Tone::Warn, format!("free at {}{on}", format::clock_and_span(now, at)))
    } else if info.busy > 0 {
        ("○ ", Tone::Warn, "all accounts are in use".to_owned())
    } else {
        ("✗ ", Tone::Bad, "no account can serve".to_owned())
    };
    vec![(mark.to_owned(), tone), provider, (text, Tone::Plain)]
}

/// The first warning of the daemon, and how many there are.
fn warning(dashboard: &Dashboard) -> Option<Pieces> {
    let status = &dashboard.state.as_ref()?.status;
    let rejected = status.config.error.iter().map(|_| "the configuration is rejected: lessor config check");
    let all: Vec<&str> = rejected.chain(status.warnings.iter().map(String::as_str)).collect();
    let first = clean(all.first()?.lines().next().unwrap_or_default());
    let more = if all.len() > 1 { format!("{} warnings: ", all.len()) } else { String::new() };
    Some(vec![("! ".to_owned(), Tone::Bad), (more + &first, Tone::Warn)])
}

fn gone_lines(gone: &Gone, has_values: bool, now: u64, width: usize) -> Vec<Pieces> {
    let span = for_how_long(now, gone.since);
    let values = if has_values { " All values are from then." } else { "" };
    let since = format::clock_with_seconds(gone.since);
    let why = clean(gone.why.lines().next().unwrap_or_default());
    let lines = [
        format!("NO DAEMON since {since}, for {span}.{values}"),
        format!("Looking for it. To start one: lessor ping ({why})"),
    ];
    lines.iter().map(|line| vec![(cut(line, width), Tone::Strong)]).collect()
}

/// The requests and limits of the last hour, as two rows of bars.
fn hour(dashboard: &Dashboard, canvas: &mut Canvas<'_>, y: usize) {
    let half = canvas.width() / 2;
    let info = match &dashboard.hour {
        Hour::Known(info) => info,
        Hour::NotYet => return,
        Hour::NotKept => {
            canvas.pieces(1, y, half, &vec![("no history of the last hour".to_owned(), Tone::Faint)]);
            return;
        }
    };
    let (requests, limits) = by_minute(info, dashboard.now);
    let count = |minutes: &[u64]| grouped(minutes.iter().sum());
    let rows = [
        (1, format!("{} requests in 1 h ", count(&requests)), requests, Tone::Good),
        (half + 1, format!("{} met a limit ", count(&limits)), limits, Tone::Warn),
    ];
    for (x, label, minutes, tone) in rows {
        let after = canvas.piece(x, y, &label, Tone::Plain.style());
        let room = half.saturating_sub(label.width() + 2).min(MINUTES);
        for (number, (bar, is_zero)) in bars(&minutes, room).into_iter().enumerate() {
            let tone = if is_zero { Tone::Faint } else { tone };
            canvas.piece(after + number, y, bar, tone.style());
        }
    }
}

/// Requests and limits of each of the last 60 minutes, the oldest first.
fn by_minute(info: &HistoryInfo, now: u64) -> (Vec<u64>, Vec<u64>) {
    let (mut requests, mut limits) = (vec![0; MINUTES], vec![0; MINUTES]);
    let last = now / MINUTE_MS;
    for group in &info.groups {
        let Some(minute) = group.at.map(|at| at / MINUTE_MS) else { continue };
        let age = usize::try_from(last.saturating_sub(minute)).unwrap_or(usize::MAX);
        if age < MINUTES {
            requests[MINUTES - 1 - age] += group.sums.requests;
            limits[MINUTES - 1 - age] += group.sums.limited;
        }
    }
    (requests, limits)
}

/// The minutes as at most `width` bars of eight heights, and which of them are zero. Each bar is the sum of as many
/// minutes.
fn bars(minutes: &[u64], width: usize) -> Vec<(&'static str, bool)> {
    const HEIGHTS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
    if width == 0 {
        return Vec::new();
    }
    let each = minutes.len().div_ceil(width);
    let sums: Vec<u64> = minutes.rchunks(each).rev().map(|chunk| chunk.iter().sum()).collect();
    let most = sums.iter().copied().max().unwrap_or(0).max(1);
    let height = |sum: u64| if sum == 0 { 0 } else { 1 + usize::try_from(sum * 6 / most).unwrap_or(6) };
    sums.into_iter().map(|sum| (HEIGHTS[height(sum)], sum == 0)).collect()
}

/// `1 234 567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    groups.iter().map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{HistoryGroup, RequestSums};

    #[test]
    fn the_last_hour_has_sixty_minutes() {
        let now = 1_000 * MINUTE_MS + 30_000;
        let group = |minute: u64, requests| HistoryGroup {
            at: Some(minute * MINUTE_MS),
            sums: RequestSums { requests, limited: 1, ..RequestSums::default() },
            ..HistoryGroup::default()
        };
        let groups = vec![group(940, 9), group(941, 5), group(1000, 7)];
        let (requests, limits) = by_minute(&HistoryInfo { groups, ..HistoryInfo::default() }, now);
        assert_eq!((requests[0], requests[59], requests.iter().sum::<u64>()), (5, 7, 12));
        assert_eq!(limits.iter().sum::<u64>(), 2);
    }

    #[test]
    fn a_bar_is_low_only_at_zero() {
        let mut minutes = vec![0; 60];
        (minutes[0], minutes[58], minutes[59]) = (1, 4000, 4000);
        let drawn: String = bars(&minutes, 20).into_iter().map(|(bar, _)| bar).collect();
        assert_eq!(drawn, format!("▂{}█", "▁".repeat(18)));
        assert_eq!(bars(&minutes, 60).len(), 60);
        assert!(bars(&minutes, 0).is_empty());
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!((grouped(0), grouped(999), grouped(1_234_567)), ("0".into(), "999".into(), "1 234 567".into()));
    }
}
