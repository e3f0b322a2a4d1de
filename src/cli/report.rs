//! `report`: what an upstream answered, told for a script; and what to do next.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::limits::Reason;
use crate::pool::{millis, spoken};
use crate::protocol::{BodyText, DecisionInfo, HeaderList, LeaseRef, ReportParams as Told};

use super::context::{self, Context};
use super::explain::wrapped;
use super::failure::Failure;
use super::lease::{Which, describe, with_lease};
use super::output::{Output, Tint, clean};

/// No more of a body is sent: it must fit into one message, and what it says is at its beginning.
const MOST_BODY: usize = 128 * 1024;

/// Where what is said stands.
const INDENT: usize = 9;

/// `report`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(super) struct Report {
    /// The lease: its id, or the beginning of it as `leases` shows it
    lease: String,
    /// The HTTP status that was answered
    #[arg(long, value_name = "N", group = "what", value_parser = clap::value_parser!(u16).range(100..=999))]
    status: Option<u16>,
    /// A header of the answer, as "Name: value"; may be repeated
    #[arg(long = "header", value_name = "K: V", value_parser = header, conflicts_with = "reason")]
    headers: Vec<(String, String)>,
    /// A file with the answer's body; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ok", "reason"])]
    body: Option<PathBuf>,
    /// It was answered as it should be
    #[arg(long, group = "what")]
    ok: bool,
    /// Why it was refused, in a word
    #[arg(long, value_name = "R", group = "what",
          value_parser = PossibleValuesParser::new(Reason::ALL.map(Reason::name)))]
    reason: Option<String>,
    /// The wait that was stated
    #[arg(long, value_name = "DUR", conflicts_with_all = ["ok", "status"], value_parser = super::duration)]
    retry_after: Option<Duration>,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is \"Name: value\"")?;
    let name = name.trim();
    if name.is_empty() { Err("a header has a name".to_owned()) } else { Ok((name.to_owned(), value.trim().to_owned())) }
}

/// Tells the daemon, and prints its decision.
pub(super) fn report(options: Report, context: &Context) -> Result<(), Failure> {
    let reason = options.reason.as_deref().and_then(|name| Reason::ALL.into_iter().find(|one| one.name() == name));
    let told = Told {
        ok: options.ok.then_some(true),
        reason,
        retry_after_ms: options.retry_after.map(millis),
        status: options.status,
        headers: (!options.headers.is_empty()).then_some(HeaderList(options.headers)),
        body: options.body.as_deref().map(body).transpose()?,
        ..Told::default()
    };
    let which = Which { lease: options.lease, fence: None };
    let decision = with_lease(&mut context.connect()?, &which, |client, LeaseRef { lease, .. }| {
        client.report(Told { lease, ..told.clone() })
    })?;
    context.output.result(&decision, || text(&decision, &context.output))
}

fn body(path: &Path) -> Result<BodyText, Failure> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MOST_BODY as u64).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MOST_BODY as u64).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::new("bad_request", format!("reading {}: {error}", path.display())))?;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    // what is no text has become longer
    text.truncate(text.floor_char_boundary(MOST_BODY));
    Ok(BodyText(text))
}

/// The decision in words: what to do, why, what showed it, where to go.
fn text(decision: &DecisionInfo<'_>, output: &Output) -> String {
    let after = spoken(Duration::from_millis(decision.after_ms));
    let action = match (&*decision.action, decision.after_ms) {
        ("wait", _) => format!("wait {after}"),
        ("switch", _) => "switch to the lease below".to_owned(),
        (action, 0) => action.to_owned(),
        (action, _) => format!("{action} in {after}"),
    };
    let why = decision.reason.as_deref().map(|reason| {
        let scope = decision.scope.as_deref().map(|scope| format!(" of the {scope}")).unwrap_or_default();
        format!(": {}{scope}", reason.replace('_', " "))
    });
    let mut lines = format!("{}{}\n", output.tint(Tint::Strong, &action), why.unwrap_or_default());
    if let Some(evidence) = &decision.evidence {
        for (number, line) in wrapped(evidence, output.width - INDENT).iter().enumerate() {
            let name = if number == 0 { "seen     " } else { "         " };
            lines += &format!("{}\n", output.tint(Tint::Faint, &format!("{name}{}", clean(line))));
        }
    }
    if let Some(link) = &decision.link {
        lines += &format!("open     {}\n", clean(link));
    }
    if let Some(lease) = &decision.lease {
        lines += &describe(lease, "until its holder ends", context::now());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        report: Report,
    }

    #[test]
    fn one_of_three_forms() {
        for (line, is_right) in [
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
            let words = ["x", "ls_1"].into_iter().chain(line.split_whitespace());
            assert_eq!(Line::try_parse_from(words).is_ok(), is_right, "{line}");
        }
    }

    #[test]
    fn a_decision_is_said_in_words() {
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
        assert_eq!(text(&decision, &output), "wait 13 h: quota exhausted of the account\nseen     429 \u{fffd}[2J\n");
        (decision.action, decision.after_ms, decision.evidence) = ("stop".into(), 0, None);
        assert_eq!(text(&decision, &output), "stop: quota exhausted of the account\n");
        (decision.action, decision.reason) = ("continue".into(), None);
        assert_eq!(text(&decision, &output), "continue\n");
    }
}
