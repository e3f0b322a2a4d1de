//! `login claude --token`: a long-lived token of a Claude subscription, made by `claude setup-token`.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use zeroize::Zeroizing;

use super::super::account::{done, new_account, note_obstacle};
use super::{LoginArgs, vendor_program::find};
use crate::cli::launch::{agent::provider_name, create_private_directory, run_in_foreground};
use crate::cli::ui::{account, clean, format, prompt};
use crate::cli::{context::Context, error::CliError};
use crate::config::Config;
use crate::credential::check::{CheckResult, check};
use crate::credential::oauth::{LoginIdentity, identify_token};
use crate::credential::{LoginProgram, Secret};
use crate::daemon::{credential_check, renewal_command};
use crate::pool::{AccountIdentity, CredentialKind, IdentityMatch, Wall, millis};
use crate::protocol::{
    AccountInfo, AccountRef, AddAccountParams, ErrorKind, ListAccountsParams, SecretText, SetAccountParams,
};

const PROVIDER: &str = "anthropic";
/// How Anthropic's long-lived tokens begin.
const PREFIX: &str = "sk-ant-oat";
/// A token with fewer characters was perhaps cut where the terminal wrapped it.
const USUAL_LENGTH: usize = 100;
/// At most so many parts of a token that the terminal wrapped are pasted one after the other.
const PARTS: usize = 3;
/// How long such a token lives: a year.
const LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Makes a token with `claude setup-token`, and adds what the user pastes.
pub(super) fn execute(options: LoginArgs, context: &Context) -> Result<(), CliError> {
    let provider = provider_name(&options.provider);
    if provider != PROVIDER {
        let message = format!("--token is for Claude's long-lived tokens, not for {}", clean(&options.provider));
        return Err(CliError::usage(message).hint(format!("lessor account add {provider} --token-stdin")));
    }
    let config = context.config()?;
    // any problem with the daemon is found before the token is made
    context.connect()?.reload()?;
    let is_new = prompt::can_ask() && !options.paste && make_token(context)?;
    let token = read_token(context)?;
    let (is_accepted, identity) = try_token(&config, &token, context)?;
    let of_provider = ListAccountsParams { provider: Some(PROVIDER.to_owned()) };
    let known = context.connect()?.accounts(of_provider)?;
    let label = match (&options.label, &identity) {
        (Some(label), _) => Some(label.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(name_of(&known, context)?),
    };
    let identity = identity.unwrap_or_default();
    let same = known.iter().find(|account| is_same(account, &identity, label.as_deref()));
    let expires_at = format::now().saturating_add(millis(LIFE));
    let (info, what) = save(same, &known, &token, label, identity.clone(), expires_at, context)?;
    // the daemon tries it, too: it is then not shown as unchecked
    let checked =
        is_accepted.then(|| context.connect().ok()?.check_account(AccountRef { account: info.id.clone() }).ok());
    let info = checked.flatten().map_or(info, |checked| checked.account);
    done(&info, what, context)?;
    note_obstacle(&info, context);
    note_rest(&info, &known, &identity, is_new, context);
    Ok(())
}

/// Runs `claude setup-token` on this terminal, in a configuration directory of its own that is removed afterwards;
/// `false` if there is no such program here.
fn make_token(context: &Context) -> Result<bool, CliError> {
    let Ok(program) = find(LoginProgram::Claude) else {
        context.output.note(
            "The program claude was not found. On a machine that has it, run claude setup-token, which prints a token at \
             its end.",
        );
        return Ok(false);
    };
    let failed = |error: io::Error| CliError::internal(format!("running claude setup-token: {error}"));
    let state = context.places()?.state;
    create_private_directory(&state).map_err(failed)?;
    let directory = tempfile::Builder::new().prefix("setup-token-").tempdir_in(&state).map_err(failed)?;
    let config = directory.path().join("config");
    create_private_directory(&config).map_err(failed)?;
    context.output.note("Running claude setup-token; copy the token that it prints at its end.");
    let mut command = Command::new(program);
    command.arg("setup-token").env("CLAUDE_CONFIG_DIR", config);
    for name in ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"] {
        command.env_remove(name);
    }
    // standard output is for the result of this command
    command.stdout(Stdio::from(io::stderr()));
    let status = run_in_foreground(&mut command).map_err(failed)?;
    if status.success() {
        return Ok(true);
    }
    Err(CliError::new(ErrorKind::LoginFailed, format!("claude setup-token made no token ({status})"))
        .hint("run it again, or paste a token that you have: lessor login claude --token --paste"))
}

/// Reads the pasted token; a terminal may have wrapped it.
fn read_token(context: &Context) -> Result<Zeroizing<String>, CliError> {
    let mut pasted = prompt::pasted_secret("token", &context.output)?;
    let mut token = token_in(&pasted).map_err(not_a_token)?;
    for _ in 1..PARTS {
        if token.len() >= USUAL_LENGTH || !prompt::can_ask() {
            break;
        }
        context.output.note("That is shorter than usual. If the terminal wrapped the token, paste the rest, too.");
        let rest = prompt::pasted_secret("rest, or nothing", &context.output)?;
        if rest.trim().is_empty() {
            break;
        }
        pasted.push_str(&rest);
        token = token_in(&pasted).map_err(not_a_token)?;
    }
    Ok(token)
}

fn not_a_token((why, hint): (&'static str, &'static str)) -> CliError {
    CliError::bad_request(format!("this is not a token of claude setup-token: {why}")).hint(hint)
}

/// The token in what was pasted, which may be wrapped, or be the line that sets the variable.
fn token_in(pasted: &str) -> Result<Zeroizing<String>, (&'static str, &'static str)> {
    const AGAIN: &str = "lessor login claude --token";
    let is_space = |c: char| c.is_whitespace() || c.is_control();
    let text = pasted.trim_matches(is_space);
    let text = text.strip_prefix("export ").unwrap_or(text);
    let text = text.strip_prefix("CLAUDE_CODE_OAUTH_TOKEN=").unwrap_or(text).trim_matches(['"', '\'']);
    let token: Zeroizing<String> = Zeroizing::new(text.chars().filter(|c| !is_space(*c)).collect());
    let is_token = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    match token.as_str() {
        "" => Err(("nothing was pasted", AGAIN)),
        key if key.starts_with("sk-ant-api") => {
            Err(("it is an API key", "lessor account add anthropic --api-key-stdin"))
        }
        refresh if refresh.starts_with("sk-ant-ort") => Err(("it is the refresh token of a login", AGAIN)),
        code if code.contains('#') => {
            Err(("it is the code of the login page, which claude setup-token asks for", AGAIN))
        }
        other if !other.starts_with(PREFIX) => {
            Err(("it does not begin with sk-ant-oat", "for another token: lessor account add anthropic --token-stdin"))
        }
        token if token.len() <= PREFIX.len() || !token.chars().all(is_token) => {
            Err(("it is cut off, or holds other characters", AGAIN))
        }
        _ => Ok(token),
    }
}

/// Whether the provider accepts the token, and whose it is, if the provider says so. A refused token is an error; if
/// the provider cannot be reached, the token is kept and checked later.
fn try_token(config: &Config, token: &str, context: &Context) -> Result<(bool, Option<LoginIdentity>), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::internal(format!("starting the runtime: {error}")))?;
    let secret = Secret::new(token.to_owned());
    let attempt = credential_check(config, PROVIDER, CredentialKind::Token, secret.duplicate(), None);
    let answer = runtime.block_on(check(&attempt, Wall(format::now())));
    let unchecked = |why: &str| {
        context.output.note(&clean(&format!("not known yet whether Anthropic accepts the token: {why}")));
        Ok((false, None))
    };
    match answer {
        CheckResult::Accepted(_) => {
            let asked = identify_token(PROVIDER, attempt.base.as_deref(), &secret, &attempt.reach);
            Ok((true, runtime.block_on(asked)))
        }
        CheckResult::Refused(status, verdict) => {
            let message = format!("Anthropic refuses this token ({status}): {}", clean(&verdict.evidence));
            Err(CliError::new(ErrorKind::LoginFailed, message).hint("make another one: lessor login claude --token"))
        }
        CheckResult::Unreachable(why) | CheckResult::Unknown(_, why) => unchecked(&why),
    }
}

/// A name for the token's account: such a token does not say whose it is.
fn name_of(known: &[AccountInfo], context: &Context) -> Result<String, CliError> {
    let names: Vec<&str> = known.iter().filter_map(|account| account.label.as_deref()).collect();
    let numbered = (2..).map(|number| format!("claude-token-{number}"));
    let mut unused = std::iter::once("claude-token".to_owned()).chain(numbered);
    let suggested = unused.find(|name| !names.contains(&name.as_str())).unwrap_or_default();
    if !prompt::can_ask() {
        return Ok(suggested);
    }
    let tokens: Vec<String> = known
        .iter()
        .filter(|account| account.kind == CredentialKind::Token)
        .map(|of| clean(account::name(of)))
        .collect();
    if !tokens.is_empty() {
        context
            .output
            .note(&format!("Accounts with a token: {}. The name of one replaces its token.", tokens.join(", ")));
    }
    let question = format!("Whose token is it? A name or e-mail address [{suggested}]:");
    let answer = prompt::ask_text(&question, &context.output)?;
    Ok(answer.filter(|answer| !answer.is_empty()).unwrap_or(suggested))
}

/// Whether a token is for an account that has one already: it is of the same person, or the user gave its name.
fn is_same(account: &AccountInfo, identity: &LoginIdentity, label: Option<&str>) -> bool {
    let names = [account.label.as_deref(), account.email.as_deref(), Some(account.id.as_str())];
    let is_named = label.is_some() && names.contains(&label);
    account.kind == CredentialKind::Token
        && (is_named || identity_of(account).compare(&identity_in(identity)) == IdentityMatch::Agrees)
}

fn identity_of(account: &AccountInfo) -> AccountIdentity<'_> {
    AccountIdentity {
        provider: &account.provider,
        person: account.person_id.as_deref(),
        organization: account.organization_id.as_deref(),
        email: account.email.as_deref(),
    }
}

fn identity_in(identity: &LoginIdentity) -> AccountIdentity<'_> {
    AccountIdentity {
        provider: PROVIDER,
        person: identity.person_id.as_deref(),
        organization: identity.organization_id.as_deref(),
        email: identity.email.as_deref(),
    }
}

/// Replaces the token of the account that it is for, or adds an account.
fn save(
    same: Option<&AccountInfo>,
    known: &[AccountInfo],
    token: &str,
    label: Option<String>,
    identity: LoginIdentity,
    expires_at: u64,
    context: &Context,
) -> Result<(AccountInfo, &'static str), CliError> {
    let mut client = context.connect()?;
    let secret = || SecretText(token.to_owned().into());
    if let Some(same) = same {
        let change = SetAccountParams {
            account: same.id.clone(),
            secret: Some(secret()),
            kind: Some(CredentialKind::Token),
            expires_at: Some(expires_at),
            ..SetAccountParams::default()
        };
        return Ok((client.set_account(change)?, "replaced the token of"));
    }
    let info = client.add_account(AddAccountParams {
        expires_at: Some(expires_at),
        label,
        email: identity.email,
        account_id: identity.account_id,
        person_id: identity.person_id,
        organization_id: identity.organization_id,
        organization: identity.organization,
        ..new_account(PROVIDER, CredentialKind::Token, token)
    })?;
    let is_new = !known.iter().any(|account| account.id == info.id);
    Ok((info, if is_new { "added" } else { "nothing was added: this token is already that of" }))
}

/// How long the token lives, what the terms are, and what to do next. It lives for a year from when it was made.
fn note_rest(info: &AccountInfo, known: &[AccountInfo], identity: &LoginIdentity, is_new: bool, context: &Context) {
    let output = &context.output;
    let until = info.credential_expires_at.map(format::day).unwrap_or_default();
    let life = if is_new { format!("for a year, until {until}") } else { format!("until {until} at the latest") };
    let (_, command) = renewal_command(PROVIDER, info.kind, false, &account::reference(info));
    output.note(&format!("It lives {life}, and cannot be refreshed; another one: {}", clean(&command)));
    let is_login = |account: &&AccountInfo| account.kind == CredentialKind::Oauth;
    let agrees = |account: &&AccountInfo| identity_of(account).compare(&identity_in(identity)) == IdentityMatch::Agrees;
    if let Some(login) = known.iter().filter(is_login).find(agrees) {
        let name = clean(account::name(login));
        output.note(&format!("It is of the same subscription as the login {name}: both use one quota."));
    }
    let agents = info.allowed_agents.as_slice();
    if let Some(sentence) = crate::provider::terms(PROVIDER, CredentialKind::Token, agents) {
        output.note(&format!("{}.", clean(&sentence)));
    }
    output.note("next: lessor run claude");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_however_it_was_pasted() {
        for pasted in [
            "sk-ant-oat01-abc_DEF-1",
            "  sk-ant-oat01-abc_DEF-1\r\n",
            "sk-ant-oat01-abc\n  _DEF-1\n",
            "export CLAUDE_CODE_OAUTH_TOKEN=sk-ant-oat01-abc_DEF-1\n",
            "CLAUDE_CODE_OAUTH_TOKEN=\"sk-ant-oat01-abc_DEF-1\"",
            "\u{1b}sk-ant-oat01-abc_DEF-1",
        ] {
            assert_eq!(token_in(pasted).unwrap().as_str(), "sk-ant-oat01-abc_DEF-1", "{pasted:?}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_with_what_it_is() {
        for (pasted, why) in [
            ("", "nothing was pasted"),
            (" \n", "nothing was pasted"),
            ("sk-ant-api03-x", "API key"),
            ("sk-ant-ort01-x", "refresh token"),
            ("abc#def", "code of the login page"),
            ("sk-proj-1", "sk-ant-oat"),
            ("sk-ant-oat", "cut off"),
            ("sk-ant-oat01-abc…", "other characters"),
        ] {
            assert!(token_in(pasted).unwrap_err().0.contains(why), "{pasted:?}");
        }
    }
}
