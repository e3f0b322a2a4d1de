//! Draws the dashboard into a buffer. No I/O.

mod detail;
mod footer;
mod head;
mod paint;
mod popup;
mod table;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use self::paint::Canvas;
use super::dashboard::{Dashboard, InputMode};
use super::look::Tone;
use super::panel::Panel;

/// A smaller terminal gets a message instead.
const LEAST: (u16, u16) = (60, 16);
/// From this size on all lists are shown at the same time.
const WIDE: (u16, u16) = (120, 34);
/// The least height of a list: its title, the titles of its columns, and three rows.
const LEAST_LIST: u16 = 5;

/// Draws everything, and remembers what can be clicked.
pub(super) fn view(dashboard: &mut Dashboard, buffer: &mut Buffer) {
    let area = buffer.area;
    dashboard.targets.clear();
    dashboard.changed = false;
    if area.width < LEAST.0 || area.height < LEAST.1 {
        return too_small(buffer);
    }
    let head = head::height(dashboard, area);
    let foot = footer::height(dashboard, area);
    let body = Rect { y: area.y + head, height: area.height - head - foot, ..area };
    head::draw(dashboard, &mut Canvas::new(buffer, Rect { height: head, ..area }), area);
    if area.width >= WIDE.0 && area.height >= WIDE.1 {
        all_lists(dashboard, buffer, body);
    } else {
        two_lists(dashboard, buffer, body);
    }
    let foot = Rect { y: area.bottom() - foot, height: foot, ..area };
    footer::draw(dashboard, &mut Canvas::new(buffer, foot));
    match dashboard.mode {
        InputMode::Help { .. } | InputMode::Detail { .. } | InputMode::Move { .. } => {
            popup::draw(dashboard, buffer, body);
        }
        InputMode::Lists | InputMode::Filter | InputMode::Confirm { .. } => {}
    }
}

fn too_small(buffer: &mut Buffer) {
    let area = buffer.area;
    let lines = [
        format!("too small: {}×{}", area.width, area.height),
        format!("needed: {}×{}", LEAST.0, LEAST.1),
        "or: lessor status".to_owned(),
        "q quits".to_owned(),
    ];
    let mut canvas = Canvas::new(buffer, area);
    for (row, line) in lines.into_iter().enumerate() {
        canvas.pieces(0, row, usize::from(area.width), &vec![(line, Tone::Plain)]);
    }
}

/// The accounts, and below them the list that was used last.
fn two_lists(dashboard: &mut Dashboard, buffer: &mut Buffer, body: Rect) {
    let needed = wanted(dashboard, Panel::Accounts);
    let most = body.height.saturating_sub(LEAST_LIST);
    let upper = match dashboard.focus {
        Panel::Accounts => needed.min(most),
        // what is looked at has the room
        below => {
            let left = body.height.saturating_sub(wanted(dashboard, below));
            needed.min(left.max(body.height / 3).max(LEAST_LIST)).min(most)
        }
    };
    let (above, rest) = split(body, upper);
    table::draw(dashboard, buffer, above, Panel::Accounts, &[Panel::Accounts]);
    let below = dashboard.below;
    table::draw(dashboard, buffer, rest, below, &Panel::ALL[1..]);
}

/// All lists at the same time: accounts above, leases and queue beside the requests, events below.
fn all_lists(dashboard: &mut Dashboard, buffer: &mut Buffer, body: Rect) {
    let events = (body.height / 5).max(LEAST_LIST + 1);
    let accounts = wanted(dashboard, Panel::Accounts).min((body.height - events) / 2);
    let (above, rest) = split(body, accounts);
    let (middle, below) = split(rest, rest.height - events);
    let left = Rect { width: middle.width * 9 / 20, ..middle };
    let right = Rect { x: left.right() + 2, width: middle.width - left.width - 2, ..middle };
    table::draw(dashboard, buffer, above, Panel::Accounts, &[Panel::Accounts]);
    // an empty queue needs one row
    let queue = u16::try_from(dashboard.queue().len().max(1)).unwrap_or(u16::MAX);
    let (leases, waiting) = split(left, left.height - queue.saturating_add(2).min(left.height / 2));
    table::draw(dashboard, buffer, leases, Panel::Leases, &[Panel::Leases]);
    table::draw(dashboard, buffer, waiting, Panel::Queue, &[Panel::Queue]);
    table::draw(dashboard, buffer, right, Panel::Requests, &[Panel::Requests]);
    table::draw(dashboard, buffer, below, Panel::Events, &[Panel::Events]);
}

/// The height at which a list shows all its rows.
fn wanted(dashboard: &Dashboard, panel: Panel) -> u16 {
    let rows = u16::try_from(dashboard.count(panel)).unwrap_or(u16::MAX);
    rows.saturating_add(2).max(LEAST_LIST)
}

fn split(area: Rect, upper: u16) -> (Rect, Rect) {
    let upper = upper.min(area.height);
    (Rect { height: upper, ..area }, Rect { y: area.y + upper, height: area.height - upper, ..area })
}
