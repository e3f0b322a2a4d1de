//! A list: its title, the titles of its columns, and the rows that have room.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use unicode_width::UnicodeWidthStr;

use super::paint::{Canvas, columns};
use crate::cli::commands::top::cells::{self, Pieces};
use crate::cli::commands::top::dashboard::Dashboard;
use crate::cli::commands::top::look::{Tone, of_state};
use crate::cli::commands::top::message::ClickTarget;
use crate::cli::commands::top::names::Names;
use crate::cli::commands::top::panel::{ColumnField, GAP, ListColumn, Panel, fit};
use crate::cli::commands::top::traffic;
use crate::cli::ui::distinct::first;
use crate::protocol::AccountTotals;

/// The mark of the selected row, and the blank behind it.
const MARK: usize = 2;
/// The least width of longer names of accounts in lists.
const NAME_IN_LIST: usize = 13;
/// The names of accounts in events and chains of attempts.
const NAME_IN_TEXT: usize = 24;

/// Draws a list. `tabs` are the lists that share its place.
pub(super) fn draw(dashboard: &mut Dashboard, buffer: &mut Buffer, area: Rect, panel: Panel, tabs: &[Panel]) {
    if area.height == 0 {
        return;
    }
    dashboard.targets.add(area, ClickTarget::Panel(panel));
    let order = dashboard.order(panel);
    let mut canvas = Canvas::new(buffer, area);
    let head = if order.is_empty() { 1 } else { 2 };
    let height = canvas.height().saturating_sub(head);
    let selected = dashboard.selected(panel, &order);
    let list = dashboard.list(panel);
    list.height = height;
    list.index = selected;
    // the selection is in view, and no row is empty that could show something
    let last = order.len().saturating_sub(height.max(1));
    list.offset = list.offset.min(last).max((selected + 1).saturating_sub(height)).min(selected);
    let offset = list.offset;
    title(dashboard, &mut canvas, panel, tabs, order.len());
    if order.is_empty() {
        let text = empty_text(dashboard, panel);
        let width = canvas.width().saturating_sub(MARK + 2);
        canvas.pieces(MARK, 1, width, &vec![(text.to_owned(), Tone::Faint)]);
        return;
    }
    let shown = Rows { order: &order, selected, offset, height };
    rows(dashboard, &mut canvas, panel, &shown);
}

/// The rows that are shown.
struct Rows<'a> {
    order: &'a [usize],
    selected: usize,
    offset: usize,
    height: usize,
}

/// The line above a list: its name and number of rows, or the names of all lists that share the place.
fn title(dashboard: &mut Dashboard, canvas: &mut Canvas<'_>, panel: Panel, tabs: &[Panel], matching: usize) {
    let has_focus = dashboard.focus == panel;
    let (line, tone) = if has_focus { ("━", Tone::Accent) } else { ("─", Tone::Faint) };
    let width = canvas.width();
    canvas.piece(0, 0, &line.repeat(width), Style::new().fg(tone.style().fg.unwrap_or_default()));
    let mut x = 1;
    for tab in tabs {
        let is_open = *tab == panel;
        let style = match (is_open, has_focus) {
            (true, true) => Tone::Accent.style().add_modifier(Modifier::REVERSED),
            (true, false) => Tone::Strong.style(),
            (false, _) => Tone::Faint.style(),
        };
        let all = dashboard.count(*tab);
        let count = if is_open && matching != all { format!("{matching} of {all}") } else { all.to_string() };
        let text = format!(" {} {} {count} ", tab.number(), tab.title());
        let after = canvas.piece(x, 0, &text, style);
        dashboard.targets.add(canvas.rect(x, 0, after - x), ClickTarget::Panel(*tab));
        x = after + 1;
    }
    let rows = &dashboard.lists[panel as usize];
    let (first, last) = (rows.offset + 1, (rows.offset + rows.height).min(matching));
    let hidden = if last - rows.offset.min(last) < matching {
        format!(" {first}–{last} of {matching} ")
    } else {
        String::new()
    };
    let is_stale = dashboard.gone.is_some() && dashboard.state.is_some();
    let right = if is_stale { format!(" stale{hidden}") } else { hidden };
    let right = if is_stale && !right.ends_with(' ') { right + " " } else { right };
    let end = width.saturating_sub(right.width() + 1);
    if panel == Panel::Accounts
        && let Some(state) = &dashboard.state
    {
        let totals = totals_text(&state.status.accounts);
        if x + totals.width() < end {
            canvas.piece(x, 0, &totals, Tone::Plain.style());
        }
    }
    if end > x {
        canvas.piece(end, 0, &right, if is_stale { Tone::Bad.style() } else { Tone::Faint.style() });
    }
}

/// ` 7 ready, 1 limited `: the states that some account has.
fn totals_text(totals: &AccountTotals) -> String {
    let states = [
        (totals.ready, "ready"),
        (totals.partly_limited, "partly limited"),
        (totals.limited, "limited"),
        (totals.waiting_for_token, "waiting for token"),
        (totals.cannot_renew, "cannot renew"),
        (totals.needs_login, "needs login"),
        (totals.needs_verification, "needs verification"),
        (totals.disabled, "disabled"),
    ];
    let parts: Vec<String> =
        states.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    if parts.is_empty() { String::new() } else { format!(" {} ", parts.join(", ")) }
}

fn empty_text(dashboard: &Dashboard, panel: Panel) -> &'static str {
    if dashboard.state.is_none() {
        return "";
    }
    if dashboard.count(panel) > 0 {
        return "nothing matches the filter (Esc clears it)";
    }
    match panel {
        Panel::Accounts => "no accounts yet: lessor import, lessor login claude",
        Panel::Leases => "no leases are held: lessor run claude",
        Panel::Queue => "no request waits for an account",
        Panel::Requests => "no request through the gateway yet",
        Panel::Events => "no events yet",
    }
}

fn rows(dashboard: &mut Dashboard, canvas: &mut Canvas<'_>, panel: Panel, shown: &Rows<'_>) {
    let width = canvas.width().saturating_sub(1);
    // accounts have the mark of their state in front
    let indent = if panel == Panel::Accounts { MARK + 1 } else { MARK };
    let several_providers = dashboard.accounts().iter().any(|info| info.provider != dashboard.accounts()[0].provider);
    let all: Vec<ListColumn> = panel
        .columns()
        .iter()
        .filter(|column| column.field != ColumnField::Provider || panel != Panel::Accounts || several_providers)
        .map(|column| match column.field {
            // no wider than its names, and not so wide that other columns have no room: names are shortened then
            ColumnField::Account if matches!(panel, Panel::Accounts | Panel::Leases) => {
                let longest = dashboard.names.longest().clamp(column.least, column.most);
                ListColumn { least: longest.min(NAME_IN_LIST), most: longest, ..*column }
            }
            _ => *column,
        })
        .collect();
    let fitted = fit(&all, width.saturating_sub(indent));
    let sorted = dashboard.sort_field(panel);
    let descending = dashboard.lists[panel as usize].descending;
    let mut x = indent;
    for (column, column_width) in &fitted {
        let mark = if sorted != Some(column.field) {
            ""
        } else if descending {
            "▲"
        } else {
            "▼"
        };
        let text = format!("{}{mark}", column.title);
        let text = if text.width() > *column_width { first(column.title, column_width - 1) + mark } else { text };
        let at = if column.right { x + column_width.saturating_sub(text.width()) } else { x };
        let end = canvas.piece(at, 1, &text, Tone::Faint.style()).min(x + column_width);
        dashboard.targets.add(
            canvas.rect(x, 1, end.saturating_sub(x).max(*column_width)),
            ClickTarget::ListColumn(panel, column.field),
        );
        x += column_width + GAP;
    }
    let account_width = fitted.iter().find(|(column, _)| column.field == ColumnField::Account).map(|(_, width)| *width);
    let names = match (panel, account_width) {
        (Panel::Accounts | Panel::Leases, Some(width)) => dashboard.names.fitted(width),
        _ => dashboard.names.fitted(NAME_IN_TEXT),
    };
    let visible = shown.order.iter().enumerate().skip(shown.offset).take(shown.height);
    for (line, (index, row)) in visible.enumerate() {
        let y = 2 + line;
        dashboard.targets.add(canvas.rect(0, y, canvas.width()), ClickTarget::Row(panel, index));
        draw_row(dashboard, canvas, (panel, *row), y, indent, &fitted, &names);
        let has_focus = dashboard.focus == panel;
        let follows = dashboard.lists[panel as usize].selected.is_none() && !has_focus;
        if index == shown.selected && !follows {
            let mark = if has_focus { "▸" } else { "›" };
            canvas.piece(0, y, mark, Tone::Accent.style());
            if has_focus {
                canvas.highlight(y, Style::new().add_modifier(Modifier::REVERSED));
            }
        }
    }
}

fn draw_row(
    dashboard: &Dashboard,
    canvas: &mut Canvas<'_>,
    (panel, row): (Panel, usize),
    y: usize,
    indent: usize,
    fitted: &[(ListColumn, usize)],
    names: &Names,
) {
    if panel == Panel::Accounts {
        let (mark, tone) = of_state(&dashboard.accounts()[row].state);
        canvas.piece(1, y, mark, tone.style());
    }
    let mut x = indent;
    for (column, width) in fitted {
        let pieces = cell(dashboard, panel, row, column.field, *width, names);
        let used = columns(&pieces).min(*width);
        let at = if column.right { x + width - used } else { x };
        canvas.pieces(at, y, *width - (at - x), &pieces);
        x += width + GAP;
    }
}

fn cell(dashboard: &Dashboard, panel: Panel, row: usize, field: ColumnField, width: usize, names: &Names) -> Pieces {
    match panel {
        Panel::Accounts => cells::of_account(dashboard, &dashboard.accounts()[row], field, width, names),
        Panel::Leases => cells::of_lease(dashboard, &dashboard.leases()[row], field, width, names),
        Panel::Queue => cells::of_waiting(&dashboard.queue()[row], field, dashboard.now),
        Panel::Requests => traffic::of_request(&dashboard.requests[row].row, field, names),
        Panel::Events => traffic::of_event(dashboard, &dashboard.events[row].row, field, names),
    }
}
