//! The calls about the daemon itself: its configuration, its restart.

use std::sync::{Arc, atomic::Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::reply::{AnswerResult, CallReply, CallResult};
use super::session::{bad, shutting_down};
use crate::config::{Config, ConfigValue, Setting};
use crate::daemon::os::handover;
use crate::daemon::state::{ConfigMessage, Daemon};
use crate::pool::millis;
use crate::protocol::{Answer, ErrorInfo, ErrorKind, RestartInfo, RestartParams};

/// How long requests in flight may take before a restart, unless the caller says so. Requests that come meanwhile wait, and
/// the most impatient agent gives up after 60 s.
const DRAIN: Duration = Duration::from_secs(50);
/// No restart waits longer.
const LONGEST_DRAIN: Duration = Duration::from_secs(3600);

/// `config.get`
pub fn get(daemon: &Daemon, reply: &mut CallReply<'_>) -> CallResult {
    let document = daemon.state().config.document(settings_document);
    // it says what a file says, not what calls have changed
    reply.at_once(&Answer::Config(document.to_string()))
}

/// `config.reload`: answered when the worker has read the file.
pub async fn reload(daemon: Arc<Daemon>) -> AnswerResult {
    let (answer, result) = oneshot::channel();
    daemon.mailboxes.config.send(ConfigMessage::Read(answer));
    result.await.map(Answer::Reloaded).map_err(shutting_down)
}

/// `daemon.restart`: answered before requests in flight are waited for.
pub async fn restart(daemon: Arc<Daemon>, params: RestartParams) -> AnswerResult {
    let drain = params.drain_ms.map_or(DRAIN, Duration::from_millis);
    if drain > LONGEST_DRAIN {
        return Err(bad("`drain_ms` may be up to an hour"));
    }
    // the next daemon reads the file as it is now, and would not start with a mistake that this one has not read yet
    let (answer, is_read) = oneshot::channel();
    daemon.mailboxes.config.send(ConfigMessage::Read(answer));
    is_read.await.map_err(shutting_down)?;
    if *daemon.stop.borrow() {
        // a stop that came meanwhile counts
        return Err(shutting_down(()));
    }
    if let Some(error) = daemon.state().config.state().error {
        let message = format!("the configuration is not valid, so the next daemon would not start: {error}");
        return Err(ErrorInfo::new(ErrorKind::ConfigInvalid, message).hint("correct it: lessor config edit"));
    }
    handover::check_program().map_err(|why| ErrorInfo::new(ErrorKind::CannotRun, why))?;
    let in_flight = daemon.in_flight.load(Ordering::Relaxed);
    tracing::info!(in_flight, "restarting; requests in flight: {in_flight}");
    daemon.restart.send_replace(Some(drain));
    Ok(Answer::Restarting(RestartInfo { in_flight, drain_ms: millis(drain), comes_back: handover::CONTINUES }))
}

/// The effective configuration as a JSON document.
fn settings_document(config: &Config) -> String {
    let value = |setting: &Setting| setting.value.as_ref().map(ConfigValue::json);
    let rows = config.show().into_iter().map(|setting| {
        serde_json::json!({ "key": setting.key, "value": value(&setting), "source": setting.source.to_string() })
    });
    serde_json::json!({ "settings": rows.collect::<Vec<_>>() }).to_string()
}
