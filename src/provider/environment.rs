//! The variables agents and SDKs read their credential from.

use crate::pool::CredentialKind;

use super::built_in;

/// What a program's environment must and must not hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Environment {
    /// Variables that carry the secret.
    pub secret: Vec<String>,
    /// Variables with a fixed value.
    pub fixed: Vec<(&'static str, &'static str)>,
    /// Variables that would speak against those.
    pub unset: Vec<&'static str>,
}

/// Everything Anthropic's programs take a credential from; two of them at once are both sent.
const ANTHROPIC: [&str; 3] = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];
const OPENAI: [&str; 3] = ["OPENAI_API_KEY", "CODEX_API_KEY", "CODEX_ACCESS_TOKEN"];
const GOOGLE: [&str; 4] = ["GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_CLOUD_ACCESS_TOKEN", "GOOGLE_GENAI_USE_GCA"];

/// The variables that hand a credential of this kind to this agent, or to any program when there is no agent.
#[must_use]
pub fn environment(provider: &str, kind: CredentialKind, agent: Option<&str>) -> Environment {
    let key = kind == CredentialKind::ApiKey;
    let (known, secret, fixed): (&[&'static str], &[&str], &[(&'static str, &'static str)]) = match provider {
        "anthropic" if key => (&ANTHROPIC, &["ANTHROPIC_API_KEY"], &[]),
        "anthropic" if agent == Some("claude") => (&ANTHROPIC, &["CLAUDE_CODE_OAUTH_TOKEN"], &[]),
        "anthropic" => (&ANTHROPIC, &["ANTHROPIC_AUTH_TOKEN"], &[]),
        "openai" if key => (&OPENAI, &["OPENAI_API_KEY", "CODEX_API_KEY"], &[]),
        "openai" => (&OPENAI, &["CODEX_ACCESS_TOKEN"], &[]),
        "google" if key => (&GOOGLE, &["GEMINI_API_KEY", "GOOGLE_API_KEY"], &[]),
        "google" => (&GOOGLE, &["GOOGLE_CLOUD_ACCESS_TOKEN"], &[("GOOGLE_GENAI_USE_GCA", "true")]),
        _ => (&[], &[], &[]),
    };
    let mut secret: Vec<String> = secret.iter().map(|name| (*name).to_owned()).collect();
    if built_in(provider).is_none() {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        secret.push(format!("{}_API_KEY", provider.chars().map(letter).collect::<String>()));
    }
    // a key must not go to a host that was meant for another one
    let elsewhere: &[&'static str] = match provider {
        "anthropic" => &["ANTHROPIC_BASE_URL", "ANTHROPIC_UNIX_SOCKET"],
        "openai" => &["OPENAI_BASE_URL"],
        "google" => &["GOOGLE_GEMINI_BASE_URL", "CODE_ASSIST_ENDPOINT"],
        _ => &[],
    };
    let free =
        |name: &&&'static str| !secret.iter().any(|set| set == **name) && !fixed.iter().any(|(set, _)| set == *name);
    let unset = known.iter().filter(free).chain(elsewhere).copied().collect();
    Environment { fixed: fixed.to_vec(), unset, secret }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_gets_its_variable_and_loses_the_others() {
        use CredentialKind::{ApiKey, Oauth};
        for (provider, kind, agent, set, unset) in [
            ("anthropic", ApiKey, Some("claude"), "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"),
            ("anthropic", Oauth, Some("claude"), "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY"),
            ("anthropic", Oauth, None, "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"),
            ("openai", ApiKey, None, "OPENAI_API_KEY", "CODEX_ACCESS_TOKEN"),
            ("google", Oauth, Some("gemini"), "GOOGLE_CLOUD_ACCESS_TOKEN", "GEMINI_API_KEY"),
        ] {
            let environment = environment(provider, kind, agent);
            assert!(environment.secret.iter().any(|name| name == set), "{environment:?}");
            assert!(environment.unset.contains(&unset), "{environment:?}");
            assert!(environment.secret.iter().all(|name| !environment.unset.contains(&name.as_str())));
        }
        assert_eq!(environment("my-llm", ApiKey, None).secret, ["MY_LLM_API_KEY"]);
    }
}
