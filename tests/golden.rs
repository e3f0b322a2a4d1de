//! Golden samples: every message, in both codecs, byte for byte. A change of these files is a change of the protocol.
//!
//! `LESSOR_UPDATE_GOLDEN=1 cargo test --test golden` rewrites them.

use std::path::PathBuf;

use lessor::limits::{Reason, Scope};
use lessor::pool::{CredentialKind, Tier};
use lessor::protocol::{
    AccountInfo, AccountLabel, AccountName, AccountRef, AccountTotals, AcquireParams, AddAccountParams,
    AgentSessionInfo, AgentSessionParams, AgentWindow, Answer, AttemptRow, BankedResetsInfo, BindTo, BodyText, Call,
    CandidateInfo, CheckInfo, Codec, ComparedInfo, ConfigState, CredentialInfo, CredentialParams, DaemonStatus,
    DecidedInfo, DecisionInfo, DisableAccountParams, Empty, ErrorAccount, ErrorInfo, ErrorKind, EventInfo, ExplainInfo,
    ExplainParams, ExportAccountsParams, ExportInfo, ExportedAccount, ExportedCredential, ExportedLink, ExportedWindow,
    ForecastInfo, ForecastParams, FromServer, GatewayAccess, GatewayInfo, GatewayKeyInfo, GatewayKeyParams,
    GuestHolder, GuestHoldersParams, GuestInfo, HeaderList, HelloInfo, HelloParams, HistoryGroup, HistoryInfo,
    HistoryParams, HistoryStatus, HolderInfo, HostInfo, HostSeatsInfo, ImportAccountsParams, ImportEntry, ImportInfo,
    ImportLimit, ImportWindow, ImportedEntry, LeaseInfo, LeaseRef, LeaseRow, LimitInfo, LinkInfo, ListAccountsParams,
    ListSecretsParams, MAGIC, MessageDecoder, MoveLeaseParams, MovedInfo, NoParams, ObjectText, OpenPageParams,
    OutlookInfo, PageAccess, PassedInfo, PastLease, ProviderInfo, QueueRow, RekeyInfo, ReloadInfo, RemoveSecretParams,
    ReportParams, RequestId, RequestInfo, RequestRow, RequestSums, RestartInfo, RestartParams, RevokeKeyParams,
    RevokedKeyInfo, SecretText, ServerFrames, SetAccountParams, SetSecretParams, StoredClientInfo, SubscribeParams,
    TokenSums, UsageInfo, UsedResetInfo, VerdictInfo, VerifyAccountParams, encode_call,
};

#[path = "golden/pool.rs"]
mod pool;

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn lease_ref() -> LeaseRef {
    LeaseRef { lease: "ls_1".into(), fence: Some(42) }
}

fn calls() -> Vec<Call> {
    let mut calls = vec![
        Call::Hello(HelloParams { client: "golden 1".into(), protocol: (1, 1) }),
        Call::Acquire(Box::new(AcquireParams {
            provider: "anthropic".into(),
            model: text("claude-sonnet-4-5"),
            pool: text("antigravity"),
            session: text("s1"),
            label: text("agent-1"),
            account: text("work"),
            exclude: vec!["ac_00000001".into()],
            priority: -3,
            wait_ms: Some(30_000),
            ttl_ms: Some(600_000),
            bind: BindTo::Pid(4711),
            credential: false,
            agent: text("claude"),
            exclusive: true,
            request_id: text("r-1"),
            only: Some(vec!["work".into(), "spare".into()]),
            directory: text("/home/me/project"),
        })),
        Call::Renew(lease_ref()),
        Call::Release(lease_ref()),
        Call::Resume(lease_ref()),
        Call::Credential(CredentialParams { lease: "ls_1".into(), force: true }),
        Call::Report(ReportParams {
            lease: "ls_1".into(),
            ok: Some(false),
            reason: Some(Reason::QuotaExhausted),
            retry_after_ms: Some(5_000),
            usage: Some(ObjectText("{\"5h\":{\"utilization\":0.5}}".into())),
            status: Some(429),
            headers: Some(HeaderList(vec![
                ("retry-after".into(), "7".into()),
                ("x-twice".into(), "1".into()),
                ("x-twice".into(), "2".into()),
            ])),
            body: Some(BodyText("{\"error\":{}}".into())),
        }),
        Call::ListLeases(NoParams {}),
        Call::ListAccounts(ListAccountsParams { provider: text("google") }),
        Call::AddAccount(Box::new(AddAccountParams {
            provider: "openai".into(),
            kind: CredentialKind::Oauth,
            secret: SecretText("access".into()),
            refresh_token: Some(SecretText("refresh".into())),
            expires_at: Some(1_790_000_000_000),
            label: text("work"),
            email: text("a@b.c"),
            tier: Some(Tier::Pro),
            max_leases: Some(2),
            priority: Some(-1),
            allowed_agents: Some(vec!["codex".into()]),
            project_id: text("p"),
            account_id: text("v"),
            client_id: text("c"),
            person_id: text("u"),
            organization_id: text("o"),
            organization: text("Team"),
            resource: text("https://api.example/v1"),
            refresh_from: Some(4_070_908_500_000),
            own: true,
        })),
        Call::RemoveAccount(AccountRef { account: "work".into() }),
        Call::SetAccount(Box::new(SetAccountParams {
            account: "work".into(),
            label: text("home"),
            email: text("d@e.f"),
            tier: Some(Tier::Ultra),
            project_id: text("q"),
            max_leases: Some(3),
            priority: Some(4),
            allowed_agents: Some(vec!["any".into()]),
            secret: Some(SecretText("key".into())),
            kind: Some(CredentialKind::ApiKey),
            client_id: text("c"),
            expires_at: Some(4_070_908_800_000),
            reserve: Some(0.25),
            fallback_only: Some(true),
        })),
        Call::EnableAccount(AccountRef { account: "work".into() }),
        Call::DisableAccount(DisableAccountParams { account: "work".into(), reason: text("holiday") }),
        Call::Status(NoParams {}),
        Call::Subscribe(SubscribeParams { kinds: vec!["lease.granted".into()], recent: true }),
        Call::GetConfig(NoParams {}),
        Call::Stop(NoParams {}),
        Call::ReloadConfig(NoParams {}),
        Call::ImportAccounts(Box::new(ImportAccountsParams {
            entries: vec![ImportEntry {
                tool: "claude-code".into(),
                item: "claudeAiOauth".into(),
                file: text("/h/.claude/.credentials.json"),
                rotates: true,
                provider: "anthropic".into(),
                kind: CredentialKind::Oauth,
                secret: SecretText("access".into()),
                refresh_token: Some(SecretText("refresh".into())),
                expires_at: Some(1_790_000_000_000),
                email: text("a@b.c"),
                label: text("work"),
                account_id: text("v"),
                project_id: text("p"),
                tier: Some(Tier::Pro),
                limits: vec![ImportLimit {
                    scope: Scope::Pool,
                    key: "claude".into(),
                    reason: Reason::RateLimitExceeded,
                    until: 1_790_000_000_000,
                }],
                usage: vec![ImportWindow {
                    window: "claude".into(),
                    key: "claude".into(),
                    utilization: 0.25,
                    resets_at: Some(1_790_000_000_000),
                    as_of: 1_780_000_000_000,
                }],
                last_used_at: Some(1_780_000_000_000),
                disabled: text("disabled there"),
                verification: text("verify: https://x"),
                login_ended: text("revoked"),
                allowed_agents: Some(vec!["claude".into()]),
                max_leases: Some(2),
                priority: Some(-1),
                as_of: Some(1_780_000_000_000),
                mode: text("take-over"),
                client_id: text("c"),
                person_id: text("u"),
                organization_id: text("o"),
                organization: text("Team"),
                resource: text("https://api.example/v1"),
                refresh_from: Some(4_070_908_500_000),
                reserve: 0.25,
                fallback_only: true,
            }],
            mode: text("share"),
            dry_run: true,
            own: true,
        })),
        Call::ExportAccounts(ExportAccountsParams { secrets: true }),
        Call::Forecast(ForecastParams {
            provider: "anthropic".into(),
            model: text("claude-sonnet-4-5"),
            count: Some(3),
            only: Some(vec!["work".into(), "spare".into()]),
            agent: text("claude"),
            directory: text("/home/me/project"),
        }),
        Call::ClearLimits(AccountRef { account: "work".into() }),
        Call::Explain(ExplainParams {
            what: text("LAST"),
            model: text("m"),
            only: Some(vec!["work".into()]),
            directory: text("/home/me/project"),
        }),
        Call::RefreshAccount(AccountRef { account: "work".into() }),
        Call::GatewayKey(GatewayKeyParams {
            lease: text("ls_1"),
            agent: text("claude"),
            label: text("agent-1"),
            directory: text("/home/me/project"),
            ttl_ms: Some(86_400_000),
            max_leases: Some(2),
        }),
        Call::Token(Box::new(AcquireParams {
            provider: "openai".into(),
            bind: BindTo::Pid(4711),
            ..AcquireParams::default()
        })),
        Call::AskUsage(AccountRef { account: "work".into() }),
        Call::VerifyAccount(VerifyAccountParams { account: "work".into(), confirmed: true }),
        Call::Rekey(NoParams {}),
        Call::Restart(RestartParams { drain_ms: Some(5000) }),
        Call::CheckAccount(AccountRef { account: "work".into() }),
        Call::GatewayKeys(NoParams {}),
        Call::RevokeGatewayKey(RevokeKeyParams { key: SecretText("my editor".into()) }),
        Call::QueryHistory(Box::new(HistoryParams { by: text("hour"), limit: Some(10), ..HistoryParams::default() })),
        Call::MoveLease(MoveLeaseParams { pid: Some(4711), to: text("home"), ..MoveLeaseParams::default() }),
        Call::OpenPage(OpenPageParams { actions: true, wait_for: Some(SecretText("code".into())) }),
        Call::SetSecret(Box::new(SetSecretParams {
            name: "mine".into(),
            provider: text("google"),
            client_id: text("c"),
            secret: Some(SecretText("secret".into())),
        })),
        Call::ListSecrets(ListSecretsParams { provider: text("google"), secrets: true }),
        Call::RemoveSecret(RemoveSecretParams { name: "mine".into(), force: true }),
        Call::ResetLimits(AccountRef { account: "work".into() }),
        Call::AgentSession(Box::new(AgentSessionParams {
            provider: text("anthropic"),
            session: text("s1"),
            pid: Some(4711),
            key: Some(SecretText("key".into())),
            windows: vec![AgentWindow {
                name: "five_hour".into(),
                used_percentage: 42.5,
                resets_at: Some(1_790_000_000_000),
            }],
            read_at: Some(1_780_000_000_000),
        })),
    ];
    calls.extend(pool::calls());
    calls.push(Call::GuestHolders(Box::new(GuestHoldersParams {
        begun: vec![GuestHolder { number: 7, pid: 4711, program: text("claude") }],
        ended: vec![5, 6],
        holds: Some(7),
        all: true,
    })));
    calls
}

fn lease() -> LeaseInfo<'static> {
    LeaseInfo {
        lease: "ls_1".into(),
        fence: 42,
        account: AccountName { id: "ac_1".into(), label: Some("work".into()), email: None, tier: Tier::Pro },
        provider: "anthropic".into(),
        pool: None,
        model: Some("claude-sonnet-4-5".into()),
        quota_key: "claude".into(),
        shared_with: 0,
        expires_at: None,
        credential: Some(credential()),
        project_id: None,
    }
}

fn credential() -> CredentialInfo<'static> {
    CredentialInfo {
        kind: CredentialKind::Oauth,
        secret: SecretText("s\"e\\cret".into()),
        expires_at: Some(1_790_000_000_000),
        header: "authorization".into(),
        scheme: Some("Bearer".into()),
        resource: None,
        account_id: Some("ws-1".into()),
    }
}

fn reloaded() -> ReloadInfo {
    ReloadInfo {
        path: "/config.toml".into(),
        state: "rejected".into(),
        error: text("/config.toml:1:1: unknown key"),
        changed: true,
        notes: vec!["not active yet".into()],
    }
}

fn label() -> AccountLabel {
    AccountLabel { id: "ac_1".into(), label: text("work"), email: text("a@b.c") }
}

fn account() -> AccountInfo {
    AccountInfo {
        id: "ac_1".into(),
        provider: "anthropic".into(),
        label: text("work"),
        email: text("a@b.c"),
        tier: Tier::Free,
        kind: CredentialKind::ApiKey,
        unchecked: true,
        state: "limited".into(),
        state_reason: None,
        state_link: text("https://example.org/plan"),
        enabled: true,
        leases: 1,
        capacity: 2,
        priority: 3,
        allowed_agents: vec!["any".into()],
        project_id: None,
        credential_expires_at: None,
        limits: vec![LimitInfo {
            key: "claude".into(),
            reason: "quota_exhausted".into(),
            scope: "pool".into(),
            until: 1_790_000_000_000,
            source: "server".into(),
            since: 1_780_000_000_000,
            evidence: text("429 resets_at"),
            link: text("https://example.org/plan"),
        }],
        usage: vec![UsageInfo {
            window: "5h".into(),
            utilization: 0.25,
            resets_at: Some(1_790_000_000_000),
            as_of: 1_780_000_000_000,
            key: "claude".into(),
            rate: true,
            stale: true,
            pace: Some(0.5),
        }],
        created_at: 1_700_000_000_000,
        last_used_at: Some(1_780_000_000_000),
        account_id: text("v"),
        link: Some(LinkInfo {
            tool: "claude-code".into(),
            path: "/h/.claude/.credentials.json".into(),
            mode: "link".into(),
            trouble: None,
        }),
        plan: text("max"),
        usage_trouble: text("nobody answers"),
        person_id: text("u"),
        organization_id: text("o"),
        organization: text("Team"),
        in_flight: 2,
        usage_next_at: Some(1_790_000_000_000),
        remedy: text("lessor account set work --api-key-stdin"),
        resource: text("https://api.example/v1"),
        client_id: text("c"),
        resets: Some(banked_resets()),
        reserve: 0.25,
        fallback_only: true,
        in_flight_cap: Some(8),
        subagents: 5,
        sharing: text("pool"),
        elsewhere: vec![HostSeatsInfo { host: "build-2".into(), seats: 2 }],
    }
}

fn imported() -> ImportInfo {
    let row = ImportedEntry { outcome: "added".into(), account: Some(label()), message: "copied".into() };
    ImportInfo { entries: vec![row] }
}

fn exported() -> ExportInfo {
    let account = ExportedAccount {
        id: "ac_1".into(),
        provider: "anthropic".into(),
        kind: CredentialKind::Oauth,
        label: text("work"),
        email: text("a@b.c"),
        account_id: text("v"),
        tier: Tier::Pro,
        project_id: None,
        allowed_agents: Some(vec!["claude".into()]),
        max_leases: Some(2),
        priority: 1,
        enabled: false,
        disabled_reason: text("holiday"),
        needs_login: text("revoked"),
        needs_verification: None,
        limits: account().limits,
        usage: vec![ExportedWindow {
            window: "5h".into(),
            key: "claude".into(),
            utilization: 0.25,
            resets_at: Some(1_790_000_000_000),
            as_of: 1_780_000_000_000,
        }],
        last_used_at: Some(1_780_000_000_000),
        link: Some(ExportedLink {
            tool: "codex".into(),
            path: "/h/.codex/auth.json".into(),
            item: "tokens".into(),
            mode: "take-over".into(),
        }),
        as_of: Some(1_780_000_000_000),
        credential: Some(ExportedCredential {
            access: SecretText("access".into()),
            refresh: Some(SecretText("refresh".into())),
            expires_at: Some(1_790_000_000_000),
            client_id: text("c"),
            resource: text("https://api.example/v1"),
            refresh_from: Some(4_070_908_500_000),
        }),
        person_id: text("u"),
        organization_id: text("o"),
        organization: text("Team"),
        reserve: 0.25,
        fallback_only: true,
    };
    ExportInfo { lessor_export: 1, exported_at: 1_780_000_000_000, accounts: vec![account] }
}

fn answers() -> Vec<(&'static str, Answer<'static>)> {
    let decision = DecisionInfo {
        action: "switch".into(),
        after_ms: 0,
        reason: Some("quota_exhausted".into()),
        scope: Some("pool".into()),
        lease: Some(lease()),
        evidence: Some("429 rate_limit_error".into()),
        link: Some("https://example.org/plan".into()),
    };
    let row = LeaseRow {
        lease: "ls_1".into(),
        fence: 42,
        account: label(),
        provider: "google".into(),
        model: text("gemini-3-pro"),
        pool: text("antigravity"),
        session: text("s1"),
        label: text("agent-1"),
        bind: "pid".into(),
        holder: Some(HolderInfo { pid: 4711, program: text("claude") }),
        granted_at: 1_780_000_000_000,
        expires_at: Some(1_790_000_000_000),
        agent: text("claude"),
        directory: text("/home/me/project"),
        subagent: text("a1"),
        host: text("build-1"),
    };
    let status = DaemonStatus {
        version: "0.1.0".into(),
        pid: 1,
        uptime_ms: 2,
        socket: "/run/lessor.sock".into(),
        gateway: Some(GatewayInfo {
            url: text("http://127.0.0.1:18080"),
            socket: text("/run/gateway.sock"),
            secure_url: text("https://127.0.0.1:18081"),
            ca_file: text("/state/tls/ca.pem"),
            ca_bundle: text("/state/tls/ca-bundle.pem"),
            certificate_from: Some(1_790_000_000_000),
            certificate_until: Some(1_800_000_000_000),
        }),
        config: ConfigState { path: "/config.toml".into(), state: "ok".into(), error: None },
        accounts: AccountTotals {
            total: 6,
            ready: 1,
            partly_limited: 1,
            waiting_for_token: 1,
            cannot_renew: 1,
            limited: 1,
            needs_login: 1,
            needs_verification: 1,
            disabled: 1,
        },
        leases: 3,
        queue: vec![QueueRow {
            position: 1,
            eta_at: Some(1_790_000_000_000),
            provider: "openai".into(),
            model: None,
            label: text("agent-2"),
        }],
        warnings: vec!["a warning".into()],
        gateway_trouble: text("the port is taken"),
        in_flight: 4,
        history: Some(HistoryStatus { begins_at: Some(1_780_000_000_000), bytes: 4096, dropped: 3, uncounted: 1 }),
        providers: vec![ProviderInfo {
            provider: "anthropic".into(),
            agent: text("claude"),
            accounts: 6,
            serving: 2,
            busy: 1,
            limited: 3,
            partly_limited: 1,
            grantable: 4,
            next: Some(label()),
            free_at: Some(1_790_000_000_000),
            first_free: Some(label()),
        }],
        pool: Some(pool::summary()),
        guests: vec![GuestInfo {
            name: "me@build".into(),
            kind: "ssh".into(),
            state: "up".into(),
            since: 1_780_000_000_000,
            leases: 2,
            max_leases: Some(4),
            only: Some(vec!["work".into()]),
            version: text("0.1.0"),
        }],
        host: Some(HostInfo {
            name: "laptop".into(),
            state: "down".into(),
            since: 1_780_000_000_000,
            trouble: text("the connection was closed"),
        }),
    };
    let access = GatewayAccess {
        key: SecretText("lk_1".into()),
        url: text("http://127.0.0.1:18080"),
        socket: text("/run/gateway.sock"),
        trouble: text("the port is taken"),
        id: text("gk_00000001"),
        expires_at: Some(1_790_000_000_000),
        secure_url: text("https://127.0.0.1:18081"),
        ca_file: text("/run/ca.pem"),
        ca_bundle: text("/run/ca-bundle.pem"),
        websocket: Some(true),
    };
    let hello = HelloInfo {
        server: "lessor".into(),
        version: "0.1.0".into(),
        protocol: 1,
        pid: 1,
        features: vec!["enc:bincode2".into()],
    };
    let mut answers = vec![
        ("hello", Answer::Hello(hello)),
        ("lease", Answer::Lease(lease())),
        ("done", Answer::Done(Empty {})),
        ("credential", Answer::Credential(credential())),
        ("decision", Answer::Decision(Box::new(decision))),
        ("leases", Answer::Leases(vec![row])),
        ("accounts", Answer::Accounts(vec![account()])),
        ("account", Answer::Account(Box::new(account()))),
        ("status", Answer::Status(Box::new(status))),
        ("config", Answer::Config("{\"settings\":[]}".into())),
        ("reloaded", Answer::Reloaded(reloaded())),
        ("imported", Answer::Imported(imported())),
        ("exported", Answer::Exported(exported())),
        ("forecast", Answer::Forecast(forecast())),
        ("explained", Answer::Explained(Box::new(explained()))),
        ("gateway-access", Answer::GatewayAccess(access)),
        ("restarting", Answer::Restarting(RestartInfo { in_flight: 2, drain_ms: 5000, comes_back: true })),
        ("rekeyed", Answer::Rekeyed(RekeyInfo { key: "file".into(), place: "/h/state/key".into(), accounts: 2 })),
        ("checked", Answer::Checked(Box::new(checked()))),
        ("gateway-keys", Answer::GatewayKeys(vec![gateway_key()])),
        ("revoked-key", Answer::RevokedKey(Box::new(RevokedKeyInfo { key: gateway_key(), cut_off: 1 }))),
        ("history", Answer::History(Box::new(history()))),
        ("moved", Answer::Moved(Box::new(moved()))),
        ("page-access", Answer::PageAccess(Box::new(page_access()))),
        ("stored-client", Answer::StoredClient(Box::new(stored_client()))),
        ("stored-clients", Answer::StoredClients(vec![stored_client()])),
        ("used-reset", Answer::UsedReset(Box::new(used_reset()))),
        ("agent-session", Answer::AgentSession(Box::new(agent_session()))),
    ];
    answers.extend(pool::answers());
    answers
}

fn stored_client() -> StoredClientInfo {
    StoredClientInfo {
        name: "mine".into(),
        provider: text("google"),
        client_id: text("c"),
        has_secret: true,
        added_at: 1_780_000_000_000,
        used_by: vec![AccountLabel { id: "ac_1".into(), label: text("work"), email: None }],
        secret: Some(SecretText("secret".into())),
    }
}

fn history() -> HistoryInfo {
    let tokens = TokenSums { input: 12, output: 3, cached: 4, cache_written: 5 };
    let sums = RequestSums { requests: 2, ok: 1, limited: 1, tokens, cost_usd: 0.25, ..RequestSums::default() };
    let work = || AccountLabel { id: "ac_1".into(), label: text("work"), email: None };
    let attempt = AttemptRow {
        account: work().into(),
        status: Some(429),
        reason: text("quota_exhausted"),
        ..AttemptRow::default()
    };
    let request = RequestRow {
        id: 7,
        at: 1_790_000_000_000,
        provider: "anthropic".into(),
        path: "/v1/messages".into(),
        status: Some(200),
        outcome: "ok".into(),
        attempts: vec![attempt],
        tokens: Some(tokens),
        ..RequestRow::default()
    };
    let lease = PastLease { lease: "ls_1".into(), account: work(), reason: "released".into(), ..PastLease::default() };
    HistoryInfo {
        since: 1_790_000_000_000,
        until: 1_790_000_100_000,
        totals: sums,
        groups: vec![HistoryGroup { name: "work".into(), at: None, account: Some(work()), sums }],
        requests: vec![request],
        leases: vec![lease],
        next: Some(7),
        host: text("build-1"),
        guest_of: text("laptop"),
        ..HistoryInfo::default()
    }
}

fn moved() -> MovedInfo {
    MovedInfo { lease: "ls_1".into(), fence: 43, at_next_request: true, ..MovedInfo::default() }
}

fn page_access() -> PageAccess {
    PageAccess {
        url: text("http://127.0.0.1:17000/ui"),
        trouble: None,
        code: Some(SecretText("code".into())),
        expires_at: Some(1_790_000_000_000),
        state: "open".into(),
    }
}

fn gateway_key() -> GatewayKeyInfo {
    GatewayKeyInfo {
        id: "gk_00000001".into(),
        label: text("my editor"),
        agent: text("claude"),
        state: "revoked".into(),
        created_at: Some(1_780_000_000_000),
        listed_at: 1_780_000_000_000,
        expires_at: Some(1_790_000_000_000),
        last_used_at: Some(1_785_000_000_000),
        revoked_at: Some(1_785_000_000_001),
        leases: 1,
        max_leases: Some(2),
        directory: text("/home/me/project"),
    }
}

fn banked_resets() -> BankedResetsInfo {
    BankedResetsInfo {
        available: 2,
        next_expires_at: Some(1_790_000_000_000),
        as_of: 1_780_000_000_000,
        unfinished: true,
    }
}

fn agent_session() -> AgentSessionInfo {
    AgentSessionInfo {
        account: Some(label()),
        state: text("limited"),
        limited_until: Some(1_790_000_000_000),
        usage: account().usage,
        learnt: true,
        waiting: 2,
        provider: None,
    }
}

fn used_reset() -> UsedResetInfo {
    let usage_trouble = text("chatgpt.com cannot be reached");
    UsedResetInfo { windows: Some(2), was_used_before: false, usage_trouble, account: account() }
}

fn checked() -> CheckInfo {
    CheckInfo {
        outcome: "refused".into(),
        status: Some(401),
        message: text("authentication_error"),
        link: text("https://example.org/keys"),
        account: account(),
    }
}

fn forecast() -> ForecastInfo {
    let limited = OutlookInfo {
        id: "ac_1".into(),
        label: text("work"),
        room: 0,
        why: text("limited"),
        until: Some(1_790_000_000_000),
    };
    ForecastInfo {
        grantable: 3,
        unshared: 1,
        next_at: Some(1_790_000_000_000),
        accounts: vec![limited],
        set: text("work (only)"),
    }
}

fn compared() -> Option<ComparedInfo> {
    Some(ComparedInfo {
        over: Some(label()),
        criterion: text("leases"),
        chosen: text("0/1"),
        other: text("1/1"),
        passed: Some(PassedInfo {
            account: label(),
            by: "preferred".into(),
            why: "limited".into(),
            until: Some(1_790_000_000_000),
        }),
    })
}

fn explained() -> ExplainInfo {
    ExplainInfo {
        subject: "lease".into(),
        request: RequestInfo {
            provider: "anthropic".into(),
            model: text("claude-sonnet-4-5"),
            pool: text("antigravity"),
            quota_key: "claude".into(),
            session: text("s1"),
            label: text("agent-1"),
            agent: text("claude"),
            account: text("work"),
            set: text("work, spare (only)"),
        },
        decided: Some(DecidedInfo {
            at: 1_780_000_000_000,
            lease: text("ls_1"),
            fence: Some(42),
            held: true,
            account: Some(label()),
            by: text("strategy"),
            moved_from: Some(label()),
            moved_because: text("quota_exhausted"),
            kind: Some(ErrorKind::AllLimited),
            message: text("every account is limited"),
            compared: compared(),
            until: Some(1_790_000_000_000),
            pid: Some(4711),
            subagent: text("a1"),
            parent: Some(label()),
            apart: text("subagents"),
        }),
        account: Some(label()),
        limits: account().limits,
        now: VerdictInfo {
            outcome: "wait".into(),
            account: Some(label()),
            by: text("session"),
            kind: Some(ErrorKind::NoCapacity),
            until: Some(1_790_000_000_000),
            compared: compared(),
            message: text("in use"),
            hint: text("wait"),
        },
        strategy: "hybrid".into(),
        mode: "balance".into(),
        candidates: vec![CandidateInfo {
            id: "ac_1".into(),
            label: text("work"),
            email: text("a@b.c"),
            rank: Some(1),
            why: text("limited"),
            until: Some(1_790_000_000_000),
            note: text("only for claude"),
            limits: account().limits,
            pool: text("antigravity"),
            leases: 1,
            capacity: 2,
            priority: 3,
            tier: Tier::Pro,
            over_threshold: true,
            health: 70.0,
            tokens: 49.5,
            idle_ms: Some(5_000),
            score: 640.25,
            current: true,
            used_5h: Some(0.25),
            used_7d: Some(0.5),
            resets_7d_at: Some(1_790_000_000_000),
            fallback_only: true,
        }],
    }
}

fn error() -> ErrorInfo {
    let mut error = ErrorInfo::new(ErrorKind::AllLimited, "every anthropic account is limited").hint("wait");
    error.data.retry_after_ms = Some(30_000);
    error.data.accounts.push(ErrorAccount {
        id: "ac_1".into(),
        why: "limited".into(),
        until: Some(1_790_000_000_000),
        name: text("work"),
    });
    error
}

fn event() -> EventInfo {
    EventInfo {
        kind: "account.limited".into(),
        at: 1_780_000_000_000,
        account: Some(label()),
        provider: text("anthropic"),
        key: text("claude"),
        reason: text("quota_exhausted"),
        scope: text("pool"),
        until: Some(1_790_000_000_000),
        state: text("limited"),
        subagent: text("agent-1"),
        ..EventInfo::default()
    }
}

/// Compares with the file of this name, or writes it.
fn check(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("LESSOR_UPDATE_GOLDEN").is_some() {
        return std::fs::write(&path, bytes).unwrap();
    }
    let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(
        golden == bytes,
        "{name} has changed:\n was {:?}\n is  {:?}",
        String::from_utf8_lossy(&golden),
        String::from_utf8_lossy(bytes)
    );
}

fn id() -> RequestId {
    RequestId::Number(7)
}

#[test]
fn every_call_has_its_golden_frame() {
    let calls = calls();
    let methods: Vec<&str> = calls.iter().map(Call::method).collect();
    assert_eq!(methods, Call::METHODS, "a sample for every method, in their order");
    for call in calls {
        let mut frame = Vec::new();
        encode_call(7, call.clone(), &mut frame).unwrap();
        check(&format!("call-{}.bin", call.method()), &frame);
        let mut decoder = MessageDecoder::default();
        decoder.inbox().extend_from_slice(&MAGIC);
        decoder.inbox().extend_from_slice(&frame);
        let incoming = decoder.take().unwrap().unwrap();
        assert_eq!((incoming.id, incoming.call), (Some(id()), Ok(call)));
    }
}

#[test]
fn every_call_parses_from_its_golden_line() {
    for call in calls() {
        let name = format!("call-{}.json", call.method());
        if std::env::var_os("LESSOR_UPDATE_GOLDEN").is_some() {
            let params = parameters(&call);
            let line =
                format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"{}\",\"params\":{params}}}\n", call.method());
            check(&name, line.as_bytes());
        }
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(&name);
        let mut decoder = MessageDecoder::default();
        decoder.inbox().extend_from_slice(&std::fs::read(path).unwrap());
        let incoming = decoder.take().unwrap().unwrap();
        assert_eq!((incoming.id, incoming.call), (Some(id()), Ok(call)), "{name}");
        assert_eq!(decoder.take().unwrap(), None);
    }
}

/// The parameters of a call, as a JSON client writes them.
fn parameters(call: &Call) -> serde_json::Value {
    let call = serde_json::to_value(call).unwrap();
    call.as_object().unwrap().values().next().unwrap().clone()
}

#[test]
fn every_answer_has_its_golden_bytes() {
    for (name, answer) in answers() {
        let mut line = Vec::new();
        Codec::Json.answer(&id(), &answer, &mut line);
        check(&format!("answer-{name}.json"), &line);
        assert!(serde_json::from_slice::<serde_json::Value>(&line).is_ok());
        let mut frame = Vec::new();
        Codec::Binary.answer(&id(), &answer, &mut frame);
        check(&format!("answer-{name}.bin"), &frame);
        assert_eq!(decoded(&frame), FromServer::Answer(7, answer));
    }
}

#[test]
fn refusals_and_events_have_their_golden_bytes() {
    for codec in [Codec::Json, Codec::Binary] {
        let suffix = if codec == Codec::Json { "json" } else { "bin" };
        let (mut refusal, mut told) = (Vec::new(), Vec::new());
        codec.refusal(&id(), &error(), &mut refusal);
        codec.event(&event(), &mut told);
        check(&format!("refusal.{suffix}"), &refusal);
        check(&format!("event.{suffix}"), &told);
        if codec == Codec::Binary {
            assert_eq!(decoded(&refusal), FromServer::Refusal(7, error()));
            assert_eq!(decoded(&told), FromServer::Event(Box::new(event())));
        }
    }
}

fn decoded(frame: &[u8]) -> FromServer<'static> {
    let mut frames = ServerFrames::default();
    frames.inbox().extend_from_slice(frame);
    let message = frames.take().unwrap().unwrap();
    assert!(frames.take().unwrap().is_none());
    message
}

#[test]
fn malformed_frames_are_rejected() {
    let mut frame = Vec::new();
    encode_call(7, Call::Status(NoParams {}), &mut frame).unwrap();
    let lying = [
        // a byte is left over in the frame
        [&[frame[0] + 1, 0, 0, 0], &frame[4..], &[0]].concat(),
        // a byte is missing
        [&[frame[0] - 1, 0, 0, 0], &frame[4..frame.len() - 1]].concat(),
        // no such method
        vec![2, 0, 0, 0, 7, 200],
        // empty
        vec![0, 0, 0, 0],
        // far too long
        vec![255, 255, 255, 255],
        // a text that claims to be longer than everything
        vec![12, 0, 0, 0, 7, 0, 253, 255, 255, 255, 255, 255, 255, 255, 255, 1],
    ];
    for bytes in lying {
        let mut decoder = MessageDecoder::default();
        decoder.inbox().extend_from_slice(&MAGIC);
        decoder.inbox().extend_from_slice(&bytes);
        assert!(decoder.take().is_err(), "{bytes:?}");
    }
}

#[test]
fn messages_are_found_in_any_fragmentation() {
    let mut stream = MAGIC.to_vec();
    for call in calls() {
        encode_call(7, call, &mut stream).unwrap();
    }
    for step in [1, 2, 3, 7, 64, stream.len()] {
        let mut decoder = MessageDecoder::default();
        let mut seen = Vec::new();
        for part in stream.chunks(step) {
            decoder.inbox().extend_from_slice(part);
            while let Some(incoming) = decoder.take().unwrap() {
                seen.push(incoming.call.unwrap());
            }
        }
        assert_eq!(seen, calls(), "in steps of {step}");
        assert!(!decoder.is_partial());
    }
}
