//! `config show` and `config get`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use super::reload::other_file;
use crate::cli::ui::{Output, Tint, clean};
use crate::cli::{context::Context, error::CliError};
use crate::client::Client;
use crate::config::{AppPaths, Config, LoadState, LoadedConfig, Setting, SettingSource};

/// The variable that overrides `daemon.log`.
const LOG: &str = "LESSOR_LOG";
/// The column of the comments, unless a value is longer.
const COMMENT: usize = 44;

/// `config show --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigListing {
    /// The path of the file.
    path: String,
    /// `ok`, or `default` if the file does not exist.
    state: LoadState,
    /// Every key; in named sections, the keys that are set.
    settings: Vec<ConfigSetting>,
}

/// `config get --json`, and each value of `config show --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigSetting {
    /// The key's path, as TOML writes it.
    key: String,
    /// The effective value; null if the key is unset and has no default.
    value: serde_json::Value,
    /// Where it comes from: `default`, FILE:LINE, or the name of an environment variable.
    source: String,
    /// The default; null if there is none.
    default: serde_json::Value,
    /// What it is for.
    doc: &'static str,
}

pub(super) fn show(context: &Context) -> Result<(), CliError> {
    let (places, loaded) = load(context).inspect_err(|_| note_last_good_config(context))?;
    let settings = loaded.config.show();
    let shown = ConfigListing {
        path: places.config.display().to_string(),
        state: loaded.state,
        settings: settings.iter().map(value).collect(),
    };
    context.output.result(&shown, || listing(&shown, &settings, &context.output))?;
    note_other_config(&places, &settings, context);
    Ok(())
}

pub(super) fn get(key: &str, context: &Context) -> Result<(), CliError> {
    // a mistyped key is reported even if the file is not valid
    Config::default().get(key).map_err(CliError::usage)?;
    let (_, loaded) = load(context)?;
    let setting = loaded.config.get(key).map_err(CliError::usage)?;
    if setting.value.is_none() && !context.output.json {
        context.output.note(&format!("{} is not set", clean(&setting.key)));
    }
    context.output.result(&value(&setting), || format!("{}\n", setting.plain().unwrap_or_default()))
}

/// The file and the environment of this process.
fn load(context: &Context) -> Result<(AppPaths, LoadedConfig), CliError> {
    let places = context.places()?;
    let mut loaded =
        Config::load(&places.config).map_err(|errors| CliError::invalid_config(&places.config, &errors))?;
    let log = std::env::var(LOG).unwrap_or_default();
    if let Err(why) = loaded.config.set_from_environment("daemon.log", LOG, &log) {
        context.output.labelled_note(Tint::Strong, "warning:", &why);
    }
    Ok((places, loaded))
}

fn value(setting: &Setting) -> ConfigSetting {
    let row = setting.row();
    let default = row.and_then(|row| Config::default().get(row.key).ok());
    ConfigSetting {
        key: setting.key.clone(),
        value: setting.json(),
        source: setting.source.to_string(),
        default: default.map(|setting| setting.json()).unwrap_or_default(),
        doc: row.map_or("", |row| row.doc),
    }
}

/// The values as a configuration file, with their sources in comments.
fn listing(shown: &ConfigListing, settings: &[Setting], output: &Output) -> String {
    let faint = |text: &str| output.tint(Tint::Faint, text);
    let missing = if shown.state == LoadState::Default { " (does not exist: defaults)" } else { "" };
    let mut text = format!("{}\n", faint(&format!("# {}{missing}", clean(&shown.path))));
    let mut current = String::new();
    for setting in settings {
        let (section, name) = setting.section_and_name();
        if section != current {
            text += &format!("\n{}\n", output.tint(Tint::Strong, &format!("[{section}]")));
            current = section;
        }
        let line = match setting.literal() {
            Some(literal) => format!("{name} = {literal}"),
            None => format!("# {name} is not set"),
        };
        let blank = " ".repeat(COMMENT.saturating_sub(line.width()).max(1));
        let comment = format!("# {}", source(setting));
        let comment = if setting.source == SettingSource::Default { faint(&comment) } else { comment };
        text += &format!("{line}{blank}{comment}\n");
    }
    text
}

/// Where a value comes from: `default`, `config.toml:3`, `LESSOR_LOG`.
fn source(setting: &Setting) -> String {
    match &setting.source {
        SettingSource::File { path, line } => {
            format!("{}:{line}", clean(&path.file_name().unwrap_or_default().to_string_lossy()))
        }
        other => other.to_string(),
    }
}

fn note_other_config(places: &AppPaths, settings: &[Setting], context: &Context) {
    let Ok(mut client) = Client::connect(places) else { return };
    let pid = client.server().pid;
    let Ok(status) = client.status() else { return };
    let note = |text: String| context.output.labelled_note(Tint::Strong, "note:", &text);
    if let Some(other) = other_file(&status.config.path, places) {
        note(format!("the running daemon (pid {pid}) reads another file: {other}"));
        return;
    }
    let Ok(document) = client.config() else { return };
    let differing = differing(settings, &document);
    if !differing.is_empty() {
        let keys = differing.join(", ");
        note(format!(
            "the running daemon (pid {pid}) has other values of {keys}; make it read the file: lessor reload"
        ));
    }
}

/// Prints a note if a daemon runs although the file is not valid.
fn note_last_good_config(context: &Context) {
    let daemon = context.places().ok().and_then(|places| Client::connect(&places).ok());
    if let Some(client) = daemon {
        let pid = client.server().pid;
        let text = format!("the running daemon (pid {pid}) keeps the last valid configuration");
        context.output.labelled_note(Tint::Strong, "note:", &text);
    }
}

/// The keys whose values differ from a daemon's, except values from an environment.
fn differing(settings: &[Setting], document: &str) -> Vec<String> {
    let Ok(document) = serde_json::from_str::<serde_json::Value>(document) else { return Vec::new() };
    let rows = document["settings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let mut theirs: BTreeMap<String, &serde_json::Value> = rows.iter().map(|row| (text(row, "key"), row)).collect();
    let mut differing = Vec::new();
    for setting in settings {
        let row = theirs.remove(&setting.key);
        let from_environment = matches!(setting.source, SettingSource::Environment(_))
            || row.is_some_and(|row| text(row, "source").starts_with("LESSOR_"));
        let value = setting.value.as_ref().map(|value| value.json());
        // the daemon does not know, or has not set, a key that it does not list
        let same = row.is_some_and(|row| Some(&row["value"]) == value.as_ref());
        if !same && !from_environment {
            differing.push(setting.key.clone());
        }
    }
    // the rest is set in the daemon only
    differing.extend(theirs.into_keys());
    differing
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shown(text: &str) -> String {
        let config = Config::parse(text, Path::new("/etc/config.toml")).unwrap();
        let settings = config.show();
        let shown = ConfigListing { path: "/etc/config.toml".into(), state: LoadState::Ok, settings: vec![] };
        listing(&shown, &settings, &Output::plain(80))
    }

    #[test]
    fn the_listing_is_a_valid_configuration_and_fits_the_width() {
        let text = "[leases]\nttl = \"90s\"\n[accounts.\"a@b.c\"]\nuse = [\"claude\"]\n[notify]\ndesktop = true\n";
        let listed = shown(text);
        let path = Path::new("/etc/config.toml");
        assert_eq!(Config::parse(&listed, path).unwrap(), Config::parse(text, path).unwrap());
        for line in listed.lines() {
            assert!(line.width() <= 80, "{line}");
        }
        for part in [
            "\n[leases]\nper_account = 1                             # default\n",
            "\nttl = \"90s\"                                 # config.toml:2\n",
            "\n[accounts.\"a@b.c\"]\nuse = [\"claude\"]",
            "# config.toml:6\n",
        ] {
            assert!(listed.contains(part), "{part}\nin\n{listed}");
        }
    }

    #[test]
    fn keys_that_differ_from_the_daemons_are_named() {
        let path = Path::new("/etc/config.toml");
        let mut config = Config::parse("leases.ttl = \"90s\"\naccounts.b.priority = 1", path).unwrap();
        config.set_from_environment("daemon.log", LOG, "trace").unwrap();
        let document = |config: &Config| {
            let value = |s: &Setting| s.value.as_ref().map(|value| value.json());
            let row =
                |s: Setting| serde_json::json!({ "key": s.key, "value": value(&s), "source": s.source.to_string() });
            let rows: Vec<_> = config.show().into_iter().map(row).collect();
            serde_json::json!({ "settings": rows }).to_string()
        };
        assert_eq!(differing(&config.show(), &document(&config)), Vec::<String>::new());
        let other = Config::parse("leases.ttl = \"91s\"\naccounts.c.priority = 1", path).unwrap();
        assert_eq!(
            differing(&config.show(), &document(&other)),
            ["leases.ttl", "accounts.b.priority", "accounts.c.priority"]
        );
    }
}
