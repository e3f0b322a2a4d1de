//! `schema`: the JSON Schema of what each command prints with `--json`, generated from the printed types.

use std::collections::BTreeMap;

use clap::Args;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};

use super::account::AccountDetails;
use super::alias::AliasReport;
use super::backup::{BackupResult, RestoreResult};
use super::config::{ConfigChange, ConfigCheckResult, ConfigEditResult, ConfigListing, ConfigLocation, ConfigSetting};
use super::daemon::{PingResult, restart::RestartResult, stop::StopResult};
use super::guests::{JoinResult, LeaveResult, ShareChange, SharedSocket};
use super::pool::{PoolInitResult, PoolLeaveResult, PoolMemberResult, PoolMigrateResult};
use super::service::{ServiceChange, ServiceStatus};
use super::{
    bench::BenchResult, classify::ClassifyLine, demo::DemoResult, demo::ServedDemo, doctor::Diagnosis,
    env::EnvVariables, forecast::ForecastReport, import::ImportReport, logs::LogLine, monitor::PageAddress,
    simulate::SimulationResult,
};
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorDocument};
use crate::protocol::{
    AccountInfo, AgentSessionInfo, CheckInfo, DaemonStatus, DecisionInfo, Empty, EventInfo, EvictedHostInfo,
    ExplainInfo, ExportInfo, GatewayAccess, GatewayInfo, GatewayKeyInfo, HistoryInfo, JoinTokenInfo, LeaseInfo,
    LeaseRow, PoolHostInfo, PoolRekeyInfo, PoolRulesInfo, PoolStatusInfo, RekeyInfo, ReloadInfo, RevokedKeyInfo,
    StoredClientInfo, UsedResetInfo,
};

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// The command, as in `account list`; `error`: what every command prints if it fails [default: all commands]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

type MakeSchema = fn() -> schemars::Schema;

/// Commands, and the schema of the document that each of them prints.
const DOCUMENTS: &[(&[&str], MakeSchema)] = &[
    (&["account add", "account clear-limits", "account disable", "account enable"], of::<AccountDetails<'static>>),
    (&["account refresh", "account set", "account show", "account verify", "login"], of::<AccountDetails<'static>>),
    (&["account check"], of::<CheckInfo>),
    (&["account reset"], of::<UsedResetInfo>),
    (&["account list"], of::<Vec<AccountInfo>>),
    // a list with --all, or without a name
    (&["account remove", "account usage"], of::<OneOrAll>),
    (&["acquire", "renew", "token"], of::<LeaseInfo<'static>>),
    // each line
    (&["classify"], of::<ClassifyLine>),
    (&["alias install", "alias list", "alias uninstall"], of::<AliasReport>),
    (&["backup"], of::<BackupResult>),
    (&["bench"], of::<BenchResult>),
    (&["config check"], of::<ConfigCheckResult>),
    (&["config edit"], of::<ConfigEditResult>),
    (&["config get"], of::<ConfigSetting>),
    (&["config path"], of::<ConfigLocation>),
    (&["config set", "config unset"], of::<ConfigChange>),
    (&["config show"], of::<ConfigListing>),
    // another one with --serve
    (&["demo"], of::<ResultOrServed>),
    (&["doctor"], of::<Diagnosis>),
    (&["env"], of::<EnvVariables>),
    (&["error"], of::<ErrorDocument<'static>>),
    // each line
    (&["events"], of::<EventInfo>),
    (&["explain"], of::<ExplainInfo>),
    (&["export"], of::<ExportInfo>),
    (&["forecast"], of::<ForecastReport>),
    (&["gateway key"], of::<GatewayAccess>),
    (&["gateway keys"], of::<Vec<GatewayKeyInfo>>),
    // one for each key
    (&["gateway revoke"], of::<Vec<RevokedKeyInfo>>),
    (&["gateway url"], of::<GatewayInfo>),
    // `requests -f`: the row of each line
    (&["history", "requests"], of::<HistoryInfo>),
    (&["import"], of::<ImportReport>),
    (&["join"], of::<JoinResult>),
    (&["leave"], of::<LeaveResult>),
    (&["leases"], of::<Vec<LeaseRow>>),
    // each line
    (&["logs"], of::<LogLine>),
    (&["move"], of::<crate::protocol::MovedInfo>),
    (&["ping"], of::<PingResult<'static>>),
    (&["pool evict"], of::<EvictedHostInfo>),
    (&["pool hosts"], of::<Vec<PoolHostInfo>>),
    (&["pool init"], of::<PoolInitResult>),
    (&["pool join"], of::<PoolMemberResult>),
    (&["pool join-token"], of::<JoinTokenInfo>),
    (&["pool leave"], of::<PoolLeaveResult>),
    (&["pool migrate"], of::<PoolMigrateResult>),
    (&["pool rekey"], of::<PoolRekeyInfo>),
    (&["pool set"], of::<PoolRulesInfo>),
    (&["pool status"], of::<PoolStatusInfo>),
    (&["release"], of::<Empty>),
    (&["reload"], of::<ReloadInfo>),
    (&["report"], of::<DecisionInfo<'static>>),
    (&["restart"], of::<RestartResult>),
    (&["restore"], of::<RestoreResult>),
    (&["secrets list"], of::<Vec<StoredClientInfo>>),
    (&["secrets rekey"], of::<RekeyInfo>),
    (&["secrets remove", "secrets set"], of::<StoredClientInfo>),
    (&["service install", "service restart", "service start", "service stop"], of::<ServiceChange>),
    (&["service uninstall"], of::<ServiceChange>),
    (&["service status"], of::<ServiceStatus>),
    (&["share", "share remove"], of::<ShareChange>),
    (&["share list"], of::<Vec<SharedSocket>>),
    (&["simulate"], of::<SimulationResult>),
    (&["status"], of::<DaemonStatus>),
    (&["statusline"], of::<AgentSessionInfo>),
    (&["stop"], of::<StopResult>),
    (&["ui"], of::<PageAddress>),
];

fn documents() -> BTreeMap<&'static str, MakeSchema> {
    DOCUMENTS.iter().flat_map(|(names, make)| names.iter().map(|name| (*name, *make))).collect()
}

/// The account that was named; without a name, or with `--all`, all accounts.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what is printed; never constructed")]
enum OneOrAll {
    One(Box<AccountDetails<'static>>),
    All(Vec<AccountInfo>),
}

/// The result of a demo; with `--serve`, where it serves.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what is printed; never constructed")]
enum ResultOrServed {
    Result(Box<DemoResult>),
    Served(Box<ServedDemo>),
}

#[cfg(test)]
pub(super) fn has(command: &str) -> bool {
    documents().contains_key(command)
}

pub(super) fn execute(options: &SchemaArgs, context: &Context) -> Result<(), CliError> {
    let documents = documents();
    if options.command.is_empty() {
        let all: BTreeMap<&str, schemars::Schema> = documents.iter().map(|(name, make)| (*name, make())).collect();
        return context.output.document(&all);
    }
    let wanted = options.command.join(" ");
    let make = documents.get(wanted.as_str()).ok_or_else(|| {
        let names: Vec<&str> = documents.keys().copied().collect();
        CliError::usage(format!("{wanted:?} prints no document; these commands do: {}", names.join(", ")))
    })?;
    context.output.document(&make())
}

/// The schema for output: fields that are optional in a call are always present in an answer.
pub(super) fn of<T: JsonSchema>() -> schemars::Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    SchemaGenerator::new(settings).into_root_schema_for::<T>()
}

/// The schema for input: optional fields may be left out.
pub(super) fn of_input<T: JsonSchema>() -> schemars::Schema {
    SchemaGenerator::new(SchemaSettings::draft2020_12()).into_root_schema_for::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_describe_the_keys_that_are_printed() {
        for (name, key) in
            [("acquire", "fence"), ("status", "uptime_ms"), ("account show", "use"), ("ping", "round_trip_us")]
        {
            let schema = serde_json::to_value(documents()[name]()).unwrap();
            assert!(schema["properties"][key]["description"].is_string(), "{name}: {schema}");
            assert!(schema["required"].as_array().unwrap().iter().any(|one| one == key), "{name}: {schema}");
        }
    }
}
