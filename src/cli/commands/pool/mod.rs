//! `pool …`: the pool that several hosts share, in a PostgreSQL database.

mod database;
mod evict;
mod hosts;
mod init;
mod leave;
mod migrate;
#[cfg(test)]
mod named_commands;
mod settings;
mod status;

use clap::Subcommand;

pub(super) use init::{PoolInitResult, PoolMemberResult};
pub(super) use leave::PoolLeaveResult;
pub(super) use migrate::PoolMigrateResult;

use crate::cli::{context::Context, error::CliError};

#[derive(Debug, Subcommand)]
pub(crate) enum PoolSubcommand {
    /// Create the pool in a PostgreSQL database
    ///
    /// This host becomes its first host, admin and refresher. The role of the URL must be allowed to create roles and
    /// schemas (its SQL: docs/many-machines.md). The accounts of this host stay its own until they are moved.
    #[command(after_help = "Examples:\n  \
                            lessor pool init postgres://owner@db.example/lessor --password-file ./password\n  \
                            lessor pool init postgres://owner@db.example/lessor --name ci-1 --per-account 2\n  \
                            lessor pool init postgres://owner@db.example/lessor --upgrade --password-stdin < password")]
    Init(init::PoolInitArgs),
    /// Join a pool, with a token that one of its admins has made
    ///
    /// The token is read from standard input. It names the database, and is valid once.
    #[command(after_help = "Examples:\n  lessor pool join\n  lessor pool join --token-stdin < token-file\n  \
                            lessor pool join --token-file ./token")]
    Join(init::PoolJoinArgs),
    /// Show the pool: connection, hosts, seats, settings
    #[command(after_help = "Examples:\n  lessor pool status\n  lessor pool status --json")]
    Status,
    /// Print a token with which one host can join, once
    ///
    /// The token is a secret: send it on a confidential way. Without --admin, the host may only lease.
    #[command(
        name = "join-token",
        after_help = "Examples:\n  lessor pool join-token --name ci-2\n  \
                      lessor pool join-token --refresher --valid 10m | ssh ci-2 lessor pool join --token-stdin"
    )]
    JoinToken(hosts::PoolJoinTokenArgs),
    /// List the hosts of the pool
    #[command(after_help = "Example: lessor pool hosts")]
    Hosts,
    /// Remove a host from the pool, and lock it out
    ///
    /// The pool's secrets are sealed with new keys. Lists what the host has read and must be replaced at its provider.
    /// On a terminal, asks first.
    #[command(after_help = "Examples:\n  lessor pool evict ci-2\n  lessor pool evict ci-2 --yes --json")]
    Evict(evict::PoolEvictArgs),
    /// Leave the pool with this host
    ///
    /// Its seats are given back, shared accounts are removed here, its own accounts stay. On a terminal, asks first.
    #[command(after_help = "Examples:\n  lessor pool leave\n  lessor pool leave --force --yes")]
    Leave(leave::PoolLeaveArgs),
    /// Change how many leases an account takes in the pool
    #[command(after_help = "Examples:\n  lessor pool set per_account=2\n  \
                            lessor pool set overflow=share max_per_account=4")]
    Set(settings::PoolSetArgs),
    /// Seal the secrets of the pool with new keys
    #[command(after_help = "Example: lessor pool rekey")]
    Rekey,
    /// Move accounts into the pool, or back to this host
    ///
    /// They move with their limits, usage and settings. Each is acknowledged once it is safe on its new side; a move that
    /// was interrupted is continued by the same command. With --to, creates the pool if the database has none.
    #[command(after_help = "Examples:\n  lessor pool migrate\n  lessor pool migrate work spare\n  \
                            lessor pool migrate --to postgres://owner@db.example/lessor --password-file ./password\n  \
                            lessor pool migrate --to-local")]
    Migrate(migrate::PoolMigrateArgs),
}

pub(super) fn execute(command: PoolSubcommand, context: &Context) -> Result<u8, CliError> {
    let done = match command {
        PoolSubcommand::Init(args) => return init::init(args, context),
        PoolSubcommand::Join(args) => return init::join(&args, context),
        PoolSubcommand::Migrate(args) => return migrate::migrate(args, context),
        PoolSubcommand::Leave(args) => return leave::leave(&args, context),
        PoolSubcommand::Status => status::status(context),
        PoolSubcommand::JoinToken(args) => hosts::join_token(args, context),
        PoolSubcommand::Hosts => hosts::hosts(context),
        PoolSubcommand::Evict(args) => evict::evict(args, context),
        PoolSubcommand::Set(args) => settings::set(&args, context),
        PoolSubcommand::Rekey => settings::rekey(context),
    };
    done.map(|()| 0)
}
