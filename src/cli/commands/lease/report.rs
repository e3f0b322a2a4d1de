//! `report`: an upstream response, reported by a script; prints the next action.

use std::path::{Path, PathBuf};
use std::{io::Read, time::Duration};

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::{LeaseArg, with_lease};
use crate::cli::ui::{self, Output, Tint, clean, format};
use crate::cli::{context::Context, error::CliError, launch::parse_duration};
use crate::limits::Reason;
use crate::pool::{millis, spoken};
use crate::protocol::{BodyText, DecisionInfo, HeaderList, LeaseRef, ReportParams};

/// No more of a body is sent, in bytes: it must fit into one message, and the reason is near its beginning.
const MAX_BODY: usize = 128 * 1024;
/// The width of the names in the text.
const NAMES: usize = 9;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct ReportArgs {
    /// The lease: its id, or the beginning of it as `leases` shows it
    lease: String,
    /// The HTTP status of the response
    #[arg(long, value_name = "N", group = "what", value_parser = clap::value_parser!(u16).range(100..=999))]
    status: Option<u16>,
    /// A header of the response, as "Name: value"; may be repeated
    #[arg(long = "header", value_name = "K: V", value_parser = header, conflicts_with = "reason")]
    headers: Vec<(String, String)>,
    /// A file with the body of the response; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ok", "reason"])]
    body: Option<PathBuf>,
    /// The request succeeded
    #[arg(long, group = "what")]
    ok: bool,
    /// Why the request was refused
    #[arg(long, value_name = "R", group = "what",
          value_parser = PossibleValuesParser::new(Reason::ALL.map(Reason::name)))]
    reason: Option<String>,
    /// The wait that the response stated
    #[arg(long, value_name = "DUR", conflicts_with_all = ["ok", "status"], value_parser = parse_duration)]
    retry_after: Option<Duration>,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is \"Name: value\"")?;
    let name = name.trim();
    if name.is_empty() { Err("a header has a name".to_owned()) } else { Ok((name.to_owned(), value.trim().to_owned())) }
}

pub(crate) fn report(args: ReportArgs, context: &Context) -> Result<(), CliError> {
    let reason = args.reason.as_deref().and_then(|name| Reason::ALL.into_iter().find(|one| one.name() == name));
    let report = ReportParams {
        ok: args.ok.then_some(true),
        reason,
        retry_after_ms: args.retry_after.map(millis),
        status: args.status,
        headers: (!args.headers.is_empty()).then_some(HeaderList(args.headers)),
        body: args.body.as_deref().map(body).transpose()?,
        ..ReportParams::default()
    };
    let lease = LeaseArg { lease: args.lease, fence: None };
    let decision = with_lease(&mut context.connect()?, &lease, |client, LeaseRef { lease, .. }| {
        client.report(ReportParams { lease, ..report.clone() })
    })?;
    context.output.result(&decision, || text(&decision, &context.output))
}

fn body(path: &Path) -> Result<BodyText, CliError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_BODY as u64).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_BODY as u64).read_to_end(&mut bytes))
    };
    read.map_err(|error| CliError::bad_request(format!("reading {}: {error}", path.display())))?;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    // replacing invalid bytes has made the text longer
    text.truncate(text.floor_char_boundary(MAX_BODY));
    Ok(BodyText(text))
}

/// The decision: the action, the reason, the evidence, a link to open, the new lease.
fn text(decision: &DecisionInfo<'_>, output: &Output) -> String {
    let after = spoken(Duration::from_millis(decision.after_ms));
    let account = decision.lease.as_ref().map(|lease| &lease.account);
    let account = account.map(|account| account.label.as_ref().or(account.email.as_ref()).unwrap_or(&account.id));
    let action = match (&*decision.action, decision.after_ms) {
        ("wait", _) => format!("wait {after}"),
        ("switch", _) => format!("switch to {}, with the lease below", clean(account.map_or("", |name| name))),
        (action, 0) => action.to_owned(),
        (action, _) => format!("{action} in {after}"),
    };
    let reason = decision.reason.as_deref().map(|reason| {
        let scope = decision.scope.as_deref().map(|scope| format!(" of the {scope}")).unwrap_or_default();
        format!(": {}{scope}", format::reason(reason))
    });
    let mut text = output.prose(&format!("{}{}\n", output.tint(Tint::Strong, &action), reason.unwrap_or_default()));
    text.extend(decision.evidence.iter().map(|evidence| output.field("evidence", NAMES, evidence)));
    text.extend(decision.link.iter().map(|link| output.field("open", NAMES, link)));
    if let Some(lease) = &decision.lease {
        text += &ui::lease::describe(lease, "until its process ends", format::now(), output);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::parse_args;

    #[test]
    fn exactly_one_of_ok_status_and_reason_is_required() {
        for (line, is_valid) in [
            ("--ok", true),
            ("--ok --header a:b", true),
            ("--status 429 --header retry-after:7 --header x:y --body -", true),
            ("--reason unknown", true),
            ("--reason quota_exhausted --retry-after 5m", true),
            ("", false),
            ("--ok --status 200", false),
            ("--ok --body -", false),
            ("--status 429 --reason unknown", false),
            ("--status 42", false),
            ("--status 429 --retry-after 5m", false),
            ("--reason nonsense", false),
            ("--reason unknown --header a:b", false),
            ("--status 429 --header nonsense", false),
        ] {
            let words = ["ls_1"].into_iter().chain(line.split_whitespace());
            assert_eq!(parse_args::<ReportArgs>(words).is_ok(), is_valid, "{line}");
        }
    }

    #[test]
    fn a_decision_shows_action_reason_and_evidence() {
        let mut decision = DecisionInfo {
            action: "wait".into(),
            after_ms: 46_800_000,
            reason: Some("quota_exhausted".into()),
            scope: Some("account".into()),
            lease: None,
            evidence: Some("429 \u{1b}[2J".into()),
            link: None,
        };
        let output = Output::plain(80);
        assert_eq!(text(&decision, &output), "wait 13 h: quota exhausted of the account\nevidence 429 \\u{1b}[2J\n");
        (decision.action, decision.after_ms, decision.evidence) = ("stop".into(), 0, None);
        assert_eq!(text(&decision, &output), "stop: quota exhausted of the account\n");
        (decision.action, decision.reason) = ("continue".into(), None);
        assert_eq!(text(&decision, &output), "continue\n");
    }
}
