//! `login openai --chatgpt`: Sign in with ChatGPT, for the public Responses API.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::account::{done, note_obstacle};
use super::LoginArgs;
use super::browser::{account_of, by_browser, by_paste, failed, redeem};
use crate::cli::launch::{agent::provider_name, create_private_directory};
use crate::cli::ui::{account, clean, format, prompt};
use crate::cli::{context::Context, error::CliError};
use crate::credential::oauth::{AuthorizationServer, LoginIdentity, OauthSettings, TokenSet, identify};
use crate::daemon::direct_settings;
use crate::pool::Wall;
use crate::protocol::{AccountInfo, AddAccountParams, ListAccountsParams};
use crate::provider::{DirectLogin, direct_login};

/// The name under which users see lessor in their account.
const AGENT_NAME: &str = "lessor";
/// Where users see and limit what lessor uses of their plan.
const USAGE_PAGE: &str = "https://chatgpt.com/settings/usage";
/// What OpenAI allows with this login.
const TERMS: &str = "https://openai.com/policies/sign-in-with-chatgpt-terms/";
const FILE: &str = "chatgpt-host.json";

/// Logs in, and registers lessor for the account if that has not been done.
pub(super) fn execute(options: LoginArgs, context: &Context) -> Result<(), CliError> {
    let provider = provider_name(&options.provider);
    let direct = direct_login(&provider).ok_or_else(|| {
        let message = format!("--chatgpt is for openai, not for {}", clean(&options.provider));
        CliError::usage(message).hint("lessor login openai --chatgpt")
    })?;
    let config = context.config()?;
    // any problem with the daemon is found before the user logs in
    let mut client = context.connect()?;
    client.reload()?;
    let mut accounts = client.accounts(ListAccountsParams::default())?;
    if let Some(other) = accounts.iter().find(|account| account.label.is_some() && account.label == options.label)
        && other.resource.is_none()
    {
        let message = format!("the label {} belongs to another account", clean(account::name(other)));
        return Err(CliError::bad_request(message).hint("choose another: lessor login openai --chatgpt --label L"));
    }
    accounts.retain(|account| account.provider == provider);
    let renewed = renewed(&options, &accounts, context)?;
    let mut host = AgentHost::load(context.places()?.state)?;
    let known_client = match renewed {
        Some(account) => account.client_id.clone(),
        None => host.take_unfinished()?,
    };
    let settings = direct_settings(&config, &provider, known_client.as_deref());
    let settings = settings.ok_or_else(|| CliError::internal(format!("{provider} has no such login")))?;
    let settings = with_parameters(settings, &host, known_client.is_none(), renewed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::internal(format!("starting the runtime: {error}")))?;
    let (tokens, identity, client_id) = runtime.block_on(async {
        let server = AuthorizationServer::find(settings).await.map_err(|error| failed(error.to_string()))?;
        let output = &context.output;
        let answer = if options.paste {
            by_paste(&server, &options, output).await
        } else {
            by_browser(&server, &options, output).await
        };
        let (request, code) = answer.map_err(|error| error.hint(again(renewed)))?;
        let issued = request.client(&server, &code).map_err(|error| failed(error.to_string()).hint(again(renewed)))?;
        let client_id = issued.to_owned();
        // if the answer to the exchange is lost, the next login goes on with this registration
        if renewed.is_none() {
            host.keep_unfinished(Some(&client_id))?;
        }
        let exchanged = (request, code);
        let tokens = redeem(&server, &exchanged, output).await.map_err(|error| error.hint(again(renewed)))?;
        let identity = identify(&server, &tokens).await;
        Ok::<_, CliError>((tokens, identity, client_id))
    })?;
    // a thread that still reads standard input ends with the process
    runtime.shutdown_background();
    check(&tokens, &identity, renewed, direct)?;
    let label = match renewed {
        Some(_) => None,
        None => new_label(options.label, &identity, &accounts),
    };
    let now = Wall(format::now());
    let request = AddAccountParams {
        client_id: Some(client_id),
        resource: Some(direct.resource.to_owned()),
        refresh_from: tokens.refresh_from(now).map(|at| at.0),
        ..account_of(&provider, label, &tokens, identity)
    };
    // the login may have taken longer than an idle connection stays open
    let info = context.connect()?.add_account(request)?;
    host.keep_unfinished(None)?;
    let is_known = accounts.iter().any(|account| account.id == info.id);
    done(&info, if is_known { "renewed the login of" } else { "logged in" }, context)?;
    note_obstacle(&info, context);
    note_rest(&tokens, context);
    Ok(())
}

/// The command that tries the login again.
fn again(renewed: Option<&AccountInfo>) -> String {
    let label = renewed.map(|account| format!(" --label {}", account::reference(account))).unwrap_or_default();
    format!("lessor login openai --chatgpt{label}")
}

/// The account that is logged in again: the one that --label names, or, on a terminal, that the user names.
fn renewed<'a>(
    options: &LoginArgs,
    accounts: &'a [AccountInfo],
    context: &Context,
) -> Result<Option<&'a AccountInfo>, CliError> {
    let direct = || accounts.iter().filter(|account| account.resource.is_some() && account.client_id.is_some());
    let named = |name: &str| {
        direct().find(|account| {
            let names = [account.label.as_deref(), account.email.as_deref(), Some(account.id.as_str())];
            names.contains(&Some(name))
        })
    };
    if let Some(label) = &options.label {
        return Ok(named(label));
    }
    let names: Vec<String> = direct().map(|account| clean(account::name(account))).collect();
    if names.is_empty() || !prompt::can_ask() || options.paste {
        return Ok(None);
    }
    let question = format!("Log in again as {}? Enter its name, or nothing for another account:", names.join(" or "));
    let answer = prompt::ask_text(&question, &context.output)?.unwrap_or_default();
    if answer.is_empty() {
        return Ok(None);
    }
    let unknown = || CliError::bad_request(format!("there is no such account: {}", clean(&answer)));
    named(&answer).map(Some).ok_or_else(|| unknown().hint("see: lessor account list"))
}

fn with_parameters(
    settings: OauthSettings,
    host: &AgentHost,
    registers: bool,
    renewed: Option<&AccountInfo>,
) -> OauthSettings {
    let settings = settings.with_parameter("ext_agent_host_id", &host.known.ext_agent_host_id);
    let settings = if registers { settings.with_parameter("agent_name_hint", AGENT_NAME) } else { settings };
    match renewed.and_then(|account| account.email.as_deref()).filter(|email| !email.contains(' ')) {
        Some(email) => settings.with_parameter("login_hint", email),
        None => settings,
    }
}

/// Refuses a login without the permission to use the plan, and one of another person than the account's.
fn check(
    tokens: &TokenSet,
    identity: &LoginIdentity,
    renewed: Option<&AccountInfo>,
    direct: &DirectLogin,
) -> Result<(), CliError> {
    let granted = tokens.scopes.as_deref();
    if granted.is_some_and(|scopes| !scopes.split(' ').any(|scope| scope == direct.plan_scope)) {
        return Err(failed("you logged in, but did not allow lessor to use the ChatGPT plan".to_owned())
            .hint(format!("allow it on the page: {}", again(renewed))));
    }
    let Some(renewed) = renewed else { return Ok(()) };
    let differs = renewed.person_id.as_ref().zip(identity.person_id.as_ref()).is_some_and(|(one, other)| one != other);
    if differs {
        let name = clean(account::name(renewed));
        return Err(failed(format!("you logged in as another person than {name}; nothing was changed"))
            .hint("for another account: lessor login openai --chatgpt"));
    }
    Ok(())
}

/// The label of a new account: an address that another account has does not tell them apart. The user is not asked: the
/// thread that waits for a pasted address still reads the terminal.
fn new_label(given: Option<String>, identity: &LoginIdentity, accounts: &[AccountInfo]) -> Option<String> {
    let is_taken = |email: &String| accounts.iter().any(|account| account.email.as_ref() == Some(email));
    if given.is_some() || identity.email.as_ref().is_some_and(|email| !is_taken(email)) {
        return given;
    }
    let names: Vec<&str> = accounts.iter().filter_map(|account| account.label.as_deref()).collect();
    let numbered = (2..).map(|number| format!("chatgpt-{number}"));
    let mut unused = std::iter::once("chatgpt".to_owned()).chain(numbered);
    unused.find(|name| !names.contains(&name.as_str()))
}

fn note_rest(tokens: &TokenSet, context: &Context) {
    let output = &context.output;
    if tokens.refresh.is_none() {
        output.note("the server issued no refresh token: when this login expires, log in again");
    }
    output.note("It serves streamed requests to OpenAI's Responses API, from the account's ChatGPT plan.");
    output.note(&format!("What it used, and a limit for it: {USAGE_PAGE}\nOpenAI's terms for this login: {TERMS}"));
    output.note("experimental: this way to log in has not been seen with OpenAI's own server yet");
    output.note("next: lessor run codex");
}

/// This installation, as the provider knows it.
struct AgentHost {
    file: PathBuf,
    known: HostFile,
}

#[derive(Serialize, Deserialize)]
struct HostFile {
    /// Names this installation in each registration; made once.
    ext_agent_host_id: String,
    /// The client of a registration whose login did not end.
    #[serde(default)]
    unfinished_client_id: Option<String>,
}

impl AgentHost {
    /// Reads what is known in the state directory, or makes it.
    fn load(state: PathBuf) -> Result<Self, CliError> {
        let file = state.join(FILE);
        let unreadable = |why: String| CliError::internal(format!("{}: {why}", clean(&file.to_string_lossy())));
        match std::fs::read(&file) {
            Ok(bytes) => {
                let known = serde_json::from_slice(&bytes).map_err(|error| {
                    unreadable(error.to_string()).hint("remove the file: lessor then registers as another installation")
                })?;
                Ok(Self { file, known })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let ext_agent_host_id = host_id().map_err(|error| unreadable(error.to_string()))?;
                let host = Self { file, known: HostFile { ext_agent_host_id, unfinished_client_id: None } };
                host.save()?;
                Ok(host)
            }
            Err(error) => Err(unreadable(error.to_string())),
        }
    }

    /// The client of an unfinished registration: it is tried once more.
    fn take_unfinished(&mut self) -> Result<Option<String>, CliError> {
        let unfinished = self.known.unfinished_client_id.take();
        if unfinished.is_some() {
            self.save()?;
        }
        Ok(unfinished)
    }

    fn keep_unfinished(&mut self, client_id: Option<&str>) -> Result<(), CliError> {
        if self.known.unfinished_client_id.as_deref() == client_id {
            return Ok(());
        }
        self.known.unfinished_client_id = client_id.map(str::to_owned);
        self.save()
    }

    fn save(&self) -> Result<(), CliError> {
        let written = self.write();
        written.map_err(|error| CliError::internal(format!("writing {}: {error}", clean(&self.file.to_string_lossy()))))
    }

    fn write(&self) -> std::io::Result<()> {
        let directory = self.file.parent().unwrap_or(Path::new("."));
        create_private_directory(directory)?;
        // created with mode 0600
        let mut new = tempfile::NamedTempFile::new_in(directory)?;
        new.write_all(&serde_json::to_vec(&self.known)?)?;
        new.persist(&self.file)?;
        Ok(())
    }
}

/// A random UUID (version 4) as a URN.
fn host_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Ok(format!("urn:uuid:{}", parts.join("-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_named_once_and_by_a_random_uuid() {
        let directory = tempfile::tempdir().unwrap();
        let load = || AgentHost::load(directory.path().to_owned()).unwrap();
        let id = load().known.ext_agent_host_id;
        assert_eq!((id.len(), &id[..9], &id[23..24]), (45, "urn:uuid:", "4"), "{id}");
        assert_eq!(load().known.ext_agent_host_id, id);
        assert_ne!(host_id().unwrap(), id);
    }

    #[test]
    fn an_unfinished_registration_is_tried_once_more() {
        let directory = tempfile::tempdir().unwrap();
        let load = || AgentHost::load(directory.path().to_owned()).unwrap();
        load().keep_unfinished(Some("oaiapp_1")).unwrap();
        assert_eq!(load().take_unfinished().unwrap().as_deref(), Some("oaiapp_1"));
        assert_eq!(load().take_unfinished().unwrap(), None);
    }
}
