//! Times of the database's clock on this host's, and the other way. What hosts compare is on the database's clock.

use super::handle::ManyHosts;
use crate::credential::Credential;
use crate::limits::LONGEST_BELIEVED;
use crate::pool::{Deadline, Limit, LimitRecord, LimitSource, Now, Usage, Wall, Window};

/// The limit, with its times on the database's clock.
pub(super) fn limit_for_database(hosts: &ManyHosts, limit: &LimitRecord) -> LimitRecord {
    let since = limit.since.map(|since| hosts.to_database(since));
    LimitRecord { until: hosts.to_database(limit.until), since, ..limit.clone() }
}

/// The usage, with its times on the database's clock.
pub(super) fn usage_for_database(hosts: &ManyHosts, usage: &Usage) -> Usage {
    moved(usage, |at| hosts.to_database(at))
}

/// The limit of another host, for the pool of this one.
pub(super) fn limit_from_database(hosts: &ManyHosts, limit: LimitRecord, now: Now) -> Limit {
    let LimitRecord { account: _, key, scope, reason, until, source, since, evidence, link } = limit;
    let until = hosts.to_local(until);
    // a server states a time of day; a guessed wait is a span, which setting the clock does not change
    let is_span = source != LimitSource::Server && until <= now.wall.after(LONGEST_BELIEVED);
    let until = if is_span { Deadline::Mono(now.mono_of(until)) } else { Deadline::Wall(until) };
    let since = since.map_or(now.wall, |since| hosts.to_local(since));
    Limit { since, evidence, link, ..Limit::new(scope, key, reason, until, source) }
}

/// The usage that another host has read, on this host's clock.
pub(super) fn usage_from_database(hosts: &ManyHosts, usage: &Usage) -> Usage {
    moved(usage, |at| hosts.to_local(at))
}

/// The credential of another host, with its times on this host's clock: `expires_at` is the end of its token on the
/// database's, and what is sealed are times of that host.
pub(super) fn credential_from_database(
    hosts: &ManyHosts,
    credential: Credential,
    expires_at: Option<Wall>,
) -> Credential {
    let Some((there, here)) = credential.expires_at.zip(expires_at.map(|at| hosts.to_local(at))) else {
        return credential;
    };
    credential.follow_clock(here.0.cast_signed().saturating_sub(there.0.cast_signed()))
}

fn moved(usage: &Usage, change: impl Fn(Wall) -> Wall) -> Usage {
    let moved = |window: &Window| Window {
        resets_at: window.resets_at.map(&change),
        as_of: change(window.as_of),
        ..window.clone()
    };
    Usage { windows: usage.windows.iter().map(moved).collect(), rates: usage.rates.iter().map(moved).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Secret;
    use crate::limits::{Reason, Scope};
    use crate::pool::{AccountId, CredentialKind, Mono};

    #[test]
    fn a_token_ends_at_the_same_moment_on_each_host() {
        let (here, there) = (ManyHosts::default(), ManyHosts::default());
        // this host is 4 s behind the database, the other one 90 s ahead
        here.set_clock_offset(4_000);
        there.set_clock_offset(-90_000);
        let sealed = Credential {
            expires_at: Some(Wall(1_000_000)),
            refresh_from: Some(Wall(900_000)),
            ..Credential::new(CredentialKind::Oauth, Secret::new("a".to_owned()))
        };
        let got = credential_from_database(&there, sealed.duplicate(), Some(here.to_database(Wall(1_000_000))));
        assert_eq!(got.expires_at, Some(Wall(1_094_000)));
        assert_eq!(got.refresh_from, Some(Wall(994_000)));
        let endless = Credential { expires_at: None, ..sealed };
        assert_eq!(credential_from_database(&there, endless, None).expires_at, None);
    }

    #[test]
    fn limits_and_usage_are_the_same_after_the_way_to_another_host_and_its_clock() {
        let (here, there) = (ManyHosts::default(), ManyHosts::default());
        // this host is 4 s behind the database, the other one 90 s ahead
        here.set_clock_offset(4_000);
        there.set_clock_offset(-90_000);
        let limit = LimitRecord {
            account: AccountId::from_bits(1),
            key: "claude".to_owned(),
            scope: Scope::Pool,
            reason: Reason::QuotaExhausted,
            until: Wall(1_000_000),
            source: LimitSource::Server,
            since: Some(Wall(400_000)),
            evidence: Some("429".into()),
            link: None,
        };
        let sent = limit_for_database(&here, &limit);
        assert_eq!(sent.until, Wall(1_004_000));
        // the same moment, on both clocks of the other host
        let now = Now { mono: Mono(50_000), wall: Wall(594_000) };
        let got = limit_from_database(&there, sent.clone(), now);
        assert_eq!((got.until, got.since), (Deadline::Wall(Wall(1_094_000)), Wall(494_000)));
        let guess = LimitRecord { source: LimitSource::Table, ..sent };
        assert_eq!(limit_from_database(&there, guess, now).until, Deadline::Mono(Mono(550_000)));
        let window = Window {
            name: "5h".to_owned(),
            utilization: 0.5,
            resets_at: Some(Wall(2_000_000)),
            as_of: Wall(500_000),
            key: "claude".to_owned(),
        };
        let usage = Usage::from(vec![window]);
        let sent = usage_for_database(&here, &usage);
        assert_eq!(usage_from_database(&here, &sent), usage);
        assert_eq!(usage_from_database(&there, &sent).windows[0].resets_at, Some(Wall(2_094_000)));
    }
}
