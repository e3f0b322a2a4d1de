//! Progress of long work, on standard error: only on a terminal, and removed at the end.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const TICK: Duration = Duration::from_millis(120);

/// The progress of one task; its line is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

/// A bar of so many steps.
pub(crate) fn bar(steps: usize) -> Progress {
    let bar = ProgressBar::with_draw_target(Some(u64::try_from(steps).unwrap_or(u64::MAX)), target());
    Progress::new(bar, "[{bar:30}] {pos}/{len} {msg}", "=> ")
}

/// For work whose length is not known.
pub(crate) fn spinner(what: &'static str) -> Progress {
    let progress = Progress::new(ProgressBar::with_draw_target(None, target()), "{spinner} {msg} {elapsed}", "");
    progress.says(what);
    progress
}

impl Progress {
    fn new(bar: ProgressBar, template: &str, letters: &str) -> Self {
        let mut style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        if !letters.is_empty() {
            style = style.progress_chars(letters);
        }
        bar.set_style(style.tick_chars("|/-\\ "));
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self(bar)
    }

    /// What is done now.
    pub(crate) fn says(&self, what: &'static str) {
        self.0.set_message(what);
    }

    /// One step is done.
    pub(crate) fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn target() -> ProgressDrawTarget {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if std::io::stderr().is_terminal() && !is_dumb {
        ProgressDrawTarget::stderr_with_hz(10)
    } else {
        ProgressDrawTarget::hidden()
    }
}
