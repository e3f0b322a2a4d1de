//! What was used, by whom, on which account: counted in memory, told as Prometheus text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::pool::RefusalKind;
use crate::protocol::kind_name;

use super::usage::Tokens;

/// More rows than this are counted together.
const MOST_ROWS: usize = 4096;
/// What stands for the rest.
const OTHERS: &str = "others";
/// Upper bounds of the histogram, in seconds.
const BOUNDS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Who asked for what, and when.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) agent: String,
    pub(super) directory: String,
    pub(super) asked_at: Instant,
}

/// All counts.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    counts: Mutex<Counts>,
    running: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Counts {
    rows: BTreeMap<Row, Sums>,
    failures: BTreeMap<(String, String, &'static str), u64>,
    refusals: BTreeMap<(String, &'static str), u64>,
    first_bytes: BTreeMap<String, Histogram>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Row {
    provider: String,
    account: String,
    model: String,
    agent: String,
    directory: String,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    answered: u64,
    refused: u64,
    broken: u64,
    tokens: Tokens,
}

#[derive(Clone, Copy, Debug, Default)]
struct Histogram {
    counts: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

/// A request that is on its way.
#[derive(Debug)]
pub(super) struct Running(Arc<AtomicU64>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ledger {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // numbers only grow: there is no state in between
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more is on its way.
    pub(super) fn running(&self) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(self.running.clone())
    }

    /// An answer goes to the client.
    pub(super) fn begun(&self, entry: &Entry, _account: &str, _status: u16) {
        let taken = entry.asked_at.elapsed();
        let counts = &mut *self.counts();
        match counts.first_bytes.get_mut(&entry.provider) {
            Some(histogram) => histogram.add(taken),
            None => counts.first_bytes.entry(entry.provider.clone()).or_default().add(taken),
        }
    }

    /// An answer is over.
    pub(super) fn ended(&self, entry: &Entry, account: &str, status: u16, tokens: Tokens, in_order: bool) {
        let counts = &mut *self.counts();
        let mut row = Row {
            provider: entry.provider.clone(),
            account: account.to_owned(),
            model: entry.model.clone(),
            agent: entry.agent.clone(),
            directory: entry.directory.clone(),
        };
        if counts.rows.len() >= MOST_ROWS && !counts.rows.contains_key(&row) {
            (row.model, row.agent, row.directory) = (OTHERS.to_owned(), OTHERS.to_owned(), OTHERS.to_owned());
        }
        let sums = counts.rows.entry(row).or_default();
        let sum = match (in_order, status) {
            (false, _) => &mut sums.broken,
            (true, 200..=399) => &mut sums.answered,
            (true, _) => &mut sums.refused,
        };
        *sum += 1;
        sums.tokens.input += tokens.input;
        sums.tokens.output += tokens.output;
        sums.tokens.cached += tokens.cached;
    }

    /// An account or its upstream failed.
    pub(super) fn failure(&self, entry: &Entry, account: &str, reason: &'static str) {
        let counts = &mut *self.counts();
        let mut key = (entry.provider.clone(), account.to_owned(), reason);
        if counts.failures.len() >= MOST_ROWS && !counts.failures.contains_key(&key) {
            OTHERS.clone_into(&mut key.1);
        }
        *counts.failures.entry(key).or_default() += 1;
    }

    /// Nobody could serve.
    pub(super) fn refusal(&self, entry: &Entry, kind: RefusalKind) {
        *self.counts().refusals.entry((entry.provider.clone(), kind_name(kind))).or_default() += 1;
    }

    /// All of it, as Prometheus reads it.
    pub(super) fn told(&self, out: &mut String) {
        let counts = &*self.counts();
        head(out, "lessor_requests_total", "counter", "Answers that went to clients, by what became of them.");
        for (row, sums) in &counts.rows {
            for (outcome, count) in [("ok", sums.answered), ("refused", sums.refused), ("broken", sums.broken)] {
                if count > 0 {
                    line(
                        out,
                        "lessor_requests_total",
                        &[&row.labels()[..], &[("outcome", outcome)]].concat(),
                        count as f64,
                    );
                }
            }
        }
        head(out, "lessor_tokens_total", "counter", "Tokens that answers said they took; cached ones are input too.");
        for (row, sums) in &counts.rows {
            let Tokens { input, output, cached } = sums.tokens;
            for (kind, count) in [("input", input), ("output", output), ("cached", cached)] {
                if count > 0 {
                    line(out, "lessor_tokens_total", &[&row.labels()[..], &[("kind", kind)]].concat(), count as f64);
                }
            }
        }
        head(
            out,
            "lessor_upstream_failures_total",
            "counter",
            "Attempts that failed, whether another one helped or not.",
        );
        for ((provider, account, reason), count) in &counts.failures {
            let labels = [("provider", provider.as_str()), ("account", account), ("reason", reason)];
            line(out, "lessor_upstream_failures_total", &labels, *count as f64);
        }
        head(out, "lessor_refusals_total", "counter", "Requests that nobody could serve in time.");
        for ((provider, kind), count) in &counts.refusals {
            line(out, "lessor_refusals_total", &[("provider", provider.as_str()), ("kind", kind)], *count as f64);
        }
        head(out, "lessor_first_byte_seconds", "histogram", "From a request to the beginning of its answer.");
        counts.first_bytes.iter().for_each(|(provider, histogram)| histogram.told(provider, out));
        head(out, "lessor_requests_in_flight", "gauge", "Answers that are on their way.");
        line(out, "lessor_requests_in_flight", &[], self.running.load(Ordering::Relaxed) as f64);
    }
}

impl Row {
    fn labels(&self) -> [(&'static str, &str); 5] {
        [
            ("provider", &self.provider),
            ("account", &self.account),
            ("model", &self.model),
            ("agent", &self.agent),
            ("directory", &self.directory),
        ]
    }
}

impl Histogram {
    fn add(&mut self, taken: Duration) {
        let seconds = taken.as_secs_f64();
        self.count += 1;
        self.sum += seconds;
        for (bound, count) in BOUNDS.iter().zip(&mut self.counts) {
            *count += u64::from(seconds <= *bound);
        }
    }

    fn told(&self, provider: &str, out: &mut String) {
        for (bound, count) in BOUNDS.iter().zip(self.counts) {
            let labels = [("provider", provider), ("le", &bound.to_string())];
            line(out, "lessor_first_byte_seconds_bucket", &labels, count as f64);
        }
        let labels = [("provider", provider), ("le", "+Inf")];
        line(out, "lessor_first_byte_seconds_bucket", &labels, self.count as f64);
        line(out, "lessor_first_byte_seconds_sum", &labels[..1], self.sum);
        line(out, "lessor_first_byte_seconds_count", &labels[..1], self.count as f64);
    }
}

/// What a metric is.
pub(super) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // writing to a string cannot fail
    let _written = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// One value of it.
pub(super) fn line(out: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    out.push_str(name);
    for (at, (label, text)) in labels.iter().enumerate() {
        out.push(if at == 0 { '{' } else { ',' });
        out.push_str(label);
        out.push_str("=\"");
        for letter in text.chars() {
            match letter {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                letter => out.push(letter),
            }
        }
        out.push('"');
    }
    if !labels.is_empty() {
        out.push('}');
    }
    let _written = writeln!(out, " {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an entry has a time")]
    fn what_was_used_is_told() {
        let ledger = Ledger::default();
        let entry = Entry {
            provider: "p".into(),
            model: "m\"\\\n".into(),
            agent: String::new(),
            directory: "/d".into(),
            asked_at: Instant::now(),
        };
        let running = ledger.running();
        ledger.begun(&entry, "a", 200);
        ledger.ended(&entry, "a", 200, Tokens { input: 3, output: 2, cached: 0 }, true);
        ledger.ended(&entry, "a", 429, Tokens::default(), true);
        ledger.failure(&entry, "a", "quota_exhausted");
        let mut text = String::new();
        ledger.told(&mut text);
        let row = "provider=\"p\",account=\"a\",model=\"m\\\"\\\\\\n\",agent=\"\",directory=\"/d\"";
        for wanted in [
            format!("lessor_requests_total{{{row},outcome=\"ok\"}} 1\n"),
            format!("lessor_requests_total{{{row},outcome=\"refused\"}} 1\n"),
            format!("lessor_tokens_total{{{row},kind=\"input\"}} 3\n"),
            "lessor_upstream_failures_total{provider=\"p\",account=\"a\",reason=\"quota_exhausted\"} 1\n".to_owned(),
            "lessor_first_byte_seconds_bucket{provider=\"p\",le=\"+Inf\"} 1\n".to_owned(),
            "lessor_requests_in_flight 1\n".to_owned(),
        ] {
            assert!(text.contains(&wanted), "no {wanted} in {text}");
        }
        drop(running);
        let many = Entry { model: String::new(), ..entry };
        for number in 0..=MOST_ROWS + 5 {
            let entry = Entry { directory: number.to_string(), ..many.clone() };
            ledger.ended(&entry, "a", 200, Tokens::default(), true);
        }
        assert!(ledger.counts().rows.len() <= MOST_ROWS + 2);
    }
}
