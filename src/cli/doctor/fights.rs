//! One login in two places: whoever refreshes it second is logged out.

use crate::credential::import::Entry;
use crate::protocol::{AccountInfo, ImportedEntry};

use super::super::import::Gathered;
use super::checks::name;
use super::{Finding, Level};

/// Tells of every login that more than one program refreshes.
pub(super) fn find(
    gathered: &Gathered,
    accounts: &[AccountInfo],
    answers: &[ImportedEntry],
    findings: &mut Vec<Finding>,
) {
    between_tools(gathered, findings);
    let owner = |answer: &ImportedEntry| {
        let id = &answer.account.as_ref()?.id;
        accounts.iter().find(|account| account.id == *id)
    };
    for ((entry, file), answer) in gathered.entries.iter().zip(answers).filter(|((entry, _), _)| entry.rotates) {
        let Some(account) = owner(answer) else { continue };
        let tool = entry.tool.title();
        let mode = account.link.as_ref().map(|link| link.mode.as_str());
        let finding = match mode {
            Some("link" | "share") => continue,
            Some(_) => {
                let message = format!("lessor has taken this login over from {tool}, which still has it in {file}");
                let finding = Finding::new(Level::Ok, "login", message);
                finding.remedy(format!("run {tool} through `lessor run` only"))
            }
            None => {
                let message =
                    format!("lessor and {tool} both refresh this login ({file}): each refresh ends the other's");
                let finding = Finding::new(Level::Warning, "login", message);
                let name = name(account);
                finding.remedy(format!(
                    "let {tool} refresh it: lessor account remove '{name}', then lessor import --from {}; or let lessor: \
                     lessor import --from {} --take-over",
                    entry.tool.name(),
                    entry.tool.name()
                ))
            }
        };
        findings.push(finding.of(name(account)));
    }
}

fn between_tools(gathered: &Gathered, findings: &mut Vec<Finding>) {
    let rotating: Vec<&(Entry, String)> = gathered.entries.iter().filter(|(entry, _)| entry.rotates).collect();
    for (number, (entry, file)) in rotating.iter().enumerate() {
        for (other, other_file) in &rotating[..number] {
            let Some(how) = same(entry, other) else { continue };
            if file == other_file && entry.item == other.item {
                continue;
            }
            let (one, two) = (other.tool.title(), entry.tool.title());
            let message = format!("{one} ({other_file}) and {two} ({file}) have the same login, by their {how}");
            let consequence =
                if how == "token" { "each refresh by one logs the other out" } else { "they may log each other out" };
            let remedy = format!("log in with one of them only, and start the other by `lessor run`: {consequence}");
            let level = if how == "token" { Level::Broken } else { Level::Warning };
            let who = entry.email.clone().or_else(|| other.email.clone()).unwrap_or_else(|| entry.provider.clone());
            findings.push(Finding::new(level, "login", message).of(who).remedy(remedy));
        }
    }
}

/// By what two entries are of one login.
fn same(one: &Entry, other: &Entry) -> Option<&'static str> {
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

    fn entry(tool: Tool, refresh: &str, email: Option<&str>) -> (Entry, String) {
        let secret = |text: &str| Secret::new(text.to_owned());
        let credential = Credential {
            kind: CredentialKind::Oauth,
            access: secret("at"),
            refresh: Some(secret(refresh)),
            expires_at: None,
        };
        let entry = Entry::new(tool, "x".into(), "anthropic", credential);
        (Entry { rotates: true, email: email.map(str::to_owned), ..entry }, format!("/{}", tool.name()))
    }

    #[test]
    fn one_token_in_two_files_is_broken_one_address_a_warning() {
        let seen = |entries: Vec<(Entry, String)>| {
            let mut findings = Vec::new();
            find(&Gathered { entries, files: Vec::new() }, &[], &[], &mut findings);
            findings.into_iter().map(|finding| (finding.level, finding.message)).collect::<Vec<_>>()
        };
        let found = seen(vec![entry(Tool::ClaudeCode, "r1", None), entry(Tool::Opencode, "r1", None)]);
        assert!(matches!(&found[..], [(Level::Broken, message)] if message.contains("/claude-code")), "{found:?}");
        let found =
            seen(vec![entry(Tool::ClaudeCode, "r1", Some("a@b.c")), entry(Tool::CliProxyApi, "r2", Some("A@b.c"))]);
        assert!(matches!(&found[..], [(Level::Warning, _)]), "{found:?}");
        assert_eq!(seen(vec![entry(Tool::ClaudeCode, "r1", None), entry(Tool::Opencode, "r2", None)]), []);
    }
}
