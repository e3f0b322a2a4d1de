//! The checks of `doctor`.

use crate::cli::commands::import::{FoundCredentials, FoundFile, ImportSource, find, send};
use crate::cli::ui::{account, format::count};
use crate::cli::{context::Context, error::CliError};
use crate::config::Config;
use crate::credential::{import::DiscoveredAccount, oauth::OauthSettings};
use crate::daemon::oauth_given;
use crate::pool::CredentialKind;
use crate::protocol::{AccountInfo, DaemonStatus, ImportedEntry, ListAccountsParams};

use super::{DoctorFinding, FindingLevel, conflicts};

pub(super) fn all(context: &Context) -> Vec<DoctorFinding> {
    let mut findings = Vec::new();
    let config = config(context, &mut findings);
    let found = find(&ImportSource::Everywhere);
    files(&found.files, &mut findings);
    environment(&found, &mut findings);
    match ask(context, &found) {
        Err(message) => {
            let finding = DoctorFinding::broken("daemon", message);
            findings.push(finding.remedy("start it in a terminal to see the error: lessor daemon"));
            conflicts::find(&found, &[], &[], &mut findings);
        }
        Ok((status, accounts, answers)) => {
            daemon(&status, &mut findings);
            self::accounts(&accounts, config.as_ref(), &mut findings);
            conflicts::find(&found, &accounts, &answers, &mut findings);
        }
    }
    findings
}

/// The daemon's status and accounts, and what an import of the found credentials would do.
type DaemonAnswers = (DaemonStatus, Vec<AccountInfo>, Vec<ImportedEntry>);

fn ask(context: &Context, found: &FoundCredentials) -> Result<DaemonAnswers, String> {
    let ask = || -> Result<DaemonAnswers, CliError> {
        let mut client = context.connect()?;
        let entries: Vec<&DiscoveredAccount> = found.entries.iter().map(|(entry, _)| entry).collect();
        let answers = if entries.is_empty() { Vec::new() } else { send(&mut client, &entries, None, true)? };
        Ok((client.status()?, client.accounts(ListAccountsParams::default())?, answers))
    };
    ask().map_err(|error| error.message().to_owned())
}

fn config(context: &Context, findings: &mut Vec<DoctorFinding>) -> Option<Config> {
    let places = match context.places() {
        Ok(places) => places,
        Err(error) => {
            findings.push(DoctorFinding::broken("config", error.message().to_owned()));
            return None;
        }
    };
    let path = places.config.display().to_string();
    match Config::load(&places.config) {
        Err(errors) => {
            let finding = DoctorFinding::broken("config", errors.headline()).of(path);
            findings.push(finding.remedy("correct the line; until then the daemon keeps the last valid configuration"));
            None
        }
        Ok(loaded) => {
            findings.push(DoctorFinding::ok("config", "the configuration is valid").of(path));
            Some(loaded.config)
        }
    }
}

fn daemon(status: &DaemonStatus, findings: &mut Vec<DoctorFinding>) {
    let version = env!("CARGO_PKG_VERSION");
    if status.version == version {
        let message = format!("the daemon is running (pid {}, version {version})", status.pid);
        findings.push(DoctorFinding::ok("daemon", message).of(&status.socket));
    } else {
        let message = format!("the daemon is version {}, this program {version}", status.version);
        let finding = DoctorFinding::warning("daemon", message).of(&status.socket);
        findings.push(finding.remedy("stop it; the next command starts the new version: lessor stop"));
    }
    for warning in &status.warnings {
        findings.push(DoctorFinding::warning("daemon", warning));
    }
}

fn accounts(accounts: &[AccountInfo], config: Option<&Config>, findings: &mut Vec<DoctorFinding>) {
    let usable = accounts.iter().filter(|account| ["ready", "limited"].contains(&account.state.as_str())).count();
    if usable == 0 {
        let message = match accounts.len() {
            0 => "there are no accounts".to_owned(),
            number => format!("none of {} is usable", count(number, "account")),
        };
        let finding = DoctorFinding::broken("account", message);
        let remedy = match accounts.len() {
            0 => {
                "import accounts from other tools: lessor import; or add one: lessor account add PROVIDER --api-key-stdin"
            }
            _ => "see the remedy for each account below",
        };
        findings.push(finding.remedy(remedy));
    } else {
        let message = format!("{usable} of {} can be leased", count(accounts.len(), "account"));
        findings.push(DoctorFinding::ok("account", message));
    }
    for account in accounts {
        let why = account.state_reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        let finding = |message: String| DoctorFinding::warning("account", message).of(account::name(account));
        match account.state.as_str() {
            "needs_login" => {
                findings.push(finding(format!("it needs a login{why}")).remedy(login_remedy(account, config)));
            }
            "needs_verification" => {
                let remedy = "open the link and confirm, then: lessor account verify";
                findings.push(finding(format!("its provider requires a verification{why}")).remedy(remedy));
            }
            _ => {}
        }
        if let Some((link, trouble)) = account.link.as_ref().and_then(|link| Some((link, link.trouble.as_ref()?))) {
            let message = format!("its file ({}) cannot be read: {trouble}", link.path);
            let remedy =
                format!("log in with {} again, or make lessor refresh the login: lessor import --take-over", link.tool);
            findings.push(finding(message).remedy(remedy));
        }
    }
}

/// How to make a login usable again.
fn login_remedy(account: &AccountInfo, config: Option<&Config>) -> String {
    let provider = &account.provider;
    if let Some(link) = account.link.as_ref().filter(|link| link.mode == "link") {
        return format!("use {} once; lessor reads the new token from its file", link.tool);
    }
    let config = config.filter(|_| account.kind == CredentialKind::Oauth);
    let is_missing = |config| OauthSettings::of(provider, oauth_given(config, provider)).is_err();
    if config.is_some_and(is_missing) {
        // both the daemon and `login` need it
        return format!(
            "set the missing key; then the daemon can refresh it, or you can log in again: \
             lessor config set providers.{provider}.oauth.KEY VALUE"
        );
    }
    format!("log in again: lessor login {provider}")
}

fn files(files: &[FoundFile], findings: &mut Vec<DoctorFinding>) {
    for file in files {
        let finding = |level, message: String| DoctorFinding::new(level, "file", message).of(&file.name);
        let tool = file.tool.map_or("another tool", |tool| tool.title());
        if let Some(error) = &file.error {
            let remedy = "check whether its own tool can still read it; lessor does not change it";
            findings.push(finding(FindingLevel::Warning, error.clone()).remedy(remedy));
        } else if file.entries > 0 {
            let credentials = count(file.entries, "credential");
            findings.push(finding(FindingLevel::Ok, format!("{credentials} of {tool}")));
        }
        for problem in &file.problems {
            let place = if problem.place.is_empty() { String::new() } else { format!("{}: ", problem.place) };
            let level = if problem.broken { FindingLevel::Warning } else { FindingLevel::Ok };
            findings.push(finding(level, format!("{place}{}", problem.message)));
        }
        if let Some(mode) = file.open_secrets() {
            let message = format!("other users can read it (mode {mode:04o})");
            findings.push(finding(FindingLevel::Warning, message).remedy(format!("chmod 600 '{}'", file.name)));
        }
    }
}

/// Finds keys in the environment that an agent uses instead of its login.
fn environment(found: &FoundCredentials, findings: &mut Vec<DoctorFinding>) {
    let login = |provider: &str| {
        let mut entries = found.entries.iter().map(|(entry, _)| entry);
        entries.any(|entry| entry.provider == provider && entry.credential.refresh.is_some())
    };
    for (name, provider, agent) in [
        ("ANTHROPIC_API_KEY", "anthropic", "Claude Code"),
        ("ANTHROPIC_AUTH_TOKEN", "anthropic", "Claude Code"),
        ("GEMINI_API_KEY", "google", "Gemini CLI"),
    ] {
        let set = std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if set && login(provider) {
            let message = format!("it is set, so {agent} uses it instead of its login");
            let finding = DoctorFinding::warning("environment", message).of(name);
            findings
                .push(finding.remedy(format!("start {agent} with `lessor run`, which unsets it; or: unset {name}")));
        }
    }
}
