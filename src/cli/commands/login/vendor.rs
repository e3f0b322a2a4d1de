//! `login claude|codex|gemini|agy`: a login that the vendor's own program makes, in a directory of its own.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use super::super::account::note_obstacle;
use super::super::import::send;
use super::LoginArgs;
use super::vendor_program::{Signals, call_of, find};
use crate::cli::ui::{account, clean, format, prompt};
use crate::cli::{context::Context, error::CliError};
use crate::client::Client;
use crate::config::Config;
use crate::credential::import::DiscoveredAccount;
use crate::credential::import::discover::{DiscoveryError, HostEnvironment, KEYCHAIN_PREFIX, Platform, reread};
use crate::credential::oauth::{LoginIdentity, identify_token};
use crate::credential::{LinkMode, LoginHome, LoginProgram};
use crate::daemon::connect_options;
use crate::pool::{AccountOwner, CredentialKind, Tier, Wall};
use crate::protocol::{AccountInfo, ErrorKind, ListAccountsParams, SetAccountParams};
use crate::visible::shell_word;

/// A directory that belongs to no account is removed when it is older: another login may still use a younger one.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// Said before a login of Gemini CLI.
const GEMINI_ENDED: &str = "Google ended the logins of Gemini CLI for Free, Pro and Ultra plans in June 2026; those of a \
    company (Gemini Code Assist) still work. For a plan of your own: lessor login agy";

/// The directory of a login that is not complete: removed when dropped.
struct UnfinishedHome(Option<LoginHome>);

impl Drop for UnfinishedHome {
    fn drop(&mut self) {
        if let Some(home) = &self.0 {
            let _reported_by_doctor = home.remove();
        }
    }
}

/// The program that a word names; a provider's name names none.
pub(super) fn program_of(options: &LoginArgs) -> Option<LoginProgram> {
    LoginProgram::from_name(&options.provider.to_ascii_lowercase()).filter(|_| options.client.is_none())
}

/// Runs the program's login in a new directory, and adds or renews the account of the login that it has written.
pub(super) fn execute(program: LoginProgram, options: LoginArgs, context: &Context) -> Result<(), CliError> {
    let mut call = call_of(program, &options)?;
    if program == LoginProgram::Gemini {
        context.output.note(GEMINI_ENDED);
    }
    let file = find(program)?;
    // any problem with the daemon is found before the user logs in
    let mut client = context.connect()?;
    client.reload()?;
    let known = client.accounts(ListAccountsParams::default())?;
    check_label(program, options.label.as_deref(), &known)?;
    let state = context.places()?.state;
    for home in unused_homes(&state, &known).into_iter().filter(is_abandoned_home) {
        let _reported_by_doctor = home.remove();
    }
    let failed = |error: std::io::Error| {
        CliError::internal(format!("running {} in a directory of its own: {error}", program.name()))
            .hint("lessor doctor")
    };
    let signals = Signals::begin().map_err(failed)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let not_created = |error: std::io::Error| {
        let message =
            format!("a directory for the login cannot be made in {}: {error}", clean(&state.to_string_lossy()));
        CliError::internal(message).hint(format!("when that is mended: lessor login {}", program.name()))
    };
    let home = LoginHome::create(&state, program, &file, &path, Wall(format::now())).map_err(not_created)?;
    let mut unfinished = UnfinishedHome(Some(home.clone()));
    call.fit_version(&home).map_err(failed)?;
    note_before(program, call.advice, context);
    let status = call.run(&home, &context.output, &signals).map_err(failed)?;
    if !status.success() && std::io::stderr().is_terminal() {
        // what the program was about to ask has no line end
        eprintln!();
    }
    home.make_private().map_err(failed)?;
    let mut login = read_login(&home).map_err(|problem| no_login(program, problem, status.success()))?;
    login.label.clone_from(&options.label);
    name_owner(&mut login, &home, &known, &signals, context)?;
    let (info, is_new) = add(&login, &known, context)?;
    if info.link.as_ref().is_some_and(|link| Path::new(&link.path).starts_with(home.root())) {
        unfinished.0 = None;
        home.forget_keychain_item();
    }
    let (info, other_label) = with_label(info, options.label.as_deref(), is_new, context);
    announce(&info, program, is_new, context)?;
    if let Some(note) = other_label {
        context.output.note(&note);
    }
    Ok(())
}

/// What the user should know before the program starts.
fn note_before(program: LoginProgram, advice: Option<&str>, context: &Context) {
    context.output.note(&format!("Starting the login of {} in a directory of its own.", program.title()));
    if let Some(advice) = advice {
        context.output.note(advice);
    }
}

/// Refuses a label that the login cannot get, before the user logs in.
fn check_label(program: LoginProgram, label: Option<&str>, known: &[AccountInfo]) -> Result<(), CliError> {
    let other =
        known.iter().find(|account| account.label.as_deref() == label && account.provider != program.provider());
    match other.filter(|_| label.is_some()) {
        None => Ok(()),
        Some(other) => {
            let message = format!(
                "the label {:?} belongs to an account of {}",
                clean(account::name(other)),
                clean(&other.provider)
            );
            let free = quoted(&free_label(program, known));
            Err(CliError::bad_request(message).hint(format!("lessor login {} --label {free}", program.name())))
        }
    }
}

/// Whether a home that belongs to no account was made for a login that has ended: one that is younger may be under way.
pub(in super::super) fn is_abandoned_home(home: &LoginHome) -> bool {
    let now = Wall(format::now());
    home.created_at().is_none_or(|at| now.since(at) > ABANDONED_AFTER)
}

/// The homes that belong to no account.
pub(in super::super) fn unused_homes(state: &Path, known: &[AccountInfo]) -> Vec<LoginHome> {
    let mut homes = LoginHome::all(state);
    homes.retain(|home| {
        let is_here = |account: &AccountInfo| {
            account.link.as_ref().is_some_and(|link| Path::new(&link.path).starts_with(home.root()))
        };
        !known.iter().any(is_here)
    });
    homes
}

/// The login that the program has written.
fn read_login(home: &LoginHome) -> Result<DiscoveredAccount, DiscoveryError> {
    let tool_home = home.tool_home();
    let directory = tool_home.to_str().map(str::to_owned);
    let variable = |name: &str| directory.clone().filter(|_| name == "CLAUDE_CONFIG_DIR");
    let of = HostEnvironment { system: Platform::here(), home: tool_home, variable: &variable };
    let now = Wall(format::now());
    let file = home.login_file();
    let place = file.to_string_lossy();
    let is_login = |entry: &DiscoveredAccount| {
        entry.credential.kind == CredentialKind::Oauth && entry.provider == home.program().provider()
    };
    let read = |place: &str| Ok(reread(place, &of, now)?.into_iter().find(is_login));
    let in_file = match read(&place) {
        Err(DiscoveryError::Missing) => None,
        read => read?,
    };
    if let Some(login) = in_file {
        return Ok(DiscoveredAccount { mode: Some(home.program().link_mode()), ..login });
    }
    let keychain = home.keychain_item().map(|item| read(&format!("{KEYCHAIN_PREFIX}{item}"))).transpose()?.flatten();
    // lessor writes to no keychain: it owns such a login alone
    let login = keychain.ok_or(DiscoveryError::Missing)?;
    Ok(DiscoveredAccount { mode: Some(LinkMode::TakeOver), file: Some(place.into_owned()), ..login })
}

fn no_login(program: LoginProgram, problem: DiscoveryError, is_success: bool) -> CliError {
    let (name, title) = (program.name(), program.title());
    let error = |message: String| CliError::new(ErrorKind::LoginFailed, message);
    let again = format!("try again: lessor login {name}");
    match (problem, program) {
        (DiscoveryError::Missing, LoginProgram::Agy) if is_success => error(format!(
            "no login was made in the directory of {title}: it may have put it into the system's keyring, which keeps only one"
        ))
        .hint("take that one: lessor import; or without the keyring: env -u DBUS_SESSION_BUS_ADDRESS lessor login agy"),
        (DiscoveryError::Missing, _) => error(format!("no login was made: {title} has ended without one")).hint(again),
        (problem, _) => error(format!("no login was made: what {title} wrote cannot be read: {problem}")).hint(again),
    }
}

/// Finds out whose login it is, if its files do not say so: from the provider, else from the user.
fn name_owner(
    login: &mut DiscoveredAccount,
    home: &LoginHome,
    known: &[AccountInfo],
    signals: &Signals,
    context: &Context,
) -> Result<(), CliError> {
    if login.email.is_none()
        && let Some(identity) = ask_provider(login, &context.config()?)
    {
        let LoginIdentity { email, person_id, organization_id, organization, tier, .. } = identity;
        login.owner.learn(&AccountOwner {
            person: person_id,
            organization: organization_id,
            organization_name: organization,
        });
        login.email = email;
        login.tier = if login.tier == Tier::Unknown { tier.unwrap_or_default() } else { login.tier };
    }
    if login.email.is_some() || login.label.is_some() {
        return Ok(());
    }
    let answer = if prompt::can_ask() {
        let output = context.output;
        let ask = move || prompt::ask_text("Whose login is this? An e-mail address or a name:", &output).ok().flatten();
        let interrupted = |()| CliError::new(ErrorKind::LoginFailed, "no login was made: the question was interrupted");
        signals
            .answer(ask)
            .map_err(|()| interrupted(()).hint(format!("try again: lessor login {}", home.program().name())))?
    } else {
        None
    };
    match answer.filter(|answer| !answer.is_empty()) {
        Some(email) if email.contains('@') => login.email = Some(email),
        Some(name) => login.label = Some(name),
        None => login.label = Some(free_label(home.program(), known)),
    }
    Ok(())
}

fn ask_provider(login: &DiscoveredAccount, config: &Config) -> Option<LoginIdentity> {
    let section = config.providers.get(&login.provider);
    let base = section.and_then(|section| section.oauth.base_url.clone().or_else(|| section.base_url.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let reach = connect_options(section);
    let asked = identify_token(&login.provider, base.as_deref(), &login.credential.access, &reach);
    runtime.block_on(asked)
}

/// A label for a login that nothing names.
fn free_label(program: LoginProgram, known: &[AccountInfo]) -> String {
    let labels = (1..).map(|number| format!("{}-{number}", program.name()));
    let is_free = |label: &String| known.iter().all(|account| account.label.as_ref() != Some(label));
    labels.into_iter().find(is_free).unwrap_or_default()
}

/// Hands the login to the daemon; the account, and whether it is new.
fn add(login: &DiscoveredAccount, known: &[AccountInfo], context: &Context) -> Result<(AccountInfo, bool), CliError> {
    // the login may have taken longer than an idle connection stays open
    let mut client = context.connect()?;
    let row = send(&mut client, &[login], None, (false, false))?.into_iter().next();
    let row = row.ok_or_else(|| CliError::internal("the daemon answered nothing about the login"))?;
    let Some(added) = row.account.filter(|_| row.outcome != "refused") else {
        let message = format!("the login was not added: {}", clean(&row.message));
        return Err(CliError::new(ErrorKind::LoginFailed, message).hint("see: lessor doctor"));
    };
    let info = account_with(&mut client, &added.id)?;
    let is_new = known.iter().all(|account| account.id != info.id);
    Ok((info, is_new))
}

fn account_with(client: &mut Client, id: &str) -> Result<AccountInfo, CliError> {
    let accounts = client.accounts(ListAccountsParams::default())?;
    let found = accounts.into_iter().find(|account| account.id == id);
    found.ok_or_else(|| CliError::new(ErrorKind::UnknownAccount, "the account was removed meanwhile"))
}

/// Gives a known account without a label the one that the user wants now. Another label stays; then there is a sentence
/// that says so.
fn with_label(
    info: AccountInfo,
    label: Option<&str>,
    is_new: bool,
    context: &Context,
) -> (AccountInfo, Option<String>) {
    let Some(label) = label.filter(|label| info.label.as_deref() != Some(label)) else { return (info, None) };
    let name = account::reference(&info);
    let set = || {
        let label = Some(label.to_owned());
        let change = SetAccountParams { account: info.id.clone(), label, ..SetAccountParams::default() };
        context.connect().ok()?.set_account(change).ok()
    };
    if let Some(changed) = info.label.is_none().then(set).flatten() {
        return (changed, None);
    }
    let note = if is_new {
        format!("another account has the label {label:?}; to change this one: lessor account set {name} label=NAME")
    } else {
        format!("it keeps its label; to change it: lessor account set {name} {}", quoted(&format!("label={label}")))
    };
    (info, Some(clean(&note)))
}

/// A word of a command for a shell.
fn quoted(word: &str) -> String {
    shell_word(word).unwrap_or_else(|| word.to_owned())
}

/// Says what was added, what the provider's terms are, and what comes next.
fn announce(info: &AccountInfo, program: LoginProgram, is_new: bool, context: &Context) -> Result<(), CliError> {
    let plan = info.plan.clone().or_else(|| (info.tier != Tier::Unknown).then(|| info.tier.name().to_owned()));
    let name = account::name(info);
    let email = info.email.clone().filter(|email| email != name);
    // the organisation of a single person is named after the person
    let organization = info.organization.clone();
    let organization = organization.filter(|name| info.email.as_ref().is_none_or(|email| !name.contains(email)));
    let facts = [Some(info.provider.clone()), plan, email, organization];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    let what = if is_new { "added" } else { "renewed the login of" };
    let line = format!("{what} {} ({})", clean(name), clean(&facts.join(", ")));
    context.output.result(info, || context.output.prose(&line))?;
    note_obstacle(info, context);
    let output = &context.output;
    if let Some(sentence) = crate::provider::terms(&info.provider, info.kind, &info.allowed_agents) {
        output.note(&format!("{}.", clean(&sentence)));
    }
    let name = program.name();
    output.note(&format!("next: lessor run {name}; another account: lessor login {name}; all accounts: lessor status"));
    Ok(())
}
