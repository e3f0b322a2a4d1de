//! The merging of limits (I8), clearings, usage and duties.

use std::time::Duration;

use lessor::limits::{Reason, Scope};
use lessor::pool::{LimitRecord, LimitSource, Usage, Wall, Window};
use lessor::shared_pool::{PoolClient, ProbeClaim, SharedLimit};

use crate::harness::{LIFE, add, hard, id, with_pool};

fn limit(until: u64, source: LimitSource, since: Option<u64>) -> LimitRecord {
    LimitRecord {
        account: id(1),
        key: "claude".to_owned(),
        scope: Scope::Pool,
        reason: Reason::RateLimitExceeded,
        until: Wall(until),
        source,
        since: since.map(Wall),
        evidence: Some("429".into()),
        link: None,
    }
}

/// Until when the limit lasts, if there is one; and whether it was cleared.
async fn found(host: &PoolClient) -> (Option<u64>, bool) {
    let limits = host.news(None, None).await.unwrap().limits;
    let set = limits.iter().find_map(|limit| match limit {
        SharedLimit::Set(limit) => Some(limit.until.0),
        SharedLimit::Cleared { .. } => None,
    });
    (set, limits.iter().any(|limit| matches!(limit, SharedLimit::Cleared { .. })))
}

#[test]
fn limits_are_merged_as_the_pool_does() {
    use LimitSource::{Report, Server, Table};
    with_pool(hard(1), async |pool| {
        let host = pool.first().await;
        add(&host, 1).await;
        let now = host.pool_info().await.unwrap().db_time.0;
        let root = pool.root().await;
        let minute = 60_000;
        // (known, newer, whether the newer one is taken): ends in minutes from now
        let rows = [
            ((10_i64, Table), (20_i64, Table), true),
            ((20, Table), (10, Table), false),
            ((20, Table), (20, Table), false),
            // what was stated replaces a guess, even a longer one
            ((20, Table), (10, Server), true),
            ((20, Table), (10, Report), true),
            ((10, Server), (20, Table), false),
            ((10, Server), (20, Server), true),
            ((20, Server), (10, Server), false),
            ((20, Server), (10, Report), false),
            ((10, Report), (20, Server), true),
            // one that has ended is replaced
            ((-10, Server), (5, Table), true),
            // one that has ended already is not set
            ((10, Table), (-5, Server), false),
        ];
        for (at, ((known, known_source), (newer, newer_source), taken)) in rows.into_iter().enumerate() {
            root.batch_execute("delete from lessor.account_limit").await.unwrap();
            let end = |minutes: i64| now.checked_add_signed(minutes * minute).unwrap();
            // as long as it holds it can be set
            assert!(host.set_limit(&limit(end(known.abs()), known_source, Some(now))).await.unwrap(), "row {at}");
            if known < 0 {
                let ended = i64::try_from(end(known)).unwrap();
                root.execute("update lessor.account_limit set until = $1", &[&ended]).await.unwrap();
            }
            assert_eq!(host.set_limit(&limit(end(newer), newer_source, Some(now))).await.unwrap(), taken, "row {at}");
            let expected = if taken { newer } else { known };
            assert_eq!(found(&host).await, (Some(end(expected)).filter(|_| expected > 0), false), "row {at}");
        }
        let unknown = LimitRecord { account: id(99), ..limit(now + 1_000_000, Server, None) };
        assert!(!host.set_limit(&unknown).await.unwrap(), "an account that the pool has not");
    });
}

#[test]
fn what_was_cleared_does_not_come_back() {
    with_pool(hard(1), async |pool| {
        let host = pool.first().await;
        let account = add(&host, 1).await;
        let now = host.pool_info().await.unwrap().db_time.0;
        let until = now + 3_600_000;
        let early = limit(until, LimitSource::Server, Some(now - 10));
        assert!(host.set_limit(&early).await.unwrap());
        host.clear_limit(account, Some((Scope::Pool, "claude")), None).await.unwrap();
        assert_eq!(found(&host).await, (None, true));
        assert!(!host.set_limit(&early).await.unwrap(), "set before the clearing");
        // a clock that is ahead does not help it: it counts as set now, which is later
        let later = host.pool_info().await.unwrap().db_time.0 + 1;
        assert!(host.set_limit(&limit(until, LimitSource::Table, Some(later + 1_000_000))).await.unwrap());
        assert_eq!(found(&host).await, (Some(until), false), "set after it");
        // all of an account, also what no host has sent yet
        host.clear_limit(account, None, None).await.unwrap();
        let other = LimitRecord { key: "other".to_owned(), ..early.clone() };
        assert!(!host.set_limit(&other).await.unwrap());
        assert!(!host.set_limit(&early).await.unwrap());
        let cleared = host.news(None, None).await.unwrap().limits;
        assert!(cleared.iter().any(|limit| matches!(limit, SharedLimit::Cleared { which: None, .. })), "{cleared:?}");
        assert!(host.set_limit(&limit(until, LimitSource::Server, None)).await.unwrap());
        assert_eq!(found(&host).await.0, Some(until));
    });
}

#[test]
fn a_limit_is_news_for_others_at_once() {
    with_pool(hard(1), async |pool| {
        let host = pool.first().await;
        let account = add(&host, 1).await;
        let (_other, mut notices) = PoolClient::connect(&pool.address_of(&pool.first_user)).await.unwrap();
        let position = host.news(None, None).await.unwrap().position;
        let now = host.pool_info().await.unwrap().db_time.0;
        let sent = limit(now + 60_000, LimitSource::Server, Some(now));
        host.set_limit(&sent).await.unwrap();
        let notice = tokio::time::timeout(Duration::from_secs(30), notices.next()).await.unwrap().unwrap();
        assert_eq!((notice.kind, notice.account), (lessor::shared_pool::PoolNoticeKind::Limit, Some(account)));
        assert_eq!(host.news(Some(position), None).await.unwrap().limits, [SharedLimit::Set(sent)]);
    });
}

#[test]
fn usage_is_merged_window_by_window() {
    with_pool(hard(1), async |pool| {
        let host = pool.first().await;
        let account = add(&host, 1).await;
        let window = |name: &str, utilization: f64, as_of: u64| Window {
            name: name.to_owned(),
            utilization,
            resets_at: Some(Wall(9_000_000_000_000)),
            as_of: Wall(as_of),
            key: "claude".to_owned(),
        };
        let set = async |windows: Vec<Window>| host.set_usage(account, &Usage::from(windows), Wall(50)).await.unwrap();
        set(vec![window("5h", 0.1, 10), window("7d", 0.2, 10)]).await;
        set(vec![window("5h", 0.3, 20)]).await;
        set(vec![window("7d", 0.9, 5), window("7d", 0.8, 4)]).await;
        let news = host.news(None, None).await.unwrap();
        let mut windows = news.usage[0].usage.windows.clone();
        windows.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(windows, [window("5h", 0.3, 20), window("7d", 0.2, 10)]);
        assert_eq!((news.usage.len(), news.usage[0].account), (1, account));
    });
}

#[test]
fn one_host_reads_the_usage() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let (b, _, _) = pool.join("b", false, false).await;
        let account = add(&a, 1).await;
        let (ta, tb) = (a.begin_term(LIFE).await.unwrap(), b.begin_term(LIFE).await.unwrap());
        let hour = Duration::from_secs(3600);
        let (first, second) = tokio::join!(a.claim_reading(ta, account, hour), b.claim_reading(tb, account, hour));
        assert_ne!(first.unwrap(), second.unwrap());
        assert!(!a.claim_reading(ta, account, hour).await.unwrap());
        assert!(!b.claim_reading(tb, account, hour).await.unwrap());
        assert!(b.claim_reading(ta, account, hour).await.is_err(), "another host's term");
    });
}

#[test]
fn one_host_probes_an_account_until_it_gives_that_up_or_its_term_or_time_is_over() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let (b, _, _) = pool.join("b", false, false).await;
        let account = add(&a, 1).await;
        let (ta, tb) = (a.begin_term(LIFE).await.unwrap(), b.begin_term(LIFE).await.unwrap());
        let limits = [(Scope::Pool, "claude".to_owned())];
        let hour = Duration::from_secs(3600);
        let by_a = async |lasts| a.claim_probe(ta, account, &limits, lasts).await.unwrap();
        let by_b = async |lasts| b.claim_probe(tb, account, &limits, lasts).await.unwrap();
        let (first, second) = tokio::join!(by_a(hour), by_b(hour));
        let is_ours = |claim: &ProbeClaim| matches!(claim, ProbeClaim::Claimed(_));
        assert!(is_ours(&first) != is_ours(&second), "{first:?} and {second:?}");
        let ((ProbeClaim::Claimed(end), _) | (_, ProbeClaim::Claimed(end))) = (first.clone(), second) else { panic!() };
        let (holder, term) = if is_ours(&first) { (&a, ta) } else { (&b, tb) };
        holder.end_probe(term, account, end).await.unwrap();
        // the host that has it gets it again; what ends the earlier claim does not end this one
        let ProbeClaim::Claimed(early) = by_a(hour).await else { panic!("it was given up") };
        let ProbeClaim::Claimed(late) = by_a(hour).await else { panic!("it is this host's") };
        a.end_probe(ta, account, early).await.unwrap();
        assert_eq!(by_b(hour).await, ProbeClaim::Held);
        b.end_probe(tb, account, late).await.unwrap();
        assert_eq!(by_b(hour).await, ProbeClaim::Held, "only its host ends it");
        // with its term the duty ends
        a.end_term(ta, LIFE).await.unwrap();
        assert!(is_ours(&by_b(Duration::ZERO).await));
        let ta = a.begin_term(LIFE - 1).await.unwrap();
        assert!(is_ours(&a.claim_probe(ta, account, &limits, hour).await.unwrap()), "its time is over");
        assert!(b.claim_probe(ta, account, &limits, hour).await.is_err(), "another host's term");
    });
}

#[test]
fn who_has_not_heard_of_the_last_outcome_does_not_probe() {
    with_pool(hard(1), async |pool| {
        let host = pool.first().await;
        let account = add(&host, 1).await;
        let term = host.begin_term(LIFE).await.unwrap();
        let limits = [(Scope::Pool, "claude".to_owned()), (Scope::Account, String::new())];
        let claim = async || host.claim_probe(term, account, &limits, Duration::from_secs(60)).await.unwrap();
        let now = host.pool_info().await.unwrap().db_time.0;
        host.set_limit(&limit(now + 3_600_000, LimitSource::Server, Some(now))).await.unwrap();
        assert_eq!(claim().await, ProbeClaim::Limited);
        host.clear_limit(account, Some((Scope::Pool, "claude")), None).await.unwrap();
        assert_eq!(claim().await, ProbeClaim::Cleared(vec![limits[0].clone()]));
        // one whose time is over
        let root = pool.root().await;
        root.batch_execute("update lessor.account_limit set cleared_at = null, until = 1").await.unwrap();
        assert!(matches!(claim().await, ProbeClaim::Claimed(_)));
    });
}

#[test]
fn a_success_does_not_clear_what_was_learnt_after_it() {
    with_pool(hard(1), async |pool| {
        let host = pool.first().await;
        let account = add(&host, 1).await;
        let now = host.pool_info().await.unwrap().db_time.0;
        let until = now + 3_600_000;
        assert!(host.set_limit(&limit(until, LimitSource::Server, Some(now))).await.unwrap());
        let claude = Some((Scope::Pool, "claude"));
        host.clear_limit(account, claude, Some(Wall(now - 1))).await.unwrap();
        assert_eq!(found(&host).await, (Some(until), false));
        host.clear_limit(account, claude, Some(Wall(now))).await.unwrap();
        assert_eq!(found(&host).await, (None, true));
        host.clear_limit(account, None, Some(Wall(now - 1))).await.unwrap();
        assert_eq!(found(&host).await, (None, true), "an earlier clearing moves no later one back");
        assert!(!host.set_limit(&limit(until, LimitSource::Server, Some(now))).await.unwrap());
    });
}

/// A host may take it for older than the clearing, by its own clock.
#[test]
fn what_was_learnt_after_all_limits_were_cleared_is_news_after_the_clearing() {
    with_pool(hard(1), async |pool| {
        let host = pool.first().await;
        let account = add(&host, 1).await;
        let now = host.pool_info().await.unwrap().db_time.0;
        assert!(host.set_limit(&limit(now + 3_600_000, LimitSource::Server, Some(now))).await.unwrap());
        let read = pool.settled(&host).await;
        host.clear_limit(account, None, Some(Wall(now - 1))).await.unwrap();
        let news = host.news(Some(read), None).await.unwrap().limits;
        assert!(matches!(news[..], [SharedLimit::Cleared { which: None, .. }, SharedLimit::Set(_)]), "{news:?}");
    });
}

#[test]
fn a_stated_wait_that_is_over_when_it_comes_ends_the_guess_that_it_had_replaced() {
    with_pool(hard(1), async |pool| {
        let host = pool.first().await;
        add(&host, 1).await;
        let now = host.pool_info().await.unwrap().db_time.0;
        let guess = limit(now + 3_600_000, LimitSource::Table, Some(now - 5_000));
        assert!(host.set_limit(&guess).await.unwrap());
        for (since, source) in [(now - 9_000, LimitSource::Report), (now - 4_000, LimitSource::Table)] {
            assert!(!host.set_limit(&limit(now - 1, source, Some(since))).await.unwrap());
            assert_eq!(found(&host).await, (Some(now + 3_600_000), false), "it was older, or no stated one");
        }
        host.set_limit(&limit(now - 1, LimitSource::Report, Some(now - 4_000))).await.unwrap();
        assert_eq!(found(&host).await, (None, true));
    });
}
