//! Directly: the program gets the account's own token or key.

use super::super::{
    AgentRecipe,
    CredentialFilter::{Key, Login},
};
use super::{CLAUDES_LOGIN_SETTINGS, CLAUDES_SETTINGS, DIRECT};

pub(super) const RECIPES: &[AgentRecipe] = &[
    AgentRecipe {
        credential: Key,
        set: &[("ANTHROPIC_API_KEY", "{key}")],
        overriding: Some(CLAUDES_SETTINGS),
        ..DIRECT.of_any("anthropic")
    },
    AgentRecipe {
        set: &[("CLAUDE_CODE_OAUTH_TOKEN", "{key}"), ("CLAUDE_CODE_SUBSCRIPTION_TYPE", "{plan}")],
        overriding: Some(CLAUDES_LOGIN_SETTINGS),
        ..DIRECT.of("claude", "anthropic")
    },
    AgentRecipe { set: &[("ANTHROPIC_AUTH_TOKEN", "{key}")], ..DIRECT.of_any("anthropic") },
    AgentRecipe {
        credential: Key,
        set: &[("OPENAI_API_KEY", "{key}"), ("CODEX_API_KEY", "{key}")],
        ..DIRECT.of_any("openai")
    },
    // codex has no variable for the token of a login: a configured provider sends it, and names the account
    AgentRecipe {
        credential: Login,
        needs: &["account_id"],
        set: &[("OPENAI_API_KEY", "{key}")],
        arguments: &[
            "-c",
            r#"model_provider="lessor""#,
            "-c",
            r#"model_providers.lessor={name="OpenAI",base_url="https://chatgpt.com/backend-api/codex",env_key="OPENAI_API_KEY",wire_api="responses",http_headers={"chatgpt-account-id"="{account_id}"}}"#,
        ],
        ..DIRECT.of("codex", "openai")
    },
    AgentRecipe {
        credential: Login,
        set: &[("OPENAI_API_KEY", "{key}")],
        arguments: &[
            "-c",
            r#"model_provider="lessor""#,
            "-c",
            r#"model_providers.lessor={name="OpenAI",base_url="https://chatgpt.com/backend-api/codex",env_key="OPENAI_API_KEY",wire_api="responses"}"#,
        ],
        ..DIRECT.of("codex", "openai")
    },
    AgentRecipe { set: &[("CODEX_ACCESS_TOKEN", "{key}")], ..DIRECT.of_any("openai") },
    AgentRecipe {
        credential: Key,
        set: &[("GEMINI_API_KEY", "{key}"), ("GOOGLE_API_KEY", "{key}")],
        emptied: &["GOOGLE_GENAI_USE_GCA", "GOOGLE_GENAI_USE_VERTEXAI"],
        ..DIRECT.of_any("google")
    },
    AgentRecipe {
        set: &[
            ("GOOGLE_CLOUD_ACCESS_TOKEN", "{key}"),
            ("GOOGLE_GENAI_USE_GCA", "true"),
            ("GOOGLE_CLOUD_PROJECT", "{project}"),
        ],
        unset: &["GOOGLE_CLOUD_PROJECT"],
        emptied: &["GOOGLE_GENAI_USE_VERTEXAI", "GEMINI_API_KEY", "GOOGLE_API_KEY"],
        ..DIRECT.of_any("google")
    },
    AgentRecipe { set: &[("{NAME}_API_KEY", "{key}")], ..DIRECT },
];
