//! `pool.hosts`, `pool.status`, `pool.join_token` and `pool.set`.

use std::sync::Arc;
use std::time::Duration;

use super::database_url::without_user;
use super::rekey::current_keys;
use super::words::{check_name, check_rules, host_text, overflow_name, overflow_named, random_password};
use super::{admin, client, key_error, membership, own_error, pool_error, read_news};
use crate::daemon::api::reply::AnswerResult;
use crate::daemon::api::session::bad;
use crate::daemon::os::clock;
use crate::daemon::state::Daemon;
use crate::daemon::view;
use crate::pool::{Wall, millis};
use crate::protocol::{
    AccountLabel, Answer, ErrorInfo, ErrorKind, JoinTokenInfo, JoinTokenParams, PoolHostInfo, PoolRulesInfo,
    PoolSeatsInfo, PoolStatusInfo, SecretText, SetPoolParams,
};
use crate::shared_pool::{
    HostId, HostKeyPair, HostSeats, JoinToken, Membership, NewInvitation, PoolHost, SharedPoolErrorKind,
    SharedPoolSettings,
};

/// How long a token is valid if the call does not say.
const VALID: Duration = Duration::from_secs(3600);
/// The longest time.
const MOST_VALID: Duration = Duration::from_secs(30 * 86_400);
/// How many numbers are tried for the name of a host without one.
const MOST_NUMBERS: usize = 10_000;

/// `pool.hosts`
pub(super) async fn list(daemon: Arc<Daemon>) -> AnswerResult {
    let membership = membership(&daemon)?;
    let client = client(&daemon, &membership).await?;
    let (hosts, seats, info) = tokio::try_join!(client.hosts(), client.seats_of_hosts(), client.pool_info())
        .map_err(|error| own_error(&error))?;
    let rows = hosts.iter().map(|host| host_info(host, &membership, &seats, (info.db_time, info.settings.ttl)));
    Ok(Answer::PoolHosts(rows.collect()))
}

/// `pool.status`: what the database says, or without it what this host knows.
pub(super) async fn status(daemon: Arc<Daemon>) -> AnswerResult {
    let membership = membership(&daemon)?;
    let mut status = PoolStatusInfo {
        pool: membership.pool.clone(),
        url: membership.address.url.clone(),
        admin: membership.admin,
        refresher: membership.refresher,
        key_generation: u64::from(membership.keys.generation().0.unsigned_abs()),
        ..PoolStatusInfo::default()
    };
    let answers = match client(&daemon, &membership).await {
        Ok(client) => tokio::try_join!(client.hosts(), client.seats_of_hosts(), client.pool_info())
            .map_err(|error| own_error(&error)),
        Err(error) => Err(error),
    };
    {
        let state = &*daemon.state();
        let now = clock::now();
        let accounts = state.pool.accounts().iter().map(|account| account.record.id);
        status.own_accounts = accounts.filter(|id| state.pool.seats(*id).is_none()).count() as u64;
        status.summary = view::pool_summary(state, now).unwrap_or_default();
        status.clock_ahead_ms = daemon.many_hosts.to_database(now.wall).0.cast_signed() - now.wall.0.cast_signed();
        if let Ok((hosts, seats, info)) = &answers {
            let moment = (info.db_time, info.settings.ttl);
            status.hosts = hosts.iter().map(|host| host_info(host, &membership, seats, moment)).collect();
            status.settings = rules(&info.settings);
            status.key_generation = u64::from(info.keys.0.unsigned_abs());
            status.seats = seats
                .iter()
                .map(|held| PoolSeatsInfo {
                    account: AccountLabel::of(&state.pool, held.account),
                    host: name_of(hosts, held.host),
                    seats: held.seats.into(),
                    handed_out: held.handed_out.into(),
                })
                .collect();
        }
    }
    match answers {
        Ok((_, _, info)) => status.warnings = warnings(&status, info.fsync),
        // the worker may not have noticed yet
        Err(error) if error.data.kind == ErrorKind::NotInPool => {
            status.summary.state = "evicted".to_owned();
            status.summary.trouble = error.data.hint;
        }
        Err(error) if status.summary.trouble.is_none() => {
            let remedy = error.data.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            status.summary.trouble = Some(error.message + &remedy);
        }
        Err(_) => {}
    }
    Ok(Answer::PoolStatus(Box::new(status)))
}

/// What the user should know.
fn warnings(status: &PoolStatusInfo, fsync: bool) -> Vec<String> {
    let is_online = |host: &&PoolHostInfo| host.state == "online";
    let mut found = Vec::new();
    if !status.hosts.iter().filter(is_online).any(|host| host.refresher) {
        found.push(
            "no refresher is online: logins are used until their access tokens end; start one, or make another: lessor \
             pool join-token --refresher"
                .to_owned(),
        );
    }
    let admins = status.hosts.iter().filter(|host| host.admin && is_in(host)).count();
    let refreshers = status.hosts.iter().filter(|host| host.refresher && is_in(host)).count();
    let has_others = status.hosts.iter().filter(|host| is_in(host)).count() > 1;
    if has_others && (admins == 1 || refreshers == 1) {
        let what = match (admins, refreshers) {
            (1, 1) => "one admin and one refresher",
            (1, _) => "one admin",
            _ => "one refresher",
        };
        found.push(format!(
            "the pool has {what}: if that host is lost, so are its keys; make a second: lessor pool join-token --admin \
             --refresher"
        ));
    }
    if !fsync {
        found.push(
            "fsync is off in the database: a crash of its machine may lose what it has confirmed; set it on".to_owned(),
        );
    }
    found
}

/// Whether a host is in the pool.
fn is_in(host: &PoolHostInfo) -> bool {
    !matches!(host.state.as_str(), "gone" | "invited")
}

/// The host as people see it; `moment`: the database's clock, and how long a heartbeat counts.
pub(super) fn host_info(
    host: &PoolHost,
    own: &Membership,
    seats: &[HostSeats],
    (now, ttl): (Wall, Duration),
) -> PoolHostInfo {
    let state = match host {
        PoolHost { ended_at: Some(_), .. } => "gone",
        PoolHost { joined_at: None, .. } => "invited",
        PoolHost { terms, .. } if terms.is_empty() => "offline",
        PoolHost { last_beat: Some(beat), .. } if now.since(*beat) <= ttl => "online",
        _ => "silent",
    };
    PoolHostInfo {
        id: host_text(host.id),
        name: host.name.clone(),
        state: state.to_owned(),
        this: host.id == own.host,
        admin: host.admin,
        refresher: host.refresher,
        seats: seats.iter().filter(|held| held.host == Some(host.id)).map(|held| u64::from(held.seats)).sum(),
        joined_at: host.joined_at.map(|at| at.0),
        last_seen_at: host.last_beat.map(|at| at.0),
        invited_until: host.invited_until.map(|at| at.0),
    }
}

/// The name of a host that holds seats.
pub(super) fn name_of(hosts: &[PoolHost], id: Option<HostId>) -> String {
    let Some(id) = id else { return "a token that was handed out".to_owned() };
    hosts.iter().find(|host| host.id == id).map_or_else(|| host_text(id), |host| host.name.clone())
}

/// The host of this name or id: one that is in the pool or invited, else one that was.
pub(super) fn find_host<'h>(hosts: &'h [PoolHost], name: &str) -> Result<&'h PoolHost, ErrorInfo> {
    let is_it = |host: &&PoolHost| host.name == name || host_text(host.id) == name;
    let found = hosts.iter().find(|host| host.ended_at.is_none() && is_it(host));
    // one that has left may still have read something
    found
        .or_else(|| hosts.iter().rev().find(is_it))
        .ok_or_else(|| bad(format!("the pool has no host {name:?}")).hint("see which there are: lessor pool hosts"))
}

/// `pool.join_token`
pub(super) async fn join_token(daemon: Arc<Daemon>, params: JoinTokenParams) -> AnswerResult {
    let membership = admin(&daemon, "lessor pool join-token")?;
    if params.refresher && !membership.refresher {
        let message = format!("{} has no key for refresh tokens, which it would have to pass on", membership.name);
        return Err(ErrorInfo::new(ErrorKind::NotAllowed, message)
            .hint("on an admin that is a refresher (lessor pool hosts): lessor pool join-token --refresher"));
    }
    let valid = params.valid_ms.map_or(VALID, Duration::from_millis);
    if valid > MOST_VALID || valid.is_zero() {
        return Err(bad("a join token is valid for 30 days at most"));
    }
    let client = client(&daemon, &membership).await?;
    let hosts = client.hosts().await.map_err(|error| pool_error(&error))?;
    let name = match params.name {
        Some(name) => check_name(&name).map(|()| name)?,
        None => free_name(&hosts)?,
    };
    let keys = current_keys(&client, &membership).await?;
    let keys = if params.refresher { keys } else { keys.without_refresh() };
    let one_time = HostKeyPair::generate().map_err(|error| key_error(&error))?;
    let wrapped = keys.wrap_for_invitation(&membership.pool, &one_time).map_err(|error| key_error(&error))?;
    let password = random_password()?;
    let invitation = NewInvitation {
        name: &name,
        admin: params.admin,
        refresher: params.refresher,
        public_key: &one_time.public().0,
        wrapped: &wrapped,
        keys: keys.generation(),
        lasts: valid,
        password: &password,
    };
    let invited = client.invite(&invitation).await.map_err(|error| match error.kind() {
        SharedPoolErrorKind::Conflict => bad(format!("the pool has a host {name} already"))
            .hint("choose another name, or remove that one: lessor pool evict HOST"),
        _ => pool_error(&error),
    })?;
    let expires_at = clock::now().wall.after(valid);
    let token = JoinToken {
        url: without_user(&membership.address.url),
        user: invited.user,
        password,
        one_time,
        pool: membership.pool.clone(),
        admin: params.admin,
        refresher: params.refresher,
        expires_at,
    };
    let text = token.to_text().map_err(|error| ErrorInfo::new(ErrorKind::Internal, error))?;
    tracing::info!("invited the host {name} to the shared pool");
    Ok(Answer::JoinToken(Box::new(JoinTokenInfo {
        token: SecretText(text.expose().to_owned().into()),
        name,
        admin: params.admin,
        refresher: params.refresher,
        expires_at: expires_at.0,
    })))
}

/// A name that no host has.
fn free_name(hosts: &[PoolHost]) -> Result<String, ErrorInfo> {
    let mut names = (2..MOST_NUMBERS).map(|number| format!("host-{number}"));
    let free = names.find(|name| hosts.iter().all(|host| host.name != *name));
    free.ok_or_else(|| bad("no free name was found; give one: lessor pool join-token --name NAME"))
}

/// `pool.set`
pub(super) async fn set(daemon: Arc<Daemon>, params: SetPoolParams) -> AnswerResult {
    let membership = admin(&daemon, "lessor pool set KEY=VALUE")?;
    let client = client(&daemon, &membership).await?;
    let before = client.pool_info().await.map_err(|error| pool_error(&error))?.settings;
    let per_account = params.per_account.unwrap_or(before.per_account);
    let most = params.max_per_account.unwrap_or_else(|| before.max_per_account.max(per_account));
    check_rules(per_account, most)?;
    let overflow = params.overflow.as_deref().map_or(Ok(before.overflow), overflow_named)?;
    let settings = SharedPoolSettings { per_account, max_per_account: most, overflow, ..before };
    client.set_settings(&settings).await.map_err(|error| pool_error(&error))?;
    read_news(&daemon);
    Ok(Answer::PoolRules(rules(&settings)))
}

fn rules(settings: &SharedPoolSettings) -> PoolRulesInfo {
    PoolRulesInfo {
        per_account: settings.per_account,
        max_per_account: settings.max_per_account,
        overflow: overflow_name(settings.overflow).to_owned(),
        ttl_ms: millis(settings.ttl),
        margin_ms: millis(settings.margin),
    }
}
