//! Loads that measure lessor on this machine: for `lessor bench`, and for the benchmarks in `benches/`, which compare more.

pub mod gateway;
pub mod pool;
#[cfg(unix)]
pub mod socket;

use std::future::Future;
use std::time::Duration;

use crate::client::Client;
use crate::protocol::AddAccountParams;

/// What a round has measured.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Figures {
    /// How many a second.
    pub rate: f64,
    /// How long each took.
    taken: Vec<Duration>,
}

impl Figures {
    /// Of everything that was done in this time.
    #[must_use]
    pub fn new(mut taken: Vec<Duration>, time: Duration) -> Self {
        taken.sort_unstable();
        Self { rate: taken.len() as f64 / time.as_secs_f64(), taken }
    }

    /// Adds the times of another round; the rate stays.
    pub fn add(&mut self, other: Self) {
        self.taken.extend(other.taken);
        self.taken.sort_unstable();
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.taken.len()
    }

    /// The time that this share took at most: 0.5 for the median.
    #[must_use]
    pub fn at(&self, share: f64) -> Duration {
        let index = (self.taken.len().saturating_sub(1) as f64 * share) as usize;
        self.taken.get(index).copied().unwrap_or_default()
    }
}

/// The middle one; 0 of none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Runs a round on a thread of its own.
///
/// # Errors
/// When the round fails.
pub fn block_on<T>(round: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(round)
}

/// Adds accounts with keys that no provider knows.
///
/// # Errors
/// When the daemon refuses.
pub fn add_accounts(client: &mut Client, provider: &str, count: usize) -> anyhow::Result<()> {
    for number in 0..count {
        let account: AddAccountParams = serde_json::from_value(serde_json::json!({
            "provider": provider, "kind": "api_key", "secret": format!("sk-bench-{number:040}"),
            "label": format!("account-{number}")
        }))?;
        client.add_account(account)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_all_rounds() {
        let ms = |times: &[u64]| times.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        let mut figures = Figures::new(ms(&[3, 1]), Duration::from_secs(2));
        figures.add(Figures::new(ms(&[9]), Duration::from_secs(2)));
        assert_eq!((figures.rate, figures.count()), (1.0, 3));
        assert_eq!((figures.at(0.5), figures.at(1.0)), (Duration::from_millis(3), Duration::from_millis(9)));
        assert_eq!((Figures::default().at(0.5), median(Vec::new())), (Duration::ZERO, 0.0));
    }
}
