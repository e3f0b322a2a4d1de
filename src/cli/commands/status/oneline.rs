//! `status --oneline`: one short line for tmux, starship and prompts. It starts no daemon, waits for none that hangs, and
//! succeeds whatever there is to say, so that a status bar stays readable.

use std::sync::mpsc;
use std::time::Duration;

use super::{STATUS, agent_name};
use crate::cli::ui::{clean, format};
use crate::cli::{context::Context, error::CliError};
use crate::client::{Client, ClientError};
use crate::daemon::lock;
use crate::protocol::{AccountInfo, DaemonStatus, ListAccountsParams, ProviderInfo};

/// How long the daemon has for its answer; a status bar asks again.
const PATIENCE: Duration = Duration::from_millis(500);
/// What may stand between braces in `--format`.
const PLACEHOLDERS: [&str; 7] = ["line", "ready", "limited", "total", "leases", "queue", "reset"];

/// A part of `--format`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

pub(super) fn execute(format: Option<&str>, context: &Context) -> Result<(), CliError> {
    let parts = format.map(parse).transpose().map_err(CliError::usage)?;
    let parts = parts.unwrap_or_else(|| vec![Part::Placeholder("line")]);
    let places = context.places()?;
    // where a service manager holds the socket, connecting would start a daemon
    if !lock::is_held(&places.lock) {
        return context.output.text("lessor: no daemon\n");
    }
    let needs_accounts = parts.contains(&Part::Placeholder("reset"));
    let (answer, answered) = mpsc::channel();
    let ask = move || {
        let found = Client::connect_ahead(&places, &STATUS).and_then(|mut client| {
            let status = client.status()?;
            let accounts = if needs_accounts { client.accounts(ListAccountsParams::default())? } else { Vec::new() };
            Ok((status, accounts))
        });
        let _too_late = answer.send(found);
    };
    let asked = std::thread::Builder::new().spawn(ask);
    asked.map_err(|error| CliError::internal(format!("no thread can be started: {error}")))?;
    let line = match answered.recv_timeout(PATIENCE) {
        Ok(Ok((status, accounts))) => filled(&parts, &status, &accounts, format::now()),
        Ok(Err(ClientError::NoDaemon(_))) => "lessor: no daemon".to_owned(),
        Ok(Err(ClientError::Mismatch { .. })) => "lessor: another version".to_owned(),
        Ok(Err(_)) | Err(_) => "lessor: no answer".to_owned(),
    };
    context.output.text(&(line + "\n"))
}

/// Splits a format: `{name}` is a placeholder, `{{` and `}}` are braces.
fn parse(format: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        parts.push(Part::Text(&rest[..at]));
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix(brace) {
            parts.push(Part::Text(brace));
            rest = after;
            continue;
        }
        let known = PLACEHOLDERS.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(" ");
        let (name, after) = match after.split_once('}') {
            Some(found) if brace == "{" => found,
            _ => {
                return Err(format!(
                    "--format has a single {brace}; a brace is written twice, and placeholders are {known}"
                ));
            }
        };
        if !PLACEHOLDERS.contains(&name) {
            return Err(format!("--format has no placeholder {{{name}}}; there are {known}"));
        }
        parts.push(Part::Placeholder(name));
        rest = after;
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| *part != Part::Text(""));
    Ok(parts)
}

fn filled(parts: &[Part<'_>], status: &DaemonStatus, accounts: &[AccountInfo], now: u64) -> String {
    let text = |part: &Part<'_>| match part {
        Part::Text(text) => clean(text),
        Part::Placeholder("ready") => status.accounts.ready.to_string(),
        Part::Placeholder("limited") => status.accounts.limited.to_string(),
        Part::Placeholder("total") => status.accounts.total.to_string(),
        Part::Placeholder("leases") => status.leases.to_string(),
        Part::Placeholder("queue") => status.queue.len().to_string(),
        Part::Placeholder("reset") => {
            let ends = accounts.iter().flat_map(|account| &account.limits).map(|limit| limit.until);
            ends.filter(|until| *until > now).min().map_or_else(String::new, |at| format::day_and_clock(now, at))
        }
        Part::Placeholder(_) => one_line(status, now),
    };
    parts.iter().map(text).collect()
}

/// `claude 3/5 · codex all limited until 17:06 · 2 waiting`.
pub(super) fn one_line(status: &DaemonStatus, now: u64) -> String {
    let mut parts: Vec<String> = status.providers.iter().map(|provider| one_line_of(provider, now)).collect();
    if parts.is_empty() {
        return "lessor: no accounts".to_owned();
    }
    if !status.queue.is_empty() {
        parts.push(format!("{} waiting", status.queue.len()));
    }
    parts.join(" · ")
}

/// The part of one provider.
pub(in crate::cli::commands) fn one_line_of(provider: &ProviderInfo, now: u64) -> String {
    let name = clean(agent_name(provider));
    let ProviderInfo { accounts, serving, limited, partly_limited, .. } = provider;
    let until = provider.free_at.map(|at| format!(" until {}", format::day_and_clock(now, at)));
    match serving {
        0 if limited == accounts && *partly_limited == 0 => format!("{name} all limited{}", until.unwrap_or_default()),
        0 if *partly_limited > 0 => format!("{name} partly limited{}", until.unwrap_or_default()),
        0 => format!("{name} 0/{accounts}{}", until.unwrap_or_default()),
        some => format!("{name} {some}/{accounts}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_has_known_placeholders_and_double_braces() {
        use Part::{Placeholder, Text};
        for (format, expected) in [
            ("", vec![]),
            ("{ready}/{total}", vec![Placeholder("ready"), Text("/"), Placeholder("total")]),
            ("a {{b}} {line}", vec![Text("a "), Text("{"), Text("b"), Text("}"), Text(" "), Placeholder("line")]),
        ] {
            assert_eq!(parse(format).unwrap(), expected, "{format}");
        }
        for (format, part) in [
            ("{", "a single {"),
            ("}", "a single }"),
            ("{ready", "a single {"),
            ("{x}", "no placeholder {x}"),
            ("{}", "{line}"),
        ] {
            assert!(parse(format).unwrap_err().contains(part), "{format}");
        }
    }
}
