use super::*;

const BASE: &str = "http://127.0.0.1:7777/x";

fn handed<'a>(
    hand_out: HandOut,
    provider: &'a str,
    kind: CredentialKind,
    agent: Option<&'a str>,
) -> HandOutRequest<'a> {
    HandOutRequest {
        hand_out,
        provider,
        kind,
        agent,
        key: "sk-0123456789abcdefghijklmnop",
        base: Some(BASE),
        secure_base: None,
        socket: None,
        ca_file: None,
        ca_bundle: None,
        websocket: true,
        directory: "/run/d",
        expires_at: Some(1_790_000_000_000),
        project: None,
        tier: Tier::Unknown,
        account_id: None,
        now: "2026-11-30T09:00:00Z",
    }
}

fn of(hand_out: HandOut, provider: &str, kind: CredentialKind, agent: Option<&str>) -> AgentSetup {
    agent_setup(&handed(hand_out, provider, kind, agent)).unwrap()
}

fn variable<'a>(outfit: &'a AgentSetup, name: &str) -> Option<&'a str> {
    outfit.set.iter().find(|(set, _)| set == name).map(|(_, value)| value.as_str())
}

/// Hand-out, provider, kind, agent; a variable that is set, a variable that is unset.
#[test]
fn each_program_gets_its_variable_and_conflicting_ones_are_unset() {
    use CredentialKind::{ApiKey, Oauth, Token};
    use HandOut::{Direct, Gateway, Profile};
    for (hand_out, provider, kind, agent, set, value, cleared) in [
        (Gateway, "anthropic", ApiKey, Some("claude"), "ANTHROPIC_AUTH_TOKEN", "sk-", "ANTHROPIC_API_KEY"),
        (Gateway, "anthropic", ApiKey, Some("claude"), "ANTHROPIC_AUTH_TOKEN", "sk-", "CLAUDE_CODE_OAUTH_TOKEN"),
        (Gateway, "anthropic", Oauth, Some("claude"), "CLAUDE_CODE_OAUTH_TOKEN", "sk-", "ANTHROPIC_AUTH_TOKEN"),
        (Gateway, "anthropic", Token, Some("claude"), "CLAUDE_CODE_OAUTH_TOKEN", "sk-", "ANTHROPIC_API_KEY"),
        (Gateway, "anthropic", Oauth, Some("opencode"), "ANTHROPIC_API_KEY", "sk-", "CLAUDE_CODE_OAUTH_TOKEN"),
        (Gateway, "anthropic", Oauth, Some("claude"), "ANTHROPIC_BASE_URL", BASE, "ANTHROPIC_UNIX_SOCKET"),
        (Gateway, "anthropic", Oauth, Some("claude"), "ANTHROPIC_BASE_URL", BASE, "CLAUDE_CODE_USE_BEDROCK"),
        (Gateway, "anthropic", ApiKey, Some("python"), "ANTHROPIC_API_KEY", "sk-", "ANTHROPIC_AUTH_TOKEN"),
        (Gateway, "anthropic", ApiKey, Some("opencode"), "ANTHROPIC_API_KEY", "sk-", "ANTHROPIC_AUTH_TOKEN"),
        (Gateway, "openai", ApiKey, Some("codex"), "OPENAI_API_KEY", "sk-", "CODEX_API_KEY"),
        (Gateway, "openai", Oauth, Some("codex"), "OPENAI_API_KEY", "sk-", "OPENAI_BASE_URL"),
        (Gateway, "openai", ApiKey, None, "OPENAI_BASE_URL", "/x/v1", "OPENAI_ORG_ID"),
        (Gateway, "google", ApiKey, Some("gemini"), "GEMINI_API_KEY", "sk-", "GOOGLE_API_KEY"),
        (Gateway, "google", Oauth, Some("gemini"), "CODE_ASSIST_ENDPOINT", BASE, "GEMINI_API_KEY"),
        (Gateway, "google", ApiKey, None, "GOOGLE_API_KEY", "sk-", "GOOGLE_GENAI_USE_VERTEXAI"),
        (Gateway, "my-llm", ApiKey, None, "MY_LLM_BASE_URL", BASE, "OPENAI_ORG_ID"),
        (Gateway, "my-llm", ApiKey, None, "OPENAI_API_KEY", "sk-", "OPENAI_PROJECT_ID"),
        (Direct, "anthropic", ApiKey, Some("claude"), "ANTHROPIC_API_KEY", "sk-", "CLAUDE_CODE_OAUTH_TOKEN"),
        (Direct, "anthropic", Oauth, Some("claude"), "CLAUDE_CODE_OAUTH_TOKEN", "sk-", "ANTHROPIC_API_KEY"),
        (Direct, "anthropic", Token, None, "ANTHROPIC_AUTH_TOKEN", "sk-", "ANTHROPIC_BASE_URL"),
        (Direct, "openai", ApiKey, None, "OPENAI_API_KEY", "sk-", "OPENAI_BASE_URL"),
        (Direct, "google", Oauth, Some("gemini"), "GOOGLE_CLOUD_ACCESS_TOKEN", "sk-", "GOOGLE_CLOUD_PROJECT"),
        (Profile, "anthropic", Oauth, Some("claude"), "CLAUDE_CONFIG_DIR", "/run/d", "ANTHROPIC_API_KEY"),
        (Profile, "openai", ApiKey, Some("codex"), "CODEX_HOME", "/run/d", "OPENAI_API_KEY"),
        (Profile, "google", ApiKey, Some("gemini"), "GEMINI_CLI_HOME", "/run/d", "GEMINI_API_KEY"),
    ] {
        let row = format!("{hand_out:?} {provider} {kind:?} {agent:?}");
        let outfit = of(hand_out, provider, kind, agent);
        assert!(variable(&outfit, set).is_some_and(|found| found.contains(value)), "{row}: {outfit:?}");
        assert!(outfit.is_unset(cleared), "{row}: {outfit:?}");
        assert!(outfit.unset.iter().all(|name| variable(&outfit, name).is_none()), "{row}: {outfit:?}");
    }
    assert_eq!(variable(&of(Direct, "my-llm", ApiKey, None), "OPENAI_API_KEY"), None, "it would go to OpenAI");
}

#[test]
fn no_placeholder_stays_and_no_argument_contains_a_secret() {
    use CredentialKind::{ApiKey, Oauth, Token};
    for hand_out in [HandOut::Gateway, HandOut::Direct, HandOut::Profile] {
        for provider in ["anthropic", "openai", "google", "other"] {
            for agent in [None, Some("claude"), Some("codex"), Some("gemini"), Some("opencode")] {
                for kind in [ApiKey, Oauth, Token] {
                    let Some(outfit) = agent_setup(&handed(hand_out, provider, kind, agent)) else {
                        assert_eq!(hand_out, HandOut::Profile, "only a profile is not for everybody");
                        continue;
                    };
                    let mut texts: Vec<&str> = outfit.arguments.iter().map(String::as_str).collect();
                    assert!(texts.iter().all(|text| !text.contains("sk-")), "{provider} {agent:?}");
                    texts.extend(outfit.set.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
                    texts.extend(outfit.files.iter().map(|(_, text)| text.as_str()));
                    for place in
                        ["{base}", "{key}", "{dir}", "{NAME}", "{expires}", "{tail}", "{project}", "{plan}", "{socket}"]
                    {
                        assert!(texts.iter().all(|text| !text.contains(place)), "{provider} {agent:?}: {place}");
                    }
                    assert!(!format!("{outfit:?}").contains("sk-"), "{outfit:?}");
                }
            }
        }
    }
}

#[test]
fn codex_is_configured_by_arguments_and_gemini_by_a_file() {
    let codex = of(HandOut::Gateway, "openai", CredentialKind::ApiKey, Some("codex"));
    let told = codex.arguments.join(" ");
    assert!(told.contains(r#"base_url="http://127.0.0.1:7777/x/v1""#), "{told}");
    assert!(told.contains(r#"model_providers.lessor={name="#) && told.ends_with('}'), "{told}");
    let gemini = of(HandOut::Gateway, "google", CredentialKind::ApiKey, Some("gemini"));
    assert!(gemini.arguments.is_empty() && matches!(gemini.additions[..], [MergedJson::InFile(..)]));
    // unset, gemini would read it from a file `.env`
    assert!(gemini.emptied.contains(&"GOOGLE_GENAI_USE_VERTEXAI") && gemini.is_unset("GOOGLE_GENAI_USE_VERTEXAI"));
    let login = of(HandOut::Gateway, "google", CredentialKind::Oauth, Some("gemini"));
    assert!(login.emptied.contains(&"GEMINI_API_KEY") && matches!(login.additions[..], [MergedJson::InFile(..)]));
    let opencode = of(HandOut::Gateway, "anthropic", CredentialKind::ApiKey, Some("opencode"));
    let [MergedJson::InVariable("OPENCODE_CONFIG_CONTENT", value)] = &opencode.additions[..] else {
        panic!("{opencode:?}")
    };
    assert_eq!(value["provider"]["anthropic"]["options"]["baseURL"], "http://127.0.0.1:7777/x/v1");
}

#[test]
fn programs_started_beside_the_agent_get_their_variables() {
    let mut outfit = of(HandOut::Gateway, "anthropic", CredentialKind::ApiKey, Some("claude"));
    outfit.serve_also(of(HandOut::Gateway, "anthropic", CredentialKind::ApiKey, None));
    for name in ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"] {
        assert!(variable(&outfit, name).is_some() && !outfit.unset.contains(&name), "{name}");
    }
}

#[test]
fn a_profile_contains_no_refresh_token_and_omits_unknown_values() {
    let claude = of(HandOut::Profile, "anthropic", CredentialKind::Oauth, Some("claude"));
    let (_, text) = claude.files.iter().find(|(path, _)| *path == ".credentials.json").unwrap();
    let login: Value = serde_json::from_str(text).unwrap();
    assert_eq!(login["claudeAiOauth"]["expiresAt"], 1_790_000_000_000_u64);
    assert!(login["claudeAiOauth"].get("refreshToken").is_none(), "{text}");
    let mut endless = handed(HandOut::Profile, "anthropic", CredentialKind::Token, Some("claude"));
    endless.expires_at = None;
    let endless = agent_setup(&endless).unwrap();
    assert!(endless.files.iter().all(|(_, text)| !text.contains("expiresAt")));
    let key = of(HandOut::Profile, "anthropic", CredentialKind::ApiKey, Some("claude"));
    assert!(key.files[0].1.contains(r#""approved":["6789abcdefghijklmnop"]"#), "{}", key.files[0].1);
    assert!(agent_setup(&handed(HandOut::Profile, "anthropic", CredentialKind::ApiKey, Some("python"))).is_none());
    assert_eq!(agents_with_profile(), ["claude", "codex", "gemini"]);
}

/// A program is given what it has without lessor for this kind of credential.
#[test]
fn a_subscription_is_named_to_claude_and_a_key_is_not() {
    for hand_out in [HandOut::Gateway, HandOut::Direct] {
        for (kind, tier, expected) in [
            (CredentialKind::Oauth, Tier::Ultra, Some("max")),
            (CredentialKind::Token, Tier::Pro, Some("pro")),
            (CredentialKind::Oauth, Tier::Unknown, None),
            (CredentialKind::ApiKey, Tier::Ultra, None),
        ] {
            let of = HandOutRequest { tier, ..handed(hand_out, "anthropic", kind, Some("claude")) };
            let setup = agent_setup(&of).unwrap();
            assert_eq!(variable(&setup, "CLAUDE_CODE_SUBSCRIPTION_TYPE"), expected, "{hand_out:?} {kind:?} {tier:?}");
            let first_party = variable(&setup, "_CLAUDE_CODE_ASSUME_FIRST_PARTY_BASE_URL").is_some();
            assert_eq!(first_party, hand_out == HandOut::Gateway && kind != CredentialKind::ApiKey, "{kind:?}");
        }
    }
    let of = HandOutRequest { tier: Tier::Ultra, ..handed(HandOut::Gateway, "other", CredentialKind::Oauth, None) };
    assert_eq!(variable(&agent_setup(&of).unwrap(), "CLAUDE_CODE_SUBSCRIPTION_TYPE"), None);
}

#[test]
fn a_recipe_is_used_only_if_what_it_needs_has_a_value() {
    let with = HandOutRequest {
        socket: Some("/s"),
        ..handed(HandOut::Gateway, "anthropic", CredentialKind::ApiKey, Some("claude"))
    };
    let filling = TemplateValues::new(&with);
    assert!(filling.has("socket") && filling.has("base") && !filling.has("ca_file") && !filling.has("unknown"));
    let recipe = AgentRecipe { needs: &["base", "socket"], ..*recipes::recipes().next().unwrap() };
    assert!(AgentRecipe { credential: CredentialFilter::Any, ..recipe }.fits(&with, &filling));
    let without = HandOutRequest { socket: None, ..with };
    let recipe = AgentRecipe {
        needs: &["base", "socket"],
        credential: CredentialFilter::Any,
        ..*recipes::recipes().next().unwrap()
    };
    assert!(!recipe.fits(&without, &TemplateValues::new(&without)));
}

/// The setup through a gateway that also serves https.
fn secure(provider: &str, kind: CredentialKind, agent: &str) -> AgentSetup {
    agent_setup(&HandOutRequest {
        secure_base: Some("https://127.0.0.1:7778/x"),
        ca_file: Some("/state/tls/ca.pem"),
        ca_bundle: Some("/state/tls/ca-bundle.pem"),
        ..handed(HandOut::Gateway, provider, kind, Some(agent))
    })
    .unwrap()
}

#[test]
fn by_https_codex_has_a_login_of_its_own_kind_and_only_a_login_is_handed_so() {
    let codex = secure("openai", CredentialKind::Oauth, "codex");
    assert!(variable(&codex, "CODEX_ACCESS_TOKEN").is_some_and(|token| token.starts_with("at-sk-")), "{codex:?}");
    assert_eq!(variable(&codex, "CODEX_AUTHAPI_BASE_URL"), Some("https://127.0.0.1:7778/x/api/accounts"));
    assert!(codex.unset.contains(&"CODEX_API_KEY"), "it would come first: {codex:?}");
    let arguments = codex.arguments.join(" ");
    for part in [r#"openai_base_url="https://127.0.0.1:7778/x""#, r#"model_provider="openai""#, r#"="ephemeral""#] {
        assert!(arguments.contains(part), "{arguments}");
    }
    let mut joined = AgentSetup::default();
    joined.join(codex);
    let (trusting, file) = &joined.certificates[0];
    assert_eq!((trusting.name, file.as_str()), ("CODEX_CA_CERTIFICATE", "/state/tls/ca.pem"));
    for setup in [secure("openai", CredentialKind::ApiKey, "codex"), secure("openai", CredentialKind::Oauth, "x")] {
        assert!(variable(&setup, "CODEX_ACCESS_TOKEN").is_none() && setup.certificates.is_empty(), "{setup:?}");
    }
}

#[test]
fn agy_gets_the_https_address_and_a_key() {
    let agy = secure("google", CredentialKind::ApiKey, "agy");
    assert_eq!(variable(&agy, "AGY_LLM_GATEWAY_URL"), Some("https://127.0.0.1:7778/x"));
    assert_eq!(variable(&agy, "AGY_LLM_GATEWAY_WIRE_PROTOCOL"), Some("genai"));
    let (trusting, file) = &agy.certificates[0];
    assert_eq!((trusting.name, file.as_str()), ("AGY_LLM_GATEWAY_CA_CERT", "/state/tls/ca-bundle.pem"));
}

#[test]
fn a_chatgpt_login_comes_with_the_account_that_it_is_for() {
    let of = |hand_out, account_id| {
        let handed = handed(hand_out, "openai", CredentialKind::Oauth, Some("codex"));
        agent_setup(&HandOutRequest { account_id, ..handed }).unwrap()
    };
    let direct = of(HandOut::Direct, Some("ws-1"));
    let arguments = direct.arguments.join(" ");
    assert!(arguments.ends_with(r#"http_headers={"chatgpt-account-id"="ws-1"}}"#), "{arguments}");
    assert!(variable(&direct, "CODEX_ACCESS_TOKEN").is_none(), "codex takes it for another kind of token");
    for account_id in [None, Some("\"}")] {
        let arguments = of(HandOut::Direct, account_id).arguments.join(" ");
        assert!(arguments.ends_with(r#"wire_api="responses"}"#), "{account_id:?}: {arguments}");
    }
    let profile = of(HandOut::Profile, Some("ws-1"));
    let login: Value = serde_json::from_str(&profile.files[0].1).unwrap();
    assert_eq!(login["tokens"]["account_id"], "ws-1");
    assert_eq!(login["last_refresh"], "2026-11-30T09:00:00Z", "codex uses no login without it");
}

#[test]
fn codex_with_a_key_uses_websockets_where_the_gateway_relays_them() {
    for websocket in [true, false] {
        let request =
            HandOutRequest { websocket, ..handed(HandOut::Gateway, "openai", CredentialKind::ApiKey, Some("codex")) };
        let arguments = agent_setup(&request).unwrap().arguments;
        assert!(arguments[3].ends_with(&format!(",supports_websockets={websocket}}}")), "{arguments:?}");
    }
}

#[test]
fn clouds_of_later_versions_are_unset_and_what_the_recipe_sets_is_not() {
    let claude = of(HandOut::Gateway, "anthropic", CredentialKind::Oauth, Some("claude"));
    for name in ["CLAUDE_CODE_USE_MANTLE", "CLAUDE_CODE_USE_WHAT_COMES_NEXT", "ANTHROPIC_VERTEX_BASE_URL"] {
        assert!(claude.is_unset(name), "{name}");
    }
    for name in ["ANTHROPIC_BASE_URL", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_POWERSHELL_TOOL", "OPENAI_BASE_URL"]
    {
        assert!(!claude.is_unset(name), "{name}");
    }
    let own = of(HandOut::Gateway, "my-llm", CredentialKind::ApiKey, None);
    assert!(own.is_unset("OPENAI_X_BASE_URL") && !own.is_unset("CODEX_X_BASE_URL") && !own.is_unset("MY_LLM_BASE_URL"));
    let mut both = claude;
    both.join(of(HandOut::Gateway, "openai", CredentialKind::ApiKey, Some("claude")));
    assert!(both.is_unset("CLAUDE_CODE_USE_MANTLE") && both.is_unset("OPENAI_X_BASE_URL"));
    assert!(!both.is_unset("OPENAI_BASE_URL") && both.sets("OPENAI_BASE_URL"));
}
