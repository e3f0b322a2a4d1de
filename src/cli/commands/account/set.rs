//! `account set`: change the settings of an account.

use clap::Args;

use super::{AccountArg, added, done};
use crate::cli::ui::{account::parse_tier, prompt};
use crate::cli::{context::Context, error::CliError};
use crate::pool::CredentialKind;
use crate::protocol::{SecretText, SetAccountParams};

#[derive(Debug, Args)]
pub(crate) struct AccountSetArgs {
    #[command(flatten)]
    account: AccountArg,
    /// label, email, tier, project_id, max_leases, priority, reserve (0 to 1), fallback_only (true or false), use (a,b) or
    /// client_id; an empty value removes it
    #[arg(value_name = "KEY=VALUE", required_unless_present_any = ["api_key_stdin", "token_stdin"])]
    changes: Vec<String>,
    /// Read a new API key from standard input, which replaces the account's
    #[arg(long, conflicts_with = "token_stdin")]
    api_key_stdin: bool,
    /// Read a new long-lived token from standard input, which replaces the account's
    #[arg(long)]
    token_stdin: bool,
}

const KEYS: [&str; 10] =
    ["label", "email", "tier", "project_id", "max_leases", "priority", "reserve", "fallback_only", "use", "client_id"];

pub(super) fn set(options: AccountSetArgs, context: &Context) -> Result<(), CliError> {
    let mut change = change(options.account.account, &options.changes).map_err(CliError::usage)?;
    let (what, kind) = match (options.api_key_stdin, options.token_stdin) {
        (true, _) => ("API key", Some(CredentialKind::ApiKey)),
        (_, true) => ("token", Some(CredentialKind::Token)),
        _ => ("", None),
    };
    if kind.is_some() {
        change.secret = Some(SecretText(prompt::secret_line(what, &context.output)?.as_str().to_owned().into()));
        change.kind = kind;
    }
    let info = context.connect()?.set_account(change)?;
    match kind {
        Some(_) => added(&info, &format!("replaced the {what} of"), context),
        None => done(&info, "changed", context),
    }
}

fn change(account: String, changes: &[String]) -> Result<SetAccountParams, String> {
    let mut change = SetAccountParams { account, ..SetAccountParams::default() };
    let mut seen: Vec<&str> = Vec::new();
    for text in changes {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
        if seen.contains(&key) {
            return Err(format!("{key} is given twice"));
        }
        seen.push(key);
        match key {
            "label" => change.label = Some(value.to_owned()),
            "email" => change.email = Some(value.to_owned()),
            "tier" => change.tier = Some(if value.is_empty() { Ok(Default::default()) } else { parse_tier(value) }?),
            "project_id" => change.project_id = Some(value.to_owned()),
            "max_leases" => change.max_leases = Some(capacity(&change.account, value)?),
            "priority" => change.priority = Some(number(key, value, "a whole number")?),
            "reserve" => change.reserve = Some(share(value)?),
            "fallback_only" => change.fallback_only = Some(switch(value)?),
            "client_id" => change.client_id = Some(value.to_owned()),
            "use" => change.allowed_agents = Some(list(value)),
            _ => return Err(format!("unknown key {key:?}; the known keys are {}", KEYS.join(", "))),
        }
    }
    Ok(change)
}

/// A number of leases. No lease at all is not a capacity: the account is disabled instead.
fn capacity(account: &str, value: &str) -> Result<u32, String> {
    let most: u32 = number("max_leases", value, "a number from 1, or empty")?;
    if most == 0 && !value.is_empty() {
        return Err(format!(
            "max_leases must be at least 1; so that the account gets no lease: lessor account disable {account}"
        ));
    }
    Ok(most)
}

/// A part of the windows.
fn share(value: &str) -> Result<f64, String> {
    let share: f64 = number("reserve", value, "a number from 0 to 1, such as 0.2")?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("reserve must be from 0 to 1, not {value}")) }
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "true" => Ok(true),
        "false" | "" => Ok(false),
        _ => Err(format!("fallback_only must be true or false, not {value:?}")),
    }
}

/// An empty text is 0, which removes the value.
fn number<T: std::str::FromStr + Default>(key: &str, value: &str, expected: &str) -> Result<T, String> {
    if value.is_empty() {
        return Ok(T::default());
    }
    value.parse().map_err(|_| format!("{key} must be {expected}, not {value:?}"))
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Tier;

    fn parse(changes: &[&str]) -> Result<SetAccountParams, String> {
        change("work".into(), &changes.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn changes_are_parsed_and_empty_values_remove() {
        let all =
            parse(&["label=a=b", "email=", "tier=Pro", "max_leases=3", "priority=-2", "use=claude, codex"]).unwrap();
        assert_eq!((all.label.as_deref(), all.email.as_deref()), (Some("a=b"), Some("")));
        assert_eq!((all.tier, all.max_leases, all.priority), (Some(Tier::Pro), Some(3), Some(-2)));
        assert_eq!(all.allowed_agents.unwrap(), ["claude", "codex"]);
        assert_eq!(all.project_id, None);
        assert_eq!(parse(&["tier=max"]).unwrap().tier, Some(Tier::Ultra));
        let kept = parse(&["reserve=0.2", "fallback_only=true"]).unwrap();
        assert_eq!((kept.reserve, kept.fallback_only), (Some(0.2), Some(true)));
        let all_used = parse(&["reserve=", "fallback_only="]).unwrap();
        assert_eq!((all_used.reserve, all_used.fallback_only), (Some(0.0), Some(false)));
        let none = parse(&["max_leases=", "use=", "tier="]).unwrap();
        assert_eq!((none.max_leases, none.allowed_agents, none.tier), (Some(0), Some(vec![]), Some(Tier::Unknown)));
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (text, part) in [
            ("label", "KEY=VALUE"),
            ("lable=x", "known keys are label"),
            ("max_leases=many", "a number from 1"),
            ("max_leases=-1", "a number from 1"),
            ("max_leases=0", "lessor account disable work"),
            ("reserve=1.5", "from 0 to 1"),
            ("reserve=NaN", "from 0 to 1"),
            ("reserve=half", "such as 0.2"),
            ("fallback_only=yes", "true or false"),
            ("tier=gold", "ultra, pro, free"),
        ] {
            assert!(parse(&[text]).unwrap_err().contains(part), "{text}");
        }
        assert!(parse(&["label=a", "label=b"]).unwrap_err().contains("twice"));
    }
}
