//! Logins that two programs refresh: each refresh by one logs out the other.

use crate::cli::{commands::import::FoundCredentials, ui::account::name};
use crate::credential::import::DiscoveredAccount;
use crate::protocol::{AccountInfo, ImportedEntry};

use super::{DoctorFinding, FindingLevel};

/// Finds every login that more than one program refreshes.
pub(super) fn find(
    found: &FoundCredentials,
    accounts: &[AccountInfo],
    answers: &[ImportedEntry],
    findings: &mut Vec<DoctorFinding>,
) {
    between_tools(found, findings);
    let owner = |answer: &ImportedEntry| {
        let id = &answer.account.as_ref()?.id;
        accounts.iter().find(|account| account.id == *id)
    };
    for ((entry, file), answer) in found.entries.iter().zip(answers).filter(|((entry, _), _)| entry.rotates) {
        let Some(account) = owner(answer) else { continue };
        let tool = entry.tool.title();
        let mode = account.link.as_ref().map(|link| link.mode.as_str());
        let finding = match mode {
            Some("link" | "share") => continue,
            Some(_) => {
                let message = format!("lessor has taken over this login from {tool}, which still has it in {file}");
                let finding = DoctorFinding::ok("login", message);
                finding.remedy(format!("start {tool} with `lessor run` only"))
            }
            None => {
                let message =
                    format!("lessor and {tool} both refresh this login ({file}): each refresh logs out the other");
                let finding = DoctorFinding::warning("login", message);
                let name = name(account);
                finding.remedy(format!(
                    "to let {tool} refresh it: lessor account remove '{name}'; then: lessor import --from {}; or to let lessor \
                     refresh it: lessor import --from {} --take-over",
                    entry.tool.name(),
                    entry.tool.name()
                ))
            }
        };
        findings.push(finding.of(name(account)));
    }
}

fn between_tools(found: &FoundCredentials, findings: &mut Vec<DoctorFinding>) {
    let rotating: Vec<&(DiscoveredAccount, String)> = found.entries.iter().filter(|(entry, _)| entry.rotates).collect();
    for (number, (entry, file)) in rotating.iter().enumerate() {
        for (other, other_file) in &rotating[..number] {
            let Some(how) = same(entry, other) else { continue };
            if file == other_file && entry.item == other.item {
                continue;
            }
            let (one, two) = (other.tool.title(), entry.tool.title());
            let message = format!("{one} ({other_file}) and {two} ({file}) have the same login (same {how})");
            let consequence =
                if how == "token" { "each refresh by one logs out the other" } else { "each may log out the other" };
            let remedy = format!("log in with one of them only, and start the other with `lessor run`: {consequence}");
            let level = if how == "token" { FindingLevel::Broken } else { FindingLevel::Warning };
            let who = entry.email.clone().or_else(|| other.email.clone()).unwrap_or_else(|| entry.provider.clone());
            findings.push(DoctorFinding::new(level, "login", message).of(who).remedy(remedy));
        }
    }
}

/// What shows that two entries are the same login.
fn same(one: &DiscoveredAccount, other: &DiscoveredAccount) -> Option<&'static str> {
    let equal = |one: &Option<String>, other: &Option<String>| {
        one.as_ref().zip(other.as_ref()).map(|(one, other)| one.eq_ignore_ascii_case(other))
    };
    if one.provider != other.provider {
        return None;
    }
    if one.credential.refresh.is_some() && one.credential.refresh == other.credential.refresh {
        return Some("token");
    }
    let ids = equal(&one.vendor_id, &other.vendor_id);
    (ids != Some(false) && equal(&one.email, &other.email) == Some(true)).then_some("address")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::import::Tool;
    use crate::credential::{Credential, Secret};
    use crate::pool::CredentialKind;

    fn entry(tool: Tool, refresh: &str, email: Option<&str>) -> (DiscoveredAccount, String) {
        let secret = |text: &str| Secret::new(text.to_owned());
        let credential = Credential {
            kind: CredentialKind::Oauth,
            access: secret("at"),
            refresh: Some(secret(refresh)),
            expires_at: None,
        };
        let entry = DiscoveredAccount::new(tool, "x".into(), "anthropic", credential);
        (DiscoveredAccount { rotates: true, email: email.map(str::to_owned), ..entry }, format!("/{}", tool.name()))
    }

    #[test]
    fn a_shared_token_is_broken_and_a_shared_address_a_warning() {
        let findings = |entries: Vec<(DiscoveredAccount, String)>| {
            let mut findings = Vec::new();
            find(&FoundCredentials { entries, files: Vec::new() }, &[], &[], &mut findings);
            findings.into_iter().map(|finding| (finding.level, finding.message)).collect::<Vec<_>>()
        };
        let found = findings(vec![entry(Tool::ClaudeCode, "r1", None), entry(Tool::Opencode, "r1", None)]);
        assert!(
            matches!(&found[..], [(FindingLevel::Broken, message)] if message.contains("/claude-code")),
            "{found:?}"
        );
        let found =
            findings(vec![entry(Tool::ClaudeCode, "r1", Some("a@b.c")), entry(Tool::CliProxyApi, "r2", Some("A@b.c"))]);
        assert!(matches!(&found[..], [(FindingLevel::Warning, _)]), "{found:?}");
        assert_eq!(findings(vec![entry(Tool::ClaudeCode, "r1", None), entry(Tool::Opencode, "r2", None)]), []);
    }
}
