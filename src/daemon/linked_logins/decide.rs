//! Decides whether an account takes the login that its linked file contains. Pure.
//!
//! A tool can write the token first and name its owner seconds later, in another file. A new token is therefore used
//! when its owner is certain: its file names the owner, the named owner has changed to this account, or no other owner
//! was named for a while. The credential before it is kept meanwhile, and taken back when another owner is named later.

use std::time::Duration;

use crate::credential::{Fingerprint, FormerRole, SETTLE};
use crate::pool::{AccountIdentity, IdentityMatch, Wall};

/// An account that follows a file.
pub(super) struct FollowingAccount<'a> {
    pub(super) identity: AccountIdentity<'a>,
    /// Its current credential, and when its access token expires.
    pub(super) current: Option<(Fingerprint, Option<Wall>)>,
    /// Whether it had the file's credential before.
    pub(super) had_before: bool,
    pub(super) former: Option<KnownFormer>,
}

/// The other credential of an account.
#[derive(Clone, Copy)]
pub(super) struct KnownFormer {
    pub(super) print: Fingerprint,
    pub(super) role: FormerRole,
    /// How long it has not been the current one.
    pub(super) age: Duration,
    /// Whether the current one can still turn out to be another account's.
    pub(super) is_on_trial: bool,
}

/// The login in the file.
pub(super) struct SeenLogin<'a> {
    pub(super) identity: AccountIdentity<'a>,
    pub(super) print: Fingerprint,
    pub(super) expires_at: Option<Wall>,
    /// Whether its tool names the owner in another file, after it has written the login.
    pub(super) owner_comes_later: bool,
}

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FollowDecision {
    /// Nothing: the account has this login, or had it before.
    Keep,
    /// The account has this login, and its tool confirms the owner.
    Confirm,
    /// The owner may still be named: decide again at this time.
    WaitUntil(Duration),
    /// The account takes the login. Its current one is kept, in case that another owner is named later.
    Adopt,
    /// The account takes a login that is certainly its own.
    AdoptCertain,
    /// The login was taken back, and is the account's own after all.
    Restore,
    /// The login belongs to another account.
    OfAnother,
    /// The login belongs to another account, and this account has adopted it.
    TakeBack,
    /// The login belongs to another account; the one that was taken back before did not.
    RestoreOther,
}

/// When a login was first seen in a file, and which owners were named around that time.
#[derive(Debug)]
pub(super) struct Observation {
    print: Fingerprint,
    since: Duration,
    /// The owner that was named with the login before this one, and with this one at first.
    earlier: [Option<NamedOwner>; 2],
}

/// The owner that a file names: person, organisation and email address.
type NamedOwner = [Option<String>; 3];

impl Observation {
    /// Updates what was observed of a file by what it contains now; `age` is how long ago it was written.
    pub(super) fn update(known: &mut Option<Self>, seen: &SeenLogin<'_>, now: Duration, age: Duration) {
        match known {
            Some(known) if known.print == seen.print => {}
            Some(known) => {
                let before = known.earlier[1].take();
                *known = Self { print: seen.print, since: now, earlier: [before, Some(named(&seen.identity))] };
            }
            None => {
                let since = now.saturating_sub(age);
                *known = Some(Self { print: seen.print, since, earlier: [None, Some(named(&seen.identity))] });
            }
        }
    }

    /// Whether another owner was named before than is named now.
    fn owner_has_changed(&self, seen: &SeenLogin<'_>) -> bool {
        let now = named(&seen.identity);
        self.earlier.iter().flatten().any(|earlier| *earlier != now)
    }
}

fn named(identity: &AccountIdentity<'_>) -> NamedOwner {
    [identity.person, identity.organization, identity.email].map(|fact| fact.map(str::to_ascii_lowercase))
}

pub(super) fn decide(
    account: &FollowingAccount<'_>,
    seen: &SeenLogin<'_>,
    observed: &Observation,
    now: Duration,
) -> FollowDecision {
    let compared = account.identity.compare(&seen.identity);
    let is_current = account.current.is_some_and(|(print, _)| print == seen.print);
    let former = account.former;
    let withdrawn = former.filter(|former| former.role == FormerRole::Withdrawn);
    if compared == IdentityMatch::Contradicts {
        // the named owner can change before the login does, too
        let was_own = withdrawn.is_some_and(|former| former.print != seen.print && former.age < 2 * SETTLE);
        return match former {
            Some(former) if is_current && former.is_on_trial => FollowDecision::TakeBack,
            _ if was_own => FollowDecision::RestoreOther,
            _ => FollowDecision::OfAnother,
        };
    }
    let is_newer = account.current.is_some_and(|(_, ends)| seen.expires_at > ends);
    let is_withdrawn = withdrawn.is_some_and(|former| former.print == seen.print);
    if is_current {
        return match compared {
            // the same refresh token with another access token
            _ if is_newer => FollowDecision::AdoptCertain,
            IdentityMatch::Agrees => FollowDecision::Confirm,
            _ => FollowDecision::Keep,
        };
    }
    if account.had_before && !is_withdrawn {
        return FollowDecision::Keep;
    }
    let take = if is_withdrawn { FollowDecision::Restore } else { FollowDecision::Adopt };
    if !seen.owner_comes_later || account.identity.is_unknown() {
        return FollowDecision::AdoptCertain;
    }
    let is_confirmed = compared == IdentityMatch::Agrees && observed.owner_has_changed(seen);
    let settled = observed.since + SETTLE;
    if is_confirmed || now >= settled { take } else { FollowDecision::WaitUntil(settled) }
}

#[cfg(test)]
mod tests {
    use super::FollowDecision::{
        Adopt, AdoptCertain, Confirm, Keep, OfAnother, Restore, RestoreOther, TakeBack, WaitUntil,
    };
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// `person/organisation/email`; a dash stands for an unknown fact.
    fn identity(text: &str) -> AccountIdentity<'_> {
        let mut facts = text.split('/').map(|fact| Some(fact).filter(|fact| *fact != "-"));
        let mut next = || facts.next().flatten();
        AccountIdentity { provider: "anthropic", person: next(), organization: next(), email: next() }
    }

    /// An account with credential 1 that follows a file, in virtual time.
    struct Scene {
        account: &'static str,
        current: u128,
        had: Vec<u128>,
        /// The other credential, its role, and since when.
        former: Option<(u128, FormerRole, Duration)>,
        observed: Option<Observation>,
        at: Duration,
    }

    impl Scene {
        fn new(account: &'static str) -> Self {
            let mut scene =
                Self { account, current: 1, had: vec![1], former: None, observed: None, at: Duration::from_secs(100) };
            // the login was imported, and the file is watched since then
            scene.reads(0, 1, account);
            scene
        }

        /// After `millis` the file contains this token, and this owner is named. Carries out what is decided.
        fn reads(&mut self, millis: u64, token: u128, owner: &str) -> FollowDecision {
            self.at += Duration::from_millis(millis);
            let seen = SeenLogin {
                identity: identity(owner),
                print: Fingerprint(token),
                expires_at: None,
                owner_comes_later: true,
            };
            Observation::update(&mut self.observed, &seen, self.at, Duration::from_secs(3600));
            let former = self.former.map(|(print, role, since)| KnownFormer {
                print: Fingerprint(print),
                role,
                age: self.at - since,
                is_on_trial: role == FormerRole::Before && self.at - since < Duration::from_secs(600),
            });
            let account = FollowingAccount {
                identity: identity(self.account),
                current: Some((Fingerprint(self.current), None)),
                had_before: self.had.contains(&token),
                former,
            };
            let decision = decide(&account, &seen, self.observed.as_ref().unwrap(), self.at);
            match decision {
                Adopt | AdoptCertain => {
                    self.former = Some((self.current, FormerRole::Before, self.at)).filter(|_| decision == Adopt);
                    self.current = token;
                    self.had.push(token);
                }
                TakeBack => self.exchange(FormerRole::Withdrawn),
                Restore | RestoreOther => self.exchange(FormerRole::Before),
                _ => {}
            }
            decision
        }

        fn exchange(&mut self, role: FormerRole) {
            let (other, _, _) = self.former.unwrap();
            self.former = Some((self.current, role, self.at));
            self.current = other;
        }
    }

    const A: &str = "A/org-A/a@b.c";
    const B: &str = "B/org-B/b@b.c";
    const SAME_PERSON: &str = "A/org-T/a@b.c";

    #[test]
    fn a_token_is_used_when_no_other_owner_is_named_for_a_while() {
        let mut scene = Scene::new(A);
        let settled = WaitUntil(scene.at + 10 * SECOND + SETTLE);
        assert_eq!(scene.reads(10_000, 2, A), settled);
        assert_eq!(scene.reads(4_999, 2, A), settled, "the old token serves meanwhile");
        assert_eq!(scene.reads(1, 2, A), Adopt);
        assert_eq!(scene.reads(1, 2, A), Confirm);
    }

    #[test]
    fn another_owner_that_is_named_later_keeps_its_token() {
        for (other, late) in [(B, 15), (B, 1_500), (B, 4_000), (SAME_PERSON, 1_500), (SAME_PERSON, 4_900)] {
            let mut scene = Scene::new(A);
            assert!(matches!(scene.reads(10_000, 2, A), WaitUntil(_)));
            assert_eq!(scene.reads(late, 2, other), OfAnother, "{other} after {late} ms");
            assert_eq!((scene.reads(60_000, 2, other), scene.current), (OfAnother, 1));
        }
    }

    #[test]
    fn a_contradiction_after_the_wait_is_undone() {
        for other in [B, SAME_PERSON] {
            let mut scene = Scene::new(A);
            scene.reads(10_000, 2, A);
            assert_eq!(scene.reads(5_000, 2, A), Adopt);
            assert_eq!((scene.reads(3_000, 2, other), scene.current), (TakeBack, 1), "{other}");
            assert_eq!(scene.reads(1_000, 2, other), OfAnother);
            // the owner logs in again
            assert!(matches!(scene.reads(60_000, 3, other), OfAnother));
            assert_eq!(scene.reads(2_000, 3, A), Adopt, "the owner that is named has changed: that confirms the token");
        }
        let mut scene = Scene::new(A);
        scene.reads(10_000, 2, A);
        scene.reads(5_000, 2, A);
        assert_eq!(scene.reads(3_600_000, 2, B), OfAnother, "after an hour the token is the account's own");
        assert_eq!(scene.current, 2);
    }

    #[test]
    fn an_owner_that_is_named_before_the_token_changes_takes_no_token_away() {
        let mut scene = Scene::new(A);
        scene.reads(10_000, 2, A);
        scene.reads(5_000, 2, A);
        assert_eq!(scene.reads(60_000, 2, B), TakeBack, "the owner changes first");
        assert_eq!((scene.reads(1_000, 3, B), scene.current), (RestoreOther, 2), "and the token follows");
        let mut scene = Scene::new(A);
        scene.reads(10_000, 2, A);
        scene.reads(5_000, 2, A);
        assert_eq!(scene.reads(60_000, 2, B), TakeBack, "the file with the owner was replaced by mistake");
        assert_eq!((scene.reads(1_000, 2, A), scene.current), (Restore, 2), "and put back");
    }

    #[test]
    fn without_a_readable_owner_the_wait_decides() {
        let mut scene = Scene::new(A);
        assert!(matches!(scene.reads(10_000, 2, "-/-/-"), WaitUntil(_)));
        assert_eq!(scene.reads(5_000, 2, "-/-/-"), Adopt);
        assert_eq!((scene.reads(3_000, 2, B), scene.current), (TakeBack, 1));
        let mut unknown = Scene::new("-/-/-");
        assert_eq!(unknown.reads(10_000, 2, B), AdoptCertain, "an account without an owner follows its file");
    }

    #[test]
    fn old_tokens_are_not_adopted_again() {
        let mut scene = Scene::new(A);
        scene.reads(10_000, 2, A);
        scene.reads(5_000, 2, A);
        assert_eq!(scene.reads(60_000, 1, A), Keep);
        assert_eq!(scene.reads(5_000, 1, A), Keep);
    }

    #[test]
    fn a_file_that_names_the_owner_itself_needs_no_wait() {
        let mut observed = None;
        let seen = |owner: &'static str, print| SeenLogin {
            identity: identity(owner),
            print: Fingerprint(print),
            expires_at: Some(Wall(9)),
            owner_comes_later: false,
        };
        let account = |current| FollowingAccount {
            identity: identity(A),
            current: Some((Fingerprint(current), Some(Wall(8)))),
            had_before: false,
            former: None,
        };
        let mut at = |seen: SeenLogin<'_>, current| {
            Observation::update(&mut observed, &seen, SECOND, SECOND);
            decide(&account(current), &seen, observed.as_ref().unwrap(), SECOND)
        };
        assert_eq!(at(seen(A, 2), 1), AdoptCertain);
        assert_eq!(at(seen(B, 3), 1), OfAnother);
        assert_eq!(at(seen(A, 1), 1), AdoptCertain, "another access token of the same login");
    }

    #[test]
    fn a_file_that_was_written_long_ago_is_settled_at_once() {
        let mut observed = None;
        let seen =
            SeenLogin { identity: identity(A), print: Fingerprint(2), expires_at: None, owner_comes_later: true };
        let account = FollowingAccount {
            identity: identity(A),
            current: Some((Fingerprint(1), None)),
            had_before: false,
            former: None,
        };
        let now = Duration::from_secs(3);
        Observation::update(&mut observed, &seen, now, 4 * SECOND);
        // since the start of the machine
        assert_eq!(decide(&account, &seen, observed.as_ref().unwrap(), now), WaitUntil(SETTLE));
        let now = Duration::from_secs(60);
        let mut observed = None;
        Observation::update(&mut observed, &seen, now, 6 * SECOND);
        assert_eq!(decide(&account, &seen, observed.as_ref().unwrap(), now), Adopt);
    }
}
