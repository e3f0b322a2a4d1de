//! Screens in each state and size, compared with the kept ones in `screens/`.

use std::path::PathBuf;

use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

use super::scenes::{self, draw, mixed, text};
use crate::cli::commands::top::dashboard::{Dashboard, InputMode};
use crate::cli::commands::top::look::Look;
use crate::cli::commands::top::panel::Panel;

type MakeDashboard = fn() -> Dashboard;

const SCENES: [(&str, MakeDashboard); 6] = [
    ("empty", scenes::empty),
    ("one-account", scenes::one_account),
    ("mixed", mixed),
    ("everything-limited", scenes::everything_limited),
    ("daemon-gone", scenes::daemon_gone),
    ("burst", scenes::burst),
];
const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 50)];

fn compare(name: &str, screen: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/cli/commands/top/tests/screens");
    let file = folder.join(format!("{name}.txt"));
    if std::env::var_os("LESSOR_UPDATE_SCREENS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&file, screen).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default().replace("\r\n", "\n");
    assert_eq!(screen, kept, "{name}: if the new screen is right, LESSOR_UPDATE_SCREENS=1 keeps it");
}

#[test]
fn each_state_has_its_screen_in_each_size() {
    for (name, scene) in SCENES {
        for (width, height) in SIZES {
            let screen = text(&draw(&mut scene(), width, height));
            compare(&format!("{name}-{width}x{height}"), &screen);
        }
    }
}

#[test]
fn boxes_have_their_screens() {
    let detail = |panel: Panel, index: usize| {
        let mut dashboard = mixed();
        let row = dashboard.order(panel)[index];
        dashboard.mode = InputMode::Detail { panel, key: dashboard.row_key(panel, row), scroll: 0 };
        dashboard
    };
    let mut help = mixed();
    help.mode = InputMode::Help { scroll: 0 };
    for (name, mut dashboard) in [
        ("help", help),
        ("detail-account", detail(Panel::Accounts, 6)),
        ("detail-pools", detail(Panel::Accounts, 4)),
        ("detail-lease", detail(Panel::Leases, 0)),
        ("detail-request", detail(Panel::Requests, 2)),
        ("detail-event", detail(Panel::Events, 1)),
    ] {
        compare(&format!("{name}-80x24"), &text(&draw(&mut dashboard, 80, 24)));
        compare(&format!("{name}-120x40"), &text(&draw(&mut dashboard, 120, 40)));
    }
}

/// Each list, each box, in every size: the drawing never leaves the screen, and no text is lost at its right end
/// without a mark.
#[test]
fn every_size_can_be_drawn() {
    for (_, scene) in SCENES {
        let mut dashboard = scene();
        for width in [1, 59, 60, 80, 119, 120, 200] {
            for height in [1, 15, 16, 23, 33, 34, 50] {
                for panel in Panel::ALL {
                    dashboard.focus_on(panel);
                    let screen = text(&draw(&mut dashboard, width, height));
                    assert!(screen.lines().all(|line| line.width() <= usize::from(width)), "{screen}");
                    assert_eq!(screen.lines().count(), usize::from(height));
                }
                dashboard.mode = InputMode::Help { scroll: 99 };
                draw(&mut dashboard, width, height);
                dashboard.mode = InputMode::Lists;
            }
        }
    }
}

#[test]
fn a_terminal_that_is_too_small_gets_a_message() {
    let screen = text(&draw(&mut mixed(), 40, 10));
    assert!(screen.contains("too small: 40×10") && screen.contains("needed: 60×16"), "{screen}");
}

#[test]
fn accounts_have_different_texts_in_every_width() {
    for width in (60..200).step_by(7) {
        let screen = text(&draw(&mut mixed(), width, 40));
        let column: Vec<&str> = screen.lines().filter(|line| line.contains("team-") && line.contains("1/1")).collect();
        let names: Vec<&str> =
            column.iter().filter_map(|line| line.split_whitespace().find(|word| word.starts_with("team"))).collect();
        assert!(names.len() < 2 || names[0] != names[1], "{width}: {screen}");
    }
}

#[test]
fn without_colour_every_state_has_a_word_and_the_selection_a_mark() {
    let mut buffer = draw(&mut mixed(), 120, 40);
    Look { colour: false, unicode: false }.apply(&mut buffer);
    assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert!(buffer.content.iter().all(|cell| cell.symbol().is_ascii()));
    let screen = text(&buffer);
    for word in ["limited", "partly", "waiting", "cannot renew", "needs login", "verif", "disabled"] {
        assert!(screen.contains(word), "{word}: {screen}");
    }
    let selected = buffer.content.chunks(120).find(|row| row[0].symbol() == ">").unwrap();
    assert!(selected.iter().all(|cell| cell.modifier.contains(Modifier::REVERSED)));
    compare("mixed-ascii-120x40", &screen);
}

#[test]
fn text_from_outside_cannot_control_the_terminal() {
    let mut accounts = scenes::mixed_accounts();
    accounts[0]["label"] = "a\u{1b}[31mb\nc\u{202e}d".into();
    let mut dashboard = scenes::new();
    dashboard.update(scenes::state(&accounts, &[], &[], &[]));
    let buffer = draw(&mut dashboard, 200, 50);
    let screen = text(&buffer);
    assert!(screen.contains(r"a\u{1b}[31mb\nc\u{202e}d"), "{screen}");
    assert!(buffer.content.iter().all(|cell| !cell.symbol().contains(char::is_control)));
}
