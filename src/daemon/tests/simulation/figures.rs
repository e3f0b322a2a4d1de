//! What a run has done.

/// Counted in one run, or in several.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) steps: u64,
    pub(super) calls: u64,
    pub(super) grants: u64,
    pub(super) refreshes: u64,
    pub(super) kills: u64,
    /// Of them, those in the middle of a write.
    pub(super) torn: u64,
    pub(super) power_failures: u64,
    pub(super) clean_ends: u64,
    pub(super) failed_writes: u64,
    /// Logins whose new token was lost with the answer that brought it; each is recorded.
    pub(super) lost_answers: u64,
}

impl Figures {
    pub(super) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.calls += other.calls;
        self.grants += other.grants;
        self.refreshes += other.refreshes;
        self.kills += other.kills;
        self.torn += other.torn;
        self.power_failures += other.power_failures;
        self.clean_ends += other.clean_ends;
        self.failed_writes += other.failed_writes;
        self.lost_answers += other.lost_answers;
    }

    /// Whether enough has happened for the run to mean something.
    pub(super) fn is_representative(&self) -> bool {
        let Self { steps, calls, grants, refreshes, kills, torn, power_failures, clean_ends, failed_writes, .. } =
            *self;
        let happened = [refreshes, kills, torn, power_failures, clean_ends, failed_writes];
        calls > steps / 2 && grants > steps / 20 && happened.iter().all(|count| *count > steps / 5000)
    }
}
