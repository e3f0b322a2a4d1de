//! `pool migrate`: accounts move into the pool, or back to this host.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::database::DatabaseArgs;
use super::init::{PoolCreationArgs, PoolMemberResult, are, create};
use crate::cli::ui::{Output, account, clean};
use crate::cli::{context::Context, error::CliError};
use crate::protocol::{MigrateParams, MigratedInfo};

#[derive(Debug, Args)]
pub(crate) struct PoolMigrateArgs {
    /// The accounts [default: all; to the pool without pool.own_accounts and logins that another tool keeps]
    #[arg(value_name = "A")]
    accounts: Vec<String>,
    /// Move them into the pool in this database, which is created if there is none [default: this host's pool]
    #[arg(long, value_name = "URL", conflicts_with = "to_local")]
    to: Option<String>,
    /// Move them out of the pool, back to this host alone
    #[arg(long)]
    to_local: bool,
    /// Move also accounts with leases (back: of other hosts), which ends them
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    creation: PoolCreationArgs,
}

/// `pool migrate --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PoolMigrateResult {
    /// The pool that was created, or joined before, with --to.
    pool: Option<PoolMemberResult>,
    /// What was moved.
    migrated: MigratedInfo,
}

pub(super) fn migrate(args: PoolMigrateArgs, context: &Context) -> Result<u8, CliError> {
    let PoolMigrateArgs { accounts, to, to_local, force, database, creation } = args;
    let pool = to.map(|url| create(&url, &database, creation, context)).transpose()?;
    if let Some(created) = pool.as_ref().filter(|pool| pool.member().created && !context.output.json) {
        context.output.text(&created.text(&context.output))?;
    }
    let accounts = if accounts.is_empty() { None } else { Some(accounts) };
    let to = if to_local { "local" } else { "pool" };
    let migrated = context.connect()?.migrate_accounts(MigrateParams { to: to.to_owned(), accounts, force })?;
    let exit = pool.as_ref().map_or(0, PoolMemberResult::exit);
    let result = PoolMigrateResult { pool, migrated };
    context.output.result(&result, || text(&result.migrated, &context.output))?;
    Ok(exit)
}

fn text(info: &MigratedInfo, output: &Output) -> String {
    let names: Vec<String> = info.moved.iter().map(|moved| clean(account::label(moved))).collect();
    let already = usize::try_from(info.already).unwrap_or(usize::MAX);
    let is_back = info.to == "local";
    let place = if is_back { "this host's own" } else { "in the pool" };
    let mut text = match names.len() {
        0 if already == 0 && info.skipped.is_empty() => "there is no account to move\n".to_owned(),
        0 => String::new(),
        moved => format!("{} now {place}, with limits and usage: {}\n", are(moved, "account"), names.join(", ")),
    };
    if already > 0 {
        text += &format!("{} {place} already\n", are(already, "account"));
    }
    for skipped in &info.skipped {
        text += &format!("not moved: {} ({})\n", clean(account::label(&skipped.account)), clean(&skipped.why));
    }
    if !is_back && !names.is_empty() {
        text += "other hosts use them from now on; to undo it: lessor pool migrate --to-local\n";
    }
    output.prose(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::parse_args;
    use crate::protocol::{AccountLabel, SkippedAccountInfo};

    fn label(name: &str) -> AccountLabel {
        AccountLabel { id: "ac_1".into(), label: Some(name.into()), email: None }
    }

    #[test]
    fn the_result_names_what_was_moved_and_what_was_not() {
        let info = MigratedInfo {
            to: "pool".into(),
            moved: vec![label("work"), label("home")],
            already: 1,
            skipped: vec![SkippedAccountInfo { account: label("mine"), why: "in pool.own_accounts".into() }],
        };
        assert_eq!(
            text(&info, &Output::plain(100)),
            "2 accounts are now in the pool, with limits and usage: work, home\n\
             1 account is in the pool already\n\
             not moved: mine (in pool.own_accounts)\n\
             other hosts use them from now on; to undo it: lessor pool migrate --to-local\n"
        );
        let back = MigratedInfo { to: "local".into(), moved: vec![label("work")], already: 0, skipped: vec![] };
        assert_eq!(text(&back, &Output::plain(100)), "1 account is now this host's own, with limits and usage: work\n");
        let none = MigratedInfo { to: "pool".into(), ..MigratedInfo::default() };
        assert_eq!(text(&none, &Output::plain(100)), "there is no account to move\n");
    }

    #[test]
    fn the_direction_is_given_once() {
        let parse = |words: &[&'static str]| parse_args::<PoolMigrateArgs>(words.iter().copied());
        assert!(parse(&["work", "spare"]).is_ok() && parse(&["--to-local", "--force"]).is_ok());
        assert!(parse(&["--to", "postgres://db/lessor", "--to-local"]).is_err());
        assert!(parse(&["--force"]).is_ok_and(|args| args.force && !args.to_local));
    }
}
