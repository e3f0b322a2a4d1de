//! What has happened in runs.

/// What has happened, so that a run in which nothing happens does not pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub granted: u64,
    pub claims: u64,
    pub denied: u64,
    pub given_back: u64,
    pub cut_off: u64,
    pub warned: u64,
    pub takeovers: u64,
    pub restarts: u64,
    pub exclusive: u64,
    pub moved: u64,
    /// Claims that were answered too late.
    pub late: u64,
    /// Limits that were set, and duties to probe that were claimed.
    pub limited: u64,
    pub probes: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.granted += other.granted;
        self.claims += other.claims;
        self.denied += other.denied;
        self.given_back += other.given_back;
        self.cut_off += other.cut_off;
        self.warned += other.warned;
        self.takeovers += other.takeovers;
        self.restarts += other.restarts;
        self.exclusive += other.exclusive;
        self.moved += other.moved;
        self.late += other.late;
        self.limited += other.limited;
        self.probes += other.probes;
    }
}
