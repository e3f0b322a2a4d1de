//! How much is logged, changed while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::config::LogLevel;

/// The target of everything that lessor itself logs begins with it.
const OURS: &str = env!("CARGO_PKG_NAME");

/// How much is logged; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct LogLevelHandle(Arc<AtomicU8>);

impl LogLevelHandle {
    /// The usual, until the configuration is known.
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(number(LogLevel::default()))))
    }

    /// Logs as much as this from now on.
    pub(crate) fn set(&self, level: LogLevel) {
        let new = number(level);
        if self.0.swap(new, Ordering::Relaxed) != new {
            // every place that logs remembers whether anybody wants to hear
            tracing::callsite::rebuild_interest_cache();
        }
    }

    fn level(&self) -> LevelFilter {
        match self.0.load(Ordering::Relaxed) {
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = metadata.target().split("::").next() == Some(OURS);
        *metadata.level() <= self.level() && (is_ours || *metadata.level() <= Level::WARN)
    }
}

impl<S: Subscriber> Layer<S> for LogLevelHandle {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level())
    }
}

fn number(level: LogLevel) -> u8 {
    match level {
        LogLevel::Error => 1,
        LogLevel::Warn => 2,
        LogLevel::Info => 3,
        LogLevel::Debug => 4,
        LogLevel::Trace => 5,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::Event;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::daemon::log::line::Collect;

    /// What was logged.
    #[derive(Clone, Default)]
    struct UpstreamOutcome(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for UpstreamOutcome {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            let mut collect = Collect::default();
            event.record(&mut collect);
            self.0.lock().unwrap().push(collect.line(crate::pool::Wall(0), *event.metadata().level()).message);
        }
    }

    fn log_of_every_level() {
        tracing::error!("error");
        tracing::warn!("warn");
        tracing::info!("info");
        tracing::debug!("debug");
        tracing::trace!("trace");
        tracing::info!(target: "hyper::proto", "theirs, with a secret");
        tracing::warn!(target: "hyper::proto", "their warning");
    }

    #[test]
    fn a_level_counts_at_once_both_ways() {
        let handle = LogLevelHandle::new();
        let heard = UpstreamOutcome::default();
        let log = tracing_subscriber::registry().with(handle.clone()).with(heard.clone());
        tracing::subscriber::with_default(log, || {
            let said = || {
                log_of_every_level();
                std::mem::take(&mut *heard.0.lock().unwrap()).join(" ")
            };
            assert_eq!(said(), "error warn info their warning");
            for (level, expected) in [
                (LogLevel::Trace, "error warn info debug trace their warning"),
                (LogLevel::Error, "error"),
                (LogLevel::Debug, "error warn info debug their warning"),
                (LogLevel::Warn, "error warn their warning"),
            ] {
                handle.set(level);
                assert_eq!(said(), expected);
            }
        });
    }
}
