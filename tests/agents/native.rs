//! An agent does with an account of lessor's what it does with its own of the same kind: what it asks of the provider.

use hyper::HeaderMap;
use serde_json::{Value, json};

use super::fleet::{Fleet, FleetConfig, Ran, check, wait};
use super::upstream::Limit;
use super::{STEPS, owned};

/// Betas that Claude Code sends only to its vendor, with a login and with a key alike.
const OF_VENDOR: [&str; 2] = ["prompt-caching-scope-2026-01-05", "thinking-binding-controls-2026-08-01"];
/// Those that it sends with a login only.
const OF_LOGIN: [&str; 2] = ["oauth-2025-04-20", "extended-cache-ttl-2025-04-11"];

/// What a request asks of the provider, beside its text.
#[derive(Clone, Debug)]
pub struct Wish {
    pub account: Option<usize>,
    /// The header with the credential.
    pub credential: &'static str,
    pub betas: Vec<String>,
    /// How long its caches live: the default of 5 minutes has no name.
    pub caches: Vec<Option<String>>,
}

impl Wish {
    pub fn read(account: Option<usize>, headers: &HeaderMap, body: &Value) -> Self {
        let names = ["authorization", "x-api-key", "x-goog-api-key"];
        let credential = names.into_iter().find(|name| headers.contains_key(*name)).unwrap_or_default();
        let betas = headers.get_all("anthropic-beta").iter().filter_map(|value| value.to_str().ok());
        let betas = betas.flat_map(|value| value.split(',')).map(|beta| beta.trim().to_owned()).collect();
        let mut caches = Vec::new();
        collect_caches(body, &mut caches);
        Self { account, credential, betas, caches }
    }

    fn has(&self, beta: &str) -> bool {
        self.betas.iter().any(|known| known == beta)
    }
}

fn collect_caches(value: &Value, caches: &mut Vec<Option<String>>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_caches(item, caches)),
        Value::Object(members) => {
            if let Some(cache) = members.get("cache_control").filter(|cache| cache.is_object()) {
                caches.push(cache["ttl"].as_str().map(str::to_owned));
            }
            members.values().for_each(|member| collect_caches(member, caches));
        }
        _ => {}
    }
}

/// One run of an agent with these accounts, after `prepare` has written the user's files.
fn one(
    (test, provider): (&str, &str),
    accounts: &[(bool, Limit)],
    config: &FleetConfig,
    prepare: impl Fn(&std::path::Path),
    (args, command): (&[&str], impl Fn(&str) -> Vec<String>),
) -> (Fleet, Vec<Ran>) {
    let fleet = Fleet::with(test, provider, accounts, config);
    let home = fleet.work().with_file_name("user");
    std::fs::create_dir_all(&home).unwrap();
    prepare(&home);
    let command = command(&fleet.prompt(1, STEPS));
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let ran = wait(vec![(1, fleet.start("user", args, &command))]);
    (fleet, ran)
}

fn write(home: &std::path::Path, file: &str, text: &str) {
    let path = home.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn claude(prompt: &str) -> Vec<String> {
    owned(&["claude", "-p", prompt])
}

#[test]
fn claude_with_a_login_has_its_cache_of_an_hour_and_its_betas() {
    let login = [(true, Limit::None)];
    let (fleet, ran) = one(("native-login", "anthropic"), &login, &FleetConfig::default(), |_| {}, (&[], claude));
    check(&fleet, &ran, 0);
    let wishes = fleet.upstream.wishes();
    assert!(wishes.len() as u64 > STEPS, "{wishes:?}");
    for wish in wishes {
        assert_eq!(wish.credential, "authorization", "{wish:?}");
        assert!(OF_LOGIN.iter().chain(&OF_VENDOR).all(|beta| wish.has(beta)), "{wish:?}");
        assert!(!wish.caches.is_empty(), "{wish:?}");
        assert!(wish.caches.iter().all(|cache| cache.as_deref() == Some("1h")), "{wish:?}");
    }
}

#[test]
fn claude_with_a_key_has_the_cache_that_a_key_s_owner_pays_least_for() {
    let key = [(false, Limit::None)];
    let (fleet, ran) = one(("native-key", "anthropic"), &key, &FleetConfig::default(), |_| {}, (&[], claude));
    check(&fleet, &ran, 0);
    for wish in fleet.upstream.wishes() {
        assert_eq!(wish.credential, "x-api-key", "{wish:?}");
        assert!(!OF_LOGIN.iter().any(|beta| wish.has(beta)), "{wish:?}");
        assert!(!wish.caches.is_empty() && wish.caches.iter().all(Option::is_none), "{wish:?}");
    }
}

/// A run may begin on a login and go on with a key.
#[test]
fn claude_goes_on_with_a_key_when_the_login_is_used_up() {
    let accounts = [(true, Limit::Requests(2)), (false, Limit::None)];
    let config = FleetConfig { of_provider: "mix = \"always\"", ..FleetConfig::default() };
    // the first account is the login's, whatever the strategy
    let fleet = Fleet::with("native-mix", "anthropic", &accounts, &config);
    fleet.json(&["account", "set", "anthropic-0", "priority=10"]);
    let command = claude(&fleet.prompt(1, STEPS));
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let ran = wait(vec![(1, fleet.start("user", &[], &command))]);
    check(&fleet, &ran, 1);
    let wishes = fleet.upstream.wishes();
    let of = |number: usize| wishes.iter().filter(move |wish| wish.account == Some(number));
    assert!(of(0).count() > 0 && of(0).all(|wish| wish.credential == "authorization"), "{wishes:?}");
    assert!(of(1).count() > 0 && of(1).all(|wish| wish.credential == "x-api-key"), "{wishes:?}");
}

/// The user's own settings would lead it to another credential, and to another service.
#[test]
fn claude_s_own_settings_do_not_lead_past_the_gateway() {
    let settings = json!({ "apiKeyHelper": "echo own-key",
        "env": { "CLAUDE_CODE_USE_MANTLE": "1", "CLAUDE_CODE_USE_A_LATER_CLOUD": "1", "ANTHROPIC_VERTEX_BASE_URL": "http://127.0.0.1:9" } });
    let prepare = |home: &std::path::Path| write(home, ".claude/settings.json", &settings.to_string());
    let login = [(true, Limit::None)];
    let (fleet, ran) = one(("native-past", "anthropic"), &login, &FleetConfig::default(), prepare, (&[], claude));
    check(&fleet, &ran, 0);
    for name in ["apiKeyHelper", "CLAUDE_CODE_USE_MANTLE", "CLAUDE_CODE_USE_A_LATER_CLOUD", "ANTHROPIC_VERTEX_BASE_URL"]
    {
        assert_eq!(ran[0].text.matches(&format!("{name} (in settings)")).count(), 1, "{ran:?}");
    }
}

fn gemini(prompt: &str) -> Vec<String> {
    owned(&["gemini", "--skip-trust", "-m", "gemini-2.5-pro", "-p", prompt])
}

/// With a key and with a Google login, whatever method and key the user has chosen.
#[test]
fn gemini_uses_the_leased_account_and_not_the_user_s_own() {
    for (test, is_login, own) in [("native-google-key", false, "vertex-ai"), ("native-google", true, "gemini-api-key")]
    {
        let prepare = |home: &std::path::Path| {
            let settings = json!({ "security": { "auth": { "selectedType": own } } });
            write(home, ".gemini/settings.json", &settings.to_string());
            let all = "GEMINI_API_KEY=own-key\nGOOGLE_API_KEY=own\nGOOGLE_GENAI_USE_VERTEXAI=true\n";
            let other = if is_login { "" } else { "GOOGLE_GENAI_USE_GCA=true\n" };
            write(home, ".gemini/.env", &format!("{all}{other}"));
        };
        let accounts = [(is_login, Limit::None)];
        let (fleet, ran) = one((test, "google"), &accounts, &FleetConfig::default(), prepare, (&[], gemini));
        check(&fleet, &ran, 0);
        let expected = if is_login { "authorization" } else { "x-goog-api-key" };
        let wishes = fleet.upstream.wishes();
        assert!(wishes.iter().all(|wish| wish.credential == expected && wish.account == Some(0)), "{wishes:?}");
    }
}

#[test]
fn opencode_with_keys_of_two_providers() {
    for (provider, model, expected) in
        [("anthropic", "anthropic/claude-sonnet-4-5", "x-api-key"), ("openai", "openai/gpt-5.1", "authorization")]
    {
        let command = |prompt: &str| owned(&["opencode", "run", "-m", model, prompt]);
        let (test, args) = (format!("native-opencode-{provider}"), ["-p", provider]);
        let key = [(false, Limit::None)];
        let (fleet, ran) = one((&test, provider), &key, &FleetConfig::default(), |_| {}, (&args, command));
        check(&fleet, &ran, 0);
        let wishes = fleet.upstream.wishes();
        assert!(!wishes.is_empty() && wishes.iter().all(|wish| wish.credential == expected), "{wishes:?}");
    }
}
