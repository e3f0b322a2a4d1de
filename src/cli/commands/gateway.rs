//! `gateway url`, `key`, `keys`, `revoke`: for clients that `run` does not start.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use crate::cli::launch::{AwaitedPort, parse_duration, when_open};
use crate::cli::ui::{Column, Output, Table, Tint, clean, format, prompt};
use crate::cli::{context::Context, error::CliError};
use crate::client::Client;
use crate::pool::{millis, spoken};
use crate::protocol::{
    ErrorKind, GatewayKeyInfo, GatewayKeyParams, RevokeKeyParams, RevokedKeyInfo, SecretText, looks_like_key,
};

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Print the gateway's URL
    ///
    /// The name of a provider follows the URL, as in URL/anthropic.
    #[command(
        after_help = "Examples:\n  curl \"$(lessor gateway url)/anthropic/v1/models\" -H \"x-api-key: $KEY\"\n  \
                      lessor gateway url --tls --json"
    )]
    Url(GatewayUrlArgs),
    /// Create a gateway key for a client that `run` does not start
    ///
    /// The key is shown only now: the daemon keeps a hash of it. It is valid until it is revoked, or for --ttl.
    #[command(after_help = "Example: lessor gateway key --agent claude --label 'my editor' --ttl 30d --max-leases 2")]
    Key(GatewayKeyArgs),
    /// List the gateway keys
    ///
    /// The keys that `run` hands out are not listed: they end with their leases (`lessor leases`).
    #[command(after_help = "Example: lessor gateway keys")]
    Keys,
    /// Revoke gateway keys: requests with them are cut off at once
    #[command(after_help = "Examples:\n  lessor gateway revoke 'my editor'\n  lessor gateway revoke gk_3f9c\n  \
                      lessor gateway revoke - < file-with-the-key\n  lessor gateway revoke --unused 90d")]
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GatewayUrlArgs {
    /// Print the https URL (gateway.tls), which programs trust by the file that --json names
    #[arg(long)]
    tls: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GatewayKeyArgs {
    /// The agent that will use the key; logins serve the agents of their vendor only
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// A name that is shown with the key and its leases
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// End the key after this time, as in 30d
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Serve at most so many requests with the key at the same time; others wait
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_leases: Option<u32>,
    /// The directory that the clients work in: [directories] may have a set of accounts for it
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The key: its id or the beginning of it, or its label; `-` reads the key itself from standard input
    #[arg(value_name = "KEY", required_unless_present_any = ["stdin", "unused"])]
    key: Option<String>,
    /// Read the key itself from standard input
    #[arg(long, conflicts_with = "key")]
    stdin: bool,
    /// Revoke all keys that were not used for this time, or never and are older than it
    #[arg(long, value_name = "DUR", value_parser = parse_duration, conflicts_with_all = ["key", "stdin"])]
    unused: Option<Duration>,
}

pub(super) fn execute(command: GatewayCommand, context: &Context) -> Result<(), CliError> {
    match command {
        GatewayCommand::Url(GatewayUrlArgs { tls }) => url(tls, context),
        GatewayCommand::Key(options) => key(options, context),
        GatewayCommand::Keys => {
            let keys = context.ask(Client::gateway_keys)?;
            context.output.result(&keys, || listing(&keys, format::now(), &context.output))
        }
        GatewayCommand::Revoke(RevokeArgs { unused: Some(time), .. }) => revoke_unused(time, context),
        GatewayCommand::Revoke(RevokeArgs { key, .. }) => {
            let read = || prompt::secret_line("gateway key", &context.output);
            let key = key.filter(|key| key != "-").map_or_else(read, named_key)?;
            let revoked = revoke(&key, context)?;
            context.output.result(&[&revoked], || in_words(&revoked) + "\n")
        }
    }
}

fn url(tls: bool, context: &Context) -> Result<(), CliError> {
    let port = if tls { AwaitedPort::Https } else { AwaitedPort::Http };
    let status = when_open(port, context, || context.ask(Client::status))?;
    let info = status.gateway.unwrap_or_default();
    let (url, what, off) = match tls {
        true => (&info.secure_url, "the gateway does not serve https", "gateway.tls is false"),
        false => (&info.url, "the gateway does not listen", "gateway.enabled is false"),
    };
    let Some(url) = url else {
        let why = status.gateway_trouble;
        let remedy = (tls && why.is_none()).then_some("lessor config set gateway.tls true");
        let why = why.unwrap_or_else(|| off.to_owned());
        let error = CliError::new(ErrorKind::NoGateway, format!("{what}: {why}"));
        return Err(match remedy {
            Some(remedy) => error.hint(remedy),
            None => error,
        });
    };
    context.output.result(&info, || url.clone())
}

/// A directory without links, as far as it exists.
fn absolute(path: &Path) -> Result<String, CliError> {
    let found = path.canonicalize().or_else(|_| std::path::absolute(path));
    let text = found.ok().and_then(|path| path.into_os_string().into_string().ok());
    text.ok_or_else(|| CliError::usage(format!("{} is not the name of a directory", path.display())))
}

fn key(options: GatewayKeyArgs, context: &Context) -> Result<(), CliError> {
    let GatewayKeyArgs { agent, label, ttl, max_leases, directory } = options;
    let directory = directory.map(|path| absolute(&path)).transpose()?;
    let request = GatewayKeyParams {
        agent,
        label,
        ttl_ms: ttl.map(millis),
        max_leases,
        directory,
        ..GatewayKeyParams::default()
    };
    let access = context.ask(|client| client.gateway_key(request.clone()))?;
    if let Some(trouble) = &access.trouble {
        context.output.note(&format!("the gateway has a problem: {trouble}"));
    }
    if let Some(id) = access.id.as_ref().filter(|_| context.output.terminal) {
        context.output.note(&format!("it is shown only now; to revoke it: lessor gateway revoke {id}"));
    }
    context.output.result(&access, || access.key.0.to_string())
}

/// A key by its id or label; a key itself would be visible to other users in the list of processes.
fn named_key(key: String) -> Result<Zeroizing<String>, CliError> {
    if looks_like_key(&key) {
        let error = CliError::usage("a key is not taken from the command line, which other users can read");
        return Err(error.hint("pipe it: lessor gateway revoke - < FILE; or name its id: lessor gateway keys"));
    }
    Ok(key.into())
}

fn revoke(key: &str, context: &Context) -> Result<RevokedKeyInfo, CliError> {
    let params = RevokeKeyParams { key: SecretText(key.to_owned().into()) };
    context.ask(|client| client.revoke_gateway_key(params.clone()))
}

fn revoke_unused(time: Duration, context: &Context) -> Result<(), CliError> {
    let before = format::now().saturating_sub(millis(time));
    let keys = context.ask(Client::gateway_keys)?;
    let is_unused = |key: &&GatewayKeyInfo| {
        key.state == "valid" && key.leases == 0 && key.last_used_at.unwrap_or(key.listed_at) <= before
    };
    let unused = keys.iter().filter(is_unused);
    let revoked: Vec<RevokedKeyInfo> = unused.map(|key| revoke(&key.id, context)).collect::<Result<_, _>>()?;
    context.output.result(&revoked, || {
        let lines = revoked.iter().map(|revoked| in_words(revoked) + "\n");
        let text: String = lines.collect();
        if text.is_empty() { format!("every key was used within {}\n", spoken(time)) } else { text }
    })
}

fn in_words(RevokedKeyInfo { key, cut_off }: &RevokedKeyInfo) -> String {
    let label = key.label.as_ref().map(|label| format!(" {}", clean(label))).unwrap_or_default();
    let cut_off = match cut_off {
        0 => String::new(),
        1 => "; 1 request was cut off".to_owned(),
        more => format!("; {more} requests were cut off"),
    };
    format!("revoked {}{label}{cut_off}", key.id)
}

fn listing(keys: &[GatewayKeyInfo], now: u64, output: &Output) -> String {
    if keys.is_empty() {
        return "no gateway keys; create one: lessor gateway key --label 'my editor'\n".to_owned();
    }
    let mut table = Table::new(&[
        Column::fixed("KEY"),
        Column::name("LABEL"),
        Column::flexible("AGENT", 6).left_out(3),
        Column::flexible("DIRECTORY", 10).moved_below(5),
        Column::fixed("CREATED").left_out(4),
        Column::fixed("EXPIRES").left_out(2),
        Column::fixed("LAST USED"),
        Column::number("LEASES").left_out(1),
        Column::fixed("STATE"),
    ]);
    for key in keys {
        table.row(cells(key, now));
    }
    table.render(output)
}

fn cells(key: &GatewayKeyInfo, now: u64) -> Vec<(String, Option<Tint>)> {
    let plain = |text: String| (text, None);
    let created = match key.created_at {
        Some(at) => format::ago(now, at),
        // by an earlier version, which did not note it
        None => format!("before {}", format::ago(now, key.listed_at)),
    };
    let (state, tint) = match key.state.as_str() {
        "valid" => (String::new(), None),
        "revoked" => (format!("revoked {}", format::last(now, key.revoked_at)), Some(Tint::Bad)),
        other => (other.to_owned(), Some(Tint::Warn)),
    };
    let expires = match key.expires_at.filter(|_| key.state == "valid") {
        Some(at) => format::clock_and_span(now, at),
        None if key.state == "expired" => format::last(now, key.expires_at),
        None => "never".to_owned(),
    };
    let leases = key.max_leases.map_or_else(|| key.leases.to_string(), |most| format!("{}/{most}", key.leases));
    vec![
        plain(key.id.clone()),
        plain(key.label.clone().unwrap_or_default()),
        plain(key.agent.clone().unwrap_or_default()),
        plain(key.directory.clone().unwrap_or_default()),
        plain(created),
        plain(if key.state == "revoked" { String::new() } else { expires }),
        plain(format::last(now, key.last_used_at)),
        plain(leases),
        (state, tint),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn info(id: &str) -> GatewayKeyInfo {
        GatewayKeyInfo {
            id: id.into(),
            label: Some("my editor".into()),
            agent: Some("claude".into()),
            state: "valid".into(),
            created_at: Some(98 * DAY),
            listed_at: 98 * DAY,
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
            leases: 0,
            max_leases: None,
            directory: None,
        }
    }

    #[test]
    fn the_list_says_how_each_key_stands() {
        let limited =
            GatewayKeyInfo { expires_at: Some(128 * DAY), leases: 1, max_leases: Some(2), ..info("gk_00000001") };
        let old = GatewayKeyInfo { created_at: None, last_used_at: Some(100 * DAY), ..info("gk_00000002") };
        let revoked = GatewayKeyInfo {
            state: "revoked".into(),
            revoked_at: Some(97 * DAY),
            label: None,
            agent: None,
            ..info("gk_00000003")
        };
        let expired = GatewayKeyInfo { state: "expired".into(), expires_at: Some(95 * DAY), ..info("gk_00000004") };
        let text = listing(&[limited, old, revoked, expired], 100 * DAY, &Output::plain(120));
        assert_eq!(
            text,
            "KEY          LABEL      AGENT   CREATED         EXPIRES               LAST USED  LEASES  STATE\n\
             gk_00000001  my editor  claude  2 d ago         9 May 00:00, in 28 d  never         1/2\n\
             gk_00000002  my editor  claude  before 2 d ago  never                 just now        0\n\
             gk_00000003                     2 d ago                               never           0  revoked 3 d ago\n\
             gk_00000004  my editor  claude  2 d ago         5 d ago               never           0  expired\n"
        );
    }

    #[test]
    fn a_key_itself_is_not_taken_from_the_command_line() {
        assert!(named_key("lk_0a8crebsfg97p387cdp62xb4cm56ty90".into()).is_err());
        assert_eq!(&**named_key("gk_00000001".into()).unwrap(), "gk_00000001");
    }
}
