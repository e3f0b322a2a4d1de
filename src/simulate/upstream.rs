//! The modelled provider: accounts with a quota for each minute and one for each five hours.

use super::Load;
use super::rng::Rng;

/// Milliseconds of simulated time.
pub(super) type Ms = u64;

pub(super) const SECOND: Ms = 1_000;
pub(super) const MINUTE: Ms = 60 * SECOND;
pub(super) const HOUR: Ms = 60 * MINUTE;
/// Five hours, as most plans count.
pub(super) const LONG_WINDOW: Ms = 5 * HOUR;
const WEEK: Ms = 7 * 24 * HOUR;
/// The week's quota, in windows of five hours: plans allow more than an agent uses in a day.
const WINDOWS_A_WEEK: u64 = 34;
/// A wait stated for less is taken for this, by lessor and by most others.
const SHORTEST_WAIT: Ms = 2 * SECOND;

/// The quota that refused a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum QuotaKind {
    Minute,
    FiveHours,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum UpstreamAnswer {
    Served,
    /// 429, with the time until the quota resets, in whole seconds as headers state it.
    Refused {
        meter: QuotaKind,
        wait: Ms,
    },
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct AccountReading {
    /// Of five hours' quota, 0 to 1.
    pub(super) five_hours: f64,
    pub(super) five_hours_end: Ms,
    /// Of the week's.
    pub(super) week: f64,
    pub(super) week_end: Ms,
}

/// Windows of one length, one after the other without a gap.
#[derive(Clone, Debug)]
struct Windows {
    length: Ms,
    /// How much of the first window had passed at the beginning.
    phase: Ms,
    quota: u64,
    used: u64,
    number: u64,
    refused: u64,
    /// When the first refusal's answer arrives: from then on it is known.
    known_at: Ms,
}

/// One account, as only the provider knows it.
#[derive(Clone, Debug)]
struct SimulatedAccount {
    minute: Windows,
    five_hours: Windows,
    week: Windows,
    /// The latest time that a refusal stated.
    told_until: Ms,
}

/// UpstreamRefusals, counted by the windows they fell into.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct UpstreamRefusals {
    /// Windows with a refusal.
    pub(super) windows: u64,
    pub(super) all: u64,
    /// Sent after the first refusal of the window had come back.
    pub(super) needless: u64,
    /// The most in one window.
    pub(super) most: u64,
}

#[derive(Clone, Debug)]
pub(super) struct SimulatedUpstream {
    accounts: Vec<SimulatedAccount>,
    pub(super) refusals: UpstreamRefusals,
}

impl Windows {
    fn new(length: Ms, phase: Ms, quota: u64, used: u64) -> Self {
        Self { length, phase, quota, used, number: 0, refused: 0, known_at: Ms::MAX }
    }

    fn pass(&mut self, now: Ms) {
        let number = (now + self.phase) / self.length;
        if number != self.number {
            (self.number, self.used, self.refused, self.known_at) = (number, 0, 0, Ms::MAX);
        }
    }

    fn used_at(&self, now: Ms) -> u64 {
        if (now + self.phase) / self.length == self.number { self.used } else { 0 }
    }

    fn left(&self, now: Ms) -> u64 {
        self.quota - self.used_at(now)
    }

    fn end(&self, now: Ms) -> Ms {
        ((now + self.phase) / self.length + 1) * self.length - self.phase
    }
}

impl SimulatedUpstream {
    /// Accounts whose windows begin at different times; of the first window as much was used as of its time has passed.
    pub(super) fn new(load: &Load) -> Self {
        let account = |n: usize| {
            let mut rng = Rng::new(load.seed, 1_000_000 + n as u64);
            let mut part = |length: Ms, quota: u64| {
                let phase = rng.below(length);
                Windows::new(length, phase, quota, u128::from(quota * phase).div_ceil(u128::from(length)) as u64)
            };
            let five_hours = part(LONG_WINDOW, load.per_five_hours);
            let week = part(WEEK, load.per_five_hours * WINDOWS_A_WEEK);
            let minute = Windows::new(MINUTE, rng.below(MINUTE), load.per_minute, 0);
            SimulatedAccount { minute, five_hours, week, told_until: 0 }
        };
        Self { accounts: (0..load.accounts).map(account).collect(), refusals: UpstreamRefusals::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Requests that all accounts together serve until `end`, if they are asked for in time.
    pub(super) fn quota_until(&self, end: Ms) -> u64 {
        let of = |account: &SimulatedAccount| {
            let (mut at, mut sum) = (0, 0);
            while at < end {
                let until = account.five_hours.end(at).min(end);
                let minutes = (until - 1 + account.minute.phase) / MINUTE - (at + account.minute.phase) / MINUTE + 1;
                let by_minutes = minutes * account.minute.quota;
                sum += account.five_hours.left(at).min(by_minutes);
                at = until;
            }
            sum
        };
        self.accounts.iter().map(of).sum()
    }

    /// How many requests the account would serve now.
    pub(super) fn room(&self, account: usize, now: Ms) -> u64 {
        let account = &self.accounts[account];
        account.minute.left(now).min(account.five_hours.left(now))
    }

    /// Whether it would serve one more request, and every time that its refusals stated has passed.
    pub(super) fn is_free(&self, account: usize, now: Ms) -> bool {
        self.room(account, now) > 0 && self.accounts[account].told_until <= now
    }

    pub(super) fn next_window(&self, account: usize, now: Ms) -> Ms {
        let account = &self.accounts[account];
        account.minute.end(now).min(account.five_hours.end(now))
    }

    pub(super) fn told_until(&self, account: usize) -> Ms {
        self.accounts[account].told_until
    }

    pub(super) fn reading(&self, account: usize, now: Ms) -> AccountReading {
        let of = |windows: &Windows| windows.used_at(now) as f64 / windows.quota.max(1) as f64;
        let account = &self.accounts[account];
        AccountReading {
            five_hours: of(&account.five_hours),
            five_hours_end: account.five_hours.end(now),
            week: of(&account.week),
            week_end: account.week.end(now),
        }
    }

    /// A request arrives; a refusal is back at `answer_at`. `probes` says that it was sent to find out.
    pub(super) fn ask(&mut self, index: usize, now: Ms, answer_at: Ms, probes: bool) -> UpstreamAnswer {
        let account = &mut self.accounts[index];
        for windows in [&mut account.minute, &mut account.five_hours, &mut account.week] {
            windows.pass(now);
        }
        let (meter, windows) = match (account.five_hours.left(now), account.minute.left(now)) {
            (0, _) => (QuotaKind::FiveHours, &mut account.five_hours),
            (_, 0) => (QuotaKind::Minute, &mut account.minute),
            _ => {
                for windows in [&mut account.minute, &mut account.five_hours, &mut account.week] {
                    windows.used += 1;
                }
                return UpstreamAnswer::Served;
            }
        };
        windows.refused += 1;
        let wait = (windows.end(now) - now).div_ceil(SECOND) * SECOND;
        let refusals = &mut self.refusals;
        refusals.windows += u64::from(windows.refused == 1);
        refusals.all += 1;
        refusals.needless += u64::from(windows.known_at < now && !probes);
        refusals.most = refusals.most.max(windows.refused);
        windows.known_at = windows.known_at.min(answer_at);
        account.told_until = account.told_until.max(answer_at + wait.max(SHORTEST_WAIT));
        UpstreamAnswer::Refused { meter, wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Load {
        Load { accounts: 1, per_minute: 3, per_five_hours: 7, ..Load::default() }
    }

    #[test]
    fn both_quotas_hold_and_reset_with_their_windows() {
        let mut upstream = SimulatedUpstream::new(&load());
        let mut now = upstream.accounts[0].five_hours.end(0);
        now = upstream.accounts[0].minute.end(now);
        let mut asked = |now| upstream.ask(0, now, now + 50, false);
        assert!((0..3).all(|_| asked(now) == UpstreamAnswer::Served));
        let UpstreamAnswer::Refused { meter: QuotaKind::Minute, wait } = asked(now) else {
            panic!("the fourth of a minute")
        };
        assert_eq!(wait, MINUTE);
        let next = now + MINUTE;
        assert!((0..3).all(|_| asked(next) == UpstreamAnswer::Served));
        assert_eq!(asked(next + MINUTE), UpstreamAnswer::Served);
        let UpstreamAnswer::Refused { meter: QuotaKind::FiveHours, wait } = asked(next + MINUTE) else {
            panic!("the eighth")
        };
        assert!(wait > 4 * HOUR && wait.is_multiple_of(SECOND));
        assert_eq!(asked(next + MINUTE + wait), UpstreamAnswer::Served);
        let refusals = upstream.refusals;
        assert_eq!(refusals, UpstreamRefusals { windows: 2, all: 2, needless: 0, most: 1 });
    }

    #[test]
    fn a_refusal_that_was_known_is_needless() {
        let mut upstream = SimulatedUpstream::new(&Load { per_minute: 0, ..load() });
        for (at, answer_at) in [(0, 50), (49, 99), (50, 100), (51, 101)] {
            upstream.ask(0, at, answer_at, at == 49);
        }
        assert_eq!(upstream.refusals, UpstreamRefusals { windows: 1, all: 4, needless: 1, most: 4 });
    }

    #[test]
    fn the_quota_of_a_time_is_what_its_windows_hold() {
        let upstream = SimulatedUpstream::new(&load());
        let first = upstream.accounts[0].five_hours.end(0);
        let left = upstream.accounts[0].five_hours.left(0);
        assert_eq!(upstream.quota_until(first), left);
        assert_eq!(upstream.quota_until(first + LONG_WINDOW), left + 7);
        let minute = upstream.accounts[0].minute.end(first);
        assert_eq!(upstream.quota_until(minute), left + 3);
        assert_eq!(upstream.quota_until(minute + 1), left + 6);
    }
}
