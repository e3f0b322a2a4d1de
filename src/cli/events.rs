//! `events`: what happened lately, and what happens.

use clap::Args;

use crate::client::ClientError;
use crate::daemon::{KINDS, REPLAY_END};
use crate::protocol::{EventInfo, SubscribeParams};

use super::context::{self, Context};
use super::failure::Failure;
use super::output::{Output, Tint, clean};
use super::words;

/// `events`
#[derive(Debug, Args)]
pub(super) struct Events {
    /// Go on with what happens from now on
    #[arg(long, short)]
    follow: bool,
    /// Only this kind; may be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = KINDS)]
    kinds: Vec<String>,
}

/// Prints events: text at a terminal, JSON lines for programs.
pub(super) fn events(options: Events, context: &Context) -> Result<(), Failure> {
    let output = &context.output;
    let as_json = output.json || !output.terminal;
    let client = context.connect()?;
    let mut seen = false;
    for event in client.subscribe(SubscribeParams { kinds: options.kinds, recent: true })? {
        let event = match event {
            Ok(event) => event,
            // a daemon that ends has nothing more to tell
            Err(ClientError::Lost(_)) if options.follow => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if event.kind == REPLAY_END {
            if options.follow {
                continue;
            }
            break;
        }
        seen = true;
        if as_json {
            let line = serde_json::to_string(&event).map_err(|error| Failure::new("internal", error.to_string()))?;
            output.text(&(line + "\n"))?;
        } else {
            output.text(&line(&event, context::now(), output))?;
        }
    }
    if !seen && !as_json {
        output.note("nothing has happened since the daemon was started");
    }
    Ok(())
}

/// An event in one line.
fn line(event: &EventInfo, now: u64, output: &Output) -> String {
    let tint = match event.kind.as_str() {
        "account.limited" | "lease.revoked" | "config.rejected" => Tint::Warn,
        "account.ready" | "lease.granted" => Tint::Good,
        _ => Tint::Faint,
    };
    let account = event.account.as_ref().map(|account| account.label.as_ref().unwrap_or(&account.id).clone());
    let parts = [
        account,
        event.provider.clone(),
        event.model.clone(),
        event.label.clone(),
        event.fence.map(|fence| format!("#{fence}")),
        event.reason.as_deref().map(words::short),
        event.key.clone().filter(|key| !key.is_empty()).map(|key| format!("({key})")),
        event.until.map(|until| if until > now { words::until(now, until) } else { "over".to_owned() }),
        event.queue.map(|waiting| format!("{waiting} waiting")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().map(|part| clean(&part)).collect();
    let when = output.tint(Tint::Faint, &format!("{:>10}", words::ago(now, event.at)));
    format!("{when}  {}  {}\n", output.tint(tint, &format!("{:<15}", clean(&event.kind))), parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::AccountLabel;

    #[test]
    fn an_event_is_one_line() {
        let event = EventInfo {
            kind: "account.limited".into(),
            at: 1_000_000,
            account: Some(AccountLabel { id: "ac_1".into(), label: Some("wo\nrk".into()) }),
            key: Some("claude".into()),
            reason: Some("quota_exhausted".into()),
            until: Some(1_300_000),
            ..EventInfo::default()
        };
        assert_eq!(
            line(&event, 1_005_000, &Output::plain(80)),
            "   5 s ago  account.limited  wo\u{fffd}rk quota (claude) in 5 min\n"
        );
    }
}
