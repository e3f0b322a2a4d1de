//! The calls about the configuration.

use crate::config::{Config, ConfigValue, Setting};

/// The effective configuration as a JSON document.
pub(crate) fn settings_document(config: &Config) -> String {
    let value = |setting: &Setting| setting.value.as_ref().map(ConfigValue::json);
    let rows = config.show().into_iter().map(|setting| {
        serde_json::json!({ "key": setting.key, "value": value(&setting), "source": setting.source.to_string() })
    });
    serde_json::json!({ "settings": rows.collect::<Vec<_>>() }).to_string()
}
