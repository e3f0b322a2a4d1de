//! The pictures of the dashboard in the README: a screen as SVG, for dark and for light pages.

use std::fmt::Write as _;
use std::path::PathBuf;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

use serde_json::json;

use super::scenes::{self, H, MIN, NOW, S, draw};
use crate::cli::commands::top::dashboard::Dashboard;
use crate::cli::commands::top::message::ScreenMessage;

/// The size of a cell in pixels, for a monospaced font of 14 pixels.
const CELL: (f64, f64) = (8.4, 18.0);
const MARGIN: f64 = 12.0;

/// The colours of a page. Each text colour has a contrast of at least 4.5 to the background.
struct Palette {
    background: &'static str,
    text: &'static str,
    faint: &'static str,
    green: &'static str,
    yellow: &'static str,
    red: &'static str,
    cyan: &'static str,
}

const DARK: Palette = Palette {
    background: "#0d1117",
    text: "#e6edf3",
    faint: "#8b949e",
    green: "#3fb950",
    yellow: "#d29922",
    red: "#ff7b72",
    cyan: "#56d4dd",
};
const LIGHT: Palette = Palette {
    background: "#ffffff",
    text: "#1f2328",
    faint: "#59636e",
    green: "#1a7f37",
    yellow: "#8a5a00",
    red: "#c11c28",
    cyan: "#0a6c78",
};

impl Palette {
    fn colour(&self, colour: Color) -> &'static str {
        match colour {
            Color::DarkGray => self.faint,
            Color::Green => self.green,
            Color::Yellow => self.yellow,
            Color::Red => self.red,
            Color::Cyan => self.cyan,
            Color::Reset => self.text,
            other => panic!("a colour without a place in the palette: {other}"),
        }
    }

    /// The style of a run of cells: its text, and what is behind it.
    fn of(&self, cell: &Cell) -> (&'static str, &'static str, bool) {
        let text = self.colour(cell.fg);
        let is_bold = cell.modifier.contains(Modifier::BOLD);
        if cell.modifier.contains(Modifier::REVERSED) {
            (self.background, text, is_bold)
        } else {
            (text, self.background, is_bold)
        }
    }
}

/// Six accounts, five agents; one account has just met its limit, and its agent went on with another one.
fn busy() -> Dashboard {
    let mut dashboard = scenes::new();
    let rows = [
        ("max-1", "anthropic", "ready", 0.62, 0.31, (1, 2)),
        ("max-2", "anthropic", "ready", 0.38, 0.44, (1, 1)),
        ("max-3", "anthropic", "ready", 0.05, 0.12, (1, 1)),
        ("team", "anthropic", "limited", 1.0, 0.58, (0, 0)),
        ("plus", "openai", "ready", 0.27, 0.09, (1, 1)),
        ("api-key", "openai", "ready", 0.0, 0.0, (1, 1)),
    ];
    let accounts: Vec<_> = rows
        .iter()
        .map(|&(label, provider, state, five_hours, week, (leases, requests))| {
            let mut info = scenes::account(&format!("ac_{label}"), label, provider, state);
            (info["leases"], info["in_flight"]) = (json!(leases), json!(requests));
            if label != "api-key" {
                let resets = if state == "limited" { 23 * MIN } else { 3 * H };
                info["usage"] = json!([scenes::window("5h", five_hours, resets), scenes::window("7d", week, 90 * H)]);
            }
            if state == "limited" {
                info["limits"] = json!([scenes::limit("claude", "pool", 23 * MIN)]);
            }
            info
        })
        .collect();
    let home = "/home/me/src/";
    let leases: Vec<_> = [
        (1, "max-1", "claude", "lessor"),
        (2, "max-2", "claude", "shop"),
        (3, "max-3", "claude", "shop/api"),
        (4, "plus", "codex", "site"),
        (5, "api-key", "opencode", "notes"),
    ]
    .iter()
    .map(|&(number, account, program, directory)| {
        let directory = format!("{home}{directory}");
        let mut info = scenes::lease(number, (&format!("ac_{account}"), account), program, &directory);
        if matches!(account, "plus" | "api-key") {
            (info["provider"], info["model"]) = (json!("openai"), json!("gpt-5-codex"));
        }
        info
    })
    .collect();
    let providers =
        [scenes::provider("anthropic", Some("max-3"), None), scenes::provider("openai", Some("plus"), None)];
    dashboard.update(scenes::state(&accounts, &leases, &[], &providers));
    dashboard.update(scenes::hour(|age| (14 + (age * 37) % 23, u64::from(age == 4 || age == 31))));
    let moved = json!([scenes::attempt("team", Some("quota_exhausted")), scenes::attempt("max-3", None)]);
    let served = ["max-1", "plus", "max-2", "max-1", "moved", "api-key", "max-1", "plus"];
    let requests = (1..).zip(served).map(|(number, account)| {
        let attempts = if account == "moved" { moved.clone() } else { json!([scenes::attempt(account, None)]) };
        scenes::request(number, attempts)
    });
    dashboard.update(ScreenMessage::Requests(requests.collect()));
    let named = |label: &str| json!({ "id": format!("ac_{label}"), "label": label });
    let claude = json!({ "pid": 4003, "program": "claude" });
    let limit =
        json!({ "account": named("team"), "key": "claude", "reason": "quota_exhausted", "until": NOW + 23 * MIN });
    let switch = json!({
        "account": named("max-3"), "from": named("team"), "holder": claude, "reason": "quota_exhausted",
        "until": NOW + 23 * MIN
    });
    dashboard.update(ScreenMessage::Events(vec![
        scenes::event("lease.granted", 21 * MIN, json!({ "account": named("team"), "holder": claude })),
        scenes::event("account.limited", 4 * MIN, limit),
        scenes::event("lease.moved", 4 * MIN, switch),
        scenes::event(
            "lease.granted",
            50 * S,
            json!({ "account": named("api-key"), "holder": { "pid": 4005, "program": "opencode" } }),
        ),
    ]));
    dashboard
}

/// The screen as SVG: a run of cells of one style is one text, at its own place, so that no font moves the next one.
fn svg(buffer: &Buffer, palette: &Palette) -> String {
    let (columns, rows) = (usize::from(buffer.area.width), usize::from(buffer.area.height));
    let (width, height) = (columns as f64 * CELL.0 + 2.0 * MARGIN, rows as f64 * CELL.1 + 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{}\"/>\n",
        palette.background
    );
    for (row, cells) in buffer.content.chunks(columns).enumerate() {
        let mut column = 0;
        while column < columns {
            let style = palette.of(&cells[column]);
            let start = column;
            let mut text = String::new();
            while column < columns && palette.of(&cells[column]) == style {
                text.push_str(cells[column].symbol());
                column += cells[column].symbol().width().max(1);
            }
            let (x, y) = (MARGIN + start as f64 * CELL.0, MARGIN + row as f64 * CELL.1);
            let length = (column - start) as f64 * CELL.0;
            let (colour, behind, is_bold) = style;
            if behind != palette.background {
                writeln!(
                    out,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{}\" fill=\"{behind}\"/>",
                    CELL.1
                )
                .unwrap();
            }
            if text.trim().is_empty() {
                continue;
            }
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let weight = if is_bold { " font-weight=\"bold\"" } else { "" };
            writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{length:.1}\" fill=\"{colour}\"{weight} xml:space=\"preserve\">{text}</text>",
                y + 13.5
            )
            .unwrap();
        }
    }
    out + "</svg>\n"
}

#[test]
fn the_pictures_of_the_readme_show_the_dashboard_as_it_is() {
    let buffer = draw(&mut busy(), 120, 34);
    for (name, palette) in [("top-dark.svg", DARK), ("top-light.svg", LIGHT)] {
        let picture = svg(&buffer, &palette);
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/img").join(name);
        if std::env::var_os("LESSOR_UPDATE_SCREENS").is_some() {
            std::fs::write(&file, &picture).unwrap();
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default().replace("\r\n", "\n");
        assert!(
            picture == kept,
            "{name} is out of date: LESSOR_UPDATE_SCREENS=1 cargo test --lib top::tests writes it"
        );
    }
}
