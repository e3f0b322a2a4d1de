//! `doctor`: checks the installation, and suggests a remedy for each problem.

mod checks;
mod repairs;

use crate::cli::ui::{self, Output, Tint, clean};
use crate::cli::{context::Context, error::CliError};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Repair what is safe: modes, the socket of a dead daemon, files left by interrupted work
    #[arg(long)]
    fix: bool,
}

/// The result of all checks.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Diagnosis {
    /// Whether nothing is broken.
    healthy: bool,
    /// The findings, worst first.
    findings: Vec<DoctorFinding>,
}

/// The result of one check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
struct DoctorFinding {
    /// The severity.
    level: FindingLevel,
    /// The subject area: `config`, `daemon`, `account`, `file`, `login`, `environment`, `alias`, `gateway`.
    about: &'static str,
    /// The file or account.
    subject: Option<String>,
    /// What was found.
    message: String,
    /// How to fix it.
    remedy: Option<String>,
    /// Whether `--fix` has repaired it.
    fixed: bool,
}

/// The severity of a finding, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FindingLevel {
    /// Something does not work.
    Broken,
    /// Something may stop working.
    Warning,
    /// Nothing is wrong.
    Ok,
}

impl DoctorFinding {
    fn ok(about: &'static str, message: impl Into<String>) -> Self {
        Self::new(FindingLevel::Ok, about, message)
    }

    fn warning(about: &'static str, message: impl Into<String>) -> Self {
        Self::new(FindingLevel::Warning, about, message)
    }

    fn broken(about: &'static str, message: impl Into<String>) -> Self {
        Self::new(FindingLevel::Broken, about, message)
    }

    fn new(level: FindingLevel, about: &'static str, message: impl Into<String>) -> Self {
        Self { level, about, subject: None, message: message.into(), remedy: None, fixed: false }
    }

    fn of(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

/// Runs every check; the exit code is 1 if something is broken.
pub(super) fn execute(args: &DoctorArgs, context: &Context) -> Result<u8, CliError> {
    let mut findings = Vec::new();
    // before the checks, which may start a daemon
    repairs::all(&context.places()?, args.fix, &mut findings);
    findings.extend(checks::all(context, args.fix));
    findings.sort_by_key(|finding| finding.level);
    let healthy = findings.iter().all(|finding| finding.level != FindingLevel::Broken);
    let diagnosis = Diagnosis { healthy, findings };
    context.output.result(&diagnosis, || text(&diagnosis, &context.output))?;
    Ok(u8::from(!healthy))
}

/// Where a command begins that is a remedy.
const INDENT: usize = 13;

fn text(diagnosis: &Diagnosis, output: &Output) -> String {
    let mut text = String::new();
    for finding in &diagnosis.findings {
        let (word, tint) = match finding.level {
            FindingLevel::Broken => ("broken ", Tint::Bad),
            FindingLevel::Warning => ("warning", Tint::Warn),
            FindingLevel::Ok if finding.fixed => ("fixed  ", Tint::Good),
            FindingLevel::Ok => ("ok     ", Tint::Good),
        };
        let subject = finding.subject.as_ref().map(|subject| format!("{}: ", clean(subject))).unwrap_or_default();
        // the reason for which a daemon did not start has several lines
        let mut lines = finding.message.lines().map(|line| clean(line.trim()));
        let first = format!("{subject}{}", lines.next().unwrap_or_default());
        text += &output.hanging(&format!("{}  ", output.tint(tint, word)), &first);
        lines.for_each(|line| text += &output.hanging(&format!("{:9}", ""), &line));
        if let Some(remedy) = &finding.remedy {
            let (indent, mark) = (format!("{:9}", ""), output.tint(Tint::Strong, "do:"));
            if remedy.starts_with("lessor ") {
                // a command that is too long for a line stays one that a shell reads
                let lines = ui::account::command_lines(&clean(remedy), output.width.saturating_sub(INDENT));
                text += &format!("{indent}{mark} {}\n", lines.join(&format!("\n{:INDENT$}", "")));
            } else {
                text += &output.hanging(&indent, &format!("{mark} {}", clean(remedy)));
            }
        }
    }
    text
}
