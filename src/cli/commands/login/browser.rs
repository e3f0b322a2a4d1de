//! A login with an OAuth client: in the browser, by pasted code, or by device code.

use std::io::{BufRead, IsTerminal, Read};
use std::sync::Arc;
use std::time::Duration;

use super::super::account::{added, new_account};
use super::{LoginArgs, client_file};
use crate::cli::ui::{Output, browser, clean, format};
use crate::cli::{context::Context, error::CliError, launch::agent::provider_name};
use crate::client::Client;
use crate::config::{Config, format_key};
use crate::credential::Secret;
use crate::credential::oauth::{
    AuthorizationCode, AuthorizationRequest, AuthorizationServer, DeviceCode, LoginIdentity, Loopback, OauthConfig,
    OauthSettings, StoredClient, TokenError, TokenSet, identify, parse_pasted_code, poll_device, request_device_code,
};
use crate::pool::{CredentialKind, Wall, millis, spoken};
use crate::protocol::{AddAccountParams, ErrorKind, ListAccountsParams, ListSecretsParams, SecretText};
use crate::visible::shell_word;

const PATIENCE: Duration = Duration::from_secs(900);
const MAX_LINE: u64 = 64 * 1024;

/// Logs in with the client that is configured, or that the options name.
pub(super) fn execute(options: LoginArgs, context: &Context) -> Result<(), CliError> {
    let provider = provider_name(&options.provider);
    let config = context.config()?;
    check_name(&provider, &config)?;
    // any problem with the daemon is found before the user logs in
    let mut client = context.connect()?;
    client.reload()?;
    let given = given(&config, &provider, &mut client)?;
    let named = options.client.as_deref();
    let client_id = named.map(|named| client_file::client_id(named, &provider, &given, &mut client, context));
    let client_id = client_id.transpose()?;
    // a client in a file is stored now
    let given = if client_id.is_some() { self::given(&config, &provider, &mut client)? } else { given };
    let settings = OauthSettings::for_client(&provider, given, client_id.as_deref())
        .map_err(|missing| CliError::new(ErrorKind::NotConfigured, missing.login_problem()).hint(missing.ways()))?;
    let known = client.accounts(ListAccountsParams { provider: Some(provider.clone()) })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::internal(format!("starting the runtime: {error}")))?;
    let logged_in = runtime.block_on(async {
        let server = AuthorizationServer::find(settings).await.map_err(|error| failed(error.to_string()))?;
        let tokens = if options.device {
            by_device(&server, &options, &context.output).await?
        } else if options.paste {
            redeem(&server, &by_paste(&server, &options, &context.output).await?, &context.output).await?
        } else {
            redeem(&server, &by_browser(&server, &options, &context.output).await?, &context.output).await?
        };
        let identity = identify(&server, &tokens).await;
        Ok::<_, CliError>((tokens, identity, server.settings().client_id().to_owned()))
    });
    let (tokens, identity, client_id) = logged_in.map_err(|error| error.hint(next_step(&provider, &options)))?;
    // a thread that still reads standard input ends with the process
    runtime.shutdown_background();
    if tokens.refresh.is_none() {
        context.output.note(
            "the server issued no refresh token: when this login expires, log in again (a scope such as offline_access \
             may be missing)",
        );
    }
    let account =
        AddAccountParams { client_id: Some(client_id), ..account_of(&provider, options.label, &tokens, identity) };
    // the login may have taken longer than an idle connection stays open
    let info = context.connect()?.add_account(account)?;
    let what = if known.iter().any(|account| account.id == info.id) { "renewed the login of" } else { "logged in" };
    added(&info, what, context)
}

/// Refuses a word that is neither a vendor's program nor a provider: perhaps it was mistyped.
fn check_name(provider: &str, config: &Config) -> Result<(), CliError> {
    if crate::provider::by_alias(provider).is_some() || config.providers.contains_key(provider) {
        return Ok(());
    }
    let name = shell_word(provider).unwrap_or_else(|| "NAME".to_owned());
    let issuer = shell_word(&format_key(&["providers", provider, "oauth", "issuer"])).unwrap_or_default();
    let message = format!("there is no program or provider {:?} to log in with", clean(provider));
    Err(CliError::new(ErrorKind::NotConfigured, message).hint(format!(
        "lessor login claude, codex, gemini or agy; for a provider of your own: lessor config set {issuer} https://…, then \
         lessor login {name} --client FILE"
    )))
}

/// The command that tries a failed login again.
fn next_step(provider: &str, options: &LoginArgs) -> String {
    let client = options.client.as_ref().map(|client| format!(" --client {}", client_file::word_of_shell(client)));
    let way = [(options.device, " --device"), (options.paste, " --paste")].into_iter().find(|(given, _)| *given);
    let (client, way) = (client.unwrap_or_default(), way.map_or("", |(_, way)| way));
    clean(&format!("to try again: lessor login {provider}{way}{client}"))
}

/// What is known of the provider's OAuth server and clients, with the secrets that the daemon keeps.
fn given(config: &Config, provider: &str, daemon: &mut Client) -> Result<OauthConfig, CliError> {
    let list = ListSecretsParams { provider: Some(provider.to_owned()), secrets: true };
    let stored = daemon.stored_clients(list)?.into_iter().map(|client| StoredClient {
        name: client.name,
        provider: client.provider,
        client_id: client.client_id,
        secret: client.secret.map(|secret| Arc::new(Secret::new(secret.0.into_owned()))),
        added_at: Wall(client.added_at),
    });
    Ok(crate::daemon::oauth_given(config, &stored.collect::<Vec<_>>(), provider))
}

pub(super) fn account_of(
    provider: &str,
    label: Option<String>,
    tokens: &TokenSet,
    identity: LoginIdentity,
) -> AddAccountParams {
    AddAccountParams {
        refresh_token: tokens.refresh.as_ref().map(|refresh| SecretText(refresh.expose().to_owned().into())),
        expires_at: tokens.life.map(|life| format::now().saturating_add(millis(life))),
        label,
        email: identity.email,
        account_id: identity.account_id,
        person_id: identity.person_id,
        organization_id: identity.organization_id,
        organization: identity.organization,
        ..new_account(provider, CredentialKind::Oauth, tokens.access.expose())
    }
}

pub(super) fn failed(message: String) -> CliError {
    CliError::new(ErrorKind::LoginFailed, message)
}

/// Opens the provider's page and waits for its answer at the redirect, or for what the user pastes.
pub(super) async fn by_browser(
    server: &AuthorizationServer,
    options: &LoginArgs,
    output: &Output,
) -> Result<(AuthorizationRequest, AuthorizationCode), CliError> {
    let redirect = server.redirect();
    let port = redirect.port();
    let listener = Loopback::open(redirect).await.map_err(|error| {
        let provider = server.settings().provider();
        failed(format!("cannot listen on port {port} of this machine: {error}")).hint(format!(
            "end the program that uses it, use --paste, or set `redirect_port` of [providers.{provider}.oauth] if the \
             client allows another port"
        ))
    })?;
    let request =
        AuthorizationRequest::new(server, &listener.redirect().uri()).map_err(|error| failed(error.to_string()))?;
    show(request.url(), options, output);
    let pasted = std::io::stderr().is_terminal() && std::io::stdin().is_terminal();
    if pasted {
        output.note("Waiting for the browser. If it is on another machine, paste the address of the last page here.");
    } else {
        output.note("Waiting for the browser.");
    }
    let arrival = async {
        tokio::select! {
            answered = listener.answer(&request) => answered.map_err(|why| failed(format!("the login was refused: {why}"))),
            pasted = paste(&request), if pasted => pasted,
        }
    };
    let code = in_time(arrival).await?;
    Ok((request, code))
}

/// Shows the provider's page and waits for what the user pastes.
pub(super) async fn by_paste(
    server: &AuthorizationServer,
    options: &LoginArgs,
    output: &Output,
) -> Result<(AuthorizationRequest, AuthorizationCode), CliError> {
    let redirect = match server.paste_page() {
        Some(page) => page.to_owned(),
        None => {
            // a free port on which no program listens: the browser shows the address nevertheless
            let closed = Loopback::open(server.redirect()).await.map(|listener| listener.redirect().clone());
            closed.unwrap_or_else(|_| server.redirect()).uri()
        }
    };
    let request = AuthorizationRequest::new(server, &redirect).map_err(|error| failed(error.to_string()))?;
    show(request.url(), options, output);
    if server.paste_page().is_some() {
        output.note("Paste the code from the page, then press Enter:");
    } else {
        output.note("The last page cannot be displayed. Paste its address, then press Enter:");
    }
    let code = in_time(paste(&request)).await?;
    Ok((request, code))
}

async fn in_time(
    code: impl Future<Output = Result<AuthorizationCode, CliError>>,
) -> Result<AuthorizationCode, CliError> {
    let too_late = |_| failed(format!("there was no login within {} minutes", PATIENCE.as_secs() / 60));
    tokio::time::timeout(PATIENCE, code).await.map_err(too_late)?
}

/// Exchanges the code for tokens.
pub(super) async fn redeem(
    server: &AuthorizationServer,
    (request, code): &(AuthorizationRequest, AuthorizationCode),
    output: &Output,
) -> Result<TokenSet, CliError> {
    let before_retry = |error: &TokenError, wait| output.note(&format!("{error}; trying again in {}", spoken(wait)));
    let redeemed = request.redeem(server, code, before_retry).await;
    redeemed.map_err(|error| {
        let problem = failed(format!("the code could not be exchanged: {error}"));
        match error {
            TokenError::ClientRefused { .. } | TokenError::ClientUnknown { .. } => {
                problem.hint("to store the secret of the client again: lessor secrets set NAME (lessor secrets list)")
            }
            _ => problem,
        }
    })
}

async fn by_device(server: &AuthorizationServer, options: &LoginArgs, output: &Output) -> Result<TokenSet, CliError> {
    let device: DeviceCode = request_device_code(server).await.map_err(|error| failed(error.to_string()))?;
    let place = device.whole_place.as_deref().unwrap_or(&device.place);
    output.note(&format!("On any device, open\n\n  {}\n\nand enter the code  {}\n", device.place, device.user_code));
    if !options.no_browser {
        browser::open(place);
    }
    output.note("Waiting for the login.");
    poll_device(server, &device).await.map_err(|why| failed(format!("the login failed: {why}")))
}

/// Prints the address, and opens it in the browser unless --no-browser is given.
fn show(url: &str, options: &LoginArgs, output: &Output) {
    output.note(&format!("Log in here:\n\n  {url}\n"));
    if !options.no_browser && browser::open(url) {
        output.note("Your browser opens this page.");
    }
}

/// Reads lines until one is valid; on its own thread, because the read cannot be interrupted.
async fn paste(request: &AuthorizationRequest) -> Result<AuthorizationCode, CliError> {
    loop {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || sender.send(read_line()));
        let line = match receiver.await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => return Err(failed("nothing was pasted: standard input has ended".to_owned())),
            Ok(Err(error)) => return Err(failed(format!("reading standard input: {error}"))),
            Err(_) => return Err(failed("reading standard input failed".to_owned())),
        };
        match parse_pasted_code(request, &line) {
            Ok(code) => return Ok(code),
            // on a terminal the user can paste again
            Err(bad) if std::io::stdin().is_terminal() => eprintln!("{bad}; paste again:"),
            Err(bad) => return Err(failed(bad.to_string())),
        }
    }
}

/// A line; `None` at the end of the input.
fn read_line() -> std::io::Result<Option<zeroize::Zeroizing<String>>> {
    let mut line = zeroize::Zeroizing::new(String::new());
    let read = std::io::stdin().lock().take(MAX_LINE).read_line(&mut line)?;
    Ok((read > 0).then_some(line))
}
