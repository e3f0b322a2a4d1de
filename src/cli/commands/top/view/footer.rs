//! The last line: the keys that are useful now, the filter, a question, or the result of an action.

use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use unicode_width::UnicodeWidthStr;

use super::paint::Canvas;
use crate::cli::commands::top::cells::Pieces;
use crate::cli::commands::top::dashboard::{Dashboard, InputMode};
use crate::cli::commands::top::look::Tone;
use crate::cli::commands::top::message::ClickTarget;
use crate::cli::commands::top::panel::Panel;
use crate::cli::ui::{clean, wrap_after};

/// A key, how it is written, and what it does.
type Hint = (KeyCode, &'static str, &'static str);

const YES_NO: [Hint; 2] = [(KeyCode::Char('y'), "y", "yes"), (KeyCode::Char('n'), "n", "no")];

pub(super) fn height(dashboard: &Dashboard, area: Rect) -> u16 {
    u16::try_from(question(dashboard, usize::from(area.width)).len().max(1)).unwrap_or(1).min(area.height / 3)
}

/// The lines of a question; the keys that answer it have room behind the last one.
fn question(dashboard: &Dashboard, width: usize) -> Vec<String> {
    const ANSWERS: usize = 14;
    let InputMode::Confirm { question, .. } = &dashboard.mode else { return Vec::new() };
    let text = wrap_after("", question, width.saturating_sub(2), 0);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.last().is_some_and(|last| last.width() + ANSWERS > width) {
        lines.push(String::new());
    }
    lines
}

pub(super) fn draw(dashboard: &mut Dashboard, canvas: &mut Canvas<'_>) {
    let width = canvas.width();
    let lines = question(dashboard, width);
    if let Some(last) = lines.last() {
        for (y, line) in lines.iter().enumerate() {
            canvas.piece(1, y, line, Tone::Warn.style().add_modifier(Modifier::BOLD));
        }
        let x = last.width() + if last.is_empty() { 1 } else { 3 };
        hints(dashboard, canvas, x, lines.len() - 1, &YES_NO);
        return;
    }
    if dashboard.mode == InputMode::Filter {
        let text = format!("filter: {}", clean(&dashboard.filter));
        let x = canvas.piece(1, 0, &text, Tone::Accent.style());
        canvas.piece(x, 0, " ", Style::new().add_modifier(Modifier::REVERSED));
        let keys = [(KeyCode::Enter, "Enter", "keep"), (KeyCode::Esc, "Esc", "clear")];
        hints(dashboard, canvas, x + 3, 0, &keys);
        return;
    }
    if let Some(notice) = &dashboard.notice {
        let pieces: Pieces = vec![(clean(&notice.text), notice.tone)];
        canvas.pieces(1, 0, width - 2, &pieces);
        return;
    }
    let keys = keys_of(dashboard);
    hints(dashboard, canvas, 1, 0, &keys);
}

/// The keys of the list that has the focus, the most useful first.
fn keys_of(dashboard: &Dashboard) -> Vec<Hint> {
    let own: &[Hint] = match (&dashboard.mode, dashboard.focus) {
        (InputMode::Help { .. }, _) => &[(KeyCode::Esc, "Esc", "close")],
        (InputMode::Move { .. }, _) => &[(KeyCode::Enter, "Enter", "move"), (KeyCode::Esc, "Esc", "cancel")],
        (InputMode::Detail { panel: Panel::Accounts, .. }, _) => &[
            (KeyCode::Esc, "Esc", "close"),
            (KeyCode::Char('e'), "e", "on/off"),
            (KeyCode::Char('c'), "c", "clear limits"),
            (KeyCode::Char('r'), "r", "refresh"),
            (KeyCode::Char('u'), "u", "usage"),
        ],
        (InputMode::Detail { panel: Panel::Leases, .. }, _) => {
            &[(KeyCode::Esc, "Esc", "close"), (KeyCode::Char('m'), "m", "move"), (KeyCode::Char('x'), "x", "release")]
        }
        (InputMode::Detail { .. }, _) => &[(KeyCode::Esc, "Esc", "close")],
        (_, Panel::Accounts) => &[
            (KeyCode::Char('?'), "?", "help"),
            (KeyCode::Enter, "Enter", "details"),
            (KeyCode::Char('e'), "e", "on/off"),
            (KeyCode::Char('c'), "c", "clear limits"),
            (KeyCode::Tab, "Tab", "next"),
            (KeyCode::Char('/'), "/", "filter"),
            (KeyCode::Char('q'), "q", "quit"),
            (KeyCode::Char('r'), "r", "refresh"),
            (KeyCode::Char('u'), "u", "read usage"),
            (KeyCode::Char('s'), "s", "sort"),
        ],
        (_, Panel::Leases) => &[
            (KeyCode::Char('?'), "?", "help"),
            (KeyCode::Enter, "Enter", "details"),
            (KeyCode::Char('m'), "m", "move"),
            (KeyCode::Char('x'), "x", "release"),
            (KeyCode::Tab, "Tab", "next"),
            (KeyCode::Char('/'), "/", "filter"),
            (KeyCode::Char('q'), "q", "quit"),
            (KeyCode::Char('s'), "s", "sort"),
        ],
        _ => &[
            (KeyCode::Char('?'), "?", "help"),
            (KeyCode::Enter, "Enter", "details"),
            (KeyCode::Tab, "Tab", "next"),
            (KeyCode::Char('/'), "/", "filter"),
            (KeyCode::Char('q'), "q", "quit"),
        ],
    };
    own.to_vec()
}

/// Writes the keys that have room, each as a whole; each can be clicked.
fn hints(dashboard: &mut Dashboard, canvas: &mut Canvas<'_>, x: usize, y: usize, keys: &[Hint]) {
    let mut at = x;
    for (code, shown, does) in keys {
        if at + shown.width() + 1 + does.width() > canvas.width() {
            return;
        }
        let key_end = canvas.piece(at, y, shown, Tone::Accent.style());
        let end = canvas.piece(key_end, y, &format!(" {does}"), Tone::Plain.style());
        dashboard.targets.add(canvas.rect(at, y, end - at), ClickTarget::Key(*code));
        at = end + 2;
    }
}
