//! The calls about the configuration.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::reply::{AnswerResult, CallReply, CallResult};
use super::session::shutting_down;
use crate::config::{Config, ConfigValue, Setting};
use crate::daemon::state::{ConfigMessage, Daemon};
use crate::protocol::Answer;

/// `config.get`
pub fn get(daemon: &Daemon, reply: &mut CallReply<'_>) -> CallResult {
    let document = settings_document(&daemon.state().config.config);
    reply.answer(&Answer::Config(document))
}

/// `config.reload`: answered when the worker has read the file.
pub async fn reload(daemon: Arc<Daemon>) -> AnswerResult {
    let (answer, result) = oneshot::channel();
    daemon.mailboxes.config.send(ConfigMessage::Read(answer));
    result.await.map(Answer::Reloaded).map_err(shutting_down)
}

/// The effective configuration as a JSON document.
fn settings_document(config: &Config) -> String {
    let value = |setting: &Setting| setting.value.as_ref().map(ConfigValue::json);
    let rows = config.show().into_iter().map(|setting| {
        serde_json::json!({ "key": setting.key, "value": value(&setting), "source": setting.source.to_string() })
    });
    serde_json::json!({ "settings": rows.collect::<Vec<_>>() }).to_string()
}
