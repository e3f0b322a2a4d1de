use super::*;
use crate::credential::import::{DiscoveredAccount, Tool};
use crate::credential::{Credential, LinkMode, Secret};
use crate::limits::{Reason, Scope};

const NOW: Wall = Wall(1_000_000);

/// A login of Claude Code with this refresh token and expiry.
fn login(refresh: &str, ends: u64) -> DiscoveredAccount {
    let credential = Credential {
        refresh: Some(Secret::new(refresh.to_owned())),
        expires_at: Some(Wall(ends)),
        ..Credential::new(CredentialKind::Oauth, Secret::new(format!("at-{refresh}-{ends}")))
    };
    let mut entry = DiscoveredAccount::new(Tool::ClaudeCode, "claudeAiOauth".into(), "anthropic", credential);
    entry.rotates = true;
    entry.file = Some("/h/.claude/.credentials.json".into());
    entry
}

/// A Google login without an access token.
fn google(refresh: &str) -> DiscoveredAccount {
    let credential = Credential {
        refresh: Some(Secret::new(refresh.to_owned())),
        expires_at: Some(Wall(0)),
        ..Credential::new(CredentialKind::Oauth, Secret::new(String::new()))
    };
    DiscoveredAccount::new(Tool::AntigravityAuth, "accounts[0]".into(), "google", credential)
}

fn print(entry: &DiscoveredAccount) -> Fingerprint {
    crate::credential::FingerprintKey::new([7; 16]).of_credential(&entry.credential)
}

fn plan(mode: LinkMode) -> ImportPlan {
    // linking is the default
    ImportPlan::new(Vec::new(), Some(mode).filter(|mode| *mode != LinkMode::Link), NOW)
}

/// Outcome, account, whether the token was taken.
fn take(plan: &mut ImportPlan, entry: &DiscoveredAccount) -> (ImportOutcome, Option<usize>, bool) {
    let step = plan.next(entry, print(entry));
    (step.outcome, step.account, step.takes_token)
}

#[test]
fn the_same_login_changes_nothing_a_newer_one_updates_an_older_one_does_not() {
    let mut plan = plan(LinkMode::Link);
    assert_eq!(take(&mut plan, &login("r1", 2_000_000)), (ImportOutcome::Linked, Some(0), true));
    let step = plan.next(&login("r1", 2_000_000), print(&login("r1", 2_000_000)));
    assert_eq!((step.outcome, step.message.as_str()), (ImportOutcome::Same, "nothing new"));
    // without an id or address only the token identifies the account
    assert_eq!(take(&mut plan, &login("r2", 3_000_000)), (ImportOutcome::Linked, Some(1), true));
    let owned = |refresh: &str, ends| DiscoveredAccount { email: Some("A@b.c".into()), ..login(refresh, ends) };
    let mut plan = ImportPlan::new(Vec::new(), None, NOW);
    assert_eq!(take(&mut plan, &owned("r1", 2_000_000)).0, ImportOutcome::Linked);
    assert_eq!(take(&mut plan, &owned("r2", 3_000_000)), (ImportOutcome::Updated, Some(0), true));
    assert_eq!(take(&mut plan, &owned("r1", 9_000_000)), (ImportOutcome::Same, Some(0), false), "it had that before");
    assert_eq!(take(&mut plan, &owned("r3", 2_500_000)), (ImportOutcome::Same, Some(0), false), "it ends sooner");
    assert_eq!(take(&mut plan, &owned("r2", 3_500_000)), (ImportOutcome::Updated, Some(0), true), "a new access token");
}

#[test]
fn accounts_are_identified_by_person_then_address_then_token() {
    let with = |vendor: Option<&str>, email: Option<&str>, refresh: &str, ends| DiscoveredAccount {
        owner: AccountOwner { person: vendor.map(str::to_owned), ..AccountOwner::default() },
        email: email.map(str::to_owned),
        ..login(refresh, ends)
    };
    let mut plan = plan(LinkMode::TakeOver);
    assert_eq!(
        take(&mut plan, &with(Some("u1"), Some("a@b.c"), "r1", 2_000_000)),
        (ImportOutcome::Added, Some(0), true)
    );
    assert_eq!(take(&mut plan, &with(Some("u1"), Some("new@b.c"), "r2", 3_000_000)).1, Some(0), "a new address");
    assert_eq!(take(&mut plan, &with(Some("u2"), Some("a@b.c"), "r3", 2_000_000)).1, Some(1), "another person");
    assert_eq!(take(&mut plan, &with(None, Some("a@b.c"), "r3", 2_000_000)).1, Some(1), "the token tells which");
    let step = plan.next(&with(None, Some("a@b.c"), "r9", 2_000_000), Fingerprint(9));
    assert_eq!((step.outcome, step.account), (ImportOutcome::Refused, None));
    assert!(step.message.contains("several accounts"), "{}", step.message);
    assert_eq!(take(&mut plan, &with(None, None, "r2", 3_000_000)).1, Some(0), "by its token");
    // a key has no owner that identifies it
    let key = |secret: &str| {
        let secret = Secret::new(secret.to_owned());
        let credential = Credential::new(CredentialKind::ApiKey, secret);
        DiscoveredAccount {
            email: Some("a@b.c".into()),
            ..DiscoveredAccount::new(Tool::Environment, "X".into(), "anthropic", credential)
        }
    };
    assert_eq!(take(&mut plan, &key("k1")), (ImportOutcome::Added, Some(2), true));
    assert_eq!(take(&mut plan, &key("k2")), (ImportOutcome::Added, Some(3), true));
    assert_eq!(take(&mut plan, &key("k1")), (ImportOutcome::Same, Some(2), false));
}

#[test]
fn members_of_a_workspace_are_identified_by_their_addresses() {
    let member = |email: &str, refresh: &str| DiscoveredAccount {
        provider: "openai".into(),
        tool: Tool::Codex,
        owner: AccountOwner { organization: Some("workspace".into()), ..AccountOwner::default() },
        email: Some(email.into()),
        ..login(refresh, 2_000_000)
    };
    let mut plan = plan(LinkMode::TakeOver);
    assert_eq!(take(&mut plan, &member("a@b.c", "r1")).1, Some(0));
    assert_eq!(take(&mut plan, &member("d@b.c", "r2")).1, Some(1));
    assert_eq!(take(&mut plan, &member("A@B.C", "r1")).1, Some(0));
}

#[test]
fn missing_facts_are_added_once() {
    let mut plan = plan(LinkMode::Link);
    assert_eq!(take(&mut plan, &google("r1")), (ImportOutcome::Added, Some(0), true));
    let limit = |until| DiscoveredLimit {
        scope: Scope::Pool,
        key: "claude".into(),
        reason: Reason::RateLimitExceeded,
        until: Wall(until),
    };
    let more = || DiscoveredAccount {
        email: Some("a@b.c".into()),
        label: Some("work".into()),
        owner: AccountOwner { person: Some("1".into()), ..AccountOwner::default() },
        project_id: Some("p".into()),
        tier: Tier::Pro,
        limits: vec![limit(2_000_000)],
        ..google("r1")
    };
    let step = plan.next(&more(), print(&more()));
    assert_eq!((step.outcome, step.takes_token), (ImportOutcome::Updated, false));
    assert_eq!(step.update.limits, [limit(2_000_000)]);
    // it got a label when it was added, and keeps it
    assert_eq!(step.update.label, None);
    for word in ["its address", "its owner", "its project", "its plan", "a limit"] {
        assert!(step.message.contains(word), "{}", step.message);
    }
    assert_eq!(take(&mut plan, &more()).0, ImportOutcome::Same);
    let shorter = DiscoveredAccount { limits: vec![limit(1_500_000)], email: Some("x@y.z".into()), ..more() };
    assert_eq!(take(&mut plan, &shorter).0, ImportOutcome::Same, "a longer limit and a known address stay");
    // another account may not get the same label
    let labelled = |refresh| DiscoveredAccount { label: Some("work".into()), ..google(refresh) };
    assert_eq!(plan.next(&labelled("r3"), print(&labelled("r3"))).update.label.as_deref(), Some("work"));
    let other = labelled("r2");
    let step = plan.next(&other, print(&other));
    assert_eq!((step.outcome, step.update.label.as_deref()), (ImportOutcome::Added, Some("work-2")));
    assert!(step.message.contains("it is called work-2"), "{}", step.message);
}

#[test]
fn an_account_without_a_label_gets_one_when_it_is_added() {
    let mut plan = plan(LinkMode::TakeOver);
    let of = |email: Option<&str>, tool, refresh: &str| DiscoveredAccount {
        email: email.map(str::to_owned),
        tool,
        ..login(refresh, 2_000_000)
    };
    let mut label = |entry: DiscoveredAccount| plan.next(&entry, print(&entry)).update.label.unwrap();
    assert_eq!(label(of(Some("me@home.org"), Tool::ClaudeCode, "r1")), "claude-me");
    assert_eq!(label(of(Some("me@work.org"), Tool::ClaudeCode, "r2")), "claude-me-work");
    assert_eq!(label(of(None, Tool::ClaudeCode, "r3")), "claude-1");
    assert_eq!(label(of(None, Tool::Opencode, "r4")), "claude-2");
}

#[test]
fn without_expiries_the_time_of_writing_decides() {
    let owned = |refresh: &str, written| DiscoveredAccount {
        email: Some("a@b.c".into()),
        as_of: Some(Wall(written)),
        ..google(refresh)
    };
    let mut plan = plan(LinkMode::Link);
    assert_eq!(take(&mut plan, &owned("r1", 5)).0, ImportOutcome::Added);
    assert_eq!(take(&mut plan, &owned("r0", 4)).0, ImportOutcome::Same, "written before that one");
    assert_eq!(take(&mut plan, &owned("r2", 6)), (ImportOutcome::Updated, Some(0), true));
    let living = |refresh: &str| {
        let mut entry = DiscoveredAccount { as_of: None, ..owned(refresh, 0) };
        entry.credential.access = Secret::new("ya29.FAKE".into());
        entry.credential.expires_at = Some(Wall(2_000_000));
        entry
    };
    assert_eq!(
        take(&mut plan, &living("other")).0,
        ImportOutcome::Same,
        "a valid access token does not make a login newer"
    );
    assert_eq!(take(&mut plan, &living("r2")), (ImportOutcome::Updated, Some(0), true), "of the same one it is news");
    let revoked = DiscoveredAccount { login_ended: Some("revoked".into()), ..owned("gone", 9) };
    assert_eq!(take(&mut plan, &revoked).0, ImportOutcome::Same, "what has ended is no newer login");
    plan.known[0].ended = true;
    assert_eq!(take(&mut plan, &owned("r3", 5)).0, ImportOutcome::Updated, "there is nothing to lose");
    assert_eq!(take(&mut plan, &owned("r1", 2_000_000)).0, ImportOutcome::Same, "that one was there before");
    (plan.known[0].expires_at, plan.known[0].ended) = (Some(Wall(3_000_000)), true);
    assert_eq!(take(&mut plan, &owned("r4", 2_000_000)).0, ImportOutcome::Updated, "though its token ends sooner");
}

#[test]
fn rotating_logins_are_linked_taken_over_or_shared() {
    let entry = || DiscoveredAccount { email: Some("a@b.c".into()), ..login("r1", 2_000_000) };
    let mode_of = |plan: &ImportPlan| plan.known[0].link.as_ref().map(|link| link.mode);
    let first = |mode| {
        let mut plan = plan(mode);
        let step = plan.next(&entry(), print(&entry()));
        (plan, step)
    };
    let (linked, step) = first(LinkMode::Link);
    assert_eq!((step.outcome, mode_of(&linked)), (ImportOutcome::Linked, Some(LinkMode::Link)));
    assert!(step.message.contains("Claude Code refreshes this login"), "{}", step.message);
    let (taken, step) = first(LinkMode::TakeOver);
    assert_eq!((step.outcome, mode_of(&taken)), (ImportOutcome::Added, Some(LinkMode::TakeOver)));
    assert!(step.message.contains("lessor run"), "{}", step.message);
    let (_, step) = first(LinkMode::Share);
    assert_eq!(step.outcome, ImportOutcome::Linked);
    // taken over later, and it stays so
    let mut again = ImportPlan::new(linked.known, Some(LinkMode::TakeOver), NOW);
    assert_eq!(take(&mut again, &entry()), (ImportOutcome::Updated, Some(0), false));
    assert_eq!(mode_of(&again), Some(LinkMode::TakeOver));
    assert_eq!(take(&mut again, &entry()).0, ImportOutcome::Same);
    let mut again = ImportPlan::new(again.known, None, NOW);
    assert_eq!(take(&mut again, &entry()).0, ImportOutcome::Same);
    let newer = DiscoveredAccount { email: Some("a@b.c".into()), ..login("r2", 3_000_000) };
    assert_eq!(take(&mut again, &newer).0, ImportOutcome::Updated);
    assert_eq!(mode_of(&again), Some(LinkMode::TakeOver), "no other mode was chosen");
    // without locks there is no sharing, without a file no link
    for (entry, mode, part) in [
        (DiscoveredAccount { tool: Tool::Codex, ..entry() }, LinkMode::Share, "--take-over"),
        (DiscoveredAccount { file: Some("keychain:x".into()), ..entry() }, LinkMode::Share, "keychain"),
        (DiscoveredAccount { file: None, ..entry() }, LinkMode::Link, "no file to follow"),
    ] {
        let step = plan(mode).next(&entry, print(&entry));
        assert_eq!(step.outcome, ImportOutcome::Refused);
        assert!(step.message.contains(part), "{}", step.message);
    }
    // the exported mode is kept
    let moved = DiscoveredAccount { mode: Some(LinkMode::TakeOver), ..entry() };
    let (mut unasked, mut asked) = (plan(LinkMode::Link), plan(LinkMode::Share));
    take(&mut unasked, &moved);
    take(&mut asked, &moved);
    assert_eq!((mode_of(&unasked), mode_of(&asked)), (Some(LinkMode::TakeOver), Some(LinkMode::Share)));
    let key = DiscoveredAccount { rotates: false, ..entry() };
    assert_eq!(plan(LinkMode::Share).next(&key, print(&key)).outcome, ImportOutcome::Added, "copies need no locks");
}

#[test]
fn a_login_whose_tool_lessor_starts_follows_its_file_although_it_does_not_rotate() {
    let at = |home: &str, refresh: &str, mode| DiscoveredAccount {
        tool: Tool::GeminiCli,
        file: Some(format!("/state/logins/{home}/oauth_creds.json")),
        mode,
        email: Some("a@b.c".into()),
        ..google(refresh)
    };
    let link_of = |plan: &ImportPlan| {
        let link = plan.known[0].link.as_ref();
        link.map(|link| (link.path.clone(), link.mode))
    };
    let mut plan = plan(LinkMode::Link);
    let entry = at("gemini-1", "r1", Some(LinkMode::StartTool));
    let step = plan.next(&entry, print(&entry));
    assert_eq!(step.outcome, ImportOutcome::Linked);
    assert!(step.message.contains("lessor starts it"), "{}", step.message);
    assert!(step.message.contains("the first refresh makes one"), "it is not left without a token: {}", step.message);
    let first = Some(("/state/logins/gemini-1/oauth_creds.json".to_owned(), LinkMode::StartTool));
    assert_eq!(link_of(&plan), first);
    assert_eq!(take(&mut plan, &entry).0, ImportOutcome::Same);
    // the user's own copy of the login changes nothing
    take(&mut plan, &at("../elsewhere", "r1", None));
    assert_eq!(link_of(&plan), first);
}

#[test]
fn a_new_login_in_a_login_home_takes_the_place_of_the_one_before() {
    let at = |file: &str, refresh: &str, ends, is_new_login| DiscoveredAccount {
        email: Some("a@b.c".into()),
        file: Some(file.into()),
        mode: Some(LinkMode::Share),
        is_new_login,
        ..login(refresh, ends)
    };
    let home = |number: u32| format!("/state/logins/claude-{number}/home/.credentials.json");
    let mut plan = plan(LinkMode::Link);
    let place = |plan: &ImportPlan| plan.known[0].link.as_ref().map(|link| (link.path.clone(), link.mode));
    take(&mut plan, &at(&home(1), "r1", 3_000_000, true));
    // although the token before ends later
    let again = at(&home(2), "r2", 2_000_000, true);
    assert!(!plan.known[0].ended);
    let step = plan.next(&again, print(&again));
    assert!(step.takes_token && !step.keeps_former, "{step:?}");
    assert_eq!(place(&plan), Some((home(2), LinkMode::Share)));
    assert_eq!(take(&mut plan, &again).0, ImportOutcome::Same, "the same file again");
    // a login of the same person that its tool made for itself changes nothing
    let own = at("/h/.claude/.credentials.json", "r3", 9_000_000, false);
    let step = plan.next(&own, print(&own));
    assert!(!step.takes_token && step.message.contains("lessor login claude"), "{step:?}");
    assert_eq!(place(&plan), Some((home(2), LinkMode::Share)));
    // another way of refreshing would leave the home without a refresh
    for mode in [LinkMode::TakeOver, LinkMode::StartTool] {
        plan.mode = Some(mode);
        let step = plan.next(&again, print(&again));
        assert_eq!(step.outcome, ImportOutcome::Refused, "{mode:?}");
        assert!(step.message.contains("directory of lessor's own"), "{step:?}");
    }
    plan.mode = None;
    // Codex's file is shared in a login home only
    for (file, outcome) in [
        ("/state/logins/codex-1/home/auth.json", ImportOutcome::Added),
        ("/h/.codex/auth.json", ImportOutcome::Refused),
    ] {
        let entry = DiscoveredAccount { tool: Tool::Codex, email: None, ..at(file, file, 2_000_000, false) };
        let found = take(&mut plan, &entry).0;
        assert!(
            found == outcome || outcome == ImportOutcome::Added && found == ImportOutcome::Linked,
            "{file}: {found:?}"
        );
    }
}

#[test]
fn a_login_is_linked_to_one_place() {
    let at = |file: &str, refresh: &str, ends| DiscoveredAccount {
        email: Some("a@b.c".into()),
        file: Some(file.into()),
        ..login(refresh, ends)
    };
    let mut plan = plan(LinkMode::Link);
    take(&mut plan, &at("/one", "r1", 2_000_000));
    let step = plan.next(&at("/two", "r2", 3_000_000), print(&at("/two", "r2", 3_000_000)));
    assert_eq!((step.outcome, step.takes_token), (ImportOutcome::Same, false));
    assert!(step.message.contains("/one") && step.message.contains("lessor doctor"), "{}", step.message);
    plan.known[0].ended = true;
    assert_eq!(take(&mut plan, &at("/two", "r2", 3_000_000)), (ImportOutcome::Updated, Some(0), true));
    assert_eq!(plan.known[0].link.as_ref().unwrap().path, "/two");
    // a login that lessor owns is not given to a tool whose login is older
    let mut own = ImportPlan::new(plan.known.clone(), None, NOW);
    own.known[0].link = None;
    assert_eq!(take(&mut own, &at("/one", "r1", 2_000_000)).0, ImportOutcome::Same);
    assert_eq!(own.known[0].link, None);
    assert_eq!(take(&mut own, &at("/one", "r9", 9_000_000)), (ImportOutcome::Updated, Some(0), true));
    assert_eq!(own.known[0].link.as_ref().map(|link| link.mode), Some(LinkMode::Link));
}

/// A login of Claude Code of this person in this organisation, written `age` before now.
fn owned(person: &str, organization: &str, refresh: &str, ends: u64, age: std::time::Duration) -> DiscoveredAccount {
    let owner = AccountOwner {
        person: Some(person.to_owned()),
        organization: Some(organization.to_owned()),
        organization_name: None,
    };
    let written = Wall(NOW.0 - crate::pool::millis(age));
    DiscoveredAccount { owner, email: Some(format!("{person}@b.c")), as_of: Some(written), ..login(refresh, ends) }
}

const LONG_AGO: std::time::Duration = std::time::Duration::from_secs(60);
const JUST_NOW: std::time::Duration = std::time::Duration::from_secs(1);

#[test]
fn each_organisation_of_a_person_is_an_account() {
    let mut plan = plan(LinkMode::TakeOver);
    assert_eq!(take(&mut plan, &owned("p", "x", "r1", 2_000_000, LONG_AGO)).1, Some(0));
    assert_eq!(take(&mut plan, &owned("p", "y", "r2", 3_000_000, LONG_AGO)).1, Some(1));
    assert_eq!(take(&mut plan, &owned("p", "x", "r3", 4_000_000, LONG_AGO)), (ImportOutcome::Updated, Some(0), true));
    let unknown = DiscoveredAccount { owner: AccountOwner::default(), ..owned("p", "", "r9", 9_000_000, LONG_AGO) };
    let step = plan.next(&unknown, print(&unknown));
    assert!(step.message.contains("several accounts"), "{}", step.message);
}

#[test]
fn an_account_learns_its_organisation_without_being_split() {
    let mut plan = plan(LinkMode::TakeOver);
    let before = DiscoveredAccount {
        owner: AccountOwner { person: Some("p".into()), ..AccountOwner::default() },
        ..owned("p", "", "r1", 2_000_000, LONG_AGO)
    };
    assert_eq!(take(&mut plan, &before).1, Some(0));
    let step = plan.next(&owned("p", "x", "r1", 2_000_000, LONG_AGO), print(&before));
    assert_eq!((step.outcome, step.account, step.message.as_str()), (ImportOutcome::Updated, Some(0), "its owner"));
    assert_eq!(take(&mut plan, &owned("p", "y", "r2", 3_000_000, LONG_AGO)).1, Some(1));
}

#[test]
fn a_token_that_was_just_written_is_left_to_the_watcher_of_its_file() {
    let mut plan = plan(LinkMode::Link);
    take(&mut plan, &owned("p", "x", "r1", 2_000_000, LONG_AGO));
    let young = owned("p", "x", "r2", 3_000_000, JUST_NOW);
    let step = plan.next(&young, print(&young));
    assert_eq!((step.outcome, step.takes_token), (ImportOutcome::Updated, false));
    assert!(step.message.contains("within 5 s"), "{}", step.message);
    let settled = owned("p", "x", "r2", 3_000_000, LONG_AGO);
    let step = plan.next(&settled, print(&settled));
    assert_eq!((step.takes_token, step.keeps_former), (true, true), "its owner may still turn out to be another");
    // a login that is not followed is not watched
    let mut taken = self::plan(LinkMode::TakeOver);
    take(&mut taken, &owned("p", "x", "r1", 2_000_000, LONG_AGO));
    assert!(taken.next(&young, print(&young)).takes_token);
}

#[test]
fn a_token_that_another_account_has_adopted_by_mistake_is_given_to_its_owner() {
    let mine = || owned("p", "x", "r1", 2_000_000, LONG_AGO);
    let other = || owned("q", "y", "r1", 2_000_000, LONG_AGO);
    let mut linked = plan(LinkMode::Link);
    take(&mut linked, &mine());
    let step = linked.next(&other(), print(&other()));
    assert_eq!(step.outcome, ImportOutcome::Refused, "the file with the owner may be the one that is wrong");
    assert!(step.message.contains("claude-p") && step.message.contains("q@b.c"), "{}", step.message);
    linked.known[0].is_on_trial = true;
    let step = linked.next(&other(), print(&other()));
    assert_eq!((step.outcome, step.account, step.taken_from), (ImportOutcome::Linked, Some(1), Some(0)));
    assert!(step.message.contains("gets its own login back"), "{}", step.message);
    assert_eq!(take(&mut linked, &other()), (ImportOutcome::Same, Some(1), false));
}

#[test]
fn a_file_that_has_lost_its_refresh_token_is_known_again() {
    let lost = |ends: u64| {
        let mut entry = owned("p", "x", "r1", ends, LONG_AGO);
        entry.credential.refresh = None;
        DiscoveredAccount { rotates: false, provider: "google".into(), tool: Tool::GeminiCli, ..entry }
    };
    let whole = DiscoveredAccount {
        rotates: false,
        provider: "google".into(),
        tool: Tool::GeminiCli,
        ..owned("p", "x", "r1", 2_000_000, LONG_AGO)
    };
    let mut plan = plan(LinkMode::Link);
    take(&mut plan, &whole);
    assert_eq!(take(&mut plan, &lost(2_000_000)), (ImportOutcome::Same, Some(0), false));
    assert_eq!(take(&mut plan, &lost(3_000_000)), (ImportOutcome::Updated, Some(0), true));
    // also when the file that names the owner cannot be read now
    let unnamed = |ends: u64| {
        let mut entry = owned("p", "x", "r1", ends, LONG_AGO);
        entry.credential.refresh = None;
        DiscoveredAccount { owner: AccountOwner::default(), email: None, rotates: false, ..entry }
    };
    let mut plan = ImportPlan::new(Vec::new(), None, NOW);
    take(&mut plan, &owned("p", "x", "r1", 2_000_000, LONG_AGO));
    assert_eq!(take(&mut plan, &unnamed(2_000_000)), (ImportOutcome::Same, Some(0), false));
    assert_eq!(take(&mut plan, &unnamed(2_500_000)).1, Some(1), "another login");
}

#[test]
fn what_lets_an_account_serve_again_is_said() {
    let entry = || owned("p", "x", "r1", 2_000_000, LONG_AGO);
    let mut plan = plan(LinkMode::Link);
    take(&mut plan, &entry());
    plan.known[0].login_remedy = Some("log in again".into());
    plan.known[0].other_remedy = Some("enable it".into());
    let step = plan.next(&entry(), print(&entry()));
    assert_eq!(step.message, "nothing new; log in again; enable it");
    // a rejected credential is tried again
    plan.known[0].rejected = true;
    let step = plan.next(&entry(), print(&entry()));
    assert_eq!((step.outcome, step.tries_again), (ImportOutcome::Updated, true));
    assert_eq!(step.message, "its credential was rejected, and is tried again; enable it");
    assert!(!plan.next(&entry(), print(&entry())).tries_again);
    // another one mends the login, but nothing else
    let newer = owned("p", "x", "r2", 3_000_000, LONG_AGO);
    assert_eq!(plan.next(&newer, print(&newer)).message, "a newer token; enable it");
}

#[test]
fn a_link_moves_to_the_file_that_has_replaced_its_own() {
    let at = |file: &str, refresh: &str, ends| DiscoveredAccount {
        tool: Tool::Opencode,
        email: Some("a@b.c".into()),
        file: Some(file.into()),
        ..login(refresh, ends)
    };
    let mut plan = plan(LinkMode::Link);
    take(&mut plan, &at("/d/auth.json", "r1", 2_000_000));
    assert!(!take(&mut plan, &at("/e/opencode.db", "r2", 3_000_000)).2, "of another directory");
    assert_eq!(take(&mut plan, &at("/d/opencode.db", "r3", 3_000_000)), (ImportOutcome::Updated, Some(0), true));
    assert_eq!(plan.known[0].link.as_ref().unwrap().path, "/d/opencode.db");
}

#[test]
fn a_login_that_only_its_tool_can_refresh_is_linked_to_the_tools_file() {
    let living = |needs_its_tool: bool, ends: u64| {
        let mut entry = google("r1");
        entry.tool = Tool::GeminiCli;
        entry.credential.access = Secret::new("ya29.FAKE".into());
        entry.credential.expires_at = Some(Wall(ends));
        DiscoveredAccount { file: Some("/h/.gemini/oauth_creds.json".into()), needs_its_tool, ..entry }
    };
    let mode_of = |plan: &ImportPlan| plan.known[0].link.as_ref().map(|link| link.mode);
    let mut plan = plan(LinkMode::Link);
    let step = plan.next(&living(false, 2_000_000), print(&living(false, 2_000_000)));
    assert_eq!((step.outcome, mode_of(&plan)), (ImportOutcome::Added, None), "lessor has its client");
    // the client is forgotten, and it is imported again
    assert_eq!(take(&mut plan, &living(true, 2_000_000)), (ImportOutcome::Updated, Some(0), false));
    assert_eq!(mode_of(&plan), Some(LinkMode::Link));
    assert_eq!(take(&mut plan, &living(true, 2_000_000)).0, ImportOutcome::Same);
    let mut plan = self::plan(LinkMode::Link);
    let step = plan.next(&living(true, 2_000_000), print(&living(true, 2_000_000)));
    assert_eq!(
        (step.outcome, step.message.as_str()),
        (ImportOutcome::Linked, "linked: Gemini CLI refreshes this login, and lessor follows its file")
    );
    // another login of the same owner, which lessor refreshes itself, stays as it is
    let mut plan = self::plan(LinkMode::Link);
    let own = DiscoveredAccount { email: Some("a@b.c".into()), tool: Tool::Lessor, ..google("own") };
    assert_eq!(take(&mut plan, &own).0, ImportOutcome::Added);
    let other = DiscoveredAccount { email: Some("a@b.c".into()), ..living(true, 2_000_000) };
    plan.known[0].ended = false;
    assert_eq!((take(&mut plan, &other).0, mode_of(&plan)), (ImportOutcome::Same, None));
    // the same login in a second tool stays linked to the first
    let mut plan = self::plan(LinkMode::Link);
    take(&mut plan, &living(true, 2_000_000));
    let second =
        DiscoveredAccount { tool: Tool::Opencode, file: Some("/h/auth.json".into()), ..living(true, 2_000_000) };
    assert_eq!(take(&mut plan, &second).0, ImportOutcome::Same);
    assert_eq!(plan.known[0].link.as_ref().map(|link| link.path.as_str()), Some("/h/.gemini/oauth_creds.json"));
}
