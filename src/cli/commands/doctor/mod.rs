//! `doctor`: checks the installation, and suggests a remedy for each problem.

mod checks;
mod conflicts;
mod finding;

use crate::cli::ui::{Output, Tint, clean};
use crate::cli::{context::Context, error::CliError};

pub(super) use finding::Diagnosis;
use finding::FindingLevel;

/// Runs every check; the exit code is 1 if something is broken.
pub(super) fn execute(context: &Context) -> Result<u8, CliError> {
    let mut findings = checks::all(context);
    findings.sort_by_key(|finding| finding.level);
    let healthy = findings.iter().all(|finding| finding.level != FindingLevel::Broken);
    let diagnosis = Diagnosis { healthy, findings };
    context.output.result(&diagnosis, || text(&diagnosis, &context.output))?;
    Ok(u8::from(!healthy))
}

fn text(diagnosis: &Diagnosis, output: &Output) -> String {
    let mut text = String::new();
    for finding in &diagnosis.findings {
        let (word, tint) = match finding.level {
            FindingLevel::Broken => ("broken ", Tint::Bad),
            FindingLevel::Warning => ("warning", Tint::Warn),
            FindingLevel::Ok => ("ok     ", Tint::Good),
        };
        let subject = finding.subject.as_ref().map(|subject| format!("{}: ", clean(subject))).unwrap_or_default();
        text += &output
            .hanging(&format!("{}  ", output.tint(tint, word)), &format!("{subject}{}", clean(&finding.message)));
        if let Some(remedy) = &finding.remedy {
            text += &output
                .hanging(&format!("{:9}", ""), &format!("{} {}", output.tint(Tint::Strong, "do:"), clean(remedy)));
        }
    }
    text
}
