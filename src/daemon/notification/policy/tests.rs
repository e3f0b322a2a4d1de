//! Which notices come when.

use super::*;
use crate::pool::Wall;

fn at(seconds: u64) -> Now {
    Now { mono: Mono(seconds * 1000), wall: Wall(seconds * 1000) }
}

fn policy() -> NoticePolicy {
    NoticePolicy::new(Situation::default(), |_, at| format!("T{}", at / 1000))
}

fn account(name: &str) -> AccountLabel {
    AccountLabel { id: name.into(), label: Some(name.into()), email: Some(format!("{name}@x.org")) }
}

fn moved(from: &str, to: &str, reason: &str, until: Option<u64>) -> NoticeEvent {
    let event = EventInfo {
        kind: "lease.moved".into(),
        from: Some(account(from)),
        account: Some(account(to)),
        reason: Some(reason.into()),
        until,
        ..EventInfo::default()
    };
    NoticeEvent { event, is_second_pool: false }
}

fn second(name: &str, kind: &str) -> NoticeEvent {
    let (account, pool) = (Some(account(name)), Some("gemini-cli".into()));
    let event = EventInfo { kind: kind.into(), account, pool, ..EventInfo::default() };
    NoticeEvent { event, is_second_pool: kind == "lease.granted" }
}

fn limited(providers: &[&str]) -> Situation {
    let first = FirstFree { account: Some(account("a")), until: Some(90_000) };
    let limited = providers.iter().map(|provider| ((*provider).to_owned(), first.clone())).collect();
    Situation { limited, ..Situation::default() }
}

fn needing(names: &[(&str, &'static str)]) -> Situation {
    let need = |(name, state): &(&str, &'static str)| {
        let remedy = Some("lessor login p".to_owned());
        ((*name).to_owned(), LoginNeed { account: account(name), provider: "p".into(), state, remedy })
    };
    Situation { need_login: names.iter().map(need).collect(), ..Situation::default() }
}

fn texts(policy: &mut NoticePolicy, seconds: u64) -> Vec<String> {
    policy.due(at(seconds)).into_iter().map(|notice| notice.text).collect()
}

#[test]
fn a_switch_names_both_accounts_and_the_cause() {
    for (reason, until, text) in [
        ("quota_exhausted", Some(76_000), "a (a@x.org) is limited until T76, now on b (b@x.org)"),
        ("requested", None, "moved from a (a@x.org) to b (b@x.org)"),
        ("overage", None, "the plan of a (a@x.org) is used up, now on b (b@x.org)"),
        ("server_error", None, "switched from a (a@x.org) to b (b@x.org) (server error)"),
    ] {
        let mut policy = policy();
        policy.event(moved("a", "b", reason, until));
        assert_eq!(texts(&mut policy, 0), [text], "{reason}");
        assert_eq!(policy.next(), None);
    }
}

#[test]
fn a_move_that_is_no_switch_is_no_news() {
    let mut policy = policy();
    policy.event(moved("a", "b", "turn", None));
    policy.event(moved("a", "a", "quota_exhausted", Some(1)));
    assert!(texts(&mut policy, 0).is_empty());
}

#[test]
fn a_kind_is_sent_once_a_minute_and_then_the_latest_with_the_number_left_out() {
    let mut policy = policy();
    policy.event(moved("a", "b", "requested", None));
    assert_eq!(texts(&mut policy, 0).len(), 1);
    for to in ["c", "d", "e"] {
        policy.event(moved("b", to, "requested", None));
        assert!(texts(&mut policy, 59).is_empty());
    }
    assert_eq!(policy.next(), Some(Mono(60_000)));
    assert_eq!(texts(&mut policy, 60), ["moved from b to e (e@x.org) (and 2 before)"]);
    assert!(texts(&mut policy, 200).is_empty());
}

#[test]
fn kinds_do_not_delay_each_other() {
    let mut policy = policy();
    policy.event(moved("a", "b", "requested", None));
    assert_eq!(texts(&mut policy, 0).len(), 1);
    policy.look(limited(&["p"]));
    assert_eq!(texts(&mut policy, 1), ["every account of p is limited until T90; first free: a"]);
}

#[test]
fn everything_limited_is_said_once_and_so_is_its_end() {
    let mut policy = policy();
    policy.look(limited(&["p", "q"]));
    assert_eq!(texts(&mut policy, 0), ["every account of p is limited until T90; first free: a (a@x.org)"]);
    assert!(texts(&mut policy, 30).is_empty());
    // q is free before it could be said: no word about it
    policy.look(limited(&["p"]));
    assert!(texts(&mut policy, 61).is_empty());
    policy.look(Situation::default());
    assert_eq!(texts(&mut policy, 90), ["p is free again"]);
    assert!(texts(&mut policy, 300).is_empty());
}

#[test]
fn a_limit_that_comes_and_goes_is_said_at_most_once_a_minute() {
    let mut policy = policy();
    let mut said = 0;
    for second in 0..600 {
        policy.look(if second % 2 == 0 { limited(&["p"]) } else { Situation::default() });
        said += texts(&mut policy, second).len();
    }
    assert!((2..=20).contains(&said), "{said}");
}

#[test]
fn each_account_that_needs_a_login_is_said_once_until_it_has_one() {
    let mut policy = policy();
    policy.look(needing(&[("a", "needs_login"), ("b", "needs_verification"), ("c", "cannot_renew")]));
    assert_eq!(texts(&mut policy, 0), ["a (a@x.org) needs a new login; lessor login p"]);
    assert_eq!(texts(&mut policy, 60), ["b (b@x.org) must be confirmed with its provider; lessor login p"]);
    let c = texts(&mut policy, 120);
    assert_eq!(c, ["c (c@x.org) cannot be renewed; lessor login p"]);
    assert_eq!((texts(&mut policy, 180), policy.next()), (vec![], None));
    policy.look(Situation::default());
    policy.look(needing(&[("a", "needs_login")]));
    assert_eq!(texts(&mut policy, 240), ["a needs a new login; lessor login p"]);
}

#[test]
fn what_holds_at_the_beginning_is_no_news_but_its_end_is() {
    let mut policy = NoticePolicy::new(limited(&["p"]), |_, _| String::new());
    policy.look(limited(&["p"]));
    assert!(texts(&mut policy, 0).is_empty());
    policy.look(Situation::default());
    assert_eq!(texts(&mut policy, 1), ["p is free again"]);
    let mut policy = NoticePolicy::new(needing(&[("a", "needs_login")]), |_, _| String::new());
    assert!(texts(&mut policy, 0).is_empty());
}

#[test]
fn a_second_pool_is_said_once_until_a_limit_of_its_account_ends() {
    let mut policy = policy();
    policy.event(second("a", "lease.granted"));
    policy.event(second("a", "lease.granted"));
    assert_eq!(texts(&mut policy, 0), ["a (a@x.org) uses its second quota pool, gemini-cli"]);
    assert!(texts(&mut policy, 100).is_empty());
    policy.event(second("a", "account.ready"));
    policy.event(second("a", "lease.granted"));
    assert_eq!(texts(&mut policy, 200), ["a uses its second quota pool, gemini-cli"]);
}

#[test]
fn the_document_has_the_documented_fields() {
    let mut policy = policy();
    policy.event(moved("a", "b", "quota_exhausted", Some(76_000)));
    let document = serde_json::to_value(&policy.due(at(0))[0]).unwrap();
    let fields: Vec<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
    let page = include_str!("../../../../docs/service.md");
    for field in fields {
        assert!(page.contains(&format!("| `{field}` |")), "{field}");
    }
    let kinds = ["account_switched", "second_pool", "login_needed", "all_limited", "free_again"];
    assert!(kinds.iter().all(|kind| page.contains(&format!("| `{kind}` |"))));
    assert_eq!((&document["kind"], &document["until"]), (&"account_switched".into(), &76_000.into()));
}
