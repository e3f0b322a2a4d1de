//! The checks, one after another.

use crate::config::Config;
use crate::credential::import::Entry;
use crate::protocol::{AccountInfo, DaemonStatus, ImportedEntry, ListAccountsParams};

use super::super::context::Context;
use super::super::import::{File, Gathered, Where, gather, send};
use super::super::words::count;
use super::{Finding, Level, fights};

/// Everything that was seen.
pub(super) fn all(context: &Context) -> Vec<Finding> {
    let mut findings = Vec::new();
    config(context, &mut findings);
    let gathered = gather(&Where::Everywhere);
    files(&gathered.files, &mut findings);
    environment(&gathered, &mut findings);
    match ask(context, &gathered) {
        Err(message) => {
            let finding = Finding::new(Level::Broken, "daemon", message);
            findings.push(finding.remedy("start it in a terminal to see why: lessor daemon"));
            fights::find(&gathered, &[], &[], &mut findings);
        }
        Ok((status, accounts, answers)) => {
            daemon(&status, &mut findings);
            self::accounts(&accounts, &mut findings);
            fights::find(&gathered, &accounts, &answers, &mut findings);
        }
    }
    findings
}

type Asked = (DaemonStatus, Vec<AccountInfo>, Vec<ImportedEntry>);

/// What the daemon knows, and what it would make of what was found.
fn ask(context: &Context, gathered: &Gathered) -> Result<Asked, String> {
    let ask = || -> Result<Asked, super::super::failure::Failure> {
        let mut client = context.connect()?;
        let entries: Vec<&Entry> = gathered.entries.iter().map(|(entry, _)| entry).collect();
        let answers = if entries.is_empty() { Vec::new() } else { send(&mut client, &entries, None, true)? };
        Ok((client.status()?, client.accounts(ListAccountsParams::default())?, answers))
    };
    ask().map_err(|failure| failure.message().to_owned())
}

fn config(context: &Context, findings: &mut Vec<Finding>) {
    let places = match context.places() {
        Ok(places) => places,
        Err(failure) => {
            findings.push(Finding::new(Level::Broken, "config", failure.message().to_owned()));
            return;
        }
    };
    let path = places.config.display().to_string();
    match Config::load(&places.config) {
        Err(errors) => {
            let finding = Finding::new(Level::Broken, "config", errors.headline()).of(path);
            findings.push(finding.remedy("mend the line; until then the daemon keeps the last good configuration"));
        }
        Ok(_) => findings.push(Finding::new(Level::Ok, "config", "the configuration is valid").of(path)),
    }
}

fn daemon(status: &DaemonStatus, findings: &mut Vec<Finding>) {
    let version = env!("CARGO_PKG_VERSION");
    if status.version == version {
        let message = format!("the daemon serves (pid {}, version {version})", status.pid);
        findings.push(Finding::new(Level::Ok, "daemon", message).of(&status.socket));
    } else {
        let message = format!("the daemon is version {}, this program {version}", status.version);
        let finding = Finding::new(Level::Warning, "daemon", message).of(&status.socket);
        findings.push(finding.remedy("restart it: lessor stop (the next command starts the new one)"));
    }
    for warning in &status.warnings {
        findings.push(Finding::new(Level::Warning, "daemon", warning));
    }
}

fn accounts(accounts: &[AccountInfo], findings: &mut Vec<Finding>) {
    let serving = accounts.iter().filter(|account| ["ready", "limited"].contains(&account.state.as_str())).count();
    if serving == 0 {
        let message = match accounts.len() {
            0 => "there are no accounts".to_owned(),
            number => format!("none of {} can serve", count(number as u64, "account")),
        };
        let finding = Finding::new(Level::Broken, "account", message);
        let remedy = match accounts.len() {
            0 => "take in what other tools have: lessor import; or lessor account add PROVIDER",
            _ => "for each account there is a line here on what it needs",
        };
        findings.push(finding.remedy(remedy));
    } else {
        let message = format!("{serving} of {} can serve", count(accounts.len() as u64, "account"));
        findings.push(Finding::new(Level::Ok, "account", message));
    }
    for account in accounts {
        let why = account.state_reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        let finding = |message: String| Finding::new(Level::Warning, "account", message).of(name(account));
        match account.state.as_str() {
            "needs_login" => {
                let unset = account.state_reason.as_deref().is_some_and(|why| why.contains("cannot be renewed"));
                let remedy = account.link.as_ref().filter(|link| link.mode == "link").map_or_else(
                    || match unset {
                        true => format!(
                            "set what is missing (lessor config set providers.{}.oauth.KEY VALUE); the daemon then renews it",
                            account.provider
                        ),
                        false => "log in anew, then: lessor import, or lessor account add".to_owned(),
                    },
                    |link| format!("use {} once: its next refresh is followed", link.tool),
                );
                findings.push(finding(format!("it needs a login{why}")).remedy(remedy));
            }
            "needs_verification" => {
                let remedy = "open the link, confirm, then: lessor account verify";
                findings.push(finding(format!("its provider wants something confirmed{why}")).remedy(remedy));
            }
            _ => {}
        }
        if let Some((link, trouble)) = account.link.as_ref().and_then(|link| Some((link, link.trouble.as_ref()?))) {
            let message = format!("the file it follows ({}) cannot be followed: {trouble}", link.path);
            let remedy =
                format!("log in with {} again, or let lessor own the login: lessor import --take-over", link.tool);
            findings.push(finding(message).remedy(remedy));
        }
    }
}

/// The name a person knows an account by.
pub(super) fn name(account: &AccountInfo) -> String {
    account.label.clone().or_else(|| account.email.clone()).unwrap_or_else(|| account.id.clone())
}

fn files(files: &[File], findings: &mut Vec<Finding>) {
    for file in files {
        let finding = |level, message: String| Finding::new(level, "file", message).of(&file.name);
        let tool = file.tool.map_or("another tool", |tool| tool.title());
        if let Some(error) = &file.error {
            let remedy = "see whether its own tool can still read it; lessor leaves it as it is";
            findings.push(finding(Level::Warning, error.clone()).remedy(remedy));
        } else if file.entries > 0 {
            let found = count(file.entries as u64, "credential");
            findings.push(finding(Level::Ok, format!("{found} of {tool}")));
        }
        for problem in &file.problems {
            let place = if problem.place.is_empty() { String::new() } else { format!("{}: ", problem.place) };
            let level = if problem.broken { Level::Warning } else { Level::Ok };
            findings.push(finding(level, format!("{place}{}", problem.message)));
        }
        if let Some(mode) = file.open_secrets() {
            let message = format!("other users can get at it (mode {mode:04o})");
            findings.push(finding(Level::Warning, message).remedy(format!("chmod 600 '{}'", file.name)));
        }
    }
}

/// Keys in the environment go before logins, and nobody says so.
fn environment(gathered: &Gathered, findings: &mut Vec<Finding>) {
    let login = |provider: &str| {
        let mut entries = gathered.entries.iter().map(|(entry, _)| entry);
        entries.any(|entry| entry.provider == provider && entry.credential.refresh.is_some())
    };
    for (name, provider, agent) in [
        ("ANTHROPIC_API_KEY", "anthropic", "Claude Code"),
        ("ANTHROPIC_AUTH_TOKEN", "anthropic", "Claude Code"),
        ("GEMINI_API_KEY", "google", "Gemini CLI"),
    ] {
        let set = std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if set && login(provider) {
            let message = format!("it is set, and {agent} uses it instead of its login");
            let finding = Finding::new(Level::Warning, "environment", message).of(name);
            findings.push(finding.remedy(format!("unset {name}, or start {agent} by `lessor run`, which clears it")));
        }
    }
}
