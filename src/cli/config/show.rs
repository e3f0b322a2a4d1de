//! `config show` and `config get`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use crate::client::Client;
use crate::config::{AppPaths, Config, LoadState, LoadedConfig, Setting, SettingSource};

use super::super::context::Context;
use super::super::failure::Failure;
use super::super::output::{Output, Tint, clean};
use super::invalid;
use super::verdict;

/// The variable that goes before `daemon.log`.
const LOG: &str = "LESSOR_LOG";
/// Where the remarks begin, unless a value is longer.
const REMARK: usize = 44;

/// `config show --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Shown {
    /// Where the file is, or would be.
    path: String,
    /// `ok`, or `default` if there is no file.
    state: LoadState,
    /// Every key; of named sections those that are set.
    settings: Vec<Value>,
}

/// `config get --json`, and each value of `config show --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Value {
    /// The key's path, as TOML writes it.
    key: String,
    /// What holds; null where unset means something of its own.
    value: serde_json::Value,
    /// `default`, FILE:LINE, or the name of an environment variable.
    source: String,
    /// What held if nobody said otherwise; null where that means something of its own.
    default: serde_json::Value,
    /// Whether this version acts on it; else it is only checked.
    active: bool,
    /// What it is for.
    doc: &'static str,
}

/// Prints every value that holds.
pub(super) fn show(context: &Context) -> Result<(), Failure> {
    let (places, loaded) = load(context).inspect_err(|_| tell_of_the_last_good_one(context))?;
    let settings = loaded.config.show();
    let shown = Shown {
        path: places.config.display().to_string(),
        state: loaded.state,
        settings: settings.iter().map(value).collect(),
    };
    context.output.result(&shown, || listing(&shown, &settings, &context.output))?;
    tell_of_another(&places, &settings, context);
    Ok(())
}

/// Prints one value.
pub(super) fn get(key: &str, context: &Context) -> Result<(), Failure> {
    // a mistyped key is the more likely mistake, and told without the file
    Config::default().get(key).map_err(Failure::usage)?;
    let (_, loaded) = load(context)?;
    let setting = loaded.config.get(key).map_err(Failure::usage)?;
    if setting.value.is_none() && !context.output.json {
        context.output.note(&format!("{} is not set", clean(&setting.key)));
    }
    context.output.result(&value(&setting), || format!("{}\n", setting.plain().unwrap_or_default()))
}

/// The file and the environment of this process.
fn load(context: &Context) -> Result<(AppPaths, LoadedConfig), Failure> {
    let places = context.places()?;
    let mut loaded = Config::load(&places.config).map_err(|errors| invalid(&places.config, &errors))?;
    let said = std::env::var(LOG).unwrap_or_default();
    if let Err(why) = loaded.config.set_from_environment("daemon.log", LOG, &said) {
        context.output.note(&format!("{} {why}", context.output.strong("warning:")));
    }
    Ok((places, loaded))
}

fn value(setting: &Setting) -> Value {
    let row = setting.row();
    let default = row.and_then(|row| Config::default().get(row.key).ok());
    Value {
        key: setting.key.clone(),
        value: setting.json(),
        source: setting.source.to_string(),
        default: default.map(|setting| setting.json()).unwrap_or_default(),
        active: row.is_none_or(|row| row.active),
        doc: row.map_or("", |row| row.doc),
    }
}

/// A file that says all this: sections, keys, and in remarks who says so.
fn listing(shown: &Shown, settings: &[Setting], output: &Output) -> String {
    let faint = |text: &str| output.tint(Tint::Faint, text);
    let missing = if shown.state == LoadState::Default { " (there is no such file: defaults)" } else { "" };
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
        let blank = " ".repeat(REMARK.saturating_sub(line.width()).max(1));
        let remark = format!("# {}", remark(setting));
        let remark = if setting.source == SettingSource::Default { faint(&remark) } else { remark };
        text += &format!("{line}{blank}{remark}\n");
    }
    text
}

/// Who says so: `default`, `config.toml:3`, `LESSOR_LOG`.
fn remark(setting: &Setting) -> String {
    let source = match &setting.source {
        SettingSource::File { path, line } => {
            format!("{}:{line}", clean(&path.file_name().unwrap_or_default().to_string_lossy()))
        }
        other => other.to_string(),
    };
    let active = setting.row().is_none_or(|row| row.active);
    if active { source } else { format!("{source}, not active yet") }
}

/// Says so when a daemon runs on something else.
fn tell_of_another(places: &AppPaths, settings: &[Setting], context: &Context) {
    let Ok(mut client) = Client::connect(places) else { return };
    let pid = client.server().pid;
    let Ok(status) = client.status() else { return };
    let note = |what: String| context.output.note(&format!("{} {what}", context.output.strong("note:")));
    if let Some(other) = verdict::other_file(&status.config.path, places) {
        note(format!("the running daemon (pid {pid}) reads another file: {other}"));
        return;
    }
    let Ok(document) = client.config() else { return };
    let differing = differing(settings, &document);
    if !differing.is_empty() {
        let keys = differing.join(", ");
        note(format!("the running daemon (pid {pid}) does not have this yet: {keys}; see: lessor reload"));
    }
}

/// Says so when a daemon runs although the file is broken.
fn tell_of_the_last_good_one(context: &Context) {
    let daemon = context.places().ok().and_then(|places| Client::connect(&places).ok());
    if let Some(client) = daemon {
        let pid = client.server().pid;
        let note = context.output.strong("note:");
        context.output.note(&format!("{note} the running daemon (pid {pid}) keeps the last good configuration"));
    }
}

/// The keys of which a daemon's document says something else; what either has from its environment aside.
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
        // a key that it does not list is one that it does not know or has not got
        let same = row.is_some_and(|row| Some(&row["value"]) == value.as_ref());
        if !same && !from_environment {
            differing.push(setting.key.clone());
        }
    }
    // what is left is set there and no more here
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
        let shown = Shown { path: "/etc/config.toml".into(), state: LoadState::Ok, settings: vec![] };
        listing(&shown, &settings, &Output::plain(80))
    }

    #[test]
    fn what_is_shown_is_itself_a_configuration_and_fits() {
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
            "# config.toml:6, not active yet\n",
        ] {
            assert!(listed.contains(part), "{part}\nin\n{listed}");
        }
    }

    #[test]
    fn what_a_daemon_has_otherwise_is_named() {
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
