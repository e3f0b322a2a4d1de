//! The counts of requests and attempts. They are kept by the ids of accounts, so that a count continues when an account
//! gets another label; those of accounts that were removed are put together, so that sums never fall and the number of
//! rows does not grow while accounts come and go.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::histogram::LatencyHistogram;
use super::sink::{MetricKind, MetricsSink};
use crate::daemon::AccountNames;
use crate::gateway::record::{EndedRequest, RequestTimes};
use crate::protocol::{AttemptRow, ErrorKind, RequestRow, TokenSums};

/// Further combinations of labels are counted together.
pub(super) const MAX_ROWS: usize = 4096;
const OTHERS: &str = "others";
/// The accounts that were removed.
const REMOVED: &str = "removed";
/// After so many new rows at least, those of removed accounts are put together.
pub(super) const NEW_ROWS: usize = 64;
/// How a request can end, in the order of the counts.
const OUTCOMES: [&str; 4] = ["ok", "refused", "broken", "cancelled"];
/// How an attempt can end, in the order of the counts.
const RESULTS: [&str; 4] = ["answered", "refused", "failed", "cancelled"];

#[derive(Debug, Default)]
pub(super) struct MetricCounts {
    accounts: AccountCounts,
    /// How many rows were added, or not added for lack of room, since removed accounts were last looked for.
    new_rows: usize,
    /// By provider and kind.
    refusals: BTreeMap<(String, ErrorKind), u64>,
    /// By provider.
    times: BTreeMap<String, TimeCounts>,
}

/// What is counted by account.
#[derive(Debug, Default)]
struct AccountCounts {
    requests: CountTable<RequestKey<'static>, RequestCounts>,
    /// By provider and account.
    attempts: CountTable<AttemptKey<'static>, AttemptCounts>,
    /// By provider, account and reason.
    failures: BTreeMap<(String, String, String), FailureCounts>,
}

/// Counts by key, in the order of the keys. A key that is known is looked up with borrowed texts.
#[derive(Debug)]
struct CountTable<K, C> {
    /// Where the counts of each key are.
    places: BTreeMap<K, usize>,
    counts: Vec<C>,
}

/// What a request is counted under.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct RequestKey<'a> {
    provider: Cow<'a, str>,
    /// Whose response the client got; empty if lessor answered.
    account: Cow<'a, str>,
    model: Cow<'a, str>,
    agent: Cow<'a, str>,
    directory: Cow<'a, str>,
}

/// What an attempt is counted under.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct AttemptKey<'a> {
    provider: Cow<'a, str>,
    account: Cow<'a, str>,
}

#[derive(Clone, Copy, Debug, Default)]
struct RequestCounts {
    outcomes: [u64; OUTCOMES.len()],
    tokens: TokenSums,
    cost: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct AttemptCounts {
    results: [u64; RESULTS.len()],
    /// Requests that went on with another account.
    switches: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct FailureCounts {
    all: u64,
    /// Those that have met a limit of the account.
    limits: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct TimeCounts {
    first_byte: LatencyHistogram,
    duration: LatencyHistogram,
    wait: LatencyHistogram,
}

impl MetricCounts {
    /// A request has ended.
    pub(super) fn add(&mut self, ended: &EndedRequest<'_>) {
        let EndedRequest { row, times } = *ended;
        self.request(row);
        for (at, attempt) in row.attempts.iter().enumerate() {
            self.attempt(row, attempt, row.attempts.get(at + 1));
        }
        self.times(&row.provider, times);
    }

    /// No account could serve a request.
    pub(super) fn rejected(&mut self, provider: &str, kind: ErrorKind) {
        *self.refusals.entry((provider.to_owned(), kind)).or_default() += 1;
    }

    fn request(&mut self, row: &RequestRow) {
        let mut key = RequestKey::of(row);
        let requests = &mut self.accounts.requests;
        let known = requests.find(&key);
        if known.is_none() {
            self.new_rows += 1;
            if requests.len() >= MAX_ROWS {
                (key.model, key.agent, key.directory) = (OTHERS.into(), OTHERS.into(), OTHERS.into());
            }
        }
        let counts = requests.at(known, || key.into_owned());
        if let Some(at) = OUTCOMES.iter().position(|outcome| *outcome == row.outcome) {
            counts.outcomes[at] += 1;
        }
        counts.tokens += row.tokens.unwrap_or_default();
        counts.cost += row.cost_usd.unwrap_or(0.0);
    }

    fn attempt(&mut self, row: &RequestRow, attempt: &AttemptRow, next: Option<&AttemptRow>) {
        let AccountCounts { attempts, failures, .. } = &mut self.accounts;
        let (provider, account) = ((&*row.provider).into(), attempt.account.id.as_str().into());
        let mut key = AttemptKey { provider, account };
        let known = attempts.find(&key);
        if known.is_none() {
            self.new_rows += 1;
            if attempts.len() >= MAX_ROWS {
                key.account = OTHERS.into();
            }
        }
        let counts = attempts.at(known, || key.into_owned());
        let result = match (&attempt.reason, attempt.status) {
            (None, _) => 0,
            (Some(reason), None) if reason == "cancelled" => 3,
            (Some(_), None) => 2,
            (Some(_), Some(_)) => 1,
        };
        counts.results[result] += 1;
        counts.switches += u64::from(next.is_some_and(|next| next.account.id != attempt.account.id));
        let Some(reason) = attempt.reason.clone().filter(|_| result != 3) else { return };
        let mut key = (row.provider.to_string(), attempt.account.id.clone(), reason);
        if !failures.contains_key(&key) {
            self.new_rows += 1;
            if failures.len() >= MAX_ROWS {
                OTHERS.clone_into(&mut key.1);
            }
        }
        let counts = failures.entry(key).or_default();
        counts.all += 1;
        counts.limits += u64::from(attempt.met_limit());
    }

    fn times(&mut self, provider: &str, RequestTimes { first_byte, duration, waited }: RequestTimes) {
        // no copy of the name for each request
        if !self.times.contains_key(provider) {
            self.times.insert(provider.to_owned(), TimeCounts::default());
        }
        let Some(times) = self.times.get_mut(provider) else { return };
        if let Some(first_byte) = first_byte {
            times.first_byte.add(first_byte);
        }
        times.duration.add(duration);
        times.wait.add(waited);
    }

    /// The number of rows that depend on accounts.
    #[cfg(test)]
    pub(super) fn row_count(&self) -> usize {
        self.accounts.len()
    }

    /// Whether so many rows are new that those of removed accounts should be looked for.
    pub(super) fn has_many_new(&self) -> bool {
        self.new_rows >= NEW_ROWS.max(self.accounts.len() / 8)
    }

    /// Counts together what belongs to accounts that are not among these.
    pub(super) fn forget_removed(&mut self, accounts: &AccountNames) {
        self.new_rows = 0;
        if self.accounts.ids().any(|id| is_removed(id, accounts)) {
            self.accounts = self.accounts.renamed(|id| if is_removed(id, accounts) { REMOVED } else { id });
        }
    }

    /// Writes all counts; accounts have these names.
    pub(super) fn write(&self, out: &mut impl MetricsSink, accounts: &AccountNames) {
        use MetricKind::{Counter, Histogram};
        // two accounts whose names are the same are one row
        self.accounts.renamed(|id| accounts.get(id).map_or(id, String::as_str)).write(out);
        out.describe("lessor_refusals", Counter, "Requests that no account could serve in time.");
        for ((provider, kind), count) in &self.refusals {
            out.value("lessor_refusals", &[("provider", provider.as_str()), ("kind", kind.name())], *count as f64);
        }
        for (name, help, times) in TIMES {
            out.describe(name, Histogram, help);
            self.times.iter().for_each(|(provider, all)| out.histogram(name, ("provider", provider), times(all)));
        }
    }
}

impl<K, C> Default for CountTable<K, C> {
    fn default() -> Self {
        Self { places: BTreeMap::new(), counts: Vec::new() }
    }
}

impl<K: Ord, C: Default> CountTable<K, C> {
    fn len(&self) -> usize {
        self.counts.len()
    }

    /// Where the counts of a key are, if it has any.
    fn find(&self, key: &K) -> Option<usize> {
        self.places.get(key).copied()
    }

    /// The counts at this place, or of this key, if the place is not known.
    fn at(&mut self, place: Option<usize>, key: impl FnOnce() -> K) -> &mut C {
        let place = place.unwrap_or_else(|| {
            *self.places.entry(key()).or_insert_with(|| {
                self.counts.push(C::default());
                self.counts.len() - 1
            })
        });
        &mut self.counts[place]
    }

    fn iter(&self) -> impl Iterator<Item = (&K, &C)> {
        self.places.iter().map(|(key, place)| (key, &self.counts[*place]))
    }
}

impl AccountCounts {
    /// The number of rows.
    fn len(&self) -> usize {
        self.requests.len() + self.attempts.len() + self.failures.len()
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        let requests = self.requests.iter().map(|(key, _)| &*key.account);
        let attempts = self.attempts.iter().map(|(key, _)| &*key.account);
        requests.chain(attempts).chain(self.failures.keys().map(|(_, account, _)| account.as_str()))
    }

    /// The same counts for accounts of other names; those of one name are added.
    fn renamed<'a>(&'a self, name: impl Fn(&'a str) -> &'a str) -> Self {
        let mut renamed = Self::default();
        for (key, counts) in self.requests.iter() {
            let key = || RequestKey { account: name(&key.account).to_owned().into(), ..key.clone() };
            renamed.requests.at(None, key).add(counts);
        }
        for (key, counts) in self.attempts.iter() {
            let key = || AttemptKey { account: name(&key.account).to_owned().into(), ..key.clone() };
            renamed.attempts.at(None, key).add(counts);
        }
        for ((provider, account, reason), counts) in &self.failures {
            let key = (provider.clone(), name(account).to_owned(), reason.clone());
            let sum = renamed.failures.entry(key).or_default();
            sum.all += counts.all;
            sum.limits += counts.limits;
        }
        renamed
    }

    fn write(&self, out: &mut impl MetricsSink) {
        use MetricKind::Counter;
        let requests = || self.requests.iter();
        out.describe("lessor_requests", Counter, "Requests that have ended, by outcome.");
        for (key, counts) in requests() {
            let outcomes = OUTCOMES.into_iter().zip(counts.outcomes);
            key.write(out, "lessor_requests", Some("outcome"), outcomes.map(|(name, count)| (name, count as f64)));
        }
        let help = "Tokens as counted by the provider; cached and cache_written ones are also in the input.";
        out.describe("lessor_tokens", Counter, help);
        for (key, RequestCounts { tokens, .. }) in requests() {
            let TokenSums { input, output, cached, cache_written } = *tokens;
            let kinds = [("input", input), ("output", output), ("cached", cached), ("cache_written", cache_written)];
            let kinds = kinds.into_iter().map(|(name, count)| (name, count as f64));
            key.write(out, "lessor_tokens", Some("kind"), kinds);
        }
        out.describe("lessor_cost_dollars", Counter, "What tokens have cost by the table of prices, in US dollars.");
        for (key, counts) in requests() {
            key.write(out, "lessor_cost_dollars", None, [("", counts.cost)].into_iter());
        }
        out.describe("lessor_attempts", Counter, "Requests sent to the provider, by result.");
        for (AttemptKey { provider, account }, counts) in self.attempts.iter() {
            for (result, count) in RESULTS.into_iter().zip(counts.results).filter(|(_, count)| *count > 0) {
                let labels = [("provider", &**provider), ("account", account), ("result", result)];
                out.value("lessor_attempts", &labels, count as f64);
            }
        }
        out.describe("lessor_switches", Counter, "Requests that an account did not serve and another one got.");
        let switched = self.attempts.iter().filter(|(_, counts)| counts.switches > 0);
        for (AttemptKey { provider, account }, counts) in switched {
            let labels = [("provider", &**provider), ("account", account)];
            out.value("lessor_switches", &labels, counts.switches as f64);
        }
        let help = "Failed attempts, including those of requests that succeeded later.";
        self.write_failures(out, ("lessor_upstream_failures", help), |counts| counts.all);
        let help = "Attempts that have met a limit of their account.";
        self.write_failures(out, ("lessor_limits", help), |counts| counts.limits);
    }

    fn write_failures(&self, out: &mut impl MetricsSink, (name, help): (&str, &str), count: fn(&FailureCounts) -> u64) {
        out.describe(name, MetricKind::Counter, help);
        for ((provider, account, reason), counts) in self.failures.iter().filter(|(_, counts)| count(counts) > 0) {
            let labels = [("provider", provider.as_str()), ("account", account), ("reason", reason)];
            out.value(name, &labels, count(counts) as f64);
        }
    }
}

impl RequestCounts {
    fn add(&mut self, more: &Self) {
        self.outcomes.iter_mut().zip(more.outcomes).for_each(|(sum, more)| *sum += more);
        self.tokens += more.tokens;
        self.cost += more.cost;
    }
}

impl AttemptCounts {
    fn add(&mut self, more: &Self) {
        self.results.iter_mut().zip(more.results).for_each(|(sum, more)| *sum += more);
        self.switches += more.switches;
    }
}

/// Whether this is the id of an account that was removed.
fn is_removed(id: &str, accounts: &AccountNames) -> bool {
    !["", OTHERS, REMOVED].contains(&id) && !accounts.contains_key(id)
}

/// A histogram of the times of requests: its name, its description, and where it is.
type TimesOf = (&'static str, &'static str, fn(&TimeCounts) -> &LatencyHistogram);

const TIMES: [TimesOf; 3] = [
    ("lessor_first_byte_seconds", "Time from a request to the start of the provider's response.", |of| &of.first_byte),
    ("lessor_request_duration_seconds", "Time from a request to the end of its response.", |of| &of.duration),
    ("lessor_account_wait_seconds", "Time that a request waited for an account.", |of| &of.wait),
];

impl AttemptKey<'_> {
    fn into_owned(self) -> AttemptKey<'static> {
        let owned = |text: Cow<'_, str>| text.into_owned().into();
        AttemptKey { provider: owned(self.provider), account: owned(self.account) }
    }
}

impl<'a> RequestKey<'a> {
    fn of(row: &'a RequestRow) -> Self {
        let text = |text: &'a Option<Arc<str>>| text.as_deref().unwrap_or_default().into();
        Self {
            provider: (&*row.provider).into(),
            account: row.account.as_ref().map_or("", |account| &account.id).into(),
            model: text(&row.model),
            agent: text(&row.agent),
            directory: text(&row.directory),
        }
    }

    fn into_owned(self) -> RequestKey<'static> {
        let owned = |text: Cow<'_, str>| text.into_owned().into();
        RequestKey {
            provider: owned(self.provider),
            account: owned(self.account),
            model: owned(self.model),
            agent: owned(self.agent),
            directory: owned(self.directory),
        }
    }

    /// Writes the values that are not zero, each with its own value of `label`.
    fn write<'v>(
        &self,
        out: &mut impl MetricsSink,
        name: &str,
        label: Option<&str>,
        values: impl Iterator<Item = (&'v str, f64)>,
    ) {
        for (value, count) in values.filter(|(_, count)| *count > 0.0) {
            let labels = [
                ("provider", &*self.provider),
                ("account", &self.account),
                ("model", &self.model),
                ("agent", &self.agent),
                ("directory", &self.directory),
                (label.unwrap_or_default(), value),
            ];
            out.value(name, &labels[..labels.len() - usize::from(label.is_none())], count);
        }
    }
}
