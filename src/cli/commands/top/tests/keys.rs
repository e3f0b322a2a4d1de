//! What keys, the mouse and messages do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use serde_json::json;

use super::scenes::{NOW, S, attempt, daemon_gone, draw, event, mixed, new, request, state, text};
use crate::cli::commands::top::dashboard::{Dashboard, InputMode};
use crate::cli::commands::top::message::{DaemonChange, NamedItem, ScreenEffect, ScreenMessage, Stop};
use crate::cli::commands::top::panel::{ColumnField, Panel};
use crate::protocol::EventInfo;

fn press(dashboard: &mut Dashboard, code: KeyCode) -> Option<ScreenEffect> {
    dashboard.update(ScreenMessage::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn typed(dashboard: &mut Dashboard, text: &str) -> Option<ScreenEffect> {
    text.chars().map(|letter| press(dashboard, KeyCode::Char(letter))).last().flatten()
}

/// Clicks the first place where the screen has this text.
fn click(dashboard: &mut Dashboard, wanted: &str) -> Option<ScreenEffect> {
    let screen = text(&draw(dashboard, 120, 40));
    let (row, line) = screen.lines().enumerate().find(|(_, line)| line.contains(wanted)).unwrap();
    let column = line[..line.find(wanted).unwrap()].chars().count();
    let kind = MouseEventKind::Down(MouseButton::Left);
    mouse(dashboard, kind, column, row)
}

fn mouse(dashboard: &mut Dashboard, kind: MouseEventKind, column: usize, row: usize) -> Option<ScreenEffect> {
    let (column, row) = (u16::try_from(column).unwrap(), u16::try_from(row).unwrap());
    dashboard.update(ScreenMessage::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }))
}

fn selected_name(dashboard: &Dashboard, panel: Panel) -> String {
    let order = dashboard.order(panel);
    dashboard.row_key(panel, order[dashboard.selected(panel, &order)])
}

#[test]
fn what_takes_something_away_asks_before() {
    for (keys, action) in [
        ("e", DaemonChange::Disable(NamedItem { id: "ac_codex-a".into(), name: "codex-a".into() })),
        (
            "2x",
            DaemonChange::Release(NamedItem {
                id: "ls_9a2b3c4d5e6f7g8h".into(),
                name: "codex 4009 in /srv/build".into(),
            }),
        ),
    ] {
        let mut dashboard = mixed();
        assert_eq!(typed(&mut dashboard, keys), None, "{keys}");
        assert!(matches!(dashboard.mode, InputMode::Confirm { .. }), "{keys}");
        // neither Enter nor any other key is a yes
        for code in [KeyCode::Enter, KeyCode::Char('x'), KeyCode::Char('e'), KeyCode::Tab] {
            assert_eq!(press(&mut dashboard, code), None);
            assert!(matches!(dashboard.mode, InputMode::Confirm { .. }));
        }
        assert!(text(&draw(&mut dashboard, 80, 24)).contains("y yes  n no"));
        assert_eq!(press(&mut dashboard, KeyCode::Char('y')), Some(ScreenEffect::Act(action)), "{keys}");
        assert_eq!(dashboard.mode, InputMode::Lists);
    }
    let mut dashboard = mixed();
    typed(&mut dashboard, "e");
    assert_eq!(press(&mut dashboard, KeyCode::Char('n')), None);
    assert_eq!((dashboard.mode, dashboard.notice), (InputMode::Lists, None));
}

#[test]
fn limits_are_cleared_after_a_question_and_a_login_is_refreshed_at_once() {
    let mut dashboard = mixed();
    select(&mut dashboard, Panel::Accounts, "ac_home");
    assert_eq!(typed(&mut dashboard, "c"), None);
    assert!(matches!(&dashboard.mode, InputMode::Confirm { question, .. } if question.contains("1 limit of home")));
    let home = NamedItem { id: "ac_home".into(), name: "home".into() };
    assert_eq!(typed(&mut dashboard, "y"), Some(ScreenEffect::Act(DaemonChange::ClearLimits(home.clone()))));
    assert_eq!(typed(&mut dashboard, "r"), Some(ScreenEffect::Act(DaemonChange::RefreshLogin(home.clone()))));
    assert_eq!(typed(&mut dashboard, "u"), Some(ScreenEffect::Act(DaemonChange::ReadUsage(home))));
    select(&mut dashboard, Panel::Accounts, "ac_spare");
    let spare = NamedItem { id: "ac_spare".into(), name: "spare".into() };
    assert_eq!(typed(&mut dashboard, "e"), Some(ScreenEffect::Act(DaemonChange::Enable(spare))));
    assert_eq!(typed(&mut dashboard, "c"), None, "it has no limits");
    assert_eq!(dashboard.mode, InputMode::Lists);
}

fn select(dashboard: &mut Dashboard, panel: Panel, key: &str) {
    let index = dashboard.order(panel).iter().position(|row| dashboard.row_key(panel, *row) == key).unwrap();
    dashboard.focus_on(panel);
    dashboard.select(panel, index);
}

#[test]
fn an_agent_is_moved_to_an_account_of_the_same_provider() {
    let mut dashboard = mixed();
    select(&mut dashboard, Panel::Leases, "ls_1a2b3c4d5e6f7g8h");
    typed(&mut dashboard, "m");
    let screen = text(&draw(&mut dashboard, 80, 24));
    assert!(
        screen.contains("Move claude 4001 in ~/src/lessor") && screen.contains("the best other account"),
        "{screen}"
    );
    let lease = NamedItem { id: "ls_1a2b3c4d5e6f7g8h".into(), name: "claude 4001 in ~/src/lessor".into() };
    let mut best = mixed();
    (best.mode, best.focus) = (dashboard.mode.clone(), dashboard.focus);
    assert_eq!(press(&mut best, KeyCode::Enter), Some(ScreenEffect::Act(DaemonChange::Move(lease.clone(), None))));
    typed(&mut dashboard, "jj");
    let home = NamedItem { id: "ac_home".into(), name: "home".into() };
    assert_eq!(press(&mut dashboard, KeyCode::Enter), Some(ScreenEffect::Act(DaemonChange::Move(lease, Some(home)))));
}

#[test]
fn a_selection_stays_at_its_row() {
    let mut dashboard = mixed();
    select(&mut dashboard, Panel::Accounts, "ac_home");
    typed(&mut dashboard, "s");
    assert_eq!(selected_name(&dashboard, Panel::Accounts), "ac_home");
    // the first row is selected too, once it is known
    let dashboard = mixed();
    assert!(dashboard.lists[0].selected.is_some());
    // the newest request is followed; a selected one stays selected
    let mut dashboard = mixed();
    typed(&mut dashboard, "4");
    let ended = |at: u64| EventInfo {
        request: Some(Box::new(crate::protocol::RequestRow { at, ..request(0, json!([attempt("home", None)])) })),
        ..event("request.ended", 0, json!({}))
    };
    dashboard.update(ScreenMessage::Events(vec![ended(NOW)]));
    assert_eq!(dashboard.selected(Panel::Requests, &dashboard.order(Panel::Requests)), 0);
    typed(&mut dashboard, "j");
    dashboard.update(ScreenMessage::Events(vec![ended(NOW + 1), ended(NOW + 2)]));
    assert_eq!(dashboard.selected(Panel::Requests, &dashboard.order(Panel::Requests)), 3);
}

#[test]
fn the_filter_applies_to_all_lists_and_esc_clears_it() {
    let mut dashboard = mixed();
    typed(&mut dashboard, "/codex");
    press(&mut dashboard, KeyCode::Enter);
    for panel in [Panel::Accounts, Panel::Leases] {
        assert!(dashboard.order(panel).len() < dashboard.count(panel), "{panel:?}");
        assert!(!dashboard.order(panel).is_empty(), "{panel:?}");
    }
    assert!(text(&draw(&mut dashboard, 80, 24)).contains("filter: codex"));
    press(&mut dashboard, KeyCode::Esc);
    assert_eq!(dashboard.order(Panel::Accounts).len(), 12);
    // letters of the filter are no commands
    typed(&mut dashboard, "/qxe");
    assert_eq!((dashboard.filter.as_str(), &dashboard.mode), ("qxe", &InputMode::Filter));
    assert!(text(&draw(&mut dashboard, 80, 24)).contains("nothing matches the filter"));
}

#[test]
fn the_mouse_selects_sorts_opens_and_scrolls() {
    let mut dashboard = mixed();
    click(&mut dashboard, "gem-2");
    assert_eq!(selected_name(&dashboard, Panel::Accounts), "ac_gem-2");
    click(&mut dashboard, "gem-2");
    assert!(matches!(&dashboard.mode, InputMode::Detail { key, .. } if key == "ac_gem-2"));
    mouse(&mut dashboard, MouseEventKind::Down(MouseButton::Left), 0, 1);
    assert_eq!(dashboard.mode, InputMode::Lists, "a click beside the box closes it");
    click(&mut dashboard, "QUOTA");
    assert_eq!(dashboard.sort_field(Panel::Accounts), Some(ColumnField::Quota));
    click(&mut dashboard, "QUOTA");
    assert!(dashboard.lists[0].descending);
    click(&mut dashboard, "5 Events");
    assert_eq!(dashboard.focus, Panel::Events);
    click(&mut dashboard, "? help");
    assert!(matches!(dashboard.mode, InputMode::Help { .. }));
    press(&mut dashboard, KeyCode::Esc);
    let screen = text(&draw(&mut dashboard, 80, 24));
    let row = screen.lines().position(|line| line.contains("5 Events")).unwrap() + 1;
    mouse(&mut dashboard, MouseEventKind::ScrollDown, 10, row);
    assert_eq!(dashboard.selected(Panel::Events, &dashboard.order(Panel::Events)), 3);
}

#[test]
fn a_question_is_answered_by_its_own_keys_only() {
    let mut dashboard = mixed();
    typed(&mut dashboard, "e");
    assert_eq!(click(&mut dashboard, "gem-2"), None);
    assert!(matches!(dashboard.mode, InputMode::Confirm { .. }));
    assert!(matches!(click(&mut dashboard, "y yes"), Some(ScreenEffect::Act(DaemonChange::Disable(_)))));
}

#[test]
fn without_a_daemon_the_values_are_kept_and_nothing_is_changed() {
    let mut dashboard = daemon_gone();
    let screen = text(&draw(&mut dashboard, 80, 24));
    for part in ["NO DAEMON since 17:04:44, for 2 min", "stale", "codex-a", "lessor ping"] {
        assert!(screen.contains(part), "{part}: {screen}");
    }
    assert_eq!(typed(&mut dashboard, "e"), None);
    assert_eq!(dashboard.mode, InputMode::Lists);
    // the time of the loss stays, whatever happens meanwhile
    dashboard.update(ScreenMessage::Gone("still".to_owned()));
    assert_eq!(dashboard.gone.as_ref().unwrap().since, NOW);
    dashboard.update(state(&[], &[], &[], &[]));
    assert!(dashboard.gone.is_none());
}

#[test]
fn events_come_once_and_ask_for_the_state() {
    let mut dashboard = new();
    let limited = || event("account.limited", 5 * S, json!({ "account": { "id": "ac_home", "label": "home" } }));
    assert_eq!(dashboard.update(ScreenMessage::Events(vec![limited()])), Some(ScreenEffect::Poll));
    // a reconnection replays it
    dashboard.update(ScreenMessage::Events(vec![limited(), event("replay.end", 0, json!({}))]));
    assert_eq!(dashboard.events.len(), 1);
    let ended = request(0, json!([attempt("home", None)]));
    let live = EventInfo { request: Some(Box::new(ended.clone())), ..event("request.ended", 0, json!({})) };
    assert_eq!(dashboard.update(ScreenMessage::Events(vec![live])), None, "a request changes no state");
    dashboard.update(ScreenMessage::Requests(vec![crate::protocol::RequestRow { id: 77, ..ended }]));
    assert_eq!(dashboard.requests.len(), 1, "the same request, read from the history");
    for number in 0..3000 {
        let ended = crate::protocol::RequestRow { at: number, ..request(0, json!([])) };
        let live = EventInfo { request: Some(Box::new(ended)), ..event("request.ended", 0, json!({})) };
        dashboard.update(ScreenMessage::Events(vec![live, event("lease.granted", number, json!({ "fence": number }))]));
    }
    assert_eq!((dashboard.requests.len(), dashboard.events.len()), (1000, 500));
}

#[test]
fn a_pointer_that_only_moves_draws_nothing() {
    let mut dashboard = mixed();
    draw(&mut dashboard, 80, 24);
    assert!(!dashboard.changed);
    mouse(&mut dashboard, MouseEventKind::Moved, 3, 3);
    assert!(!dashboard.changed);
    mouse(&mut dashboard, MouseEventKind::ScrollDown, 3, 8);
    assert!(dashboard.changed);
}

#[test]
fn signals_and_ctrl_keys_leave_the_screen() {
    let mut dashboard = mixed();
    let ctrl = |letter| ScreenMessage::Key(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL));
    assert_eq!(dashboard.update(ctrl('c')), Some(ScreenEffect::Quit));
    assert_eq!(dashboard.update(ScreenMessage::Signal(Stop::End(15))), Some(ScreenEffect::Quit));
    assert_eq!(dashboard.update(ScreenMessage::Signal(Stop::Suspend)), Some(ScreenEffect::Suspend));
    assert_eq!(dashboard.update(ScreenMessage::Signal(Stop::Continued)), Some(ScreenEffect::Restore));
    assert_eq!(press(&mut dashboard, KeyCode::Char('q')), Some(ScreenEffect::Quit));
    #[cfg(unix)]
    assert_eq!(dashboard.update(ctrl('z')), Some(ScreenEffect::Suspend));
}
