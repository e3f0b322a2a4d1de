//! Boxes above the lists: help, everything about one row, and the choice of an account.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use unicode_width::UnicodeWidthStr;

use super::detail;
use super::paint::Canvas;
use crate::cli::commands::top::cells::{Pieces, pad, state_text};
use crate::cli::commands::top::dashboard::{Dashboard, InputMode};
use crate::cli::commands::top::look::{Tone, of_state};
use crate::cli::commands::top::message::ClickTarget;
use crate::cli::ui::{account, clean, cut};

const WIDEST: u16 = 100;

/// Keys and what they do.
const HELP: &[(&str, &str)] = &[
    ("LISTS", ""),
    ("1 … 5", "go to a list; Tab and Shift-Tab: to the next or previous one"),
    ("↑ ↓  j k", "select a row; PgUp, PgDn, Home, End: further"),
    ("Enter", "everything about the row; Esc closes it"),
    ("/", "show only rows with a text, in all lists; Esc shows all again"),
    ("s  S", "sort by the next column · the other way round"),
    ("R", "read everything from the daemon now"),
    ("q", "quit; Ctrl-C too"),
    ("ACCOUNTS", ""),
    ("e", "disable the account, or enable it again"),
    ("c", "clear its limits: it is tried again at once"),
    ("r", "refresh its login: get a new token"),
    ("u", "read its usage from the provider now"),
    ("LEASES", ""),
    ("m", "move the agent to another account"),
    ("x", "release the lease"),
    ("MOUSE", ""),
    ("click", "select a row, twice: details; a column title: sort; a key in the last line: press it"),
    ("wheel", "scroll the list below the pointer"),
    ("MARKS", ""),
    ("●  ◐  ○", "ready · partly limited · limited"),
    ("…  !  ✗  –", "waiting for token · needs you · cannot renew · disabled"),
    ("QUOTA", "how full the fullest windows are, and →when they reset"),
    ("REQ", "requests under way through the gateway"),
];

pub(super) fn draw(dashboard: &mut Dashboard, buffer: &mut Buffer, body: Rect) {
    let width = body.width.saturating_sub(4).min(WIDEST);
    let inner = usize::from(width) - 4;
    let (title, lines, first_choice) = match &dashboard.mode {
        InputMode::Help { .. } => ("Help".to_owned(), help(inner), None),
        InputMode::Detail { panel, key, .. } => {
            let (title, lines) = detail::lines(dashboard, *panel, key, inner);
            (title, lines, None)
        }
        InputMode::Move { lease, from, provider, choice } => {
            let lines = choices(dashboard, provider, from, *choice, inner);
            (format!("Move {}", lease.name), lines, Some(2))
        }
        InputMode::Lists | InputMode::Filter | InputMode::Confirm { .. } => return,
    };
    let most = usize::from(body.height).saturating_sub(2);
    let rows = lines.len().min(most.saturating_sub(2));
    let last = lines.len() - rows;
    let scroll = match &mut dashboard.mode {
        InputMode::Help { scroll } | InputMode::Detail { scroll, .. } => {
            *scroll = (*scroll).min(last);
            *scroll
        }
        // the choice is in view
        InputMode::Move { choice, .. } => (*choice + 3).saturating_sub(rows).min(last),
        InputMode::Lists | InputMode::Filter | InputMode::Confirm { .. } => 0,
    };
    let height = u16::try_from(rows + 2).unwrap_or(body.height);
    let area = Rect { x: body.x + (body.width - width) / 2, y: body.y + (body.height - height) / 2, width, height };
    dashboard.targets.add(area, ClickTarget::Popup);
    let mut canvas = Canvas::new(buffer, area);
    canvas.clear();
    frame(&mut canvas, &title, (scroll, rows, lines.len()));
    for (number, line) in lines.iter().skip(scroll).take(rows).enumerate() {
        canvas.pieces(2, number + 1, inner, line);
        let choice = first_choice.and_then(|first| (number + scroll).checked_sub(first));
        if let (Some(index), InputMode::Move { choice, .. }) = (choice, &dashboard.mode) {
            let place = canvas.rect(1, number + 1, inner + 2);
            if index == *choice {
                canvas.style(place, Style::new().add_modifier(Modifier::REVERSED));
            }
            dashboard.targets.add(place, ClickTarget::Choice(index));
        }
    }
}

fn frame(canvas: &mut Canvas<'_>, title: &str, (scroll, rows, all): (usize, usize, usize)) {
    let (width, bottom) = (canvas.width(), canvas.height() - 1);
    let style = Tone::Accent.style().remove_modifier(Modifier::BOLD);
    let line = "─".repeat(width - 2);
    canvas.piece(0, 0, &format!("┌{line}┐"), style);
    for y in 1..bottom {
        canvas.piece(0, y, "│", style);
        canvas.piece(width - 1, y, "│", style);
    }
    canvas.piece(0, bottom, &format!("└{line}┘"), style);
    canvas.piece(2, 0, &format!(" {} ", cut(title, width - 6)), Tone::Accent.style());
    if rows < all {
        let place = format!(" {}–{} of {all}, ↑↓ scroll ", scroll + 1, scroll + rows);
        canvas.piece(width.saturating_sub(place.width() + 2), bottom, &place, Tone::Plain.style());
    }
}

fn help(width: usize) -> Vec<Pieces> {
    const KEYS: usize = 12;
    let mut lines: Vec<Pieces> = Vec::new();
    for (key, does) in HELP {
        if does.is_empty() {
            if !lines.is_empty() {
                lines.push(Vec::new());
            }
            lines.push(vec![((*key).to_owned(), Tone::Strong)]);
            continue;
        }
        lines.extend(detail::beside((&pad(key, KEYS), Tone::Accent), does, Tone::Plain, width));
    }
    lines
}

/// The accounts that a lease can be moved to; the first line below the heading leaves the choice to the daemon.
fn choices(dashboard: &Dashboard, provider: &str, from: &str, choice: usize, width: usize) -> Vec<Pieces> {
    const BETWEEN: usize = 2;
    let accounts = dashboard.choices(provider, from);
    let from = dashboard.names.get(from, from);
    let others = accounts.len();
    let heading = if others == 0 {
        format!("It is on {}, and {} has no other enabled account.", from, clean(provider))
    } else {
        format!("It is on {from}. The agent follows at its next request.")
    };
    let mut lines = vec![vec![(cut(&heading, width), Tone::Plain)], Vec::new()];
    let mark = |index: usize| if index == choice { "▸ " } else { "  " }.to_owned();
    lines.push(vec![(mark(0), Tone::Accent), ("the best other account".to_owned(), Tone::Strong)]);
    let name_width = dashboard.names.longest().clamp(8, width / 3);
    let names = dashboard.names.fitted(name_width);
    for (index, info) in accounts.into_iter().enumerate() {
        let (state, tone) = of_state(&info.state);
        let name = pad(names.get(&info.id, account::name(info)), name_width + BETWEEN);
        let leases = format!("{}/{} leases  ", info.leases, info.capacity);
        let line: Pieces = vec![
            (mark(index + 1), Tone::Accent),
            (format!("{state} "), tone),
            (name, Tone::Strong),
            (pad(&leases, 14), Tone::Plain),
            (state_text(info, dashboard.now), tone),
        ];
        lines.push(line);
    }
    lines
}
