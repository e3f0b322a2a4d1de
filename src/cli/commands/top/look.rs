//! How things look: colours, marks, and what is left of them without colour or Unicode.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};

/// What a terminal can show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Look {
    pub(super) colour: bool,
    pub(super) unicode: bool,
}

/// The meaning of a colour. A word or a mark says the same: colour alone says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Warn,
    Bad,
    /// The name of what has the focus, and keys.
    Accent,
}

impl Tone {
    pub(super) fn style(self) -> Style {
        let style = Style::new();
        match self {
            Self::Plain => style,
            Self::Strong => style.add_modifier(Modifier::BOLD),
            Self::Faint => style.fg(Color::DarkGray),
            Self::Good => style.fg(Color::Green),
            Self::Warn => style.fg(Color::Yellow),
            Self::Bad => style.fg(Color::Red).add_modifier(Modifier::BOLD),
            Self::Accent => style.fg(Color::Cyan).add_modifier(Modifier::BOLD),
        }
    }
}

/// The mark and the tone of an account's state.
pub(super) fn of_state(state: &str) -> (&'static str, Tone) {
    match state {
        "ready" => ("●", Tone::Good),
        "partly_limited" => ("◐", Tone::Warn),
        "limited" => ("○", Tone::Warn),
        "waiting_for_token" => ("…", Tone::Warn),
        "disabled" => ("–", Tone::Faint),
        "needs_login" | "needs_verification" => ("!", Tone::Bad),
        _ => ("✗", Tone::Bad),
    }
}

impl Look {
    /// What is drawn on a terminal without colour or Unicode.
    pub(super) fn apply(self, buffer: &mut Buffer) {
        if self.colour && self.unicode {
            return;
        }
        for cell in &mut buffer.content {
            if !self.colour {
                // what is faint by its colour is faint by its weight
                if cell.fg == Color::DarkGray {
                    cell.modifier.insert(Modifier::DIM);
                }
                cell.fg = Color::Reset;
                cell.bg = Color::Reset;
            }
            if !self.unicode && !cell.symbol().is_ascii() {
                let symbol = in_ascii(cell.symbol());
                cell.set_symbol(symbol);
            }
        }
    }
}

/// The nearest ASCII text of the same width.
fn in_ascii(symbol: &str) -> &'static str {
    match symbol {
        "●" => "*",
        "◐" => "%",
        "○" => "o",
        "✗" => "x",
        "…" => ".",
        "–" | "─" | "▁" => "-",
        "━" => "=",
        "·" | "░" => ".",
        "│" => "|",
        "┌" | "┐" | "└" | "┘" => "+",
        "█" => "#",
        "▂" => "_",
        "▃" => ":",
        "▄" => "+",
        "▅" => "=",
        "▆" => "*",
        "▇" => "%",
        "→" => ">",
        "←" => "<",
        "↑" | "▲" => "^",
        "↓" | "▼" => "v",
        "›" | "▸" => ">",
        _ => "?",
    }
}

/// Whether the locale of this process shows Unicode.
pub(super) fn locale_is_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    if cfg!(windows) {
        return true;
    }
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| variable(name).filter(|it| !it.is_empty()));
    let locale = locale.unwrap_or_default().to_ascii_lowercase().replace('-', "");
    // macOS sets none of them in some shells, and always shows UTF-8
    locale.contains("utf8") || (locale.is_empty() && cfg!(target_os = "macos"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::layout::Rect;

    #[test]
    fn without_colour_and_unicode_only_weights_and_ascii_are_left() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 1));
        buffer.set_string(0, 0, "●█─漢 é", Tone::Faint.style());
        Look { colour: false, unicode: false }.apply(&mut buffer);
        let text: String = buffer.content.iter().map(|cell| cell.symbol()).collect();
        assert_eq!(text, "*#-?  ? ");
        assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
        assert!(buffer.content[0].modifier.contains(Modifier::DIM));
    }

    #[test]
    fn each_state_has_a_mark_in_ascii_too() {
        let states =
            ["ready", "partly_limited", "limited", "waiting_for_token", "cannot_renew", "needs_login", "disabled"];
        let marks = |ascii: bool| {
            let all = states.iter().map(|state| of_state(state).0);
            let all = all.map(|mark| if ascii && !mark.is_ascii() { in_ascii(mark) } else { mark });
            all.collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!((marks(false).len(), marks(true).len()), (states.len(), states.len()));
        assert!(!marks(true).contains("?"));
    }

    #[test]
    #[cfg(not(any(windows, target_os = "macos")))]
    fn the_locale_decides_about_unicode() {
        for (all, ctype, lang, expected) in [
            ("", "", "en_US.UTF-8", true),
            ("", "", "C.utf8", true),
            ("C", "", "en_US.UTF-8", false),
            ("", "de_DE.ISO-8859-1", "en_US.UTF-8", false),
            ("", "", "", false),
        ] {
            let of = |name: &str| {
                Some(
                    match name {
                        "LC_ALL" => all,
                        "LC_CTYPE" => ctype,
                        _ => lang,
                    }
                    .to_owned(),
                )
            };
            assert_eq!(locale_is_unicode(of), expected, "{all} {ctype} {lang}");
        }
    }
}
