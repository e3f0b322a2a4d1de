//! `secrets …`: the key that encrypts all secrets, and the OAuth clients whose secrets are stored.

use clap::{Args, Subcommand};

use crate::cli::ui::{Column, Output, Table, Tint, account, clean, format, prompt};
use crate::cli::{context::Context, error::CliError, launch::agent::provider_name};
use crate::protocol::{ListSecretsParams, RemoveSecretParams, SecretText, SetSecretParams, StoredClientInfo};

#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Store the secret of an OAuth client, or replace it
    ///
    /// The secret is read from standard input and stored encrypted, so that no environment variable has to exist when the
    /// daemon starts. Its client is the one with this name in [providers.PROVIDER.oauth.clients], or the one with this id.
    #[command(after_help = "Examples:\n  lessor secrets set gemini-cli < secret-file\n  \
                            lessor secrets set mine --client-id 1234-abc.apps.googleusercontent.com")]
    Set(SecretsSetArgs),
    /// List the stored OAuth clients, without their secrets
    #[command(after_help = "Example: lessor secrets list")]
    List,
    /// Remove a stored OAuth client
    ///
    /// On a terminal, says which accounts need it and asks first.
    #[command(after_help = "Example: lessor secrets remove mine")]
    Remove(SecretsRemoveArgs),
    /// Encrypt all keys, tokens and logins with a new key
    ///
    /// Afterwards the old key decrypts nothing.
    #[command(after_help = "Example: lessor secrets rekey")]
    Rekey,
}

#[derive(Debug, Args)]
pub(crate) struct SecretsSetArgs {
    /// The name of the OAuth client
    #[arg(value_name = "NAME")]
    name: String,
    /// The id of the client [default: as stored, else as configured for this name]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The provider of the client [default: as stored or configured; google for its client ids]
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SecretsRemoveArgs {
    /// The name of the OAuth client
    #[arg(value_name = "NAME")]
    name: String,
    /// Do not ask, and remove it also while accounts need it
    #[arg(long)]
    yes: bool,
}

pub(in crate::cli::commands) fn execute(command: SecretsCommand, context: &Context) -> Result<(), CliError> {
    match command {
        SecretsCommand::Set(args) => set(args, context),
        SecretsCommand::List => list(context),
        SecretsCommand::Remove(args) => remove(args, context),
        SecretsCommand::Rekey => rekey(context),
    }
}

fn set(args: SecretsSetArgs, context: &Context) -> Result<(), CliError> {
    let SecretsSetArgs { name, client_id, provider } = args;
    let mut daemon = context.connect()?;
    // the configuration may have just named the client
    daemon.reload()?;
    let known = daemon.stored_clients(ListSecretsParams::default())?;
    let is_new = known.iter().all(|client| client.name != name);
    let secret = prompt::secret_line("client secret", &context.output).map_err(|error| {
        let from = if prompt::can_ask() { "" } else { " < FILE (the file has the secret and nothing else)" };
        error.hint(clean(&format!("to try again: lessor secrets set {name}{from}")))
    })?;
    let secret = Some(SecretText(secret.as_str().to_owned().into()));
    let provider = provider.as_deref().map(provider_name);
    // the prompt may have taken longer than an idle connection stays open
    let info = context.connect()?.set_secret(SetSecretParams { name, provider, client_id, secret })?;
    context.output.result(&info, || context.output.prose(&stored(&info, is_new)))
}

/// What was stored, and what it is used for.
fn stored(info: &StoredClientInfo, is_new: bool) -> String {
    let StoredClientInfo { name, provider, client_id, used_by, .. } = info;
    let done = if is_new { "stored" } else { "replaced" };
    let of: Vec<&str> = [provider, client_id].into_iter().flatten().map(String::as_str).collect();
    let of = if of.is_empty() { String::new() } else { format!(" ({})", of.join(", ")) };
    let next = match (provider, used_by.as_slice()) {
        (Some(provider), []) => format!("to log in with it: lessor login {provider} --client {name}"),
        (None, []) => {
            format!("it serves the client that the configuration names so: [providers.PROVIDER.oauth.clients.{name}]")
        }
        (_, users) => format!("the logins of {} are refreshed with it", format::count(users.len(), "account")),
    };
    clean(&format!("{done} the secret of the OAuth client {name}{of}; {next}"))
}

fn list(context: &Context) -> Result<(), CliError> {
    let clients = context.ask(|client| client.stored_clients(ListSecretsParams::default()))?;
    context.output.result(&clients, || table(&clients, &context.output))
}

fn table(clients: &[StoredClientInfo], output: &Output) -> String {
    if clients.is_empty() {
        return output.prose("no OAuth client is stored; to store one: lessor secrets set NAME\n");
    }
    let mut table = Table::new(&[
        Column::name("NAME"),
        Column::fixed("PROVIDER"),
        Column::flexible("CLIENT ID", 12),
        Column::flexible("USED BY", 8),
        Column::fixed("STORED").left_out(1),
    ]);
    let now = format::now();
    for client in clients {
        let users: Vec<&str> = client.used_by.iter().map(account::label).collect();
        let of_configuration = || "as configured".to_owned();
        table.row(vec![
            (client.name.clone(), Some(Tint::Strong)),
            (client.provider.clone().unwrap_or_else(of_configuration), None),
            (client.client_id.clone().unwrap_or_else(of_configuration), None),
            (if users.is_empty() { "no account".to_owned() } else { users.join(", ") }, None),
            (format::ago(now, client.added_at), Some(Tint::Faint)),
        ]);
    }
    table.render(output)
}

fn remove(args: SecretsRemoveArgs, context: &Context) -> Result<(), CliError> {
    let SecretsRemoveArgs { name, yes } = args;
    let mut force = yes;
    if !yes && !context.output.json && prompt::can_ask() {
        let clients = context.ask(|client| client.stored_clients(ListSecretsParams::default()))?;
        let users = clients.iter().find(|client| client.name == name).map(|client| client.used_by.len());
        if let Some(users @ 1..) = users {
            let users = format::count(users, "account");
            let question = format!("The logins of {users} cannot be refreshed without it. Remove it? [y/N]");
            let answer = prompt::ask(&question, &context.output)?;
            if !matches!(answer.as_deref(), Some("y" | "yes")) {
                context.output.note("nothing was removed");
                return Ok(());
            }
            force = true;
        }
    }
    let info = context.connect()?.remove_secret(RemoveSecretParams { name, force })?;
    context.output.result(&info, || {
        let lost = match info.used_by.len() {
            0 => String::new(),
            users => format!("; the logins of {} were refreshed with it", format::count(users, "account")),
        };
        context.output.prose(&clean(&format!("removed the OAuth client {}{lost}", info.name)))
    })
}

fn rekey(context: &Context) -> Result<(), CliError> {
    let info = context.connect()?.rekey()?;
    context.output.result(&info, || {
        let accounts = format::count(usize::try_from(info.accounts).unwrap_or(usize::MAX), "account");
        let place = clean(&info.place);
        let text = format!("the secrets of {accounts} are encrypted with a new key, kept in {place}");
        context.output.prose(&text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::AccountLabel;

    fn info(provider: Option<&str>, client_id: Option<&str>, users: usize) -> StoredClientInfo {
        let user = |number: usize| AccountLabel { id: format!("ac_{number}"), label: None, email: None };
        StoredClientInfo {
            name: "mine".into(),
            provider: provider.map(str::to_owned),
            client_id: client_id.map(str::to_owned),
            has_secret: true,
            added_at: 0,
            used_by: (0..users).map(user).collect(),
            secret: None,
        }
    }

    #[test]
    fn the_result_says_what_the_client_is_used_for() {
        for (info, is_new, expected) in [
            (
                info(Some("google"), Some("c"), 0),
                true,
                "stored the secret of the OAuth client mine (google, c); to log in with it: lessor login google --client mine",
            ),
            (
                info(Some("google"), Some("c"), 2),
                false,
                "replaced the secret of the OAuth client mine (google, c); the logins of 2 accounts are refreshed with it",
            ),
            (
                info(None, None, 0),
                true,
                "stored the secret of the OAuth client mine; it serves the client that the configuration names so: \
                 [providers.PROVIDER.oauth.clients.mine]",
            ),
        ] {
            assert_eq!(stored(&info, is_new), expected);
        }
    }
}
