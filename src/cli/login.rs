//! `login`

use std::io::{BufRead, IsTerminal, Read};
use std::time::Duration;

use clap::Args;

use crate::config::Config;
use crate::credential::Secret;
use crate::credential::oauth::{
    Device, Identity, Loopback, Request, Server, Settings, Tokens, begin_device, identify, poll_device, read_pasted,
};
use crate::pool::{CredentialKind, millis};
use crate::protocol::{AccountInfo, AddAccountParams, ListAccountsParams, SecretText};

use super::context::{self, Context};
use super::failure::Failure;
use super::lease::canonical;
use super::output::{Output, clean};
use super::{browser, status};

/// How long the user has.
const PATIENCE: Duration = Duration::from_secs(900);
/// The longest line that is read.
const LONGEST_LINE: u64 = 64 * 1024;

/// `login`
#[derive(Debug, Args)]
pub(super) struct Login {
    /// anthropic, openai, google, or one that the configuration names
    #[arg(value_name = "PROVIDER")]
    provider: String,
    /// By a code that is typed on any other device
    #[arg(long, conflicts_with = "paste")]
    device: bool,
    /// By pasting the code, or the address the browser ends at: for a browser on another machine
    #[arg(long)]
    paste: bool,
    /// Only print the address
    #[arg(long)]
    no_browser: bool,
    /// Your name for the account, if it is a new one
    #[arg(long, value_name = "L")]
    label: Option<String>,
}

/// Logs in, and hands what came of it to the daemon.
pub(super) fn login(options: Login, context: &Context) -> Result<(), Failure> {
    let provider = canonical(&options.provider);
    let places = context.places()?;
    let config = Config::load(&places.config).map_err(|errors| Failure::config(errors.to_string()))?.config;
    let settings = Settings::of(&provider, crate::daemon::oauth_given(&config, &provider)).map_err(|missing| {
        Failure::new("not_configured", format!("lessor cannot log in at {provider}: {missing}")).hint(missing.remedy())
    })?;
    // before the user has gone to any trouble
    let mut client = context.connect()?;
    client.reload()?;
    let known = client.accounts(ListAccountsParams { provider: Some(provider.clone()) })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new("internal", format!("starting the runtime: {error}")))?;
    let (tokens, who) = runtime.block_on(async {
        let server = Server::find(settings).await.map_err(|error| failed(error.to_string()))?;
        let tokens = if options.device {
            by_device(&server, &options, &context.output).await?
        } else if options.paste {
            by_paste(&server, &options, &context.output).await?
        } else {
            by_browser(&server, &options, &context.output).await?
        };
        let who = identify(&server, &tokens).await;
        Ok::<_, Failure>((tokens, who))
    })?;
    // a thread may still read standard input: it ends with the process
    runtime.shutdown_background();
    if tokens.refresh.is_none() {
        context.output.note(
            "the server gave no refresh token: when this login ends, log in again (a scope such as offline_access may \
             be missing)",
        );
    }
    let is_known = |info: &AccountInfo| {
        let same = |known: &Option<String>, now: &Option<String>| known.is_some() && known == now;
        same(&info.account_id, &who.account_id) || same(&info.email, &who.email)
    };
    let renews = known.iter().any(is_known);
    let account = account_of(provider, options.label, tokens, who);
    // the browser may have taken longer than a connection lives
    let info = context.connect()?.add_account(account)?;
    let what = if renews { "renewed the login of" } else { "logged in" };
    context
        .output
        .result(&info, || format!("{what} {} ({}, {})", clean(status::name(&info)), info.id, clean(&info.provider)))
}

fn account_of(provider: String, label: Option<String>, tokens: Tokens, who: Identity) -> AddAccountParams {
    let text = |secret: &Secret| SecretText(secret.expose().to_owned().into());
    AddAccountParams {
        provider,
        kind: CredentialKind::Oauth,
        secret: text(&tokens.access),
        refresh_token: tokens.refresh.as_ref().map(text),
        expires_at: tokens.life.map(|life| context::now().saturating_add(millis(life))),
        label,
        email: who.email,
        tier: None,
        max_leases: None,
        priority: None,
        allowed_agents: None,
        project_id: None,
        account_id: who.account_id,
    }
}

fn failed(message: String) -> Failure {
    Failure::new("login_failed", message)
}

async fn by_browser(server: &Server, options: &Login, output: &Output) -> Result<Tokens, Failure> {
    let redirect = server.redirect();
    let port = redirect.port();
    let listener = Loopback::open(redirect).await.map_err(|error| {
        let provider = server.settings().provider();
        failed(format!("this machine's port {port} cannot be listened on: {error}")).hint(format!(
            "end what uses it, use --paste, or set `redirect_port` of [providers.{provider}.oauth] if the client allows \
             another port"
        ))
    })?;
    let request = Request::new(server, &listener.redirect().uri()).map_err(|error| failed(error.to_string()))?;
    show(request.url(), options, output);
    let pasted = std::io::stderr().is_terminal() && std::io::stdin().is_terminal();
    if pasted {
        output.note("Waiting for the browser. If it is on another machine, paste the address it ends at here.");
    } else {
        output.note("Waiting for the browser.");
    }
    let arrival = async {
        tokio::select! {
            answered = listener.answer(&request) => answered.map_err(|why| failed(format!("the login was refused: {why}"))),
            pasted = paste(&request), if pasted => pasted,
        }
    };
    let code = tokio::time::timeout(PATIENCE, arrival).await.map_err(|_| too_late())??;
    request.redeem(server, &code).await.map_err(|error| failed(format!("the code was not accepted: {error}")))
}

async fn by_paste(server: &Server, options: &Login, output: &Output) -> Result<Tokens, Failure> {
    let redirect = match server.paste_page() {
        Some(page) => page.to_owned(),
        None => {
            // a port that is free now, and that nobody listens on: the browser shows the address all the same
            let closed = Loopback::open(server.redirect()).await.map(|listener| listener.redirect().clone());
            closed.unwrap_or_else(|_| server.redirect()).uri()
        }
    };
    let request = Request::new(server, &redirect).map_err(|error| failed(error.to_string()))?;
    show(request.url(), options, output);
    if server.paste_page().is_some() {
        output.note("Paste the code it shows, then press Enter:");
    } else {
        output.note("It ends at a page that cannot be shown. Paste that page's address, then press Enter:");
    }
    let code = tokio::time::timeout(PATIENCE, paste(&request)).await.map_err(|_| too_late())??;
    request.redeem(server, &code).await.map_err(|error| failed(format!("the code was not accepted: {error}")))
}

async fn by_device(server: &Server, options: &Login, output: &Output) -> Result<Tokens, Failure> {
    let device: Device = begin_device(server).await.map_err(|error| failed(error.to_string()))?;
    let place = device.whole_place.as_deref().unwrap_or(&device.place);
    output.note(&format!("On any device, open\n\n  {}\n\nand enter the code  {}\n", device.place, device.user_code));
    if !options.no_browser {
        browser::open(place);
    }
    output.note("Waiting until that is done.");
    poll_device(server, &device).await.map_err(|why| failed(format!("no login came of it: {why}")))
}

/// Prints the address, always; opens it, where that is wanted and possible.
fn show(url: &str, options: &Login, output: &Output) {
    output.note(&format!("Log in here:\n\n  {url}\n"));
    if !options.no_browser && browser::open(url) {
        output.note("It opens in your browser.");
    }
}

/// Reads what the user pastes, until it is of use; on its own thread, because nothing can interrupt it.
async fn paste(request: &Request) -> Result<Secret, Failure> {
    loop {
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || tell.send(read_line()));
        let line = match told.await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => return Err(failed("nothing was pasted: standard input has ended".to_owned())),
            Ok(Err(error)) => return Err(failed(format!("reading standard input: {error}"))),
            Err(_) => return Err(failed("reading standard input failed".to_owned())),
        };
        match read_pasted(request, &line) {
            Ok(code) => return Ok(code),
            // somebody who pastes by hand can paste again
            Err(bad) if std::io::stdin().is_terminal() => eprintln!("{bad}; once more:"),
            Err(bad) => return Err(failed(bad.to_string())),
        }
    }
}

/// A line; nothing at the end of input.
fn read_line() -> std::io::Result<Option<zeroize::Zeroizing<String>>> {
    let mut line = zeroize::Zeroizing::new(String::new());
    let read = std::io::stdin().lock().take(LONGEST_LINE).read_line(&mut line)?;
    Ok((read > 0).then_some(line))
}

fn too_late() -> Failure {
    failed(format!("nobody logged in within {} minutes", PATIENCE.as_secs() / 60))
}
