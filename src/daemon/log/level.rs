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
pub(in crate::daemon) struct LogLevelHandle {
    /// As `number` says.
    level: Arc<AtomicU8>,
    by_environment: bool,
}

impl LogLevelHandle {
    /// As `LESSOR_LOG` says; else the usual until the configuration is known. Answers the variable if it is no level.
    pub(super) fn new(environment: Option<&str>) -> Result<Self, String> {
        let said = environment.filter(|said| !said.is_empty());
        let level = match said {
            Some(said) => said.parse().map_err(|_| said.to_owned())?,
            None => tracing_level(LogLevel::default()),
        };
        Ok(Self { level: Arc::new(AtomicU8::new(number(level))), by_environment: said.is_some() })
    }

    /// Logs as the configuration says from now on; `false` when `LESSOR_LOG` is set, which wins.
    pub(in crate::daemon) fn set(&self, configured: LogLevel) -> bool {
        if self.by_environment {
            return false;
        }
        let new = number(tracing_level(configured));
        if self.level.swap(new, Ordering::Relaxed) != new {
            // every place that logs remembers whether anybody wants to hear
            tracing::callsite::rebuild_interest_cache();
        }
        true
    }

    fn level(&self) -> LevelFilter {
        match self.level.load(Ordering::Relaxed) {
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

fn tracing_level(configured: LogLevel) -> Level {
    match configured {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    }
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
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
    struct Heard(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Heard {
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

    fn heard(environment: Option<&str>, configured: &[LogLevel]) -> Vec<(bool, String)> {
        let handle = LogLevelHandle::new(environment).unwrap();
        let heard = Heard::default();
        let log = tracing_subscriber::registry().with(handle.clone()).with(heard.clone());
        tracing::subscriber::with_default(log, || {
            let levels = configured.iter().map(|level| {
                let taken = handle.set(*level);
                log_of_every_level();
                (taken, std::mem::take(&mut *heard.0.lock().unwrap()).join(" "))
            });
            levels.collect()
        })
    }

    #[test]
    fn the_configured_level_counts_at_once_both_ways() {
        let said = heard(None, &[LogLevel::Info, LogLevel::Trace, LogLevel::Error, LogLevel::Debug]);
        let expected = [
            "error warn info their warning",
            "error warn info debug trace their warning",
            "error",
            "error warn info debug their warning",
        ];
        assert_eq!(said, expected.map(|words| (true, words.to_owned())));
        assert_eq!(heard(Some(""), &[LogLevel::Error]), [(true, "error".to_owned())]);
    }

    #[test]
    fn the_environment_wins_over_the_configuration() {
        let said = heard(Some("warn"), &[LogLevel::Trace, LogLevel::Error]);
        assert_eq!(
            said,
            [(false, "error warn their warning".to_owned()), (false, "error warn their warning".to_owned())]
        );
        assert_eq!(LogLevelHandle::new(Some("loud")).unwrap_err(), "loud");
    }
}
