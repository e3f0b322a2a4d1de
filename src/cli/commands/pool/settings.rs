//! `pool set`, `pool rekey`, and the settings of `[pool]` in this host's configuration.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::commands::config::{ReloadOutcome, write_settings};
use crate::cli::ui::{Output, clean, format};
use crate::cli::{context::Context, error::CliError};
use crate::protocol::{PoolRekeyInfo, PoolRulesInfo, SetPoolParams};

/// The rules for an account that is full.
pub(super) const OVERFLOWS: [&str; 3] = ["wait", "fail", "share"];

#[derive(Debug, Args)]
pub(crate) struct PoolSetArgs {
    /// per_account, max_per_account (both from 1) or overflow (wait, fail or share)
    #[arg(value_name = "KEY=VALUE", required = true)]
    changes: Vec<String>,
}

/// What was written into the configuration file, and what the daemon made of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PoolConfigChange {
    /// The file.
    path: String,
    /// Whether it was changed.
    changed: bool,
    /// What happened when the daemon read it.
    daemon: ReloadOutcome,
}

impl PoolConfigChange {
    /// Writes the settings of `[pool]` that this host needs to use the pool; none: removes those that it used.
    pub(super) fn write(settings: &[(&str, Option<String>)], context: &Context) -> Result<Self, CliError> {
        let places = context.places()?;
        let changed = write_settings(&places.config, settings)?;
        let daemon = ReloadOutcome::of_daemon(&places);
        Ok(Self { path: places.config.display().to_string(), changed, daemon })
    }

    /// The exit code: a configuration that the daemon rejects is an error.
    pub(super) fn exit(&self) -> u8 {
        self.daemon.exit()
    }

    /// What a person has to know of settings that were removed.
    pub(super) fn removed_text(&self) -> String {
        let text = self.text();
        text.replacen("[pool] is set in", "[pool] url was removed from", 1)
    }

    /// What a person has to know of settings that were written.
    pub(super) fn text(&self) -> String {
        let remarks = if self.daemon.is_live_without_notes() { String::new() } else { self.daemon.text() };
        if self.changed { format!("[pool] is set in {}\n{remarks}", clean(&self.path)) } else { remarks }
    }
}

pub(super) fn set(args: &PoolSetArgs, context: &Context) -> Result<(), CliError> {
    let change = change(&args.changes).map_err(CliError::usage)?;
    let rules = context.connect()?.set_pool(change)?;
    context.output.result(&rules, || context.output.prose(&(rules_in_words(&rules) + "\n")))
}

fn change(changes: &[String]) -> Result<SetPoolParams, String> {
    let mut change = SetPoolParams::default();
    let mut seen: Vec<&str> = Vec::new();
    for text in changes {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
        if seen.contains(&key) {
            return Err(format!("{key} is given twice"));
        }
        seen.push(key);
        let number = || match value.parse() {
            Ok(number @ 1..) => Ok(Some(number)),
            _ => Err(format!("{key} must be a number from 1, not {value:?}")),
        };
        match key {
            "per_account" => change.per_account = number()?,
            "max_per_account" => change.max_per_account = number()?,
            "overflow" if OVERFLOWS.contains(&value) => change.overflow = Some(value.to_owned()),
            "overflow" => return Err(format!("overflow must be {}, not {value:?}", OVERFLOWS.join(", "))),
            _ => return Err(format!("unknown key {key:?}; the known keys are per_account, max_per_account, overflow")),
        }
    }
    Ok(change)
}

/// The settings of the pool, as a sentence.
pub(super) fn rules_in_words(rules: &PoolRulesInfo) -> String {
    words(rules.per_account, rules.max_per_account, &rules.overflow)
}

/// The same of the settings alone.
pub(super) fn words(per_account: u32, max_per_account: u32, overflow: &str) -> String {
    let leases = format::count(usize::try_from(per_account).unwrap_or(usize::MAX), "lease");
    let then = match overflow {
        "share" => format!(", and up to {max_per_account} where all are full"),
        "fail" => "; a request beyond that fails".to_owned(),
        _ => "; a request beyond that waits".to_owned(),
    };
    format!("an account takes {leases} on all hosts together{then}")
}

pub(super) fn rekey(context: &Context) -> Result<(), CliError> {
    let info = context.connect()?.rekey_pool()?;
    context.output.result(&info, || rekeyed(&info, &context.output))
}

fn rekeyed(info: &PoolRekeyInfo, output: &Output) -> String {
    let count = |number: u64, one| format::count(usize::try_from(number).unwrap_or(usize::MAX), one);
    let void = match info.void_tokens.as_slice() {
        [] => String::new(),
        names => {
            format!("the join tokens of {} are void; make others: lessor pool join-token\n", clean(&names.join(", ")))
        }
    };
    output.prose(&format!(
        "the secrets of {} are sealed with new keys (generation {}), which {} can open\n{void}",
        count(info.resealed, "account"),
        info.key_generation,
        count(info.hosts, "host")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(changes: &[&str]) -> Result<SetPoolParams, String> {
        change(&changes.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn changes_are_parsed_and_errors_name_what_is_wrong() {
        let all = parse(&["per_account=2", "max_per_account=4", "overflow=share"]).unwrap();
        assert_eq!((all.per_account, all.max_per_account, all.overflow.as_deref()), (Some(2), Some(4), Some("share")));
        assert_eq!(parse(&["overflow=fail"]).unwrap().per_account, None);
        for (text, part) in [
            ("per_account", "KEY=VALUE"),
            ("per_account=0", "from 1"),
            ("max_per_account=many", "from 1"),
            ("overflow=queue", "wait, fail, share"),
            ("peraccount=1", "known keys are per_account"),
        ] {
            assert!(parse(&[text]).unwrap_err().contains(part), "{text}");
        }
        assert!(parse(&["per_account=1", "per_account=2"]).unwrap_err().contains("twice"));
    }

    #[test]
    fn the_settings_are_a_sentence() {
        assert_eq!(words(1, 4, "wait"), "an account takes 1 lease on all hosts together; a request beyond that waits");
        assert_eq!(
            words(2, 4, "share"),
            "an account takes 2 leases on all hosts together, and up to 4 where all are full"
        );
    }
}
