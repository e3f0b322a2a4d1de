//! The journal: what is written to it, whether standard error is the journal or the log file, and how `journalctl` finds
//! the daemon's part of the journal.

use std::{fmt, path::Path};

use tracing::field::{Field, Value, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::line::{Line, shortened};
use crate::visible;

/// The identifier of lessor's lines in the journal.
pub(super) const IDENTIFIER: &str = env!("CARGO_PKG_NAME");
/// The line of the log file after which the log continues in the journal.
const ANNOUNCEMENT: &str = "what follows is in the journal: journalctl ";

/// The daemon's part of the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Journal {
    /// A unit of the user's service manager.
    UserUnit(String),
    /// A unit of the system.
    Unit(String),
    /// Lines with lessor's identifier, of this user id.
    User(u32),
}

impl Journal {
    /// The part of this process.
    pub(super) fn of_process() -> Self {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::of_control_group(&groups).unwrap_or_else(|| Self::User(user()))
    }

    /// The journal, too, finds the unit by the control group.
    fn of_control_group(groups: &str) -> Option<Self> {
        let path = groups.lines().find_map(|line| {
            let (hierarchy, path) = line.split_once(':')?.1.split_once(':')?;
            matches!(hierarchy, "" | "name=systemd").then_some(path)
        })?;
        let is_unit = |part: &&str| part.ends_with(".service") && is_name(part);
        let mut parts = path.split('/');
        match parts.find(is_unit)? {
            manager if manager.starts_with("user@") => parts.find(is_unit).map(|unit| Self::UserUnit(unit.to_owned())),
            unit => path.starts_with("/system.slice/").then(|| Self::Unit(unit.to_owned())),
        }
    }

    /// The arguments for `journalctl`.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        match self {
            Self::UserUnit(unit) => vec![format!("--user-unit={unit}")],
            Self::Unit(unit) => vec![format!("--unit={unit}")],
            Self::User(user) => vec![format!("--identifier={IDENTIFIER}"), format!("_UID={user}")],
        }
    }

    /// The line for the log file.
    pub(super) fn announcement(&self) -> String {
        format!("{ANNOUNCEMENT}{self}")
    }

    /// The journal in which the log continues after this line of the log file.
    #[must_use]
    pub fn announced(line: &Line) -> Option<Self> {
        let arguments = line.message.strip_prefix(ANNOUNCEMENT)?;
        let unit = |option: &str| arguments.strip_prefix(option).filter(|name| is_name(name)).map(str::to_owned);
        let user = || arguments.strip_prefix("--identifier=")?.strip_prefix(IDENTIFIER)?.strip_prefix(" _UID=");
        let user = || user()?.parse().ok().map(Self::User);
        unit("--user-unit=").map(Self::UserUnit).or_else(|| unit("--unit=").map(Self::Unit)).or_else(user)
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.arguments().join(" "))
    }
}

/// Hands each event on with its hidden characters escaped, as in the lines of the log file. Spans are not kept.
pub(super) struct EscapedEvents<L>(pub(super) L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for EscapedEvents<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = event.metadata().fields();
        let mut texts = FieldTexts(vec![None; fields.len()]);
        event.record(&mut texts);
        let values: Vec<_> = texts.0.iter().map(|text| text.as_ref().map(|text| text as &dyn Value)).collect();
        self.0.on_event(&Event::new(event.metadata(), &fields.value_set_all(&values)), context);
    }
}

/// The values of an event's fields as text, in their order.
struct FieldTexts(Vec<Option<String>>);

impl Visit for FieldTexts {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(text) = self.0.get_mut(field.index()) {
            *text = Some(visible::escape(&shortened(value)).into_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Whether the text can be the name of a unit.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || ":-_.\\@".contains(letter))
}

#[cfg(unix)]
fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn user() -> u32 {
    0
}

/// Whether standard error goes to the journal. Programs in a terminal inherit the variable, too, so it names the stream.
#[cfg(unix)]
pub(super) fn stderr_is_journal() -> bool {
    let variable = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let stream = variable.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    stream.is_some() && stream == stderr()
}

/// Whether standard error is this file, as in a daemon that a client has started.
#[cfg(unix)]
pub(super) fn stderr_is(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    file.is_some() && file == stderr()
}

/// Device and inode of standard error.
#[cfg(unix)]
fn stderr() -> Option<(u64, u64)> {
    let stat = rustix::fs::fstat(std::io::stderr()).ok()?;
    // their types differ among systems
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    Some((stat.st_dev as u64, stat.st_ino as u64))
}

#[cfg(not(unix))]
pub(super) fn stderr_is_journal() -> bool {
    false
}

/// The system does not show which file a handle is open on; a daemon without a console was started by a client.
#[cfg(not(unix))]
pub(super) fn stderr_is(path: &Path) -> bool {
    use std::io::IsTerminal;
    path.exists() && !std::io::stdin().is_terminal() && !std::io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::super::line::FieldCollector;
    use super::*;

    /// Keeps the lines that would be written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<Line>>>);

    impl<S: Subscriber> Layer<S> for Written {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            let mut fields = FieldCollector::default();
            event.record(&mut fields);
            self.0.lock().unwrap().push(fields.line(crate::pool::Wall(0), *event.metadata().level()));
        }
    }

    #[test]
    fn events_are_escaped() {
        let written = Written::default();
        let subscriber = tracing_subscriber::registry().with(EscapedEvents(written.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let account = "wo\u{202e}rk";
            let absent: Option<&str> = None;
            tracing::warn!(%account, absent, tries = 3, "account {account}\nlessor[1]: forged\u{200b}");
        });
        let line = written.0.lock().unwrap().pop().unwrap();
        assert_eq!(line.message, r"account wo\u{202e}rk\nlessor[1]: forged\u{200b}");
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(line.fields, [field("account", r"wo\u{202e}rk"), field("tries", "3")]);
        assert_eq!(line.level, Some("WARN"));
    }

    #[test]
    fn the_control_group_names_the_unit() {
        let user = |unit: &str| Some(Journal::UserUnit(unit.to_owned()));
        for (groups, expected) in [
            ("0::/user.slice/user-7.slice/user@7.service/app.slice/lessor.service\n", user("lessor.service")),
            (
                "0::/user.slice/user-7.slice/user@7.service/app.slice/app-a\\x2db.service/sub",
                user("app-a\\x2db.service"),
            ),
            (
                "12:cpu:/\n1:name=systemd:/system.slice/lessor@x.service\n",
                Some(Journal::Unit("lessor@x.service".to_owned())),
            ),
            ("0::/user.slice/user-7.slice/user@7.service/init.scope", None),
            ("0::/user.slice/user-7.slice/session-2.scope", None),
            ("0::/lessor-test/mgr/app.slice/lessor.service", None),
            ("0::/system.slice/x y.service", None),
            ("0::/", None),
            ("", None),
        ] {
            assert_eq!(Journal::of_control_group(groups), expected, "{groups}");
        }
    }

    #[test]
    fn an_announced_journal_is_found_again() {
        for journal in [Journal::UserUnit("a.service".into()), Journal::Unit("b@1.service".into()), Journal::User(1000)]
        {
            let line = Line { message: journal.announcement(), ..Line::default() };
            assert_eq!(Journal::announced(&line), Some(journal));
        }
        for forged in ["--user-unit=a b", "--user-unit=", "--file=/etc/passwd", "--identifier=x _UID=1", ""] {
            let line = Line { message: format!("{ANNOUNCEMENT}{forged}"), ..Line::default() };
            assert_eq!(Journal::announced(&line), None, "{forged}");
        }
        assert_eq!(Journal::announced(&Line { message: "started".into(), ..Line::default() }), None);
    }
}
