//! `acquire`: a lease for a script.

use std::time::Duration;

use clap::Args;

use crate::cli::launch::{LeaseOptions, agent::provider_name, caller_process};
use crate::cli::launch::{parse_duration, wait_for_lease};
use crate::cli::ui::{self, format};
use crate::cli::{context::Context, error::CliError};
use crate::protocol::{AcquireParams, BindTo};
use crate::{client::Client, pool::millis};

#[derive(Debug, Args)]
pub(crate) struct AcquireArgs {
    /// The provider: anthropic, openai, google, or one from the configuration
    provider: String,
    #[command(flatten)]
    options: LeaseOptions,
    /// Do not lease this account; may be repeated
    #[arg(long, value_name = "A")]
    exclude: Vec<String>,
    /// The priority in the queue, from -10 to 10; higher is served first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true,
          value_parser = clap::value_parser!(i8).range(-10..=10))]
    priority: i8,
    /// End the lease after this time unless it is renewed; it is not bound to a process
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// The agent that will use the account; some accounts serve certain agents only
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Lease the account exclusively
    #[arg(long)]
    exclusive: bool,
    /// Return the same lease to every request with this id, for 60 s
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Bind the lease to this process, in scripts $$ [default: the nearest calling program, or its shell]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
}

pub(crate) fn acquire(args: AcquireArgs, context: &Context) -> Result<(), CliError> {
    if let Some(account) = args.options.account.as_ref().filter(|account| args.exclude.contains(account)) {
        return Err(CliError::usage(format!("--account and --exclude both name {account}")));
    }
    let (bind, bound_to) = match (args.pid, args.ttl) {
        (Some(pid), _) => (BindTo::Pid(pid), format!("until process {pid} ends")),
        (None, Some(_)) => (BindTo::Ttl, String::new()),
        (None, None) => {
            let caller = caller_process::calling_program().map_err(CliError::usage)?;
            (BindTo::Pid(caller.pid), format!("until {} (process {}) ends", caller.name, caller.pid))
        }
    };
    let request = AcquireParams {
        provider: provider_name(&args.provider),
        exclude: args.exclude,
        priority: args.priority,
        ttl_ms: args.ttl.map(millis),
        bind,
        // the text does not show the secret
        credential: context.output.json,
        agent: args.agent,
        exclusive: args.exclusive,
        request_id: args.request_id,
        ..args.options.into_request()
    };
    let output = &context.output;
    // not sent with the greeting: a command that fails there must leave no lease behind that its caller does not know
    let lease = wait_for_lease(&mut context.connect()?, request, context, Client::acquire)?;
    output.result(&lease, || ui::lease::describe(&lease, &bound_to, format::now(), output))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::parse_args;

    #[test]
    fn negative_priorities_are_numbers_not_options() {
        let parse =
            |words: &[&'static str]| parse_args::<AcquireArgs>(["anthropic"].into_iter().chain(words.iter().copied()));
        for (text, priority) in [("-5", -5), ("10", 10), ("-10", -10)] {
            assert_eq!(parse(&["--priority", text]).unwrap().priority, priority);
        }
        assert!(parse(&["--priority", "-11"]).is_err());
        let line = parse(&["--wait", "1h30m", "--exclude", "a", "--exclude", "b"]).unwrap();
        assert_eq!(line.options.wait, Some(Duration::from_secs(5400)));
        assert_eq!(line.exclude, ["a", "b"]);
        assert!(parse(&["--wait", "5"]).is_err(), "a unit is needed");
    }
}
