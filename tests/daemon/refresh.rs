//! Refreshes of logins: a real daemon against an OAuth server with configurable failures.

use std::time::Instant;

use serde_json::{Value, json};

use crate::oauth_server::{Fail, OauthServer};
use crate::support::{Client, Home, wait_until};

/// The time of day, epoch ms.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

fn home(server: &OauthServer, more: &str) -> Home {
    let mut home = Home::new(&format!("{more}\n{}", server.config("mine")));
    home.start();
    home
}

/// Adds a login of `who` whose access token expires after this many ms.
fn add(client: &mut Client, server: &OauthServer, who: &str, left: i64) {
    let refresh = server.login(who);
    let expires_at = now().saturating_add_signed(left);
    client.call(
        "account.add",
        json!({ "provider": "mine", "kind": "oauth", "secret": format!("at-canary-{who}-0"), "refresh_token": refresh,
            "expires_at": expires_at, "label": who, "account_id": who }),
    );
}

const HOUR: i64 = 3_600_000;

fn acquire(client: &mut Client) -> Value {
    client.call("lease.acquire", json!({ "provider": "mine" }))
}

fn token(lease: &Value) -> String {
    lease["credential"]["secret"].as_str().unwrap().to_owned()
}

fn account(client: &mut Client, label: &str) -> Value {
    let accounts = client.call("account.list", json!({}));
    accounts.as_array().unwrap().iter().find(|account| account["label"] == label).unwrap().clone()
}

#[test]
fn an_expired_token_is_refreshed_before_it_is_handed_out_and_survives_a_crash() {
    let server = OauthServer::start();
    let mut home = home(&server, "");
    let mut client = home.client();
    add(&mut client, &server, "a", -1000);
    assert_eq!(account(&mut client, "a")["state"], "ready");
    let lease = acquire(&mut client);
    assert_eq!((token(&lease), server.refreshes("a")), ("at-canary-a-1".to_owned(), 1));
    // the holder has the token, so it is on disk
    home.kill();
    home.start();
    let mut client = home.client();
    let lease = acquire(&mut client);
    assert_eq!((token(&lease), server.refreshes("a"), server.reuses()), ("at-canary-a-1".to_owned(), 1, 0));
    assert!(!home.output().contains("canary"), "{}", home.output());
}

#[test]
fn a_token_is_refreshed_before_it_expires_without_a_request() {
    let server = OauthServer::start();
    let home = home(&server, "");
    let mut client = home.client();
    client.call("events.subscribe", json!({ "kinds": ["account.changed"] }));
    // less than half an hour is left of an unknown lifetime
    add(&mut home.client(), &server, "a", 600_000);
    wait_until("the token is refreshed", || server.refreshes("a") == 1);
    let mut client = home.client();
    wait_until("it is known", || {
        account(&mut client, "a")["credential_expires_at"].as_u64().unwrap() > now() + 3_000_000
    });
    assert_eq!(token(&acquire(&mut client)), "at-canary-a-1");
    // its lifetime is an hour, so the next refresh is far away
    assert_eq!(server.requests(), 1);
}

#[test]
fn five_hundred_requests_with_expired_tokens_refresh_each_token_once() {
    let server = OauthServer::start();
    let home = home(&server, "[leases]\nmax_per_account = 100\n[refresh]\nwait = \"20s\"\n");
    let mut client = home.client();
    let names: Vec<String> = (0..20).map(|number| format!("a{number}")).collect();
    for name in &names {
        add(&mut client, &server, name, -1000);
    }
    let agents: Vec<_> = (0..50)
        .map(|_| {
            let socket = home.socket();
            std::thread::spawn(move || {
                let mut client = Client::connect(&socket);
                for _ in 0..10 {
                    client.send("lease.acquire", &json!({ "provider": "mine" })).unwrap();
                }
                let leases: Vec<Value> = (0..10).map(|_| client.receive().unwrap()["result"].clone()).collect();
                assert!(leases.iter().all(|lease| !token(lease).ends_with("-0")), "{leases:?}");
                // held until all have a lease
                (client, leases.len())
            })
        })
        .collect();
    let held: Vec<_> = agents.into_iter().map(|agent| agent.join().unwrap()).collect();
    assert_eq!(held.iter().map(|(_, leases)| leases).sum::<usize>(), 500);
    for name in &names {
        assert_eq!(server.refreshes(name), 1, "{name}");
    }
    assert_eq!((server.requests(), server.most_running(), server.reuses()), (20, 1, 0));
}

#[test]
fn only_the_rejected_login_needs_a_new_login() {
    let server = OauthServer::start();
    let home = home(&server, "");
    let mut client = home.client();
    add(&mut client, &server, "dead", -1000);
    server.revoke("dead");
    wait_until("the account needs a login", || account(&mut client, "dead")["state"] == "needs_login");
    let why = account(&mut client, "dead")["state_reason"].as_str().unwrap().to_owned();
    assert!(why.contains("invalid_grant") && why.contains("lessor login mine"), "{why}");
    assert_eq!(client.refused("lease.acquire", json!({ "provider": "mine", "wait_ms": 0 })), "needs_login");
    add(&mut client, &server, "living", -1000);
    assert_eq!(acquire(&mut client)["account"]["label"], "living");
    assert_eq!(account(&mut client, "dead")["state"], "needs_login");
    // the rejected token was sent once
    assert_eq!(server.requests(), 2);
    // a new login of the same person replaces it
    server.revoke("nobody");
    let refresh = server.login("again");
    client.call(
        "account.add",
        json!({ "provider": "mine", "kind": "oauth", "secret": "at-canary-again-0", "refresh_token": refresh,
            "expires_at": now() + 3_600_000, "account_id": "dead" }),
    );
    assert_eq!(account(&mut client, "dead")["state"], "ready");
}

#[test]
fn a_rejected_oauth_client_is_not_an_error_of_the_account() {
    let server = OauthServer::start();
    server.fail_always(Some(Fail::Status(401, "invalid_client", None)));
    let home = home(&server, "");
    let mut client = home.client();
    add(&mut client, &server, "a", -1000);
    add(&mut client, &server, "b", -1000);
    add(&mut client, &server, "c", HOUR);
    let error = client.ask("lease.acquire", &json!({ "provider": "mine", "wait_ms": 0, "account": "a" }));
    assert_eq!(error["error"]["data"]["kind"], "all_limited", "{error}");
    for label in ["a", "b", "c"] {
        assert_ne!(account(&mut client, label)["state"], "needs_login", "{label}");
    }
    // the account with a valid token serves
    assert_eq!(acquire(&mut client)["account"]["label"], "c");
    wait_until("the error is logged", || home.output().contains("invalid_client"));
    assert_eq!(home.output().matches("invalid_client").count(), 1, "{}", home.output());
    let warnings = client.call("status", json!({}))["warnings"].to_string();
    assert!(warnings.contains("invalid_client") && warnings.contains("providers.mine.oauth"), "{warnings}");
    // the user has fixed the settings and refreshes
    server.fail_always(None);
    let mended = client.call("account.refresh", json!({ "account": "a" }));
    assert_eq!(mended["state"], "ready", "{mended}");
}

#[test]
fn while_the_endpoint_is_down_valid_tokens_serve_and_no_login_ends() {
    let server = OauthServer::start();
    let home = home(&server, "[refresh]\nahead = \"1h\"\nmin_life = \"0s\"\nwait = \"100ms\"\n");
    let mut client = home.client();
    server.fail_always(Some(Fail::Status(503, "", None)));
    let end = Instant::now() + std::time::Duration::from_millis(2500);
    add(&mut client, &server, "a", 2500);
    wait_until("a refresh is tried", || server.requests() > 0);
    let mut served = 0;
    while Instant::now() + std::time::Duration::from_millis(200) < end {
        let lease = acquire(&mut client);
        assert_eq!(token(&lease), "at-canary-a-0");
        client.call("lease.release", json!({ "lease": lease["lease"] }));
        served += 1;
    }
    assert!(served > 10, "{served}");
    wait_until("it has ended", || Instant::now() > end);
    // while an attempt is in progress its end is not known; between two attempts the next one is
    wait_until("the refusal names the next attempt", || {
        let error = client.ask("lease.acquire", &json!({ "provider": "mine", "wait_ms": 0 }));
        assert_eq!(error["error"]["data"]["kind"], "all_limited", "{error}");
        error["error"]["data"]["retry_after_ms"].is_u64()
    });
    let shown = account(&mut client, "a");
    assert_eq!(shown["state"], "waiting_for_token");
    assert_eq!(client.call("status", json!({}))["accounts"]["waiting_for_token"], 1);
    assert!(shown["state_reason"].as_str().unwrap().contains("503"), "{shown}");
    wait_until("it is tried again", || server.requests() >= 3);
    assert_eq!(home.output().matches("cannot be refreshed").count(), 1, "{}", home.output());
    let changes = home.output().matches("was added or changed").count();
    let tried = server.requests();
    wait_until("it is tried once more", || server.requests() > tried);
    assert_eq!(home.output().matches("was added or changed").count(), changes, "{}", home.output());
    // a waiting request is served after the recovery
    server.fail_always(None);
    assert_eq!(token(&acquire(&mut client)), "at-canary-a-1");
    wait_until("the recovery is logged once", || home.output().matches("refreshed again").count() == 1);
}

#[test]
fn retry_after_of_the_endpoint_is_obeyed() {
    let server = OauthServer::start();
    server.fail(Fail::Status(429, "", Some(2)));
    let home = home(&server, "");
    let mut client = home.client();
    let began = Instant::now();
    add(&mut client, &server, "a", -1000);
    assert_eq!(token(&acquire(&mut client)), "at-canary-a-1");
    assert!(began.elapsed() >= std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(server.requests(), 2);
}

#[test]
fn after_refresh_wait_a_holder_gets_another_account() {
    let server = OauthServer::start();
    let home = home(&server, "[refresh]\nwait = \"300ms\"\n");
    let mut client = home.client();
    add(&mut client, &server, "fine", HOUR);
    server.fail(Fail::HoldBefore);
    add(&mut client, &server, "slow", -1000);
    let held = acquire(&mut client);
    let other = acquire(&mut client);
    let labels = [&held, &other].map(|lease| lease["account"]["label"].as_str().unwrap().to_owned());
    assert_eq!(labels, ["fine", "fine"], "the holder of the slow account was moved");
    server.let_go();
    wait_until("the slow one is back", || account(&mut client, "slow")["state"] == "ready");
    assert_eq!(acquire(&mut client)["account"]["label"], "slow");
    assert_eq!(server.refreshes("slow"), 1);
}

#[test]
fn a_rejected_token_is_refreshed_once_for_all_reports() {
    let server = OauthServer::start();
    let home = home(&server, "");
    let mut client = home.client();
    add(&mut client, &server, "a", HOUR);
    let leases: Vec<Value> = (0..10).map(|_| acquire(&mut client)).collect();
    for lease in &leases {
        client.send("lease.credential", &json!({ "lease": lease["lease"], "force": true })).unwrap();
    }
    for _ in &leases {
        let answer = client.receive().unwrap();
        assert_eq!(answer["result"]["secret"], "at-canary-a-1", "{answer}");
    }
    assert_eq!(server.requests(), 1);
    // a rejection of the new token is not fixed by another refresh
    let kind = client.refused("lease.credential", json!({ "lease": leases[0]["lease"], "force": true }));
    assert_eq!((kind.as_str(), server.requests()), ("credential_unavailable", 1));
    let decision = client.call("lease.report", json!({ "lease": leases[0]["lease"], "reason": "auth_failed" }));
    let shown = account(&mut client, "a");
    assert_eq!((&decision["reason"], &shown["state"]), (&json!("auth_failed"), &json!("limited")), "it is not lost");
    assert_eq!((&decision["action"], &decision["after_ms"]), (&json!("wait"), &json!(10_000)));
}

#[test]
fn a_reported_401_moves_the_holder_and_refreshes_the_token() {
    let server = OauthServer::start();
    let home = home(&server, "");
    let mut client = home.client();
    add(&mut client, &server, "a", HOUR);
    let lease = acquire(&mut client);
    add(&mut client, &server, "b", HOUR);
    let decision = client.call("lease.report", json!({ "lease": lease["lease"], "reason": "auth_failed" }));
    assert_eq!(
        (&decision["action"], &decision["lease"]["account"]["label"]),
        (&json!("switch"), &json!("b")),
        "{decision}"
    );
    wait_until("the token is refreshed", || server.refreshes("a") == 1);
    wait_until("the account is ready", || account(&mut client, "a")["state"] == "ready");
    // a late report with the old token gets the new one
    assert_eq!(token(&acquire(&mut client)), "at-canary-a-1");
}

#[test]
fn a_lost_refresh_answer_is_retried_before_the_login_counts_as_ended() {
    let scenes = [
        (OauthServer::start(), Fail::CloseBefore, true),
        (OauthServer::lenient(), Fail::CloseAfter, true),
        (OauthServer::lenient(), Fail::Nonsense, true),
        (OauthServer::start(), Fail::CloseAfter, false),
    ];
    let scene = |(server, how, honoured): (OauthServer, Fail, bool)| {
        server.fail(how.clone());
        let home = home(&server, "");
        let mut client = home.client();
        add(&mut client, &server, "a", -1000);
        if honoured {
            let lease = acquire(&mut client);
            assert!(token(&lease).starts_with("at-canary-a-"), "{how:?} {lease}");
        } else {
            wait_until("the login has ended", || account(&mut client, "a")["state"] == "needs_login");
            let why = account(&mut client, "a")["state_reason"].as_str().unwrap().to_owned();
            assert!(why.contains("the answer to a refresh was lost"), "{why}");
        }
        assert_eq!(server.requests(), 2);
    };
    let scenes: Vec<_> = scenes.into_iter().map(|one| std::thread::spawn(move || scene(one))).collect();
    scenes.into_iter().for_each(|scene| scene.join().unwrap());
}

#[test]
fn a_kill_during_a_refresh_loses_no_login_that_the_server_accepts() {
    let server = OauthServer::lenient();
    let mut home = home(&server, "");
    add(&mut home.client(), &server, "a", HOUR);
    let mut chance = 7_u64;
    for round in 0..20 {
        let how = match round % 4 {
            // the request has arrived and nothing is rotated; or rotated, but not answered
            0 => Some(Fail::HoldBefore),
            1 => Some(Fail::HoldAfter),
            // at some point between the record on disk, the request, the answer and the commit
            _ => None,
        };
        let before = server.requests();
        server.fail_always(None);
        if let Some(how) = &how {
            server.fail(how.clone());
        }
        let mut client = home.client();
        client.send("account.refresh", &json!({ "account": "a" })).unwrap();
        if how.is_some() {
            wait_until("the request has come", || server.held() > 0);
        } else {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pause = std::time::Duration::from_micros(chance >> 52);
            let until = Instant::now() + pause * if round % 4 == 2 { 1 } else { 4 };
            while Instant::now() < until && server.requests() == before {
                std::hint::spin_loop();
            }
            let until = Instant::now() + pause / 4;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
        home.kill();
        if how.is_some() {
            server.let_go();
            wait_until("the server has dropped the request", || server.held() == 0);
        }
        home.start();
        let mut client = home.client();
        client.call("account.refresh", json!({ "account": "a" }));
        let shown = account(&mut client, "a");
        assert_eq!(shown["state"], "ready", "round {round}: {shown}");
        assert_eq!(server.reuses(), 0, "round {round}");
    }
}

#[test]
fn a_missing_oauth_client_is_named_and_refreshes_resume_with_one() {
    let server = OauthServer::start();
    let mut home = Home::new("");
    home.start();
    let mut client = home.client();
    let refresh = server.login("a");
    client.call(
        "account.add",
        json!({ "provider": "anthropic", "kind": "oauth", "secret": "at-canary-a-0", "refresh_token": refresh,
            "expires_at": 1_000, "label": "a", "use": ["any"] }),
    );
    wait_until("it cannot be renewed", || account(&mut client, "a")["state"] == "cannot_renew");
    let why = account(&mut client, "a")["state_reason"].as_str().unwrap().to_owned();
    assert!(why.contains("lessor has no OAuth client for anthropic"), "{why}");
    std::fs::write(home.path().join("config.toml"), server.config("anthropic")).unwrap();
    client.call("config.reload", json!({}));
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic" }));
    assert_eq!(token(&lease), "at-canary-a-1");
}

/// A home of Claude Code with this login.
fn claude_home(home: &Home, refresh: &str) -> std::path::PathBuf {
    let directory = home.path().join("claude");
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join(".credentials.json");
    let content = json!({ "mcpOAuth": { "kept": true }, "claudeAiOauth": { "accessToken": "at-canary-a-0",
        "refreshToken": refresh, "expiresAt": now() + 7_200_000, "scopes": ["user:inference"] } });
    std::fs::write(&file, content.to_string()).unwrap();
    file
}

fn import(home: &Home, file: &std::path::Path, mode: &str) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lessor"));
    command.args(["import", mode]).arg(file).env("LESSOR_HOME", home.path()).env("HOME", home.path());
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn a_shared_login_is_refreshed_under_the_tools_locks_and_written_back() {
    let server = OauthServer::start();
    let mut home = Home::new(&server.config("anthropic"));
    let mut command = home.command();
    command.env("HOME", home.path());
    home.start_as(command);
    let file = claude_home(&home, &server.login("a"));
    import(&home, &file, "--share");
    let mut client = home.client();
    let id = client.call("account.list", json!({}))[0]["id"].clone();
    // the tool is refreshing: lessor does not refresh at the same time
    let lock = home.path().join("claude/.oauth_refresh.lock");
    std::fs::create_dir(&lock).unwrap();
    client.send("account.refresh", &json!({ "account": id })).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("lessor tries to take the lock", || home.path().join("claude/.oauth_refresh.lock").exists());
            assert_eq!(server.requests(), 0);
            std::fs::remove_dir(&lock).unwrap();
        });
    });
    let answer = client.receive().unwrap();
    assert!(answer["error"].is_null(), "{answer}");
    assert_eq!((server.refreshes("a"), server.requests()), (1, 1));
    let written = || -> Value { serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap() };
    assert_eq!(written()["claudeAiOauth"]["accessToken"], "at-canary-a-1");
    assert_eq!(
        (&written()["mcpOAuth"]["kept"], &written()["claudeAiOauth"]["scopes"][0]),
        (&json!(true), &json!("user:inference"))
    );
    wait_until("the locks are released", || !lock.exists() && !home.path().join("claude.lock").exists());
    // a token that the tool has rotated is adopted
    let theirs = server.login("theirs");
    let mut newer = written();
    newer["claudeAiOauth"]["accessToken"] = json!("at-canary-theirs-0");
    newer["claudeAiOauth"]["refreshToken"] = json!(theirs);
    newer["claudeAiOauth"]["expiresAt"] = json!(now() + 7_300_000);
    std::fs::write(&file, newer.to_string()).unwrap();
    client.call("account.refresh", json!({ "account": id }));
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "agent": "claude" }));
    assert_eq!((token(&lease).as_str(), server.requests()), ("at-canary-theirs-0", 1));
}

#[test]
fn a_linked_login_is_not_refreshed_and_a_taken_over_one_is() {
    let server = OauthServer::start();
    let mut home = Home::new(&server.config("anthropic"));
    let mut command = home.command();
    command.env("HOME", home.path());
    home.start_as(command);
    let file = claude_home(&home, &server.login("a"));
    let before = std::fs::read(&file).unwrap();
    let mut client = home.client();
    import(&home, &file, "--dry-run");
    let mut linked = std::process::Command::new(env!("CARGO_BIN_EXE_lessor"));
    linked.args(["import"]).arg(&file).env("LESSOR_HOME", home.path()).env("HOME", home.path());
    assert!(linked.output().unwrap().status.success());
    let id = client.call("account.list", json!({}))[0]["id"].clone();
    assert_eq!(client.refused("account.refresh", json!({ "account": id })), "needs_login");
    assert_eq!(server.requests(), 0);
    import(&home, &file, "--take-over");
    client.call("account.refresh", json!({ "account": id }));
    assert_eq!((server.refreshes("a"), std::fs::read(&file).unwrap() == before), (1, true));
}

/// Adds an expired login of `who` that `client` has made; the call names the client, or leaves it out.
fn add_of(client: &mut Client, server: &OauthServer, who: &str, maker: &str, named: bool) {
    let refresh = server.login_of(who, maker);
    client.call(
        "account.add",
        json!({ "provider": "mine", "kind": "oauth", "secret": format!("at-canary-{who}-0"), "refresh_token": refresh,
            "expires_at": now() - 1000, "label": who, "account_id": who, "client_id": named.then_some(maker) }),
    );
}

#[test]
fn logins_of_several_clients_are_each_refreshed_by_their_own() {
    let server = OauthServer::start();
    let mut home = Home::new(&format!(
        "{}\n[providers.mine.oauth.clients.second]\nclient_id = \"second-client\"\n",
        server.config("mine")
    ));
    home.start();
    let mut client = home.client();
    add(&mut client, &server, "default", -1000);
    add_of(&mut client, &server, "second", "second-client", true);
    // a public client needs no section
    add_of(&mut client, &server, "third", "third-client", true);
    for who in ["default", "second", "third"] {
        let lease = client.call("lease.acquire", json!({ "provider": "mine", "account": who }));
        assert!(token(&lease).starts_with(&format!("at-canary-{who}-")) && !token(&lease).ends_with("-0"));
        assert_eq!(server.refreshes(who), 1, "{who}");
    }
    // the login keeps its client
    home.kill();
    home.start();
    let mut client = home.client();
    client.call("account.refresh", json!({ "account": "second" }));
    assert_eq!(server.refreshes("second"), 2);
    assert_eq!(server.agents(), [concat!("lessor/", env!("CARGO_PKG_VERSION"))]);
}

#[test]
fn a_login_of_another_client_delays_no_other_login() {
    let server = OauthServer::start();
    let home = home(&server, "");
    let mut client = home.client();
    for who in ["foreign-1", "foreign-2"] {
        add_of(&mut client, &server, who, "another-client", false);
    }
    add(&mut client, &server, "own", -1000);
    let lease = client.call("lease.acquire", json!({ "provider": "mine", "wait_ms": 15_000 }));
    assert_eq!(token(&lease).replace(|c: char| c.is_ascii_digit(), ""), "at-canary-own-");
    let refused = client.ask("account.refresh", &json!({ "account": "foreign-1" }));
    assert!(refused["error"].to_string().contains("unauthorized_client"), "{refused}");
    for who in ["foreign-1", "foreign-2"] {
        assert_ne!(account(&mut client, who)["state"], "needs_login", "the client may be changed");
    }
    let warnings = client.call("status", json!({}))["warnings"].to_string();
    assert_eq!(warnings.matches("unauthorized_client").count(), 1, "{warnings}");
    assert!(warnings.contains("foreign-1, foreign-2") && !warnings.contains("own"), "{warnings}");
}

#[test]
fn a_warning_names_two_accounts_of_one_person_distinctly() {
    let server = OauthServer::start();
    let home = home(&server, "");
    let mut client = home.client();
    for organization in ["Personal", "Team"] {
        client.call(
            "account.add",
            json!({ "provider": "mine", "kind": "oauth", "secret": format!("at-{organization}"),
                "refresh_token": server.login_of(organization, "another-client"), "expires_at": now() - 1000,
                "email": "p@example.org", "account_id": "p", "organization_id": organization,
                "organization": organization }),
        );
    }
    let warnings = || home.client().call("status", json!({}))["warnings"].to_string();
    wait_until("both are refused", || warnings().contains("mine-p, mine-p-team"));
    assert!(warnings().contains("lessor account refresh mine-p;"), "{}", warnings());
}
