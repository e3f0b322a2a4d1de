//! The calls and answers about the pool that several hosts share.

use lessor::protocol::{
    Answer, Call, EvictHostParams, EvictedHostInfo, ExposedSecretInfo, InitPoolParams, JoinPoolParams, JoinTokenInfo,
    JoinTokenParams, LeavePoolParams, LeftPoolInfo, MigrateParams, MigratedInfo, NoParams, PoolHostInfo,
    PoolMemberInfo, PoolRekeyInfo, PoolRulesInfo, PoolSeatsInfo, PoolStatusInfo, PoolSummaryInfo, SecretText,
    SetPoolParams, SkippedAccountInfo,
};

use super::{label, text};

pub(crate) fn calls() -> Vec<Call> {
    vec![
        Call::InitPool(Box::new(InitPoolParams {
            url: "postgres://lessor@db.example:5432/lessor".into(),
            password: Some(SecretText("password".into())),
            root_certificate: text("/etc/ssl/db.pem"),
            name: text("build-1"),
            per_account: Some(2),
            max_per_account: Some(4),
            overflow: text("wait"),
        })),
        Call::JoinPool(Box::new(JoinPoolParams {
            token: SecretText("token".into()),
            root_certificate: text("/etc/ssl/db.pem"),
        })),
        Call::CreateJoinToken(JoinTokenParams {
            name: text("build-2"),
            admin: true,
            refresher: true,
            valid_ms: Some(600_000),
        }),
        Call::ListPoolHosts(NoParams {}),
        Call::PoolStatus(NoParams {}),
        Call::EvictHost(EvictHostParams { host: "build-2".into(), force: true }),
        Call::RekeyPool(NoParams {}),
        Call::LeavePool(LeavePoolParams { force: true }),
        Call::SetPool(SetPoolParams { per_account: Some(2), max_per_account: Some(4), overflow: text("share") }),
        Call::MigrateAccounts(MigrateParams { to: "pool".into(), accounts: Some(vec!["work".into()]), force: true }),
    ]
}

pub(crate) fn summary() -> PoolSummaryInfo {
    PoolSummaryInfo {
        state: "connected".into(),
        name: text("build-1"),
        hosts: 3,
        online: 2,
        refreshers: 1,
        accounts: 8,
        seats: 4,
        elsewhere: 5,
        seats_until: Some(1_790_000_000_000),
        trouble: text("the database is away"),
    }
}

fn host() -> PoolHostInfo {
    PoolHostInfo {
        id: "ho_2".into(),
        name: "build-2".into(),
        state: "silent".into(),
        this: true,
        admin: true,
        refresher: true,
        seats: 3,
        joined_at: Some(1_780_000_000_000),
        last_seen_at: Some(1_790_000_000_000),
        invited_until: Some(1_790_000_000_000),
    }
}

fn rules() -> PoolRulesInfo {
    PoolRulesInfo { per_account: 2, max_per_account: 4, overflow: "wait".into(), ttl_ms: 20_000, margin_ms: 2_000 }
}

pub(crate) fn answers() -> Vec<(&'static str, Answer<'static>)> {
    let member = PoolMemberInfo {
        pool: "pool_1".into(),
        url: "postgres://lessor@db.example:5432/lessor".into(),
        host: "ho_1".into(),
        name: "build-1".into(),
        admin: true,
        refresher: true,
        created: true,
        accounts: 8,
        per_account: 2,
        max_per_account: 4,
        overflow: "wait".into(),
    };
    let token = JoinTokenInfo {
        token: SecretText("token".into()),
        name: "build-2".into(),
        admin: true,
        refresher: true,
        expires_at: 1_790_000_000_000,
    };
    let seats = PoolSeatsInfo { account: label(), host: "build-2".into(), seats: 2, handed_out: 1 };
    let status = PoolStatusInfo {
        pool: "pool_1".into(),
        url: "postgres://lessor@db.example:5432/lessor".into(),
        summary: summary(),
        admin: true,
        refresher: true,
        settings: rules(),
        key_generation: 3,
        clock_ahead_ms: -12,
        hosts: vec![host()],
        seats: vec![seats],
        own_accounts: 2,
        warnings: vec!["no refresher is online".into()],
    };
    let exposed = ExposedSecretInfo {
        account: label(),
        provider: "anthropic".into(),
        secret: "api_key".into(),
        ends_at: Some(1_790_000_000_000),
        command: text("lessor account set work --api-key-stdin"),
    };
    let evicted = EvictedHostInfo {
        host: host(),
        key_generation: 4,
        resealed: 8,
        trouble: text("run: lessor pool rekey"),
        replace: vec![exposed],
    };
    let left =
        LeftPoolInfo { pool: "pool_1".into(), name: "build-1".into(), removed: 8, kept: 2, ended: 1, noted: true };
    let skipped = SkippedAccountInfo { account: label(), why: "its login is linked".into() };
    let migrated = MigratedInfo { to: "pool".into(), moved: vec![label()], already: 2, skipped: vec![skipped] };
    vec![
        ("pool-member", Answer::PoolMember(Box::new(member))),
        ("join-token", Answer::JoinToken(Box::new(token))),
        ("pool-hosts", Answer::PoolHosts(vec![host()])),
        ("pool-status", Answer::PoolStatus(Box::new(status))),
        ("evicted-host", Answer::EvictedHost(Box::new(evicted))),
        (
            "rekeyed-pool",
            Answer::RekeyedPool(PoolRekeyInfo {
                key_generation: 4,
                resealed: 8,
                hosts: 2,
                void_tokens: vec!["build-3".into()],
            }),
        ),
        ("left-pool", Answer::LeftPool(Box::new(left))),
        ("pool-rules", Answer::PoolRules(rules())),
        ("migrated", Answer::Migrated(Box::new(migrated))),
    ]
}
