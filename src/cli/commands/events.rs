//! `events`: recent events, and new ones as they happen.

use clap::Args;

use crate::cli::ui::{self, Output, Tint, clean, format};
use crate::cli::{context::Context, error::CliError};
use crate::client::ClientError;
use crate::daemon::{KINDS, REPLAY_END};
use crate::protocol::{EventInfo, SubscribeParams};
use crate::visible::escape_json;

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Print new events as they happen
    #[arg(long, short)]
    follow: bool,
    /// Print events of this kind only; may be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = KINDS)]
    kinds: Vec<String>,
}

/// Prints events: text on a terminal, else JSON lines.
pub(super) fn execute(options: EventsArgs, context: &Context) -> Result<(), CliError> {
    let output = &context.output;
    let as_json = output.json || !output.terminal;
    let client = context.connect()?;
    let mut seen = false;
    for event in client.subscribe(SubscribeParams { kinds: options.kinds, recent: true })? {
        let event = match event {
            Ok(event) => event,
            // the daemon has ended
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
            let line = serde_json::to_string(&event).map_err(|error| CliError::internal(error.to_string()))?;
            output.text(&(escape_json(&line) + "\n"))?;
        } else {
            output.text(&(output.prose(&line(&event, format::now(), output)) + "\n"))?;
        }
    }
    if !seen && !as_json {
        output.note("no events since the daemon was started");
    }
    Ok(())
}

fn line(event: &EventInfo, now: u64, output: &Output) -> String {
    let tint = match event.kind.as_str() {
        "account.limited" | "lease.revoked" | "config.rejected" | "key.revoked" => Tint::Warn,
        "account.ready" | "lease.granted" => Tint::Good,
        _ => Tint::Faint,
    };
    let account = event.account.as_ref().map(|account| ui::account::label(account).to_owned());
    let parts = [
        account,
        event.provider.clone(),
        event.model.clone(),
        event.label.clone(),
        event.fence.map(|fence| format!("#{fence}")),
        why(event, now),
        event.queue.map(|waiting| format!("{waiting} waiting")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().map(|part| clean(&part)).collect();
    let when = output.tint(Tint::Faint, &format!("{:>10}", format::ago(now, event.at)));
    format!("{when}  {}  {}", output.tint(tint, &format!("{:<15}", clean(&event.kind))), parts.join(" "))
}

/// The reason of the event; for a limit also of what and until when.
fn why(event: &EventInfo, now: u64) -> Option<String> {
    let reason = event.reason.as_deref().unwrap_or_default();
    let key = event.key.as_deref().filter(|key| !key.is_empty());
    let end = |then: &str| match event.until {
        Some(until) if until > now => format!(", {then} {}", format::until(now, until)),
        Some(_) => ", ended".to_owned(),
        None => String::new(),
    };
    let scope = event.scope.as_deref().unwrap_or_default();
    if let Some(model) = ui::account::missing_model(scope, reason, key.unwrap_or_default()) {
        return Some(format!("lacks {model}{}", end("asked again")));
    }
    let then = if ui::account::is_denial(scope, reason) { "tried again" } else { "ends" };
    let of = key.map(|key| format!("({key})"));
    let parts: Vec<String> = event.reason.as_deref().map(format::short).into_iter().chain(of).collect();
    Some(parts.join(" ") + &end(then)).filter(|text| !text.is_empty())
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
            account: Some(AccountLabel { id: "ac_1".into(), label: Some("wo\nrk".into()), email: None }),
            key: Some("claude".into()),
            reason: Some("quota_exhausted".into()),
            until: Some(1_300_000),
            ..EventInfo::default()
        };
        assert_eq!(
            line(&event, 1_005_000, &Output::plain(80)),
            "   5 s ago  account.limited  wo\\nrk quota (claude), ends in 5 min"
        );
    }

    #[test]
    fn a_refusal_and_a_missing_model_are_no_quota() {
        let event = |scope: &str, key: &str| EventInfo {
            scope: Some(scope.into()),
            key: Some(key.into()),
            reason: Some("forbidden".into()),
            until: Some(1_300_000),
            ..EventInfo::default()
        };
        let text = |event: EventInfo| why(&event, 1_000_000);
        assert_eq!(text(event("account", "")).as_deref(), Some("refused, tried again in 5 min"));
        assert_eq!(
            text(event("model", "claude:claude-opus-4-1")).as_deref(),
            Some("lacks claude-opus-4-1, asked again in 5 min")
        );
        assert_eq!(text(EventInfo::default()), None);
    }
}
