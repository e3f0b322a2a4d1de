//! Many clients at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lessor::pool::Fence;
use lessor::shared_pool::{PoolClient, SeatClaim};

use crate::harness::{BETWEEN_LOOKS, LIFE, MOST_LOOKS, add, hard, with_pool};

/// A ledger outside of the database: who holds how many.
#[derive(Default)]
struct Ledger {
    held: u32,
    most: u32,
}

#[test]
fn eight_clients_never_hold_more_seats_than_there_are() {
    const SEATS: u32 = 3;
    const ROUNDS: u32 = 500;
    with_pool(hard(SEATS), async |pool| {
        let first = pool.first().await;
        let account = add(&first, 1).await;
        let (ledger, highest) = (Arc::new(Mutex::new(Ledger::default())), Arc::new(AtomicU64::new(0)));
        let mut clients = Vec::new();
        for life in 0..8 {
            let (client, ledger, highest) = (pool.first().await, ledger.clone(), highest.clone());
            clients.push(tokio::spawn(async move {
                let term = client.begin_term(life).await.unwrap();
                let (mut round, mut refused, mut own) = (0, 0_u32, Fence(0));
                while round < ROUNDS {
                    let before = highest.load(Ordering::SeqCst);
                    let wanted = 1 + round % 2;
                    let claim = client.claim_seats(term, life, account, wanted, SEATS, round % 5 == 0).await.unwrap();
                    let SeatClaim::Claimed { seats, fences, .. } = claim else {
                        assert!(matches!(claim, SeatClaim::Full { .. }), "{claim:?}");
                        refused += 1;
                        continue;
                    };
                    {
                        let mut ledger = ledger.lock().unwrap();
                        ledger.held += seats;
                        ledger.most = ledger.most.max(ledger.held);
                        assert!(ledger.held <= SEATS, "{} seats are held", ledger.held);
                    }
                    // a claim that begins after another has ended gets higher fences
                    assert!(fences.from.0 > before && fences.from > own, "{fences:?} after {before}");
                    own = fences.to;
                    highest.fetch_max(fences.to.0, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    ledger.lock().unwrap().held -= seats;
                    assert_eq!(client.give_back_seats(term, life, account, seats).await.unwrap(), seats);
                    round += 1;
                }
                refused
            }));
        }
        let mut refused = 0;
        for client in clients {
            refused += client.await.unwrap();
        }
        assert!(refused > 0, "they did not compete");
        assert!(ledger.lock().unwrap().most >= 2, "they did not run at once");
        let root = pool.root().await;
        let left: i64 =
            root.query_one("select count(*) from lessor.seat where term is not null", &[]).await.unwrap().get(0);
        assert_eq!(left, 0);
        drop((first, root));
        assert_eq!(pool.deadlocks().await, 0);
    });
}

/// The server ends one of two calls that wait for each other: the host repeats it.
#[test]
fn a_call_that_a_deadlock_has_ended_is_repeated() {
    with_pool(hard(2), async |pool| {
        let host = pool.first().await;
        let account = add(&host, 1).await;
        let term = host.begin_term(LIFE).await.unwrap();
        let claim = host.claim_seats(term, LIFE, account, 2, 2, false).await.unwrap();
        assert!(matches!(claim, SeatClaim::Claimed { seats: 2, .. }), "{claim:?}");
        let root = pool.root().await;
        let lock = async |number: i32| {
            root.query("select from lessor.seat where number = $1 for update", &[&number]).await.unwrap();
        };
        // this session looks for a deadlock later than the host's: the host's call is the one that ends
        root.batch_execute("set deadlock_timeout = '60s'; begin").await.unwrap();
        lock(2).await;
        let marking = tokio::spawn(async move { host.mark_handed_out(term, LIFE, account, None).await });
        // it has the first seat and waits for the second
        let watch = pool.root().await;
        let waits = "select from pg_stat_activity where datname = $1 and wait_event_type = 'Lock'";
        let mut looks = 0;
        while watch.query(waits, &[&pool.database]).await.unwrap().is_empty() {
            looks += 1;
            assert!(looks < MOST_LOOKS, "the call does not wait");
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        lock(1).await;
        root.batch_execute("commit").await.unwrap();
        assert!(marking.await.unwrap().unwrap());
        let marked = "select count(*) from lessor.seat where handed_out_until > 0";
        assert_eq!(root.query_one(marked, &[]).await.unwrap().get::<_, i64>(0), 2);
        drop((root, watch));
        assert_ne!(pool.deadlocks().await, 0);
    });
}

/// Claims with different roofs at once: each is as if they had come one after the other.
#[test]
fn claims_at_once_keep_to_their_roofs() {
    with_pool(hard(4), async |pool| {
        let first = pool.first().await;
        let account = add(&first, 1).await;
        let mut clients = Vec::new();
        for life in 0..6 {
            let client = pool.first().await;
            let term = client.begin_term(life).await.unwrap();
            clients.push((client, term, life));
        }
        for _ in 0..60 {
            let claims = clients.iter().map(|(client, term, life)| {
                // two roofs of two, and so on
                let most = 2 + u32::try_from(*life).unwrap() / 2;
                async move { (most, client.claim_seats(*term, *life, account, 1, most, false).await.unwrap()) }
            });
            let claims = futures_util::future::join_all(claims).await;
            for roof in 2..=4 {
                let by = |claim: &&(u32, SeatClaim)| claim.0 <= roof && matches!(claim.1, SeatClaim::Claimed { .. });
                let taken = claims.iter().filter(by).count();
                assert!(taken <= roof as usize, "{taken} with roofs up to {roof}: {claims:?}");
            }
            for (client, term, life) in &clients {
                client.give_back_seats(*term, *life, account, 4).await.unwrap();
            }
        }
    });
}

/// A term ends while its host claims, beats and gives back; nothing deadlocks, and no seat stays with a term that is over.
#[test]
fn the_end_of_a_term_leaves_no_seat_behind() {
    with_pool(hard(3), async |pool| {
        let first = pool.first().await;
        let accounts = [add(&first, 1).await, add(&first, 2).await];
        let host = Arc::new(pool.first().await);
        let enders = [Arc::new(pool.first().await), Arc::new(pool.first().await)];
        let root = pool.root().await;
        for life in 0..40 {
            let term = host.begin_term(life).await.unwrap();
            let beat = host.beat(term, life).await.unwrap().unwrap().beat;
            root.execute("update lessor.term set beat_at = 0 where id = $1", &[&term.0]).await.unwrap();
            let ends = enders.iter().map(|ender| ender.end_silent_term(term, beat));
            let claims = accounts.iter().map(|account| host.claim_seats(term, life, *account, 2, 3, false));
            let (ended, claimed, given, beaten) = tokio::join!(
                futures_util::future::join_all(ends),
                futures_util::future::join_all(claims),
                host.give_back_seats(term, life, accounts[0], 1),
                host.beat(term, life),
            );
            given.unwrap();
            let ended: Vec<bool> = ended.into_iter().map(Result::unwrap).collect();
            let beaten = beaten.unwrap();
            assert!(ended.iter().filter(|ended| **ended).count() <= 1, "two hosts ended it");
            assert_ne!(
                ended.contains(&true),
                beaten.is_some(),
                "a heartbeat was accepted, or the term was ended: {ended:?}"
            );
            for claim in claimed {
                let claim = claim.unwrap();
                assert!(!matches!(claim, SeatClaim::Full { .. }), "{claim:?}");
            }
            host.end_term(term, life).await.unwrap();
            let left =
                "select count(*) from lessor.seat s join lessor.term t on t.id = s.term where t.ended_at is not null";
            let left: i64 = root.query_one(left, &[]).await.unwrap().get(0);
            assert_eq!(left, 0);
        }
    });
}

/// A transaction that began before a reading and commits after it is in the next one.
#[test]
fn late_commits_are_read_the_next_time() {
    with_pool(hard(1), async |pool| {
        let first = pool.first().await;
        let (early, late) = (add(&first, 1).await, add(&first, 2).await);
        let mut position = pool.settled(&first).await;
        let (slow, fast) = (pool.root().await, pool.root().await);
        let change = "update lessor.account set changed = default where id = ";
        for _ in 0..3 {
            slow.batch_execute(&format!("begin; {change} {}", late.bits())).await.unwrap();
            fast.batch_execute(&format!("{change} {}", early.bits())).await.unwrap();
            let news = first.news(Some(position), None).await.unwrap();
            assert_eq!(ids(&news), [early.bits()]);
            slow.batch_execute("commit").await.unwrap();
            let news = first.news(Some(news.position), None).await.unwrap();
            assert!(ids(&news).contains(&late.bits()), "{news:?}");
            position = pool.settled(&first).await;
            assert_eq!(ids(&first.news(Some(position), None).await.unwrap()), [0_u64; 0]);
        }
    });
}

fn ids(news: &lessor::shared_pool::PoolNews) -> Vec<u64> {
    news.accounts.iter().map(|account| account.record.id.bits()).collect()
}

/// Two hosts that write limits and usage of the same accounts at once do not deadlock.
#[test]
fn writers_of_the_same_accounts_do_not_deadlock() {
    use lessor::limits::{Reason, Scope};
    use lessor::pool::{LimitRecord, LimitSource, Usage, Wall, Window};
    with_pool(hard(1), async |pool| {
        let first = pool.first().await;
        let accounts = [add(&first, 1).await, add(&first, 2).await];
        let now = first.pool_info().await.unwrap().db_time.0;
        let clients: BTreeMap<u64, PoolClient> =
            [(0, pool.first().await), (1, pool.first().await), (2, pool.first().await)].into();
        for round in 1..40 {
            let writes = clients.iter().map(|(by, client)| async move {
                for at in 0..2_u64 {
                    let account = accounts[usize::try_from((at + by) % 2).unwrap()];
                    let limit = LimitRecord {
                        account,
                        key: "claude".to_owned(),
                        scope: Scope::Pool,
                        reason: Reason::QuotaExhausted,
                        until: Wall(now + 1_000_000 + round * 10 + by),
                        source: LimitSource::Server,
                        since: None,
                        evidence: None,
                        link: None,
                    };
                    client.set_limit(&limit).await.unwrap();
                    let window = |name: &str| Window {
                        name: name.to_owned(),
                        utilization: 0.5,
                        resets_at: None,
                        as_of: Wall(now - 100_000 + round * 10 + by),
                        key: String::new(),
                    };
                    let mut windows = vec![window("5h"), window("7d")];
                    windows.rotate_left(usize::try_from(by % 2).unwrap());
                    client.set_usage(account, &Usage::from(windows), Wall(now)).await.unwrap();
                    client.begin_term(LIFE - by).await.unwrap();
                }
            });
            futures_util::future::join_all(writes).await;
        }
        let news = first.news(None, None).await.unwrap();
        assert_eq!((news.limits.len(), news.usage.len()), (2, 2));
        drop((first, clients));
        assert_eq!(pool.deadlocks().await, 0);
    });
}
