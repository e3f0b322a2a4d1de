use super::*;
use crate::credential::import::{Entry, Tool};
use crate::credential::{Credential, LinkMode, Secret};
use crate::limits::{Reason, Scope};

const NOW: Wall = Wall(1_000_000);

/// A login of Claude Code's: its refresh token, when its access token ends.
fn login(refresh: &str, ends: u64) -> Entry {
    let credential = Credential {
        kind: CredentialKind::Oauth,
        access: Secret::new(format!("at-{refresh}-{ends}")),
        refresh: Some(Secret::new(refresh.to_owned())),
        expires_at: Some(Wall(ends)),
    };
    let mut entry = Entry::new(Tool::ClaudeCode, "claudeAiOauth".into(), "anthropic", credential);
    entry.rotates = true;
    entry.file = Some("/h/.claude/.credentials.json".into());
    entry
}

/// A Google login without an access token.
fn google(refresh: &str) -> Entry {
    let credential = Credential {
        kind: CredentialKind::Oauth,
        access: Secret::new(String::new()),
        refresh: Some(Secret::new(refresh.to_owned())),
        expires_at: Some(Wall(0)),
    };
    Entry::new(Tool::AntigravityAuth, "accounts[0]".into(), "google", credential)
}

fn print(entry: &Entry) -> Fingerprint {
    crate::credential::FingerprintKey::new([7; 16]).of_credential(&entry.credential)
}

fn plan(mode: LinkMode) -> Plan {
    // linking is what is done unasked
    Plan::new(Vec::new(), Some(mode).filter(|mode| *mode != LinkMode::Link), NOW)
}

/// Outcome, account, whether the token was taken.
fn take(plan: &mut Plan, entry: &Entry) -> (Outcome, Option<usize>, bool) {
    let step = plan.next(entry, print(entry));
    (step.outcome, step.account, step.takes_token)
}

#[test]
fn twice_changes_nothing_newer_updates_older_does_not() {
    let mut plan = plan(LinkMode::Link);
    assert_eq!(take(&mut plan, &login("r1", 2_000_000)), (Outcome::Linked, Some(0), true));
    let step = plan.next(&login("r1", 2_000_000), print(&login("r1", 2_000_000)));
    assert_eq!((step.outcome, step.message.as_str()), (Outcome::Same, "nothing new"));
    // not yet known to be of one account: without id or address only the token tells
    assert_eq!(take(&mut plan, &login("r2", 3_000_000)), (Outcome::Linked, Some(1), true));
    let owned = |refresh: &str, ends| Entry { email: Some("A@b.c".into()), ..login(refresh, ends) };
    let mut plan = Plan::new(Vec::new(), None, NOW);
    assert_eq!(take(&mut plan, &owned("r1", 2_000_000)).0, Outcome::Linked);
    assert_eq!(take(&mut plan, &owned("r2", 3_000_000)), (Outcome::Updated, Some(0), true));
    assert_eq!(take(&mut plan, &owned("r1", 9_000_000)), (Outcome::Same, Some(0), false), "it had that before");
    assert_eq!(take(&mut plan, &owned("r3", 2_500_000)), (Outcome::Same, Some(0), false), "it ends sooner");
    assert_eq!(take(&mut plan, &owned("r2", 3_500_000)), (Outcome::Updated, Some(0), true), "a new access token");
}

#[test]
fn accounts_are_told_by_id_then_address_then_token() {
    let with = |vendor: Option<&str>, email: Option<&str>, refresh: &str, ends| Entry {
        vendor_id: vendor.map(str::to_owned),
        email: email.map(str::to_owned),
        ..login(refresh, ends)
    };
    let mut plan = plan(LinkMode::TakeOver);
    assert_eq!(take(&mut plan, &with(Some("u1"), Some("a@b.c"), "r1", 2_000_000)), (Outcome::Added, Some(0), true));
    assert_eq!(take(&mut plan, &with(Some("u1"), Some("new@b.c"), "r2", 3_000_000)).1, Some(0), "a new address");
    assert_eq!(take(&mut plan, &with(Some("u2"), Some("a@b.c"), "r3", 2_000_000)).1, Some(1), "another workspace");
    assert_eq!(take(&mut plan, &with(None, Some("a@b.c"), "r3", 2_000_000)).1, Some(1), "the token tells which");
    let step = plan.next(&with(None, Some("a@b.c"), "r9", 2_000_000), Fingerprint(9));
    assert_eq!((step.outcome, step.account), (Outcome::Refused, None));
    assert!(step.message.contains("several accounts"), "{}", step.message);
    assert_eq!(take(&mut plan, &with(None, None, "r2", 3_000_000)).1, Some(0), "by its token");
    // keys have no owner to be told by
    let key = |secret: &str| {
        let secret = Secret::new(secret.to_owned());
        let credential = Credential { kind: CredentialKind::ApiKey, access: secret, refresh: None, expires_at: None };
        Entry { email: Some("a@b.c".into()), ..Entry::new(Tool::Environment, "X".into(), "anthropic", credential) }
    };
    assert_eq!(take(&mut plan, &key("k1")), (Outcome::Added, Some(2), true));
    assert_eq!(take(&mut plan, &key("k2")), (Outcome::Added, Some(3), true));
    assert_eq!(take(&mut plan, &key("k1")), (Outcome::Same, Some(2), false));
}

#[test]
fn members_of_a_workspace_are_told_by_their_addresses() {
    let member = |email: &str, refresh: &str| Entry {
        provider: "openai".into(),
        tool: Tool::Codex,
        vendor_id: Some("workspace".into()),
        email: Some(email.into()),
        ..login(refresh, 2_000_000)
    };
    let mut plan = plan(LinkMode::TakeOver);
    assert_eq!(take(&mut plan, &member("a@b.c", "r1")).1, Some(0));
    assert_eq!(take(&mut plan, &member("d@b.c", "r2")).1, Some(1));
    assert_eq!(take(&mut plan, &member("A@B.C", "r1")).1, Some(0));
}

#[test]
fn what_was_not_known_is_learnt_once() {
    let mut plan = plan(LinkMode::Link);
    assert_eq!(take(&mut plan, &google("r1")), (Outcome::Added, Some(0), true));
    let limit = |until| Limited {
        scope: Scope::Pool,
        key: "claude".into(),
        reason: Reason::RateLimitExceeded,
        until: Wall(until),
    };
    let more = || Entry {
        email: Some("a@b.c".into()),
        label: Some("work".into()),
        vendor_id: Some("1".into()),
        project_id: Some("p".into()),
        tier: Tier::Pro,
        limits: vec![limit(2_000_000)],
        ..google("r1")
    };
    let step = plan.next(&more(), print(&more()));
    assert_eq!((step.outcome, step.takes_token), (Outcome::Updated, false));
    assert_eq!(step.learnt.limits, [limit(2_000_000)]);
    for word in ["its address", "a label", "its vendor's id", "its project", "its plan", "a limit"] {
        assert!(step.message.contains(word), "{}", step.message);
    }
    assert_eq!(take(&mut plan, &more()).0, Outcome::Same);
    let shorter = Entry { limits: vec![limit(1_500_000)], email: Some("x@y.z".into()), ..more() };
    assert_eq!(take(&mut plan, &shorter).0, Outcome::Same, "a longer limit and a known address stay");
    // a label is one account's
    let other = Entry { label: Some("work".into()), ..google("r2") };
    let step = plan.next(&other, print(&other));
    assert_eq!((step.outcome, step.learnt.label.as_deref()), (Outcome::Added, None));
    assert!(step.message.contains("label"), "{}", step.message);
}

#[test]
fn without_ends_the_time_of_writing_tells() {
    let owned =
        |refresh: &str, written| Entry { email: Some("a@b.c".into()), as_of: Some(Wall(written)), ..google(refresh) };
    let mut plan = plan(LinkMode::Link);
    assert_eq!(take(&mut plan, &owned("r1", 5)).0, Outcome::Added);
    assert_eq!(take(&mut plan, &owned("r0", 4)).0, Outcome::Same, "written before that one");
    assert_eq!(take(&mut plan, &owned("r2", 6)), (Outcome::Updated, Some(0), true));
    let living = |refresh: &str| {
        let mut entry = Entry { as_of: None, ..owned(refresh, 0) };
        entry.credential.access = Secret::new("ya29.FAKE".into());
        entry.credential.expires_at = Some(Wall(2_000_000));
        entry
    };
    assert_eq!(take(&mut plan, &living("other")).0, Outcome::Same, "an access token that lives is no newer login");
    assert_eq!(take(&mut plan, &living("r2")), (Outcome::Updated, Some(0), true), "of the same one it is news");
    let revoked = Entry { login_ended: Some("revoked".into()), ..owned("gone", 9) };
    assert_eq!(take(&mut plan, &revoked).0, Outcome::Same, "what has ended is no newer login");
    plan.known[0].ended = true;
    assert_eq!(take(&mut plan, &owned("r3", 5)).0, Outcome::Updated, "there is nothing to lose");
    assert_eq!(take(&mut plan, &owned("r1", 2_000_000)).0, Outcome::Same, "that one was there before");
}

#[test]
fn rotating_logins_are_linked_taken_over_or_shared() {
    let entry = || Entry { email: Some("a@b.c".into()), ..login("r1", 2_000_000) };
    let mode_of = |plan: &Plan| plan.known[0].link.as_ref().map(|link| link.mode);
    let first = |mode| {
        let mut plan = plan(mode);
        let step = plan.next(&entry(), print(&entry()));
        (plan, step)
    };
    let (linked, step) = first(LinkMode::Link);
    assert_eq!((step.outcome, mode_of(&linked)), (Outcome::Linked, Some(LinkMode::Link)));
    assert!(step.message.contains("never refreshes it"), "{}", step.message);
    let (taken, step) = first(LinkMode::TakeOver);
    assert_eq!((step.outcome, mode_of(&taken)), (Outcome::Added, Some(LinkMode::TakeOver)));
    assert!(step.message.contains("lessor run"), "{}", step.message);
    let (_, step) = first(LinkMode::Share);
    assert_eq!(step.outcome, Outcome::Linked);
    // taken over later, and it stays so
    let mut again = Plan::new(linked.known, Some(LinkMode::TakeOver), NOW);
    assert_eq!(take(&mut again, &entry()), (Outcome::Updated, Some(0), false));
    assert_eq!(mode_of(&again), Some(LinkMode::TakeOver));
    assert_eq!(take(&mut again, &entry()).0, Outcome::Same);
    let mut again = Plan::new(again.known, None, NOW);
    assert_eq!(take(&mut again, &entry()).0, Outcome::Same);
    let newer = Entry { email: Some("a@b.c".into()), ..login("r2", 3_000_000) };
    assert_eq!(take(&mut again, &newer).0, Outcome::Updated);
    assert_eq!(mode_of(&again), Some(LinkMode::TakeOver), "nobody said otherwise");
    // what has no locks cannot be shared, what has no file not be followed
    for (entry, mode, part) in [
        (Entry { tool: Tool::Codex, ..entry() }, LinkMode::Share, "--take-over"),
        (Entry { file: Some("keychain:x".into()), ..entry() }, LinkMode::Share, "keychain"),
        (Entry { file: None, ..entry() }, LinkMode::Link, "no file to follow"),
    ] {
        let step = plan(mode).next(&entry, print(&entry));
        assert_eq!(step.outcome, Outcome::Refused);
        assert!(step.message.contains(part), "{}", step.message);
    }
    // as it was where it was exported
    let moved = Entry { mode: Some(LinkMode::TakeOver), ..entry() };
    let (mut unasked, mut asked) = (plan(LinkMode::Link), plan(LinkMode::Share));
    take(&mut unasked, &moved);
    take(&mut asked, &moved);
    assert_eq!((mode_of(&unasked), mode_of(&asked)), (Some(LinkMode::TakeOver), Some(LinkMode::Share)));
    let key = Entry { rotates: false, ..entry() };
    assert_eq!(plan(LinkMode::Share).next(&key, print(&key)).outcome, Outcome::Added, "copies need no locks");
}

#[test]
fn a_login_is_followed_in_one_place() {
    let at = |file: &str, refresh: &str, ends| Entry {
        email: Some("a@b.c".into()),
        file: Some(file.into()),
        ..login(refresh, ends)
    };
    let mut plan = plan(LinkMode::Link);
    take(&mut plan, &at("/one", "r1", 2_000_000));
    let step = plan.next(&at("/two", "r2", 3_000_000), print(&at("/two", "r2", 3_000_000)));
    assert_eq!((step.outcome, step.takes_token), (Outcome::Same, false));
    assert!(step.message.contains("/one") && step.message.contains("lessor doctor"), "{}", step.message);
    plan.known[0].ended = true;
    assert_eq!(take(&mut plan, &at("/two", "r2", 3_000_000)), (Outcome::Updated, Some(0), true));
    assert_eq!(plan.known[0].link.as_ref().unwrap().path, "/two");
    // lessor's own login is not given away to a tool that is behind
    let mut own = Plan::new(plan.known.clone(), None, NOW);
    own.known[0].link = None;
    assert_eq!(take(&mut own, &at("/one", "r1", 2_000_000)).0, Outcome::Same);
    assert_eq!(own.known[0].link, None);
    assert_eq!(take(&mut own, &at("/one", "r9", 9_000_000)), (Outcome::Updated, Some(0), true));
    assert_eq!(own.known[0].link.as_ref().map(|link| link.mode), Some(LinkMode::Link));
}
