//! The checks of `doctor`.

use std::path::Path;

use super::{DoctorFinding, FindingLevel, repairs};
use crate::cli::commands::alias;
use crate::cli::commands::import::{FoundCredentials, FoundFile, ImportSource, find, send};
use crate::cli::ui::{account, format, format::count, progress};
use crate::cli::{context::Context, error::CliError};
use crate::credential::{LoginHome, import::DiscoveredAccount};
use crate::http::{self, ConnectOptions};
use crate::protocol::{AccountInfo, DaemonStatus, ImportedEntry, LinkInfo, ListAccountsParams, ProviderInfo};
use crate::{config::Config, pool::IdentityMatch, provider::logins_rotate};

pub(super) fn all(context: &Context, fix: bool) -> Vec<DoctorFinding> {
    let mut findings = Vec::new();
    config(context, &mut findings);
    let progress = progress::spinner("reading the files of other tools");
    let found = find(&ImportSource::Everywhere);
    progress.says("asking the daemon");
    let asked = ask(context, &found);
    drop(progress);
    files(&found.files, &mut findings);
    environment(&found, &mut findings);
    aliases(context, &mut findings);
    match asked {
        Err(message) => {
            let finding = DoctorFinding::broken("daemon", message);
            findings.push(finding.remedy("start it in a terminal to see the error: lessor daemon"));
            conflicts(&found, &[], &[], &mut findings);
        }
        Ok((status, accounts, answers)) => {
            daemon(&status, &accounts, &mut findings);
            findings.push(history(&status, context.config().ok().as_ref(), format::now()));
            findings.extend(https(&status, format::now()));
            serving(&status.providers, format::now(), &mut findings);
            self::accounts(&accounts, &mut findings);
            conflicts(&found, &accounts, &answers, &mut findings);
            if let Ok(places) = context.places() {
                repairs::login_homes(&places, &accounts, fix, &mut findings);
            }
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
        let answers = if entries.is_empty() { Vec::new() } else { send(&mut client, &entries, None, (true, false))? };
        Ok((client.status()?, client.accounts(ListAccountsParams::default())?, answers))
    };
    ask().map_err(|error| error.message().to_owned())
}

fn config(context: &Context, findings: &mut Vec<DoctorFinding>) {
    let places = match context.places() {
        Ok(places) => places,
        Err(error) => {
            findings.push(DoctorFinding::broken("config", error.message().to_owned()));
            return;
        }
    };
    let path = places.config.display().to_string();
    match Config::load(&places.config) {
        Err(errors) => {
            let headline = errors.headline();
            let why = headline.strip_prefix(&format!("{path}: ")).unwrap_or(&headline);
            let finding = DoctorFinding::broken("config", why).of(path);
            findings.push(finding.remedy("correct this; until then the daemon keeps the last valid configuration"));
        }
        Ok(loaded) => {
            findings.push(DoctorFinding::ok("config", "the configuration is valid").of(path));
            certificates(&loaded.config, findings);
        }
    }
}

/// Scripts of `lessor alias` that have no effect.
fn aliases(context: &Context, findings: &mut Vec<DoctorFinding>) {
    let Ok(places) = context.places() else { return };
    let aliases = alias::installed(&places);
    if aliases.is_empty() {
        return;
    }
    let names: Vec<&str> =
        aliases.iter().filter(|alias| alias.problem.is_none()).map(|alias| alias.agent.as_str()).collect();
    if !names.is_empty() {
        let message = format!("run through lessor (lessor alias): {}", names.join(", "));
        findings.push(DoctorFinding::ok("alias", message));
    }
    // those with one remedy are one finding
    let mut broken: Vec<(String, String, Vec<alias::AliasInfo>)> = Vec::new();
    for mut alias in aliases {
        let (Some(problem), Some(remedy)) = (alias.problem.take(), alias.remedy.take()) else { continue };
        match broken.iter_mut().find(|(known, its, _)| *known == problem && *its == remedy) {
            Some((.., with_it)) => with_it.push(alias),
            None => broken.push((problem, remedy, vec![alias])),
        }
    }
    for (problem, remedy, aliases) in broken {
        let names: Vec<&str> = aliases.iter().map(|alias| alias.agent.as_str()).collect();
        let file = Path::new(&aliases[0].file);
        let (subject, verb) = match aliases.len() {
            1 => (file, "does"),
            _ => (file.parent().unwrap_or(file), "do"),
        };
        let message = format!("{} {verb} not run through lessor: {problem}", names.join(", "));
        let subject = subject.to_string_lossy().into_owned();
        findings.push(DoctorFinding::warning("alias", message).of(subject).remedy(remedy));
    }
}

/// Files with certificates that cannot be used: requests to their provider fail.
fn certificates(config: &Config, findings: &mut Vec<DoctorFinding>) {
    for (provider, section) in &config.providers {
        let reach = ConnectOptions { ca_file: section.ca_file.clone(), ..ConnectOptions::default() };
        if let Some(error) = section.ca_file.as_ref().and_then(|_| http::tls(&reach).err()) {
            let key = format!("providers.{provider}.ca_file");
            let remedy = format!("lessor config set {key} FILE; or do without: lessor config unset {key}");
            findings.push(DoctorFinding::warning("config", error.to_string()).of(key).remedy(remedy));
        }
    }
}

fn daemon(status: &DaemonStatus, accounts: &[AccountInfo], findings: &mut Vec<DoctorFinding>) {
    let version = env!("CARGO_PKG_VERSION");
    if status.version == version {
        let message = format!("the daemon is running (pid {}, version {version})", status.pid);
        findings.push(DoctorFinding::ok("daemon", message).of(&status.socket));
    } else {
        let message = format!("the daemon is version {}, this program {version}", status.version);
        let finding = DoctorFinding::warning("daemon", message).of(&status.socket);
        findings.push(finding.remedy("restart it; the agents that use it keep running: lessor restart"));
    }
    // a link that cannot be followed is reported with its account
    let links: Vec<_> = accounts.iter().filter_map(|account| account.link.as_ref()).collect();
    let is_of_link = |warning: &&String| {
        links.iter().any(|link| {
            link.trouble.as_ref().is_some_and(|trouble| warning.contains(&link.path) && warning.ends_with(trouble))
        })
    };
    for warning in status.warnings.iter().filter(|warning| !is_of_link(warning)) {
        findings.push(DoctorFinding::warning("daemon", warning));
    }
}

/// Whether programs can trust the gateway's https port.
fn https(status: &DaemonStatus, now: u64) -> Option<DoctorFinding> {
    let gateway = status.gateway.as_ref()?;
    let url = gateway.secure_url.as_ref()?;
    let files = [&gateway.ca_file, &gateway.ca_bundle].into_iter().flatten();
    let missing = files.into_iter().find(|path| !Path::new(path).is_file());
    let finding = match (gateway.certificate_from, gateway.certificate_until) {
        (Some(from), _) if now < from => {
            let from = format::day_and_clock(now, from);
            DoctorFinding::broken("gateway", format!("its certificate is valid from {from} on: is the clock right?"))
                .remedy("set the clock; the daemon replaces the certificate within an hour: lessor restart")
        }
        (_, Some(until)) if until < now => {
            let until = format::day_and_clock(now, until);
            DoctorFinding::broken("gateway", format!("its certificate was valid until {until}: is the clock right?"))
                .remedy("set the clock; the daemon replaces the certificate within an hour: lessor restart")
        }
        _ if missing.is_some() => {
            let message = format!("{} is missing, by which programs trust it", missing?);
            DoctorFinding::broken("gateway", message).remedy("lessor restart")
        }
        (_, until) => {
            let until = until.map(|until| format!(" until {}", format::day_and_clock(now, until)));
            let until = until.unwrap_or_default();
            DoctorFinding::ok(
                "gateway",
                format!("https is served; its certificate is valid{until}, and renewed in time"),
            )
        }
    };
    Some(finding.of(url))
}

/// What the history holds.
fn history(status: &DaemonStatus, config: Option<&Config>, now: u64) -> DoctorFinding {
    let Some(history) = &status.history else {
        let is_off = |config: &Config| config.history.max_age.is_zero() || config.history.max_size == 0;
        if config.is_some_and(is_off) {
            let off = DoctorFinding::ok("history", "no history is kept: it is turned off");
            return off.remedy("turn it on: lessor config unset history.max_size; lessor config unset history.max_age");
        }
        // a daemon that has just started; why a history cannot be written is among its warnings
        return DoctorFinding::ok("history", "the history is not open yet, or cannot be written: see lessor status");
    };
    let since = history.begins_at.map(|begin| format!(" since {}", format::day_and_clock(now, begin)));
    let since = since.unwrap_or_else(|| ", empty so far".to_owned());
    let mib = history.bytes as f64 / f64::from(1 << 20);
    let message = format!("the history has {mib:.1} MiB{since}");
    if history.dropped == 0 {
        return DoctorFinding::ok("history", message);
    }
    let counted = |number: u64, one: &str| count(usize::try_from(number).unwrap_or(usize::MAX), one);
    let dropped = counted(history.dropped, "record");
    if history.uncounted == 0 {
        // the load was high: nothing is wrong
        return DoctorFinding::ok("history", format!("{message}; {dropped} not listed, as too many came at a time"));
    }
    let lost = counted(history.uncounted, "request");
    let message = format!("{message}; {dropped} dropped since the daemon was started, {lost} of them in no sum");
    DoctorFinding::warning("history", message).remedy("see why: lessor logs")
}

/// Who can serve now. A provider whose accounts are all limited is not broken while another provider can serve.
fn serving(providers: &[ProviderInfo], now: u64, findings: &mut Vec<DoctorFinding>) {
    let add =
        "import accounts from other tools: lessor import; or add one: lessor account add PROVIDER --api-key-stdin";
    if providers.is_empty() {
        findings.push(DoctorFinding::broken("account", "there are no accounts").remedy(add));
        return;
    }
    let first = |provider: &ProviderInfo| {
        let at = provider.free_at?;
        let name = provider.first_free.as_ref().map_or(provider.provider.as_str(), account::label);
        Some((at, format!("{name} is the first that can: {}", format::clock_and_span(now, at))))
    };
    for provider in providers {
        let ProviderInfo { provider: name, serving, accounts, .. } = provider;
        let of = count(usize::try_from(*accounts).unwrap_or(usize::MAX), "account");
        let message = format!("{name}: {serving} of {of} can serve now");
        findings.push(match (serving, first(provider)) {
            (0, Some((_, first))) => DoctorFinding::warning("account", format!("{message}; {first}")),
            (0, None) => {
                DoctorFinding::warning("account", message).remedy("see each account below, or: lessor account list")
            }
            _ => DoctorFinding::ok("account", message),
        });
    }
    if providers.iter().all(|provider| provider.serving == 0) {
        let earliest = providers.iter().filter_map(first).min_by_key(|(at, _)| *at);
        let remedy = match &earliest {
            Some(_) => "wait, or add another account: lessor account add PROVIDER --api-key-stdin".to_owned(),
            None => "see each account below, or: lessor account list".to_owned(),
        };
        let first = earliest.map(|(_, first)| format!("; {first}")).unwrap_or_default();
        findings.push(DoctorFinding::broken("account", format!("no account can serve now{first}")).remedy(remedy));
    }
}

fn accounts(accounts: &[AccountInfo], findings: &mut Vec<DoctorFinding>) {
    for account in accounts {
        let why = account.state_reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        let finding = |message: String| DoctorFinding::warning("account", message).of(account::name(account));
        match account.state.as_str() {
            "cannot_renew" => {
                let why = account.state_reason.as_deref().unwrap_or("it cannot be renewed");
                findings.push(finding(why.to_owned()).remedy(remedy(account)));
            }
            "needs_login" => findings.push(finding(format!("it needs a login{why}")).remedy(remedy(account))),
            "needs_verification" => {
                let remedy = format!("{}{}", page_to_open(account), remedy(account));
                findings.push(finding(format!("its provider requires a verification{why}")).remedy(remedy));
            }
            // what the provider refuses, for as long as it does
            "limited" if account.state_reason.is_some() => {
                let message = account.state_reason.clone().unwrap_or_default();
                let check = format!("lessor account check {}", account::reference(account));
                findings.push(finding(message).remedy(page_to_open(account) + &check));
            }
            _ => {}
        }
        if let Some((link, trouble)) = account.link.as_ref().and_then(|link| Some((link, link.trouble.as_ref()?))) {
            let message = format!("it cannot follow {}: {trouble}", link.path);
            findings.push(finding(message).remedy(remedy_of_link(&account.provider, link)));
        }
    }
}

/// What helps an account that cannot follow its file: in a home of lessor's the login is made again; and lessor can only
/// take over a login that rotates, because another one stays linked for lack of its client.
fn remedy_of_link(provider: &str, link: &LinkInfo) -> String {
    match LoginHome::program_of(Path::new(&link.path)) {
        Some(program) => format!("lessor login {}", program.name()),
        None if !logins_rotate(provider) => format!("lessor import; or log in with {} again", link.tool),
        None => format!(
            "lessor import; or log in with {} again, or make lessor refresh the login: lessor import --take-over",
            link.tool
        ),
    }
}

/// The page of the provider that comes before the command, if there is one.
fn page_to_open(account: &AccountInfo) -> String {
    account.state_link.as_ref().map(|link| format!("open {link}; then: ")).unwrap_or_default()
}

/// What lets an account serve again.
fn remedy(account: &AccountInfo) -> String {
    account.remedy.clone().unwrap_or_else(|| "see: lessor account list".to_owned())
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

/// Finds every login that more than one program refreshes.
fn conflicts(
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
                let name = account::reference(account);
                finding.remedy(format!(
                    "to let {tool} refresh it: lessor account remove {name}; then: lessor import --from {}; or to let lessor \
                     refresh it: lessor import --from {} --take-over",
                    entry.tool.name(),
                    entry.tool.name()
                ))
            }
        };
        findings.push(finding.of(account::name(account)));
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
    if one.provider == other.provider
        && one.credential.refresh.is_some()
        && one.credential.refresh == other.credential.refresh
    {
        return Some("token");
    }
    (one.identity().compare(&other.identity()) == IdentityMatch::Agrees).then_some("owner")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{Credential, Secret};
    use crate::{credential::import::Tool, pool::CredentialKind};

    #[test]
    fn an_account_that_cannot_follow_its_file_gets_the_remedy_of_its_place() {
        let remedy = |provider, path: &str| {
            let link = LinkInfo { tool: "x".into(), path: path.into(), mode: "link".into(), trouble: None };
            remedy_of_link(provider, &link)
        };
        let in_home = remedy("google", "/me/state/logins/gemini-1/home/.gemini/oauth_creds.json");
        assert_eq!(in_home, "lessor login gemini");
        assert_eq!(remedy("google", "/me/.gemini/oauth_creds.json"), "lessor import; or log in with x again");
        assert!(remedy("openai", "/me/.codex/auth.json").ends_with("--take-over"));
    }

    fn entry(tool: Tool, refresh: &str, email: Option<&str>) -> (DiscoveredAccount, String) {
        let secret = |text: &str| Secret::new(text.to_owned());
        let credential =
            Credential { refresh: Some(secret(refresh)), ..Credential::new(CredentialKind::Oauth, secret("at")) };
        let entry = DiscoveredAccount::new(tool, "x".into(), "anthropic", credential);
        (DiscoveredAccount { rotates: true, email: email.map(str::to_owned), ..entry }, format!("/{}", tool.name()))
    }

    #[test]
    fn a_shared_token_is_broken_and_a_shared_address_a_warning() {
        let findings = |entries: Vec<(DiscoveredAccount, String)>| {
            let mut findings = Vec::new();
            conflicts(&FoundCredentials { entries, files: Vec::new() }, &[], &[], &mut findings);
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

    #[test]
    fn a_certificate_that_programs_cannot_trust_is_broken() {
        const DAY: u64 = 86_400_000;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem").display().to_string();
        std::fs::write(&file, "").unwrap();
        let found = |file: &str, from: u64, until: u64| {
            let totals = serde_json::to_value(crate::protocol::AccountTotals::default()).unwrap();
            let status = serde_json::json!({
                "version": "1", "pid": 1, "uptime_ms": 0, "socket": "s", "config": { "path": "c", "state": "ok" },
                "accounts": totals, "leases": 0, "queue": [], "warnings": [],
                "gateway": { "url": "http://h:1", "secure_url": "https://h:2", "ca_file": file, "ca_bundle": file,
                    "certificate_from": from, "certificate_until": until }
            });
            let status: DaemonStatus = serde_json::from_value(status).unwrap();
            let finding = https(&status, 100 * DAY).unwrap();
            (finding.level, finding.message)
        };
        assert_eq!(found(&file, 99 * DAY, 400 * DAY).0, FindingLevel::Ok);
        for (file, from, until, part) in [
            (file.as_str(), 101 * DAY, 400 * DAY, "valid from"),
            (file.as_str(), 1, 99 * DAY, "was valid until"),
            ("/nowhere/ca.pem", 99 * DAY, 400 * DAY, "/nowhere/ca.pem is missing"),
        ] {
            let (level, message) = found(file, from, until);
            assert!(level == FindingLevel::Broken && message.contains(part), "{message}");
        }
    }

    #[test]
    fn certificates_that_cannot_be_read_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        let missing = directory.path().join("ca.pem");
        let text =
            format!("[providers.anthropic]\nca_file = {missing:?}\n[providers.openai]\nproxy = \"http://h:1\"\n");
        let mut findings = Vec::new();
        certificates(&Config::from_text(Some(&text), &path).unwrap().config, &mut findings);
        let [one] = findings.as_slice() else { panic!("{findings:?}") };
        assert!(one.message.contains("ca.pem") && one.level == FindingLevel::Warning, "{one:?}");
        assert_eq!(one.subject.as_deref(), Some("providers.anthropic.ca_file"));
    }

    #[test]
    fn a_refused_account_is_named_with_the_page_and_the_command_that_tries_it() {
        let account = serde_json::json!({
            "id": "ac_1", "provider": "anthropic", "label": "work", "tier": "pro", "kind": "api_key", "unchecked": false,
            "state": "limited", "state_reason": "anthropic refuses it: disabled", "state_link": "https://a.example",
            "enabled": true, "leases": 0, "capacity": 1, "priority": 0, "use": ["any"], "limits": [], "usage": [],
            "created_at": 0
        });
        let mut findings = Vec::new();
        accounts(&[serde_json::from_value(account).unwrap()], &mut findings);
        assert_eq!(findings[0].remedy.as_deref(), Some("open https://a.example; then: lessor account check work"));
    }

    #[test]
    fn a_limited_account_is_broken_only_if_no_account_of_any_provider_can_serve() {
        let now = 1_790_000_000_000;
        let label = crate::protocol::AccountLabel { id: "ac_1".into(), label: Some("work".into()), email: None };
        let provider = |name: &str, serving: u64, free_at: Option<u64>| ProviderInfo {
            provider: name.into(),
            serving,
            accounts: 5,
            free_at,
            first_free: free_at.map(|_| label.clone()),
            ..ProviderInfo::default()
        };
        let said = |providers: &[ProviderInfo]| {
            let mut findings = Vec::new();
            serving(providers, now, &mut findings);
            findings.into_iter().map(|finding| (finding.level, finding.message)).collect::<Vec<_>>()
        };
        let at = format::clock_and_span(now, now + 60_000);
        let limited = provider("openai", 0, Some(now + 60_000));
        let waiting = format!("openai: 0 of 5 accounts can serve now; work is the first that can: {at}");
        assert_eq!(
            said(&[provider("anthropic", 2, None), limited.clone()]),
            [
                (FindingLevel::Ok, "anthropic: 2 of 5 accounts can serve now".to_owned()),
                (FindingLevel::Warning, waiting.clone()),
            ]
        );
        let none = format!("no account can serve now; work is the first that can: {at}");
        assert_eq!(said(&[limited]), [(FindingLevel::Warning, waiting), (FindingLevel::Broken, none)]);
        assert_eq!(said(&[]), [(FindingLevel::Broken, "there are no accounts".to_owned())]);
    }
}
