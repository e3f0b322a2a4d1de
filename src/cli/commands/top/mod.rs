//! `top`: a live dashboard on the terminal.
//!
//! `dashboard`, `input` and `order` hold its state and what messages change in it, `view` draws it; they do no I/O.
//! `feed` has the threads that send messages, `terminal` takes the terminal and gives it back, also at a signal.

mod cells;
mod dashboard;
mod feed;
mod input;
mod look;
mod message;
mod names;
mod order;
mod panel;
mod terminal;
#[cfg(test)]
mod tests;
mod traffic;
mod view;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event};

use dashboard::Dashboard;
use feed::Feed;
use look::{Look, locale_is_unicode};
use message::{ScreenEffect, ScreenMessage, Stop};
use terminal::Screen;

use crate::cli::ui::format;
use crate::cli::{context::Context, error::CliError};

/// The pause between two drawings: after a key, and however much happens.
const AFTER_INPUT: Duration = Duration::from_millis(30);
const FRAME: Duration = Duration::from_millis(100);
/// More messages are not kept: the threads wait until there is room.
const MOST_MESSAGES: usize = 4096;

pub(super) fn execute(context: &Context) -> Result<(), CliError> {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() || is_dumb {
        let error = CliError::usage("`top` needs a terminal that can be drawn on");
        return Err(error.hint("for text: lessor status; for programs: lessor status --json"));
    }
    // says why there is none, while the terminal is still that of the shell
    drop(context.connect()?);
    let (into, messages) = sync_channel(MOST_MESSAGES);
    let feed = Feed::start(&context.places()?, &into);
    let failed = |error: io::Error| CliError::internal(format!("drawing on the terminal: {error}"));
    terminal::forward_signals(&into).map_err(failed)?;
    let screen = Screen::take().map_err(failed)?;
    let stop = show(screen, &feed, into, &messages).map_err(failed)?;
    if let Some(signal) = stop {
        terminal::end_by(signal);
    }
    Ok(())
}

/// Draws until the user or a signal ends it; returns the signal.
fn show(
    mut screen: Screen,
    feed: &Feed,
    into: SyncSender<ScreenMessage>,
    messages: &Receiver<ScreenMessage>,
) -> io::Result<Option<i32>> {
    thread::spawn(move || forward_input(&into));
    let look = look_of_process();
    let home = std::env::var(if cfg!(windows) { "USERPROFILE" } else { "HOME" }).ok();
    let mut dashboard = Dashboard::new(format::now(), home);
    let mut drawn: Option<Instant> = None;
    let mut had_input = false;
    loop {
        let now = format::now();
        if now / 1000 != dashboard.now / 1000 {
            dashboard.update(ScreenMessage::Tick(now));
        }
        let pause = if had_input { AFTER_INPUT } else { FRAME };
        let until_drawing = drawn.map_or(Duration::ZERO, |drawn| pause.saturating_sub(drawn.elapsed()));
        if dashboard.changed && until_drawing.is_zero() {
            screen.terminal.draw(|frame| {
                let buffer = frame.buffer_mut();
                view::view(&mut dashboard, buffer);
                look.apply(buffer);
            })?;
            (drawn, had_input) = (Some(Instant::now()), false);
            continue;
        }
        let next_second = Duration::from_millis(1000 - now % 1000);
        let wait = if dashboard.changed { until_drawing.min(next_second) } else { next_second };
        let first = match messages.recv_timeout(wait) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        };
        for message in first.into_iter().chain(messages.try_iter().take(MOST_MESSAGES)) {
            had_input |= matches!(message, ScreenMessage::Key(_) | ScreenMessage::Mouse(_) | ScreenMessage::Resized);
            let signal = if let ScreenMessage::Signal(Stop::End(signal)) = message { Some(signal) } else { None };
            match dashboard.update(message) {
                Some(ScreenEffect::Quit) => return Ok(signal),
                Some(ScreenEffect::Suspend) => screen.suspend()?,
                Some(ScreenEffect::Restore) => screen.restore()?,
                Some(effect) => feed.carry_out(effect),
                None => {}
            }
        }
    }
}

/// Reads keys, the mouse and changes of the size.
fn forward_input(into: &SyncSender<ScreenMessage>) {
    while let Ok(event) = event::read() {
        let message = match event {
            Event::Key(key) => ScreenMessage::Key(key),
            Event::Mouse(mouse) => ScreenMessage::Mouse(mouse),
            Event::Resize(..) => ScreenMessage::Resized,
            Event::FocusGained | Event::FocusLost | Event::Paste(_) => continue,
        };
        if into.send(message).is_err() {
            return;
        }
    }
}

fn look_of_process() -> Look {
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Look { colour, unicode: locale_is_unicode(|name| std::env::var(name).ok()) }
}
