//! Figures: `.ci/pool --run-ignored only --no-capture figures`.

use std::time::{Duration, Instant};

use lessor::shared_pool::{PoolAddress, PoolClient};

use crate::harness::{LIFE, TestPool, add, hard, with_pool};

async fn plain(pool: &TestPool) -> PoolClient {
    let address = pool.address_of(&pool.first_user);
    let address = PoolAddress { url: format!("{}?sslmode=disable", address.url), ..address };
    PoolClient::connect(&address).await.unwrap().0
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
#[ignore = "prints figures: .ci/postgres cargo nextest run --test shared_pool --run-ignored only --no-capture"]
fn figures() {
    const ROUNDS: usize = 300;
    with_pool(hard(8), async |pool| {
        let first = pool.first().await;
        for at in 1..=8 {
            add(&first, at).await;
        }
        for (clients, same) in [(1, true), (8, true), (8, false)] {
            let began = Instant::now();
            let mut tasks = Vec::new();
            for at in 0..clients {
                let client = plain(pool).await;
                tasks.push(tokio::spawn(async move {
                    let term = client.begin_term(at).await.unwrap();
                    let account = crate::harness::id(if same { 1 } else { at + 1 });
                    let (mut claims, mut returns) = (Vec::new(), Vec::new());
                    for _ in 0..ROUNDS {
                        let began = Instant::now();
                        client.claim_seats(term, at, account, 1, 8, false).await.unwrap();
                        claims.push(began.elapsed());
                        let began = Instant::now();
                        assert_eq!(client.give_back_seats(term, at, account, 1).await.unwrap(), 1);
                        returns.push(began.elapsed());
                    }
                    (claims, returns)
                }));
            }
            let (mut claims, mut returns) = (Vec::new(), Vec::new());
            for task in tasks {
                let (claimed, returned) = task.await.unwrap();
                claims.extend(claimed);
                returns.extend(returned);
            }
            let each_second = claims.len() as f64 / began.elapsed().as_secs_f64();
            let accounts = if same { "one account" } else { "an account each" };
            let (claim, give_back) = (median(claims), median(returns));
            println!(
                "{clients} clients, {accounts}: {each_second:.0} claims and returns/s, medians {claim:?} and {give_back:?}"
            );
        }
        let client = plain(pool).await;
        let term = client.begin_term(LIFE).await.unwrap();
        let position = client.news(None, Some(term)).await.unwrap().position;
        let (mut beats, mut news) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let began = Instant::now();
            client.beat(term, LIFE).await.unwrap().unwrap();
            beats.push(began.elapsed());
            let began = Instant::now();
            client.news(Some(position), Some(term)).await.unwrap();
            news.push(began.elapsed());
        }
        println!("heartbeat: median {:?}; news without changes: median {:?}", median(beats), median(news));
    });
}
