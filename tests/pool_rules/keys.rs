//! Every key that is said to be active changes what happens: one scene for each, played with two values.

use std::path::Path;
use std::time::Duration;

use lessor::config::{Config, KEYS};
use lessor::limits::{Reason, Scope};
use lessor::pool::{
    AccountRecord, AccountSet, Attestation, Bind, Command, CredentialKind, Deadline, Decision, Holder, InFlight,
    LeaseRequest, Reply, RequestOutcome, Tier, TurnTicket,
};
use lessor::provider::Catalog;

use crate::fixture::{Fixture, ask, by, id, in_session, record, secs, target};

/// What is seen of a scene.
type Scene = fn(&mut Fixture) -> String;

/// A key, what both configurations share, its two values, the scene that tells them apart.
type Row = (&'static str, &'static str, [&'static str; 2], Scene);

/// Beginnings of active keys that the pool knows nothing of, or that concern other hosts; `tests/daemon`, `tests/gateway`
/// and `tests/shared_pool` play theirs.
const ELSEWHERE: [&str; 16] = [
    "agents.",
    "daemon.log",
    "daemon.idle_exit",
    "gateway.",
    "history.",
    "join.",
    "limits.max_attempts",
    "notify.",
    "pool.",
    "prices.",
    "providers.",
    "quota.poll",
    "refresh.",
    "telemetry.",
    "secrets.",
    "share.",
];

#[test]
fn every_active_key_changes_what_happens() {
    let (rows, mut idle) = (rows(), Vec::new());
    for key in KEYS.iter().filter(|key| !ELSEWHERE.iter().any(|elsewhere| key.key.starts_with(elsewhere))) {
        let name = key.key.replace('*', "a");
        let (_, base, values, scene) =
            rows.iter().find(|row| row.0 == name).unwrap_or_else(|| panic!("no scene shows what `{name}` does"));
        let [one, other] = values.map(|value| scene(&mut fixture(&format!("{base}\n{name} = {value}"))));
        if one == other {
            idle.push(format!("`{name}` makes no difference between {values:?}: {one}"));
        }
    }
    assert!(idle.is_empty(), "{}", idle.join("\n"));
}

/// Accounts a (pro), b (ultra) and c (free) under this configuration.
fn fixture(text: &str) -> Fixture {
    let config = Config::parse(text, Path::new("config.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    let mut fixture = Fixture::new("", |settings| *settings = config.pool);
    for (letter, tier) in [('a', Tier::Pro), ('b', Tier::Ultra), ('c', Tier::Free)] {
        let mut account = record(letter);
        account.tier = tier;
        fixture.add(account);
    }
    fixture
}

fn told(fixture: &Fixture, reply: Result<Reply, lessor::pool::Refusal>) -> String {
    match reply {
        Ok(Reply::Held(fence)) => fixture.on(fence).to_string(),
        Ok(Reply::Queued(_)) => "waits".to_owned(),
        other => format!("{:?}", other.map_err(|refusal| refusal.kind)),
    }
}

/// Seven requests at once, as far as any wait.
fn crowd(fixture: &mut Fixture) -> String {
    let outcomes: Vec<String> = (0..7)
        .map(|n| {
            let reply = fixture.acquire(LeaseRequest { wait: None, ..ask(n) });
            told(fixture, reply)
        })
        .collect();
    outcomes.join(" ")
}

/// One after the other, each given back before the next.
fn in_turn(fixture: &mut Fixture) -> String {
    (0..6)
        .map(|n| {
            fixture.pass(secs(1));
            fixture.peek(ask(n))
        })
        .collect()
}

/// What processes get that come one after the other.
fn processes(fixture: &mut Fixture) -> String {
    (10..14).map(|pid| fixture.take(by(pid))).collect()
}

/// The same process again, after half a minute.
fn again(fixture: &mut Fixture) -> String {
    let first = fixture.hold(by(7));
    fixture.release(first);
    let other = fixture.hold(by(8));
    fixture.release(other);
    fixture.pass(secs(30));
    let third = fixture.take(by(7));
    third.to_string()
}

/// A conversation that comes back after half an hour, when its account is not the obvious one any more.
fn conversation(fixture: &mut Fixture) -> String {
    let first = fixture.hold(in_session("s"));
    let on = fixture.on(first);
    fixture.release(first);
    fixture.pass(secs(1800));
    for n in 1..=3 {
        fixture.peek(ask(n));
    }
    format!("{on} {}", fixture.peek(in_session("s")) == on)
}

/// A conversation whose account is limited for 50 s.
fn conversation_limited(fixture: &mut Fixture) -> String {
    let first = fixture.hold(in_session("s"));
    let on = fixture.on(first);
    fixture.release(first);
    fixture.block(on, secs(50));
    let reply = fixture.acquire(LeaseRequest { wait: None, ..in_session("s") });
    told(fixture, reply)
}

/// How long a lease bound to nothing lives.
fn life(fixture: &mut Fixture) -> String {
    let fence = fixture.hold(LeaseRequest { bind: Bind::Ttl, ..ask(1) });
    let lives = |fixture: &Fixture| fixture.pool.lease(fence).is_some();
    let mut lived = 0;
    while lives(fixture) && lived < 100 {
        fixture.pass(secs(60));
        lived += 1;
    }
    lived.to_string()
}

/// Who comes right after an unclean restart.
fn after_a_crash(fixture: &mut Fixture) -> String {
    fixture.restart(true);
    let reply = fixture.acquire(LeaseRequest { wait: None, ..ask(1) });
    told(fixture, reply)
}

/// How long a request waits that does not say.
fn patience(fixture: &mut Fixture) -> String {
    for letter in ['a', 'b', 'c'] {
        fixture.block(letter, secs(120));
    }
    let reply = fixture.acquire(LeaseRequest { wait: None, ..ask(1) });
    told(fixture, reply)
}

/// Failures of one kind in a row, each after the limit of the one before; how long each lasts.
fn failures(fixture: &mut Fixture, reason: Reason, pause: Duration) -> String {
    let mut waits = Vec::new();
    // different requests: one alone may itself be at fault
    for n in 1..=3 {
        let fence = fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(n) });
        fixture.report(fence, reason, None);
        let wait = fixture.limited_for('a').unwrap_or_default();
        waits.push(format!("{wait:?}"));
        fixture.run(Command::ConnectionClosed(ask(n).connection)).unwrap();
        fixture.pass(wait + pause);
    }
    waits.join(" ")
}

fn quota(fixture: &mut Fixture) -> String {
    failures(fixture, Reason::QuotaExhausted, secs(1))
}

fn quota_hours_apart(fixture: &mut Fixture) -> String {
    failures(fixture, Reason::QuotaExhausted, secs(7000))
}

fn rate(fixture: &mut Fixture) -> String {
    failures(fixture, Reason::RateLimitExceeded, secs(1))
}

fn unknown(fixture: &mut Fixture) -> String {
    failures(fixture, Reason::Unknown, secs(1))
}

/// The decision after a service failure, without another account.
fn service(fixture: &mut Fixture, reason: Reason) -> String {
    let fence = fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(1) });
    let Decision { action, after, .. } = fixture.report(fence, reason, None);
    format!("{action:?} {after:?} {:?}", fixture.limited_for('a'))
}

fn capacity(fixture: &mut Fixture) -> String {
    service(fixture, Reason::ModelCapacityExhausted)
}

fn server_error(fixture: &mut Fixture) -> String {
    service(fixture, Reason::ServerError)
}

/// Two reports of one kind on one account, three seconds apart: one event or two.
fn two_reports(fixture: &mut Fixture) -> String {
    for n in [1, 2] {
        let fence = fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(n) });
        fixture.report(fence, Reason::RateLimitExceeded, Some(secs(2)));
        fixture.pass(secs(3));
    }
    let health = &fixture.pool.settings().selection.health;
    format!("{}", fixture.pool.account(id('a')).unwrap().health(health, fixture.now.mono))
}

/// Two rate limits of one holder, a minute apart, as far as it stays.
fn first_limits(fixture: &mut Fixture) -> String {
    let fence = fixture.hold(ask(1));
    let first = fixture.report(fence, Reason::RateLimitExceeded, None);
    fixture.pass(secs(60));
    let second = first.lease.is_none().then(|| fixture.report(fence, Reason::RateLimitExceeded, None));
    format!("{:?} {:?} {:?}", first.action, first.after, second.map(|second| (second.action, second.after)))
}

/// Where a conversation continues after a request that was paid for beyond the plan.
fn paid_for(fixture: &mut Fixture) -> String {
    let fence = fixture.hold(in_session("s"));
    let on = fixture.on(fence);
    fixture.run(Command::Report { fence, outcome: RequestOutcome::Overage(None) }).unwrap();
    fixture.release(fence);
    format!("{}", fixture.peek(in_session("s")) == on)
}

/// Who is first when a is nearly used up.
fn nearly_used_up(fixture: &mut Fixture) -> String {
    fixture.used('a', 0.8);
    fixture.used('b', 0.1);
    in_turn(fixture)
}

/// What happens to a holder of this account.
fn happens(fixture: &mut Fixture, account: char, outcome: Option<Reason>) {
    let fence = fixture.hold(LeaseRequest { account: Some(account.to_string().into()), ..ask(1) });
    match outcome {
        None => drop(fixture.run(Command::Report { fence, outcome: RequestOutcome::Ok }).unwrap()),
        Some(reason) => drop(fixture.report(fence, reason, Some(secs(2)))),
    }
    fixture.run(Command::ConnectionClosed(ask(1).connection)).unwrap();
    fixture.pass(secs(3));
}

/// Who is chosen when a has been through this and rested so long, and b was used just now.
fn after(fixture: &mut Fixture, outcomes: &[Option<Reason>], rest: u64) -> String {
    for outcome in outcomes {
        happens(fixture, 'a', *outcome);
    }
    fixture.pass(secs(rest));
    fixture.peek(LeaseRequest { account: Some("b".into()), ..ask(1) });
    fixture.take(LeaseRequest { exclude: vec![id('c')], ..ask(2) }).to_string()
}

fn rate_limited_then_fine(fixture: &mut Fixture) -> String {
    after(fixture, &[Some(Reason::RateLimitExceeded), None, None, None, None], 0)
}

fn rate_limited(fixture: &mut Fixture) -> String {
    after(fixture, &[Some(Reason::RateLimitExceeded)], 50)
}

fn failed(fixture: &mut Fixture) -> String {
    after(fixture, &[Some(Reason::Forbidden)], 70)
}

fn rate_limited_and_rested(fixture: &mut Fixture) -> String {
    after(fixture, &[Some(Reason::RateLimitExceeded)], 400)
}

fn rate_limited_an_hour_ago(fixture: &mut Fixture) -> String {
    after(fixture, &[Some(Reason::RateLimitExceeded)], 3600)
}

/// Two successes of a against one of b, which has rested longer.
fn better_than_good(fixture: &mut Fixture) -> String {
    happens(fixture, 'b', None);
    fixture.pass(secs(60));
    happens(fixture, 'a', None);
    happens(fixture, 'a', None);
    fixture.take(LeaseRequest { exclude: vec![id('c')], ..ask(2) }).to_string()
}

/// Who serves when the tokens of all accounts run out, and after an idle minute.
fn many(fixture: &mut Fixture) -> String {
    let mut chosen: String = (0..12).map(|n| fixture.peek(ask(n))).collect();
    fixture.pass(secs(60));
    chosen.extend((0..12).map(|n| fixture.peek(ask(n))));
    chosen
}

/// An agent that is none of its vendor's.
fn stranger(fixture: &mut Fixture) -> String {
    (0..3)
        .map(|n| {
            let reply = fixture.acquire(LeaseRequest { agent: Some("stranger".into()), ..ask(n) });
            told(fixture, reply)
        })
        .collect()
}

/// A program that claims to be an agent and is another one, for the agent's account.
fn pretender(fixture: &mut Fixture) -> String {
    let attested = Attestation::Differs("/usr/bin/python3".into());
    let reply = fixture.acquire(LeaseRequest {
        agent: Some("claude".into()),
        account: Some("a".into()),
        holder: Holder { attested, ..Holder::default() },
        ..ask(1)
    });
    told(fixture, reply)
}

/// A login with two quotas, on which pool a model starts, and where it goes when that is spent.
fn pools(fixture: &mut Fixture) -> String {
    fixture.add(AccountRecord { kind: CredentialKind::Oauth, provider: "google".into(), ..record('g') });
    let primary = fixture.pool.settings().quota.primary;
    let target = Catalog::default().target("google", Some("gemini-3-flash"), None, primary).unwrap();
    let ask = || LeaseRequest { target: target.clone(), ..ask(1) };
    let first = fixture.hold(ask());
    let lease = fixture.pool.lease(first).unwrap();
    let (start, key) = (lease.target.pool.clone(), lease.target.key.clone());
    fixture.release(first);
    fixture.limit('g', Scope::Pool, &key, Deadline::Mono(fixture.now.mono.after(secs(9))));
    let second = fixture.acquire(ask());
    format!("{start:?} {}", told(fixture, second))
}

/// One that does not name a partly used account.
fn part_used(fixture: &mut Fixture) -> String {
    fixture.used('a', 0.8);
    let reply = fixture.acquire(LeaseRequest { exclude: vec![id('b'), id('c')], ..ask(1) });
    told(fixture, reply)
}

/// One more than there are other accounts.
fn two_of_one_account(fixture: &mut Fixture) -> String {
    let held: Vec<char> = (0..3).map(|n| fixture.take(ask(n))).collect();
    held.contains(&'a').to_string()
}

/// One whose holder works in a directory.
fn started_in_a_directory(fixture: &mut Fixture) -> String {
    let directory = fixture.pool.settings().directories[0].paths[0].as_str().into();
    let set = AccountSet { only: None, directory: Some(directory) };
    fixture.peek(LeaseRequest { set, ..ask(1) }).to_string()
}

/// A model whose account is nearly spent.
fn reserved(fixture: &mut Fixture) -> String {
    fixture.used('a', 0.95);
    let ask = LeaseRequest { target: target("k", Some("opus")), account: Some("a".into()), ..ask(1) };
    let reply = fixture.acquire(ask);
    told(fixture, reply)
}

/// How many of five requests with one key begin at once, on each of two accounts.
fn requests_of_one_key(fixture: &mut Fixture) -> String {
    let mut in_flight = InFlight::new(&fixture.pool.settings().leases);
    let begin = |ticket: u64| {
        let account = id(if ticket.is_multiple_of(2) { 'a' } else { 'b' });
        in_flight.begin(TurnTicket { ticket, key: Some(1) }, account, fixture.now.mono).0
    };
    format!("{:?}", (0..10).map(begin).collect::<Vec<_>>())
}

/// Whether a sub-agent is to be with its parent.
fn with_parent(fixture: &mut Fixture) -> String {
    let in_flight = InFlight::new(&fixture.pool.settings().leases);
    format!("{:?}", fixture.pool.apart_from_parent(fixture.now, id('a'), &ask(0).target, &in_flight))
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
        ("leases.max_in_flight", "", ["0", "2"], requests_of_one_key),
        ("leases.max_in_flight_per_key", "", ["0", "3"], requests_of_one_key),
        ("selection.strategy", "", ["\"sticky\"", "\"round-robin\""], in_turn),
        ("selection.mode", "", ["\"balance\"", "\"cache-first\""], conversation_limited),
        ("selection.preferred_account", "", ["\"\"", "\"c\""], in_turn),
        ("selection.pid_offset", "", ["false", "true"], processes),
        ("selection.max_cache_wait", cache_first, ["\"20s\"", "\"60s\""], conversation_limited),
        ("selection.session_ttl", "selection.strategy = \"round-robin\"", ["\"10m\"", "\"1h\""], conversation),
        ("selection.reuse_window", "selection.strategy = \"round-robin\"", ["\"10s\"", "\"60s\""], again),
        ("selection.tier_first", "", ["false", "true"], in_turn),
        ("selection.subagents", "", ["\"auto\"", "\"spread\""], with_parent),
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
        ("limits.dedup_window", "", ["\"2s\"", "\"10s\""], two_reports),
        ("limits.reset_after", stay, ["\"10s\"", "\"2m\""], first_limits),
        ("limits.quota_failure_ttl", one, ["\"1h\"", "\"3h\""], quota_hours_apart),
        ("limits.retry_delay", stay, ["\"1s\"", "\"3s\""], first_limits),
        ("quota.primary", "", ["\"antigravity\"", "\"gemini-cli\""], pools),
        ("quota.fallback", "", ["\"off\"", "\"accounts-first\""], pools),
        ("quota.protect", "", ["[]", "[{ models = [\"opus*\"], below = 0.1 }]"], reserved),
        ("quota.overage", "", ["\"avoid\"", "\"allow\""], paid_for),
        ("quota.soft_threshold", "", ["0.7", "0.9"], nearly_used_up),
        ("accounts.a.enabled", "", ["true", "false"], crowd),
        ("accounts.a.max_leases", fail, ["1", "3"], crowd),
        ("accounts.a.priority", "", ["0", "-5"], in_turn),
        ("accounts.a.use", "", ["[\"any\"]", "[\"claude\"]"], stranger),
        ("accounts.a.reserve", "", ["0.1", "0.3"], part_used),
        ("accounts.a.fallback_only", "", ["false", "true"], two_of_one_account),
        ("directories.a.accounts", "", ["[\"b\"]", "[\"c\"]"], started_in_a_directory),
        ("accounts.a.attest", "accounts.a.use = [\"claude\"]", ["\"declared\"", "\"strict\""], pretender),
    ]
}

#[test]
fn every_scene_depends_only_on_the_keys_it_names() {
    // two runs of one scene are the same, or the comparison above would show nothing
    for (key, base, [value, _], scene) in rows() {
        let text = format!("{base}\n{key} = {value}");
        assert_eq!(scene(&mut fixture(&text)), scene(&mut fixture(&text)), "{key}");
    }
}
