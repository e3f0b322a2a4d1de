//! Who and what appears: accounts, requests, settings, made from small numbers.

use std::sync::Arc;
use std::time::Duration;

use lessor::pool::{
    AccountChange, AccountId, AccountRecord, AccountSet, AccountSettings, Bind, ConnectionId, CredentialKind,
    DirectorySettings, Fallback, Holder, Lease, LeaseRequest, LoginState, Mode, OtherQuota, Overflow, PoolSettings,
    Process, Protect, Refusal, RefusalKind, Reply, Strategy, Target, TargetNames, Tier, Verification, Wall,
};

use crate::ops::AskOp;

pub fn kind(reply: &Result<Reply, Refusal>) -> Option<RefusalKind> {
    reply.as_ref().err().map(|refusal| refusal.kind)
}

pub fn id_of(n: u8) -> AccountId {
    AccountId::from_bits(u64::from(n % 8) << 30 | u64::from(n % 8))
}

/// A list of accounts, as a request has it: sorted.
fn only_of(only: &[u8]) -> Arc<[AccountId]> {
    let mut only: Vec<AccountId> = only.iter().map(|n| id_of(*n)).collect();
    only.sort_unstable();
    only.dedup();
    only.into()
}

fn directory_of(n: u8) -> Arc<str> {
    ["/work", "/work/a/b", "/workshop", "/"][n as usize % 4].into()
}

pub fn process_of(n: u8) -> Process {
    Process { pid: 100 + u32::from(n), start: 7 }
}

/// Key 0 is one of an account's two quotas, and the other one is `j0`.
pub fn target_of(provider: u8, key: u8, model: Option<u8>) -> Target {
    let model = model.map(|model| Arc::from(format!("m{model}")));
    let other = OtherQuota { key: "j0".into(), pool: "j".into(), model: model.clone(), first: false };
    let names = TargetNames { other: (key == 0).then_some(other), ..TargetNames::default() };
    Target {
        provider: Arc::from(format!("p{provider}")),
        family: Arc::from(format!("f{key}")),
        key: Arc::from(format!("k{key}")),
        pool: (key == 0).then(|| Arc::from("k")),
        model,
        names: (key == 0).then(|| Arc::new(names)),
    }
}

pub fn ask_of(op: &AskOp) -> LeaseRequest {
    let process = op.process.map(process_of);
    let name = |(n, how): (u8, u8)| match how {
        0 => id_of(n).to_string(),
        1 => format!("l{}", n % 8),
        2 => "shared@x.y".into(),
        _ => id_of(n).to_string()[3..6].to_owned(),
    };
    LeaseRequest {
        target: target_of(op.provider, op.key, op.model),
        connection: ConnectionId(op.connection.into()),
        bind: match op.bind {
            0 => Bind::Connection(ConnectionId(op.connection.into())),
            1 => Bind::Process(process.unwrap_or(process_of(0))),
            _ => Bind::Ttl,
        },
        holder: Holder { process, ..Holder::default() },
        ttl: op.ttl_s.map(|s| Duration::from_secs(s.into())),
        session: op.session.map(|session| format!("s{session}").into()),
        label: None,
        agent: op.agent.map(|agent| ["claude", "codex"][agent as usize].into()),
        account: op.pin.map(|pin| name(pin).into()),
        exclude: op.exclude.iter().map(|n| id_of(*n)).collect(),
        set: AccountSet { only: op.only.as_deref().map(only_of), directory: op.directory.map(directory_of) },
        priority: op.priority,
        wait: op.wait_s.map(|s| Duration::from_secs(s.into())),
        exclusive: op.exclusive,
        request_id: op.request.map(|n| format!("r{n}").into()),
        subagent: None,
    }
}

pub fn ask_again(lease: &Lease) -> LeaseRequest {
    LeaseRequest {
        target: lease.target.as_asked(),
        connection: ConnectionId(0),
        bind: lease.bind,
        holder: lease.holder.clone(),
        ttl: lease.ttl,
        session: lease.session.clone(),
        label: lease.label.clone(),
        agent: lease.agent.clone(),
        account: lease.pinned.then(|| lease.account.to_string().into()),
        exclude: vec![],
        set: lease.set().clone(),
        priority: 0,
        wait: None,
        exclusive: lease.exclusive,
        request_id: None,
        subagent: None,
    }
}

pub fn record_of(id: u8, provider: u8, capacity: u8, allowed_agents: u8, tier: u8, priority: i8) -> AccountRecord {
    AccountRecord {
        id: id_of(id),
        provider: format!("p{provider}"),
        label: Some(format!("l{}", id % 8)),
        email: (id.is_multiple_of(3)).then(|| "shared@x.y".into()),
        tier: [Tier::Ultra, Tier::Pro, Tier::Free, Tier::Unknown][tier as usize % 4],
        kind: if id == 5 { CredentialKind::ApiKey } else { CredentialKind::Oauth },
        login_state: LoginState::Ready,
        enabled: true,
        disabled_reason: None,
        max_leases: Some(u32::from(capacity)).filter(|n| *n > 0),
        priority: priority.into(),
        allowed_agents: (allowed_agents == 1).then(|| vec!["claude".into()]),
        reserve: if allowed_agents == 4 { 0.4 } else { 0.0 },
        fallback_only: allowed_agents == 3,
        project_id: None,
        owner: lessor::pool::AccountOwner::default(),
        created_at: Wall(1),
        last_used_at: None,
    }
}

pub fn change_of(n: u8, what: u8) -> AccountChange {
    let none = AccountChange::default();
    match what {
        0 => AccountChange { enabled: Some((false, Some("tired".into()))), ..none },
        1 | 2 => AccountChange { enabled: Some((true, None)), ..none },
        3 => AccountChange { login_state: Some(LoginState::NeedsVerification(Verification::default())), ..none },
        4 | 5 => AccountChange { login_state: Some(LoginState::Ready), ..none },
        6 => AccountChange { max_leases: Some(1), ..none },
        7 => AccountChange { max_leases: Some(3), priority: Some(1), tier: Some(Tier::Ultra), ..none },
        8 => AccountChange {
            allowed_agents: Some(if n.is_multiple_of(2) { vec![] } else { vec!["codex".into()] }),
            ..none
        },
        9 => AccountChange { reserve: Some(0.5), ..none },
        10 => AccountChange { reserve: Some(1.0), ..none },
        11 => AccountChange { fallback_only: Some(true), ..none },
        12 => AccountChange { reserve: Some(0.0), fallback_only: Some(false), ..none },
        _ => AccountChange { label: Some(format!("l{}", (n + 1) % 8)), ..none },
    }
}

pub fn settings_of(overflow: u8, mode: u8, strategy: u8, bits: u8, quota: u8, sets: u8) -> PoolSettings {
    let bit = |n: u8| bits >> n & 1 == 1;
    let mut settings = PoolSettings::default();
    settings.leases.overflow = [Overflow::Share, Overflow::Wait, Overflow::Fail][overflow as usize];
    settings.leases.per_account = 1 + u32::from(bit(0));
    settings.leases.max_per_account = if bit(1) { 3 } else { 16 };
    settings.selection.mode = [Mode::CacheFirst, Mode::Balance, Mode::PerformanceFirst][mode as usize];
    settings.selection.strategy =
        [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid, Strategy::LeastUsed, Strategy::DrainSoonest]
            [strategy as usize];
    settings.selection.preferred_account = bit(2).then(|| "l0".into());
    settings.selection.pid_offset = bit(3);
    settings.selection.tier_first = bit(4);
    settings.selection.reuse_window = Duration::from_secs(if bit(5) { 60 } else { 0 });
    settings.quota.fallback = [Fallback::Off, Fallback::AccountsFirst, Fallback::SameAccountFirst][quota as usize % 3];
    if quota >= 3 {
        let models = vec![if quota >= 6 { "*".to_owned() } else { "m0".to_owned() }];
        settings.quota.protect = vec![Protect { models, below: 0.3 }];
    }
    settings.limits.switch_on_first_rate_limit = !bit(6);
    let set = |name: &str, accounts: &[&str]| DirectorySettings {
        name: name.into(),
        paths: vec![name.into()],
        accounts: accounts.iter().map(|name| (*name).to_owned()).collect(),
    };
    if sets >= 1 {
        settings.directories.push(set("/work", &["l0", "l1", "l2"]));
    }
    if sets >= 2 {
        settings.directories.push(set("/work/a", &["l1", "unknown"]));
    }
    if sets == 3 {
        let kept = AccountSettings { reserve: Some(0.6), fallback_only: Some(true), ..Default::default() };
        settings.accounts.push(AccountSettings { name: "l0".into(), ..kept });
    }
    if bit(7) {
        settings.accounts.push(AccountSettings { name: "l1".into(), enabled: Some(false), ..Default::default() });
    }
    settings
}
