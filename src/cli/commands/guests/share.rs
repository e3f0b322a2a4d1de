//! `share`: a guest's end of a link, and further sockets for containers.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;

use super::list;
use crate::cli::commands::config::{ReloadOutcome, write_settings};
use crate::cli::ui::{Column, Table, clean};
use crate::cli::{context::Context, error::CliError};
use crate::config::{AppPaths, Config};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ShareArgs {
    #[command(subcommand)]
    command: Option<ShareCommand>,
    /// Serve a guest over standard input and output; `lessor join` runs this by ssh
    #[arg(long, conflicts_with_all = ["uid", "gid", "socket"])]
    stdio: bool,
    /// Open a further socket, for programs of this user
    #[arg(long, value_name = "N")]
    uid: Option<u32>,
    /// Open a further socket, for programs of this group
    #[arg(long, value_name = "N")]
    gid: Option<u32>,
    /// Its path [default: shares/NAME/lessor.sock beside the daemon's socket]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Its name in the configuration [default: uid-N or gid-N]; with --stdio, that of the guest, in place of the one
    /// that it states: all links with this name have the leases together
    #[arg(long)]
    name: Option<String>,
    /// Only these accounts, by label, email or id
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    only: Vec<String>,
    /// At most so many leases
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_leases: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum ShareCommand {
    /// List the further sockets
    #[command(after_help = "Example: lessor share list")]
    List,
    /// Remove a further socket; leases there end
    #[command(after_help = "Example: lessor share remove uid-100000")]
    Remove {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// A further socket, in `share list --json`.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct SharedSocket {
    /// Its name.
    name: String,
    /// Its path.
    socket: Option<String>,
    /// The user that is served.
    uid: Option<u32>,
    /// The group that is served.
    gid: Option<u32>,
    /// The accounts that may be used there; empty for all.
    only: Vec<String>,
    /// How many leases there may be there.
    max_leases: Option<u32>,
}

/// `share --json` and `share remove --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ShareChange {
    /// The socket.
    share: SharedSocket,
    /// Whether the configuration was changed.
    changed: bool,
}

pub(in crate::cli::commands) fn execute(args: ShareArgs, context: &Context) -> Result<u8, CliError> {
    match &args.command {
        Some(ShareCommand::List) => list_shares(context).map(|()| 0),
        Some(ShareCommand::Remove { name }) => remove(name, context).map(|()| 0),
        None if args.stdio => serve_guest(args, context),
        None => add(&args, context),
    }
}

fn add(args: &ShareArgs, context: &Context) -> Result<u8, CliError> {
    let name = match (&args.name, args.uid, args.gid) {
        (_, None, None) => {
            let error = CliError::usage("who is served? name a user (--uid) or a group (--gid)");
            return Err(error.hint("a guest over ssh: lessor join HOST, on the other machine"));
        }
        (Some(name), ..) => name.clone(),
        (None, Some(uid), _) => format!("uid-{uid}"),
        (None, None, Some(gid)) => format!("gid-{gid}"),
    };
    check_name(&name)?;
    let places = context.places()?;
    let path = match &args.socket {
        Some(path) => std::path::absolute(path).map_err(|error| CliError::usage(error.to_string()))?,
        None => default_path(&places, &name),
    };
    let key = |key: &str| format!("share.{name}.{key}");
    let number = |value: Option<u32>| value.map(|value| value.to_string());
    let keys = [
        (key("uid"), number(args.uid)),
        (key("gid"), number(args.gid)),
        (key("only"), (!args.only.is_empty()).then(|| list(&args.only))),
        (key("max_leases"), number(args.max_leases)),
        (key("socket"), Some(path.display().to_string())),
    ];
    let keys = keys.each_ref().map(|(key, value)| (key.as_str(), value.clone()));
    let changed = write_settings(&places.config, &keys)?;
    let outcome = ReloadOutcome::of_daemon(&places);
    let share = SharedSocket {
        socket: Some(path.display().to_string()),
        uid: args.uid,
        gid: args.gid,
        only: args.only.clone(),
        max_leases: args.max_leases,
        name,
    };
    let change = ShareChange { share, changed };
    context.output.result(&change, || {
        let path = clean(change.share.socket.as_deref().unwrap_or_default());
        let directory = path.rsplit_once('/').map_or("/", |(directory, _)| directory);
        format!(
            "{} is served at {path}\nMount its directory, {directory}, into the container, and set LESSOR_SOCKET there.\n{}",
            change.share.name,
            outcome.text()
        )
    })?;
    Ok(outcome.exit())
}

fn check_name(name: &str) -> Result<(), CliError> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        return Err(CliError::usage("a name has 1 to 64 letters, digits, - and _"));
    }
    Ok(())
}

fn default_path(places: &AppPaths, name: &str) -> PathBuf {
    let beside = places.socket.parent().unwrap_or(Path::new("/"));
    beside.join("shares").join(name).join("lessor.sock")
}

fn shares(config: &Config) -> Vec<SharedSocket> {
    let shares = config.shares.iter().map(|(name, section)| SharedSocket {
        name: name.clone(),
        socket: section.socket.as_ref().map(|path| path.display().to_string()),
        uid: section.uid,
        gid: section.gid,
        only: section.only.clone(),
        max_leases: section.max_leases,
    });
    shares.collect()
}

fn list_shares(context: &Context) -> Result<(), CliError> {
    let shares = shares(&context.config()?);
    context.output.result(&shares, || {
        if shares.is_empty() {
            return "no further sockets; for a container: lessor share --uid N".to_owned();
        }
        let mut table = Table::new(&[
            Column::name("NAME"),
            Column::fixed("FOR"),
            Column::fixed("LEASES"),
            Column::flexible("ACCOUNTS", 8),
            Column::flexible("SOCKET", 12),
        ]);
        for share in &shares {
            let of = |what: &str, id: Option<u32>| id.map(|id| format!("{what} {id}"));
            let peers: Vec<String> = [of("user", share.uid), of("group", share.gid)].into_iter().flatten().collect();
            let most = share.max_leases.map_or_else(|| "any".to_owned(), |most| format!("at most {most}"));
            let only = if share.only.is_empty() { "all".to_owned() } else { share.only.join(", ") };
            table.row(vec![
                (clean(&share.name), None),
                (peers.join(", "), None),
                (most, None),
                (clean(&only), None),
                (clean(share.socket.as_deref().unwrap_or_default()), None),
            ]);
        }
        table.render(&context.output).trim_end().to_owned()
    })
}

fn remove(name: &str, context: &Context) -> Result<(), CliError> {
    let places = context.places()?;
    let known = shares(&context.config()?).into_iter().find(|share| share.name == name);
    let share = known.ok_or_else(|| {
        CliError::bad_request(format!("there is no share {:?}", clean(name))).hint("see: lessor share list")
    })?;
    let keys = ["uid", "gid", "only", "max_leases", "socket"].map(|key| format!("share.{name}.{key}"));
    let changed = write_settings(&places.config, &keys.each_ref().map(|key| (key.as_str(), None)))?;
    let outcome = ReloadOutcome::of_daemon(&places);
    let change = ShareChange { share, changed };
    context.output.result(&change, || format!("{} is served no more\n{}", clean(name), outcome.text()))
}

#[cfg(unix)]
fn serve_guest(args: ShareArgs, context: &Context) -> Result<u8, CliError> {
    use crate::client::Client;
    use crate::guest::{SharePolicy, share_over_stdio};

    if let Some(name) = &args.name {
        check_name(name)?;
    }
    let policy = match context.connect() {
        Ok(client) => {
            let places = context.places()?;
            let socket = client.socket().to_owned();
            drop(client);
            let gateway = move || {
                let url = Client::connect(&places).ok()?.status().ok()?.gateway?.url?;
                url.strip_prefix("http://")?.parse().ok()
            };
            let only = (!args.only.is_empty()).then_some(args.only);
            Ok(SharePolicy { socket, gateway: Box::new(gateway), only, max_leases: args.max_leases, name: args.name })
        }
        // the guest shows it in its status
        Err(error) => Err(format!("on the host: {}", error.message())),
    };
    let served = policy.is_ok();
    share_over_stdio(policy).map_err(|error| CliError::internal(format!("serving a guest: {error}")))?;
    Ok(u8::from(!served))
}

#[cfg(not(unix))]
fn serve_guest(_args: ShareArgs, _context: &Context) -> Result<u8, CliError> {
    Err(CliError::usage("guests need a host with Unix"))
}
