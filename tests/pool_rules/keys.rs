//! Every key that is said to be active changes what happens: one scene for each, played with two values.

use std::path::Path;
use std::time::Duration;

use lessor::config::{Config, KEYS};
use lessor::limits::{Reason, Scope};
use lessor::pool::{
    AccountRecord, Bind, Command, CredentialKind, Deadline, Decision, LeaseRequest, Reply, RequestOutcome, Tier,
};
use lessor::provider::Catalog;

use crate::desk::{Desk, ask, by, id, in_session, record, secs, target};

/// What is seen of a scene.
type Scene = fn(&mut Desk) -> String;

/// A key, what both configurations share, its two values, the scene that tells them apart.
type Row = (&'static str, &'static str, [&'static str; 2], Scene);

/// Beginnings of active keys that the pool knows nothing of; `tests/daemon` and `tests/gateway` play theirs.
const ELSEWHERE: [&str; 8] = [
    "daemon.log",
    "daemon.idle_exit",
    "gateway.",
    "limits.max_attempts",
    "providers.",
    "quota.poll",
    "refresh.",
    "secrets.",
];

#[test]
fn every_active_key_changes_what_happens() {
    let (rows, mut idle) = (rows(), Vec::new());
    for key in KEYS.iter().filter(|key| key.active && !ELSEWHERE.iter().any(|elsewhere| key.key.starts_with(elsewhere)))
    {
        let name = key.key.replace('*', "a");
        let (_, base, values, scene) =
            rows.iter().find(|row| row.0 == name).unwrap_or_else(|| panic!("no scene shows what `{name}` does"));
        let [one, other] = values.map(|value| scene(&mut desk(&format!("{base}\n{name} = {value}"))));
        if one == other {
            idle.push(format!("`{name}` makes no difference between {values:?}: {one}"));
        }
    }
    assert!(idle.is_empty(), "{}", idle.join("\n"));
}

/// Accounts a (pro), b (ultra) and c (free) under this configuration.
fn desk(text: &str) -> Desk {
    let config = Config::parse(text, Path::new("config.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    let mut desk = Desk::new("", |settings| *settings = config.pool);
    for (letter, tier) in [('a', Tier::Pro), ('b', Tier::Ultra), ('c', Tier::Free)] {
        let mut account = record(letter);
        account.tier = tier;
        desk.add(account);
    }
    desk
}

fn told(desk: &Desk, reply: Result<Reply, lessor::pool::Refusal>) -> String {
    match reply {
        Ok(Reply::Held(fence)) => desk.on(fence).to_string(),
        Ok(Reply::Queued(_)) => "waits".to_owned(),
        other => format!("{:?}", other.map_err(|refusal| refusal.kind)),
    }
}

/// Seven requests at once, as far as anybody waits.
fn crowd(desk: &mut Desk) -> String {
    let outcomes: Vec<String> = (0..7)
        .map(|n| {
            let reply = desk.acquire(LeaseRequest { wait: None, ..ask(n) });
            told(desk, reply)
        })
        .collect();
    outcomes.join(" ")
}

/// One after the other, each given back before the next.
fn in_turn(desk: &mut Desk) -> String {
    (0..6)
        .map(|n| {
            desk.pass(secs(1));
            desk.peek(ask(n))
        })
        .collect()
}

/// What processes get that come one after the other.
fn processes(desk: &mut Desk) -> String {
    (10..14).map(|pid| desk.take(by(pid))).collect()
}

/// The same process again, after half a minute.
fn again(desk: &mut Desk) -> String {
    let first = desk.hold(by(7));
    desk.release(first);
    let other = desk.hold(by(8));
    desk.release(other);
    desk.pass(secs(30));
    let third = desk.take(by(7));
    third.to_string()
}

/// A conversation that comes back after half an hour, when its account is not the obvious one any more.
fn conversation(desk: &mut Desk) -> String {
    let first = desk.hold(in_session("s"));
    let on = desk.on(first);
    desk.release(first);
    desk.pass(secs(1800));
    for n in 1..=3 {
        desk.peek(ask(n));
    }
    format!("{on} {}", desk.peek(in_session("s")) == on)
}

/// A conversation whose account is limited for 50 s.
fn conversation_limited(desk: &mut Desk) -> String {
    let first = desk.hold(in_session("s"));
    let on = desk.on(first);
    desk.release(first);
    desk.block(on, secs(50));
    let reply = desk.acquire(LeaseRequest { wait: None, ..in_session("s") });
    told(desk, reply)
}

/// How long a lease bound to nothing lives.
fn life(desk: &mut Desk) -> String {
    let fence = desk.hold(LeaseRequest { bind: Bind::Ttl, ..ask(1) });
    let lives = |desk: &Desk| desk.pool.lease(fence).is_some();
    let mut lived = 0;
    while lives(desk) && lived < 100 {
        desk.pass(secs(60));
        lived += 1;
    }
    lived.to_string()
}

/// Who comes right after an unclean restart.
fn after_a_crash(desk: &mut Desk) -> String {
    desk.restart(true);
    let reply = desk.acquire(LeaseRequest { wait: None, ..ask(1) });
    told(desk, reply)
}

/// How long a request waits that does not say.
fn patience(desk: &mut Desk) -> String {
    for letter in ['a', 'b', 'c'] {
        desk.block(letter, secs(120));
    }
    let reply = desk.acquire(LeaseRequest { wait: None, ..ask(1) });
    told(desk, reply)
}

/// Failures of one kind in a row, each after the limit of the one before; how long each lasts.
fn failures(desk: &mut Desk, reason: Reason, pause: Duration) -> String {
    let mut waits = Vec::new();
    for _ in 0..3 {
        let fence = desk.hold(LeaseRequest { account: Some("a".into()), ..ask(1) });
        desk.report(fence, reason, None);
        let wait = desk.limited_for('a').unwrap_or_default();
        waits.push(format!("{wait:?}"));
        desk.run(Command::ConnectionClosed(ask(1).connection)).unwrap();
        desk.pass(wait + pause);
    }
    waits.join(" ")
}

fn quota(desk: &mut Desk) -> String {
    failures(desk, Reason::QuotaExhausted, secs(1))
}

fn quota_hours_apart(desk: &mut Desk) -> String {
    failures(desk, Reason::QuotaExhausted, secs(7000))
}

fn rate(desk: &mut Desk) -> String {
    failures(desk, Reason::RateLimitExceeded, secs(1))
}

fn unknown(desk: &mut Desk) -> String {
    failures(desk, Reason::Unknown, secs(1))
}

/// What a holder is told of a failure of the service, with nobody else to go to.
fn service(desk: &mut Desk, reason: Reason) -> String {
    let fence = desk.hold(LeaseRequest { account: Some("a".into()), ..ask(1) });
    let Decision { action, after, .. } = desk.report(fence, reason, None);
    format!("{action:?} {after:?} {:?}", desk.limited_for('a'))
}

fn capacity(desk: &mut Desk) -> String {
    service(desk, Reason::ModelCapacityExhausted)
}

fn server_error(desk: &mut Desk) -> String {
    service(desk, Reason::ServerError)
}

/// Two reports of one kind on one account, a second apart: one event or two.
fn two_reports(desk: &mut Desk) -> String {
    let fences = [1, 2].map(|n| desk.hold(LeaseRequest { account: Some("a".into()), ..ask(n) }));
    for fence in fences {
        desk.report(fence, Reason::QuotaExhausted, None);
        desk.pass(secs(1));
    }
    format!("{:?}", desk.limited_for('a'))
}

/// Two rate limits of one holder, a minute apart, as far as it stays.
fn first_limits(desk: &mut Desk) -> String {
    let fence = desk.hold(ask(1));
    let first = desk.report(fence, Reason::RateLimitExceeded, None);
    desk.pass(secs(60));
    let second = first.lease.is_none().then(|| desk.report(fence, Reason::RateLimitExceeded, None));
    format!("{:?} {:?} {:?}", first.action, first.after, second.map(|second| (second.action, second.after)))
}

/// Who is first when a is nearly used up.
fn nearly_used_up(desk: &mut Desk) -> String {
    desk.used('a', 0.8);
    desk.used('b', 0.1);
    in_turn(desk)
}

/// What happens to a holder of this account.
fn happens(desk: &mut Desk, account: char, outcome: Option<Reason>) {
    let fence = desk.hold(LeaseRequest { account: Some(account.to_string().into()), ..ask(1) });
    match outcome {
        None => drop(desk.run(Command::Report { fence, outcome: RequestOutcome::Ok }).unwrap()),
        Some(reason) => drop(desk.report(fence, reason, Some(secs(2)))),
    }
    desk.run(Command::ConnectionClosed(ask(1).connection)).unwrap();
    desk.pass(secs(3));
}

/// Who is chosen when a has been through this and rested so long, and b was used just now.
fn after(desk: &mut Desk, outcomes: &[Option<Reason>], rest: u64) -> String {
    for outcome in outcomes {
        happens(desk, 'a', *outcome);
    }
    desk.pass(secs(rest));
    desk.peek(LeaseRequest { account: Some("b".into()), ..ask(1) });
    desk.take(LeaseRequest { exclude: vec![id('c')], ..ask(2) }).to_string()
}

fn rate_limited_then_fine(desk: &mut Desk) -> String {
    after(desk, &[Some(Reason::RateLimitExceeded), None, None, None, None], 0)
}

fn rate_limited(desk: &mut Desk) -> String {
    after(desk, &[Some(Reason::RateLimitExceeded)], 50)
}

fn failed(desk: &mut Desk) -> String {
    after(desk, &[Some(Reason::Forbidden)], 70)
}

fn rate_limited_and_rested(desk: &mut Desk) -> String {
    after(desk, &[Some(Reason::RateLimitExceeded)], 400)
}

fn rate_limited_an_hour_ago(desk: &mut Desk) -> String {
    after(desk, &[Some(Reason::RateLimitExceeded)], 3600)
}

/// Two successes of a against one of b, which has rested longer.
fn better_than_good(desk: &mut Desk) -> String {
    happens(desk, 'b', None);
    desk.pass(secs(60));
    happens(desk, 'a', None);
    happens(desk, 'a', None);
    desk.take(LeaseRequest { exclude: vec![id('c')], ..ask(2) }).to_string()
}

/// Who serves when everybody's tokens run out, and after a minute's rest.
fn many(desk: &mut Desk) -> String {
    let mut chosen: String = (0..12).map(|n| desk.peek(ask(n))).collect();
    desk.pass(secs(60));
    chosen.extend((0..12).map(|n| desk.peek(ask(n))));
    chosen
}

/// An agent that is none of its vendor's.
fn stranger(desk: &mut Desk) -> String {
    (0..3)
        .map(|n| {
            let reply = desk.acquire(LeaseRequest { agent: Some("stranger".into()), ..ask(n) });
            told(desk, reply)
        })
        .collect()
}

/// A login with two quotas, on which pool a model starts, and where it goes when that is spent.
fn pools(desk: &mut Desk) -> String {
    desk.add(AccountRecord { kind: CredentialKind::Oauth, provider: "google".into(), ..record('g') });
    let primary = desk.pool.settings().quota.primary;
    let target = Catalog::default().target("google", Some("gemini-3-flash"), None, primary).unwrap();
    let ask = || LeaseRequest { target: target.clone(), ..ask(1) };
    let first = desk.hold(ask());
    let lease = desk.pool.lease(first).unwrap();
    let (start, key) = (lease.target.pool.clone(), lease.target.key.clone());
    desk.release(first);
    desk.limit('g', Scope::Pool, &key, Deadline::Mono(desk.now.mono.after(secs(9))));
    let second = desk.acquire(ask());
    format!("{start:?} {}", told(desk, second))
}

/// A model whose account is nearly spent.
fn reserved(desk: &mut Desk) -> String {
    desk.used('a', 0.95);
    let ask = LeaseRequest { target: target("k", Some("opus")), account: Some("a".into()), ..ask(1) };
    let reply = desk.acquire(ask);
    told(desk, reply)
}

fn rows() -> Vec<Row> {
    let fail = "leases.overflow = \"fail\"";
    let cache_first = "selection.mode = \"cache-first\"";
    let one = "accounts.b.enabled = false\naccounts.c.enabled = false";
    let stay = "limits.switch_on_first_rate_limit = false";
    // so that health alone decides
    let full_buckets = "selection.tokens.max = 1000000\nselection.tokens.initial = 1000000";
    let weak = "selection.tokens.max = 1000000\nselection.tokens.initial = 1000000\nselection.health.rate_limit = -60";
    let strong = "selection.tokens.max = 1000000\nselection.tokens.initial = 1000000\nselection.health.success = 30";
    vec![
        ("leases.per_account", fail, ["1", "2"], crowd),
        ("leases.overflow", "", ["\"share\"", "\"wait\""], crowd),
        ("leases.max_per_account", "", ["2", "16"], crowd),
        ("leases.ttl", "", ["\"5m\"", "\"10m\""], life),
        ("leases.grace", "", ["\"0s\"", "\"2s\""], after_a_crash),
        ("selection.strategy", "", ["\"sticky\"", "\"round-robin\""], in_turn),
        ("selection.mode", "", ["\"balance\"", "\"cache-first\""], conversation_limited),
        ("selection.preferred_account", "", ["\"\"", "\"c\""], in_turn),
        ("selection.pid_offset", "", ["false", "true"], processes),
        ("selection.max_cache_wait", cache_first, ["\"20s\"", "\"60s\""], conversation_limited),
        ("selection.session_ttl", "selection.strategy = \"round-robin\"", ["\"10m\"", "\"1h\""], conversation),
        ("selection.reuse_window", "selection.strategy = \"round-robin\"", ["\"10s\"", "\"60s\""], again),
        ("selection.tier_first", "", ["false", "true"], in_turn),
        ("selection.health.initial", full_buckets, ["55", "75"], rate_limited_and_rested),
        ("selection.health.success", full_buckets, ["0", "30"], rate_limited_then_fine),
        ("selection.health.rate_limit", full_buckets, ["-1", "-60"], rate_limited),
        ("selection.health.failure", full_buckets, ["-1", "-60"], failed),
        ("selection.health.recovery_per_hour", weak, ["0", "60"], rate_limited_an_hour_ago),
        ("selection.health.min_usable", full_buckets, ["10", "65"], rate_limited_and_rested),
        ("selection.health.max", strong, ["70", "1000"], better_than_good),
        ("selection.tokens.max", "", ["5", "50"], many),
        ("selection.tokens.initial", "", ["2", "50"], many),
        ("selection.tokens.per_minute", "selection.tokens.initial = 3", ["0", "6"], many),
        ("limits.switch_on_first_rate_limit", "", ["true", "false"], first_limits),
        ("limits.max_rate_limit_wait", "", ["\"1m\"", "\"5m\""], patience),
        ("limits.quota_backoff", one, ["[\"1m\", \"5m\"]", "[\"2m\"]"], quota),
        ("limits.rate_limit_backoff", "", ["\"30s\"", "\"40s\""], rate),
        ("limits.capacity_backoff", one, ["\"15s\"", "\"25s\""], capacity),
        ("limits.server_error_backoff", one, ["\"20s\"", "\"25s\""], server_error),
        ("limits.unknown_backoff", "", ["\"60s\"", "\"70s\""], unknown),
        ("limits.dedup_window", "", ["\"2s\"", "\"100ms\""], two_reports),
        ("limits.reset_after", stay, ["\"10s\"", "\"2m\""], first_limits),
        ("limits.quota_failure_ttl", one, ["\"1h\"", "\"3h\""], quota_hours_apart),
        ("limits.retry_delay", stay, ["\"1s\"", "\"3s\""], first_limits),
        ("quota.primary", "", ["\"antigravity\"", "\"gemini-cli\""], pools),
        ("quota.fallback", "", ["\"off\"", "\"accounts-first\""], pools),
        ("quota.protect", "", ["[]", "[{ models = [\"opus*\"], below = 0.1 }]"], reserved),
        ("quota.soft_threshold", "", ["0.7", "0.9"], nearly_used_up),
        ("accounts.a.enabled", "", ["true", "false"], crowd),
        ("accounts.a.max_leases", fail, ["1", "3"], crowd),
        ("accounts.a.priority", "", ["0", "-5"], in_turn),
        ("accounts.a.use", "", ["[\"any\"]", "[\"claude\"]"], stranger),
    ]
}

#[test]
fn what_a_scene_does_not_name_it_does_not_need() {
    // two runs of one scene are the same, or the comparison above would show nothing
    for (key, base, [value, _], scene) in rows() {
        let text = format!("{base}\n{key} = {value}");
        assert_eq!(scene(&mut desk(&text)), scene(&mut desk(&text)), "{key}");
    }
}
