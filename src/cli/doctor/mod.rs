//! `doctor`: what was found, what is wrong, and what to do about it.

mod checks;
mod fights;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::context::Context;
use super::failure::Failure;
use super::output::{Output, Tint, clean};

/// `doctor`
#[derive(Debug, Args)]
pub(super) struct Doctor {}

/// What the doctor has seen.
#[derive(Serialize, JsonSchema)]
pub(super) struct Diagnosis {
    /// Whether nothing is broken.
    healthy: bool,
    /// What was seen, worst first.
    findings: Vec<Finding>,
}

/// One thing that was seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
struct Finding {
    /// How bad it is.
    level: Level,
    /// What it is about: `config`, `daemon`, `account`, `file`, `login`, `environment`.
    about: &'static str,
    /// Which file or account.
    subject: Option<String>,
    /// What was seen.
    message: String,
    /// What to do about it.
    remedy: Option<String>,
}

/// How bad something is, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Something does not work.
    Broken,
    /// Something will not go well for long.
    Warning,
    /// As it should be.
    Ok,
}

impl Finding {
    fn new(level: Level, about: &'static str, message: impl Into<String>) -> Self {
        Self { level, about, subject: None, message: message.into(), remedy: None }
    }

    fn of(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

/// Looks at everything; 1 when something is broken.
pub(super) fn doctor(_: &Doctor, context: &Context) -> Result<u8, Failure> {
    let mut findings = checks::all(context);
    findings.sort_by_key(|finding| finding.level);
    let healthy = findings.iter().all(|finding| finding.level != Level::Broken);
    let diagnosis = Diagnosis { healthy, findings };
    context.output.result(&diagnosis, || text(&diagnosis, &context.output))?;
    Ok(u8::from(!healthy))
}

fn text(diagnosis: &Diagnosis, output: &Output) -> String {
    let mut text = String::new();
    for finding in &diagnosis.findings {
        let (word, tint) = match finding.level {
            Level::Broken => ("broken ", Tint::Bad),
            Level::Warning => ("warning", Tint::Warn),
            Level::Ok => ("ok     ", Tint::Good),
        };
        let subject = finding.subject.as_ref().map(|subject| format!("{}: ", clean(subject))).unwrap_or_default();
        text += &format!("{}  {subject}{}\n", output.tint(tint, word), clean(&finding.message));
        if let Some(remedy) = &finding.remedy {
            text += &format!("         {} {}\n", output.tint(Tint::Strong, "do:"), clean(remedy));
        }
    }
    text
}
