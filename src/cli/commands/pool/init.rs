//! `pool init` and `pool join`: this host becomes one of a pool.

use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::database::{self, DatabaseArgs, check_url, in_short};
use super::settings::{OVERFLOWS, PoolConfigChange, words};
use crate::cli::ui::{Output, clean, format, prompt};
use crate::cli::{context::Context, error::CliError};
use crate::credential::Secret;
use crate::protocol::{InitPoolParams, JoinPoolParams, PoolMemberInfo, SecretText};
use crate::shared_pool::{PoolAddress, SCHEMA, upgrade_pool};

#[derive(Debug, Args)]
pub(crate) struct PoolInitArgs {
    /// The database, as in postgres://ROLE@HOST:PORT/DATABASE, without a password
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    creation: PoolCreationArgs,
    /// Bring the pool that is there up to this version of lessor, and do nothing else
    #[arg(long, conflicts_with_all = ["name", "per_account", "max_per_account", "overflow"])]
    upgrade: bool,
}

/// `pool init --json`
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum PoolInitResult {
    /// The pool was created, or this host was in it already.
    Created(Box<PoolMemberResult>),
    /// With --upgrade.
    Upgraded {
        /// Whether the pool was of an older version.
        upgraded: bool,
        /// Its version now.
        schema: i32,
    },
}

/// What a pool is created with.
#[derive(Debug, Default, Args)]
pub(crate) struct PoolCreationArgs {
    /// What this host is called in the pool [default: the name of the machine]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How many leases an account takes on all hosts together [default: leases.per_account]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    per_account: Option<u32>,
    /// How many it never exceeds, with overflow share [default: leases.max_per_account]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_per_account: Option<u32>,
    /// What happens where all accounts are full [default: leases.overflow]
    #[arg(long, value_name = "RULE", value_parser = OVERFLOWS)]
    overflow: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PoolJoinArgs {
    /// Read the token from standard input, which is the default
    #[arg(long, conflicts_with = "token_file")]
    token_stdin: bool,
    /// Read the token from this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Trust this certificate of the server's CA, if the system does not
    #[arg(long, value_name = "FILE")]
    root_certificate: Option<PathBuf>,
}

/// `pool init --json` and `pool join --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PoolMemberResult {
    /// What this host is in the pool.
    member: PoolMemberInfo,
    /// What was written into the configuration file.
    config: PoolConfigChange,
}

pub(super) fn init(args: PoolInitArgs, context: &Context) -> Result<u8, CliError> {
    if args.upgrade {
        let (upgraded, schema) = (upgrade(&args.url, &args.database, context)?, SCHEMA);
        context.output.result(&PoolInitResult::Upgraded { upgraded, schema }, || upgrade_text(upgraded, schema))?;
        return Ok(0);
    }
    let member = create(&args.url, &args.database, args.creation, context)?;
    let config = member.config.exit();
    let text = member.text(&context.output);
    context.output.result(&PoolInitResult::Created(Box::new(member)), || text)?;
    Ok(config)
}

/// Brings the schema of a pool up to date. The role of the URL owns it; this host need not be in the pool, and no daemon is
/// asked.
fn upgrade(url: &str, database: &DatabaseArgs, context: &Context) -> Result<bool, CliError> {
    check_url(url)?;
    let root_certificate = database.root_certificate()?.map(PathBuf::from);
    let password = database.password(url, context)?.map(|text| Secret::new(text.0.into_owned()));
    let owner = PoolAddress { url: url.to_owned(), password, root_certificate };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::internal(format!("starting the runtime: {error}")))?;
    runtime
        .block_on(upgrade_pool(&owner))
        .map_err(|error| CliError::bad_request(clean(&error.message())).hint(error.remedy_for_owner()))
}

fn upgrade_text(upgraded: bool, schema: i32) -> String {
    match upgraded {
        true => {
            format!("the pool is of version {schema} now; install this version of lessor on its other hosts, too\n")
        }
        false => format!("the pool is of version {schema} already, which is this lessor's: nothing was changed\n"),
    }
}

/// Creates the pool in a database, or notes that this host is in it already, and writes `[pool]`.
pub(super) fn create(
    url: &str,
    database: &DatabaseArgs,
    creation: PoolCreationArgs,
    context: &Context,
) -> Result<PoolMemberResult, CliError> {
    check_url(url)?;
    let root_certificate = database.root_certificate()?;
    // before the question: an error there would be a pity
    drop(context.connect()?);
    let password = database.password(url, context)?;
    let PoolCreationArgs { name, per_account, max_per_account, overflow } = creation;
    let call = InitPoolParams {
        url: url.to_owned(),
        password,
        root_certificate: root_certificate.clone(),
        name,
        per_account,
        max_per_account,
        overflow,
    };
    // the prompt may have taken longer than an idle connection stays open
    let member = context.connect()?.init_pool(call)?;
    PoolMemberResult::configured(member, root_certificate, context)
}

pub(super) fn join(args: &PoolJoinArgs, context: &Context) -> Result<u8, CliError> {
    let root_certificate = args.root_certificate.as_deref().map(database::absolute).transpose()?;
    let token = match &args.token_file {
        Some(file) => database::secret_file("join token", file)?,
        None => prompt::secret_line("join token", &context.output).map_err(|error| {
            error.hint("an admin of the pool makes one: lessor pool join-token; then: lessor pool join --token-stdin")
        })?,
    };
    let token = SecretText(token.as_str().to_owned().into());
    let call = JoinPoolParams { token, root_certificate: root_certificate.clone() };
    let member = context.connect()?.join_pool(call)?;
    let result = PoolMemberResult::configured(member, root_certificate, context)?;
    context.output.result(&result, || result.text(&context.output))?;
    Ok(result.config.exit())
}

impl PoolMemberResult {
    /// Writes what this host is into `[pool]`, and has the daemon read it.
    fn configured(
        member: PoolMemberInfo,
        root_certificate: Option<String>,
        context: &Context,
    ) -> Result<Self, CliError> {
        let mut settings = vec![("pool.url", Some(member.url.clone()))];
        if root_certificate.is_some() {
            settings.push(("pool.root_certificate", root_certificate));
        }
        let config = PoolConfigChange::write(&settings, context).map_err(|error| {
            let hint = format!("this host is in the pool; to use it: lessor config set pool.url '{}'", member.url);
            error.hint(clean(&hint))
        })?;
        Ok(Self { member, config })
    }

    pub(super) fn member(&self) -> &PoolMemberInfo {
        &self.member
    }

    pub(super) fn exit(&self) -> u8 {
        self.config.exit()
    }

    pub(super) fn text(&self, output: &Output) -> String {
        output.prose(&(joined(&self.member) + &self.config.text() + &next(&self.member)))
    }
}

/// What this host is in the pool now.
fn joined(member: &PoolMemberInfo) -> String {
    let PoolMemberInfo { name, url, created, per_account, max_per_account, overflow, .. } = member;
    let database = clean(&in_short(url));
    let roles = roles(member.admin, member.refresher);
    let name = clean(name);
    let what = match created {
        true => format!("created the pool in {database}; this host is {name} ({roles})"),
        false => format!("this host is {name} ({roles}) in the pool in {database}"),
    };
    format!("{what}\n{}\n", words(*per_account, *max_per_account, overflow))
}

/// What can be done next.
fn next(member: &PoolMemberInfo) -> String {
    let accounts = usize::try_from(member.accounts).unwrap_or(usize::MAX);
    match (member.admin, accounts) {
        (true, 0) => "no account is shared yet; to move those of this host into the pool: lessor pool migrate\n\
                      for another host: lessor pool join-token --name NAME\n"
            .to_owned(),
        (_, 0) => "no account is shared yet; an admin moves them into the pool: lessor pool migrate\n".to_owned(),
        _ => format!("{} shared: lessor account list\n", are(accounts, "account")),
    }
}

/// `1 account is`, `2 accounts are`.
pub(super) fn are(number: usize, one: &str) -> String {
    format!("{} {}", format::count(number, one), if number == 1 { "is" } else { "are" })
}

/// What a host may do.
pub(super) fn roles(admin: bool, refresher: bool) -> &'static str {
    match (admin, refresher) {
        (true, true) => "admin, refresher",
        (true, false) => "admin",
        (false, true) => "member, refresher",
        (false, false) => "member",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> PoolMemberInfo {
        PoolMemberInfo {
            pool: "1".into(),
            url: "postgres://lessor@db.example/lessor".into(),
            host: "ho_1".into(),
            name: "ci-1".into(),
            admin: true,
            refresher: true,
            created: true,
            accounts: 0,
            per_account: 1,
            max_per_account: 4,
            overflow: "wait".into(),
        }
    }

    #[test]
    fn the_result_says_what_this_host_is_and_what_comes_next() {
        let first = member();
        assert_eq!(
            joined(&first),
            "created the pool in db.example/lessor; this host is ci-1 (admin, refresher)\n\
             an account takes 1 lease on all hosts together; a request beyond that waits\n"
        );
        assert!(next(&first).contains("lessor pool migrate") && next(&first).contains("lessor pool join-token"));
        let second = PoolMemberInfo {
            name: "ci-2".into(),
            admin: false,
            refresher: false,
            created: false,
            accounts: 3,
            ..first
        };
        assert!(joined(&second).starts_with("this host is ci-2 (member) in the pool in db.example/lessor\n"));
        assert_eq!(next(&second), "3 accounts are shared: lessor account list\n");
    }
}
