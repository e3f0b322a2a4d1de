//! The log level, which the configuration changes while the daemon runs.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::reload;

use super::spanless::Spanless;
use crate::config::LogLevel;

/// Sets the log level; all clones set the same one.
#[derive(Clone, Debug)]
pub(crate) struct LogLevelHandle(reload::Handle<Targets, Spanless>);

impl LogLevelHandle {
    /// The filter, with the default level until the configuration is read, and its handle.
    pub(super) fn filter() -> (reload::Layer<Targets, Spanless>, Self) {
        let (filter, handle) = reload::Layer::new(targets(LogLevel::default()));
        (filter, Self(handle))
    }

    /// A handle without a log.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self::filter().1
    }

    pub(crate) fn set(&self, level: LogLevel) {
        // a second daemon in one process, as in tests, has no log: there is nothing to change
        let _no_log = self.0.reload(targets(level));
    }
}

/// Libraries log warnings and errors at most: their messages below may hold whole requests, and with them secrets.
fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(env!("CARGO_PKG_NAME"), level)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{Event, Subscriber};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;
    use crate::daemon::log::line::FieldCollector;

    /// The messages that were logged.
    #[derive(Clone, Default)]
    struct Messages(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Messages {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            let mut fields = FieldCollector::default();
            event.record(&mut fields);
            self.0.lock().unwrap().push(fields.line(crate::pool::Wall(0), *event.metadata().level()).message);
        }
    }

    fn log_at_every_level() {
        tracing::error!("error");
        tracing::warn!("warn");
        tracing::info!("info");
        tracing::debug!("debug");
        tracing::trace!("trace");
        tracing::info!(target: "hyper::proto", "a library, with a secret");
        tracing::warn!(target: "hyper::proto", "library warning");
    }

    #[test]
    fn a_new_level_applies_immediately() {
        let (filter, handle) = LogLevelHandle::filter();
        let messages = Messages::default();
        let log = Spanless.with(filter).with(messages.clone());
        tracing::subscriber::with_default(log, || {
            let logged = || {
                log_at_every_level();
                std::mem::take(&mut *messages.0.lock().unwrap()).join(" ")
            };
            assert_eq!(logged(), "error warn info library warning");
            for (level, expected) in [
                (LogLevel::Trace, "error warn info debug trace library warning"),
                (LogLevel::Error, "error"),
                (LogLevel::Debug, "error warn info debug library warning"),
                (LogLevel::Warn, "error warn library warning"),
            ] {
                handle.set(level);
                assert_eq!(logged(), expected);
            }
        });
    }
}
