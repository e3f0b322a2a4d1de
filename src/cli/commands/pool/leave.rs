//! `pool leave`.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::settings::PoolConfigChange;
use crate::cli::ui::{clean, format, prompt};
use crate::cli::{context::Context, error::CliError};
use crate::client::Client;
use crate::protocol::{LeavePoolParams, LeftPoolInfo};

#[derive(Debug, Args)]
pub(crate) struct PoolLeaveArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Leave also as the last admin or refresher, while agents work on shared accounts, or while the database is away
    #[arg(long)]
    force: bool,
}

/// `pool leave --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PoolLeaveResult {
    /// What this host has left.
    left: LeftPoolInfo,
    /// What was removed from the configuration file.
    config: PoolConfigChange,
}

pub(super) fn leave(args: &PoolLeaveArgs, context: &Context) -> Result<u8, CliError> {
    if !args.yes && !context.output.json && prompt::can_ask() {
        let status = context.ask(Client::pool_status)?;
        let shared = format::count(usize::try_from(status.summary.accounts).unwrap_or(usize::MAX), "shared account");
        let question = format!("This host will not have the {shared} any more. Leave the pool? [y/N]");
        let answer = prompt::ask(&question, &context.output)?;
        if !matches!(answer.as_deref(), Some("y" | "yes")) {
            context.output.note("this host is still in the pool");
            return Ok(0);
        }
    }
    let left = context.connect()?.leave_pool(LeavePoolParams { force: args.force })?;
    // the other settings do nothing without it, and serve when the host joins again
    let config = PoolConfigChange::write(&[("pool.url", None)], context)?;
    let result = PoolLeaveResult { left, config };
    context.output.result(&result, || context.output.prose(&(text(&result.left) + &result.config.removed_text())))?;
    Ok(result.config.exit())
}

fn text(left: &LeftPoolInfo) -> String {
    let count = |number: u64, one| format::count(usize::try_from(number).unwrap_or(usize::MAX), one);
    let name = clean(&left.name);
    let ended = match left.ended {
        0 => String::new(),
        ended => format!("; {} ended", count(ended, "lease")),
    };
    let removed = count(left.removed, "shared account");
    let first =
        format!("{name} has left the pool: {removed} removed here, {} kept{ended}\n", count(left.kept, "own account"));
    let next = match left.noted {
        true => format!(
            "what it has read stays known to it; to make that worthless, on an admin: lessor pool evict {name}\n"
        ),
        false => {
            format!("the database could not be reached, so it does not know; on an admin: lessor pool evict {name}\n")
        }
    };
    first + &next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_says_what_is_left_to_do() {
        let left = LeftPoolInfo { pool: "1".into(), name: "ci-2".into(), removed: 3, kept: 1, ended: 2, noted: true };
        assert_eq!(
            text(&left),
            "ci-2 has left the pool: 3 shared accounts removed here, 1 own account kept; 2 leases ended\n\
             what it has read stays known to it; to make that worthless, on an admin: lessor pool evict ci-2\n"
        );
        let unnoted = LeftPoolInfo { noted: false, ended: 0, ..left };
        assert!(text(&unnoted).contains("could not be reached"));
    }
}
