//! What a check has found, and how to fix it.

use schemars::JsonSchema;
use serde::Serialize;

/// The result of all checks.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Diagnosis {
    /// Whether nothing is broken.
    pub(super) healthy: bool,
    /// The findings, worst first.
    pub(super) findings: Vec<DoctorFinding>,
}

/// The result of one check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub(super) struct DoctorFinding {
    /// The severity.
    pub(super) level: FindingLevel,
    /// The subject area: `config`, `daemon`, `account`, `file`, `login`, `environment`.
    pub(super) about: &'static str,
    /// The file or account.
    pub(super) subject: Option<String>,
    /// What was found.
    pub(super) message: String,
    /// How to fix it.
    pub(super) remedy: Option<String>,
}

/// The severity of a finding, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum FindingLevel {
    /// Something does not work.
    Broken,
    /// Something may stop working.
    Warning,
    /// Nothing is wrong.
    Ok,
}

impl DoctorFinding {
    pub(super) fn ok(about: &'static str, message: impl Into<String>) -> Self {
        Self::new(FindingLevel::Ok, about, message)
    }

    pub(super) fn warning(about: &'static str, message: impl Into<String>) -> Self {
        Self::new(FindingLevel::Warning, about, message)
    }

    pub(super) fn broken(about: &'static str, message: impl Into<String>) -> Self {
        Self::new(FindingLevel::Broken, about, message)
    }

    pub(super) fn new(level: FindingLevel, about: &'static str, message: impl Into<String>) -> Self {
        Self { level, about, subject: None, message: message.into(), remedy: None }
    }

    pub(super) fn of(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}
