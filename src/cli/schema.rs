//! `schema`: what the commands print with `--json`, as JSON Schema, made from the types that are printed.

use std::collections::BTreeMap;

use clap::Args;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};

use crate::protocol::{
    AccountInfo, DaemonStatus, DecisionInfo, Empty, EventInfo, ExplainInfo, ExportInfo, GatewayAccess, GatewayInfo,
    LeaseInfo, LeaseRow, RekeyInfo, ReloadInfo,
};

use super::classify::Line;
use super::config::{Change, Checked, Edited, Place, Shown, Value};
use super::context::Context;
use super::daemon::{Pong, Stopped};
use super::demo::Findings;
use super::doctor::Diagnosis;
use super::env::Variables;
use super::failure::{Document, Failure};
use super::import::Report;
use super::logs::LogLine;
use super::service::{Outcome, ServiceStatus};

/// `schema`
#[derive(Debug, Args)]
pub(super) struct Schema {
    /// The command, as in `account list`; `error` for what failures print on standard error [default: all of them]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

type Make = fn() -> schemars::Schema;

/// Every command that prints a document, and what makes its schema.
const DOCUMENTS: &[(&str, Make)] = &[
    ("account add", of::<AccountInfo>),
    ("account disable", of::<AccountInfo>),
    ("account clear-limits", of::<AccountInfo>),
    ("account enable", of::<AccountInfo>),
    ("account list", of::<Vec<AccountInfo>>),
    ("account refresh", of::<AccountInfo>),
    // with --all, a list
    ("account remove", of::<OneOrAll>),
    ("account set", of::<AccountInfo>),
    ("account show", of::<AccountInfo>),
    // of all accounts, a list
    ("account usage", of::<OneOrAll>),
    ("account verify", of::<AccountInfo>),
    ("acquire", of::<LeaseInfo<'static>>),
    // each line
    ("classify", of::<Line>),
    ("config check", of::<Checked>),
    ("config edit", of::<Edited>),
    ("config get", of::<Value>),
    ("config path", of::<Place>),
    ("config set", of::<Change>),
    ("config show", of::<Shown>),
    ("config unset", of::<Change>),
    ("doctor", of::<Diagnosis>),
    ("env", of::<Variables>),
    ("error", of::<Document<'static>>),
    ("demo", of::<Findings>),
    // each line
    ("events", of::<EventInfo>),
    ("explain", of::<ExplainInfo>),
    ("export", of::<ExportInfo>),
    ("gateway key", of::<GatewayAccess>),
    ("gateway url", of::<GatewayInfo>),
    ("import", of::<Report>),
    ("leases", of::<Vec<LeaseRow>>),
    // each line
    ("logs", of::<LogLine>),
    ("login", of::<AccountInfo>),
    ("ping", of::<Pong<'static>>),
    ("release", of::<Empty>),
    ("reload", of::<ReloadInfo>),
    ("report", of::<DecisionInfo<'static>>),
    ("renew", of::<LeaseInfo<'static>>),
    ("secrets rekey", of::<RekeyInfo>),
    ("service install", of::<Outcome>),
    ("service restart", of::<Outcome>),
    ("service start", of::<Outcome>),
    ("service status", of::<ServiceStatus>),
    ("service stop", of::<Outcome>),
    ("service uninstall", of::<Outcome>),
    ("simulate", of::<super::simulate::Findings>),
    ("status", of::<DaemonStatus>),
    ("stop", of::<Stopped>),
    ("token", of::<LeaseInfo<'static>>),
];

/// The one account that was meant; without one, or with `--all`, all of them.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "stands for what is printed, and is never made")]
enum OneOrAll {
    One(Box<AccountInfo>),
    All(Vec<AccountInfo>),
}

/// Prints the schema of one command, or of all by their names.
pub(super) fn schema(options: &Schema, context: &Context) -> Result<(), Failure> {
    if options.command.is_empty() {
        let all: BTreeMap<&str, schemars::Schema> = DOCUMENTS.iter().map(|(name, make)| (*name, make())).collect();
        return context.output.document(&all);
    }
    let wanted = options.command.join(" ");
    match DOCUMENTS.iter().find(|(name, _)| *name == wanted) {
        Some((_, make)) => context.output.document(&make()),
        None => {
            let names: Vec<&str> = DOCUMENTS.iter().map(|(name, _)| *name).collect();
            Err(Failure::usage(format!("{wanted:?} prints no document; these do: {}", names.join(", "))))
        }
    }
}

/// As it is written, not as it would be read: what may be left out of a call is always there in an answer.
fn of<T: JsonSchema>() -> schemars::Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    SchemaGenerator::new(settings).into_root_schema_for::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_name_the_keys_that_are_printed() {
        for (name, key) in
            [("acquire", "fence"), ("status", "uptime_ms"), ("account show", "use"), ("ping", "round_trip_us")]
        {
            let (_, make) = DOCUMENTS.iter().find(|(known, _)| *known == name).unwrap();
            let schema = serde_json::to_value(make()).unwrap();
            assert!(schema["properties"][key]["description"].is_string(), "{name}: {schema}");
            assert!(schema["required"].as_array().unwrap().iter().any(|one| one == key), "{name}: {schema}");
        }
    }

    #[test]
    fn every_command_but_the_printing_ones_is_there() {
        use clap::CommandFactory;
        fn names(command: &clap::Command, before: &str, all: &mut Vec<String>) {
            for below in command.get_subcommands() {
                let name = format!("{before}{}", below.get_name());
                if below.has_subcommands() { names(below, &format!("{name} "), all) } else { all.push(name) }
            }
        }
        let mut all = Vec::new();
        names(&super::super::Cli::command(), "", &mut all);
        // these print a schema themselves, or what others read
        let printing = ["run", "keep", "daemon", "completions", "man", "schema", "config schema", "demo-agent"];
        all.retain(|name| !printing.contains(&name.as_str()));
        for name in all {
            assert!(DOCUMENTS.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}
