//! `account set`

use clap::Args;

use crate::protocol::SetAccountParams;

use super::super::context::Context;
use super::super::failure::Failure;
use super::super::oauth;
use super::done;

/// `account set`
#[derive(Debug, Args)]
pub(in crate::cli) struct Set {
    /// An id, a unique prefix of it, an email or a label
    #[arg(value_name = "A")]
    account: String,
    /// label, email, tier, project_id, max_leases, priority or use (a,b); an empty value takes it away
    #[arg(value_name = "KEY=VALUE", required = true)]
    changes: Vec<String>,
}

const KEYS: [&str; 7] = ["label", "email", "tier", "project_id", "max_leases", "priority", "use"];

/// Changes an account.
pub(super) fn set(options: Set, context: &Context) -> Result<(), Failure> {
    let change = change(options.account, &options.changes).map_err(Failure::usage)?;
    let info = context.connect()?.set_account(change)?;
    done(&info, "changed", context)
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
            "tier" => change.tier = Some(if value.is_empty() { Ok(Default::default()) } else { oauth::tier(value) }?),
            "project_id" => change.project_id = Some(value.to_owned()),
            "max_leases" => change.max_leases = Some(number(key, value, "a number from 1, or nothing")?),
            "priority" => change.priority = Some(number(key, value, "a whole number")?),
            "use" => change.allowed_agents = Some(list(value)),
            _ => return Err(format!("there is no {key:?}; it may be {}", KEYS.join(", "))),
        }
    }
    Ok(change)
}

/// Nothing stands for 0, which takes the value away.
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
    fn changes_are_read_and_empty_ones_take_away() {
        let all =
            parse(&["label=a=b", "email=", "tier=pro", "max_leases=3", "priority=-2", "use=claude, codex"]).unwrap();
        assert_eq!((all.label.as_deref(), all.email.as_deref()), (Some("a=b"), Some("")));
        assert_eq!((all.tier, all.max_leases, all.priority), (Some(Tier::Pro), Some(3), Some(-2)));
        assert_eq!(all.allowed_agents.unwrap(), ["claude", "codex"]);
        assert_eq!(all.project_id, None);
        let none = parse(&["max_leases=", "use=", "tier="]).unwrap();
        assert_eq!((none.max_leases, none.allowed_agents, none.tier), (Some(0), Some(vec![]), Some(Tier::Unknown)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("label", "KEY=VALUE"),
            ("lable=x", "it may be label"),
            ("max_leases=many", "a number from 1"),
            ("max_leases=-1", "a number from 1"),
            ("tier=gold", "ultra, pro, free"),
        ] {
            assert!(parse(&[text]).unwrap_err().contains(part), "{text}");
        }
        assert!(parse(&["label=a", "label=b"]).unwrap_err().contains("twice"));
    }
}
