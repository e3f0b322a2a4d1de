//! In a profile: the vendor's program finds the token or key where it would have stored it.

use super::super::{AgentRecipe, CredentialFilter::Key};
use super::PROFILE;

pub(super) const RECIPES: &[AgentRecipe] = &[
    AgentRecipe {
        credential: Key,
        set: &[("CLAUDE_CONFIG_DIR", "{dir}")],
        unset: &["CLAUDE_SECURESTORAGE_CONFIG_DIR"],
        files: &[(
            ".claude.json",
            r#"{"hasCompletedOnboarding":true,"primaryApiKey":"{key}","customApiKeyResponses":{"approved":["{tail}"]}}"#,
        )],
        ..PROFILE.of("claude", "anthropic")
    },
    AgentRecipe {
        set: &[("CLAUDE_CONFIG_DIR", "{dir}")],
        unset: &["CLAUDE_SECURESTORAGE_CONFIG_DIR"],
        files: &[
            (".claude.json", r#"{"hasCompletedOnboarding":true}"#),
            (
                ".credentials.json",
                r#"{"claudeAiOauth":{"accessToken":"{key}","expiresAt":"{expires}","scopes":["user:inference","user:profile"],"subscriptionType":"{plan}"}}"#,
            ),
        ],
        ..PROFILE.of("claude", "anthropic")
    },
    AgentRecipe {
        credential: Key,
        set: &[("CODEX_HOME", "{dir}")],
        files: &[("auth.json", r#"{"auth_mode":"apikey","OPENAI_API_KEY":"{key}"}"#)],
        ..PROFILE.of("codex", "openai")
    },
    // the access token contains the account's claims as well as the id token does
    AgentRecipe {
        set: &[("CODEX_HOME", "{dir}")],
        files: &[(
            "auth.json",
            r#"{"auth_mode":"chatgpt","tokens":{"id_token":"{key}","access_token":"{key}","refresh_token":"","account_id":"{account_id}"},"last_refresh":"{now}"}"#,
        )],
        ..PROFILE.of("codex", "openai")
    },
    AgentRecipe {
        credential: Key,
        set: &[("GEMINI_CLI_HOME", "{dir}")],
        files: &[
            (".gemini/settings.json", r#"{"security":{"auth":{"selectedType":"gemini-api-key"}}}"#),
            (".gemini/.env", "GEMINI_API_KEY={key}\n"),
        ],
        ..PROFILE.of("gemini", "google")
    },
    AgentRecipe {
        set: &[("GEMINI_CLI_HOME", "{dir}"), ("GOOGLE_CLOUD_PROJECT", "{project}")],
        unset: &["GOOGLE_CLOUD_PROJECT"],
        files: &[
            (".gemini/settings.json", r#"{"security":{"auth":{"selectedType":"oauth-personal"}}}"#),
            (
                ".gemini/oauth_creds.json",
                r#"{"access_token":"{key}","token_type":"Bearer","expiry_date":"{expires}","scope":"https://www.googleapis.com/auth/cloud-platform"}"#,
            ),
        ],
        ..PROFILE.of("gemini", "google")
    },
];
