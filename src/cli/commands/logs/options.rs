//! The options of `logs`, and what both sources of the log need.

use std::time::Duration;

use clap::Args;

/// How often a log that is followed is checked for new lines.
pub(super) const POLL: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Print new lines as they are logged
    #[arg(long, short)]
    pub(super) follow: bool,
    /// How many of the latest lines to print, or `all`
    #[arg(long, short = 'n', value_name = "LINES", default_value = "100", value_parser = line_count)]
    pub(super) lines: LineCount,
}

/// A number of lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LineCount {
    All,
    Last(usize),
}

fn line_count(text: &str) -> Result<LineCount, String> {
    if text == "all" {
        return Ok(LineCount::All);
    }
    text.parse().map(LineCount::Last).map_err(|_| "it must be a number or `all`".to_owned())
}

/// Whether the reader of standard output has closed it; without new lines to write, only polling shows that.
#[cfg(unix)]
pub(super) fn stdout_is_closed() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = std::io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&no_wait)).is_ok() && polled[0].revents().contains(PollFlags::ERR)
}

#[cfg(not(unix))]
pub(super) fn stdout_is_closed() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_count_is_a_number_or_all() {
        for (text, expected) in [
            ("0", Ok(LineCount::Last(0))),
            ("12", Ok(LineCount::Last(12))),
            ("all", Ok(LineCount::All)),
            ("-1", Err(())),
            ("", Err(())),
        ] {
            assert_eq!(line_count(text).map_err(drop), expected, "{text}");
        }
    }
}
