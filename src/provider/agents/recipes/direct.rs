//! Directly: the program gets the account's own token or key.

use super::super::{AgentRecipe, CredentialFilter::Key};
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
    AgentRecipe { set: &[("CODEX_ACCESS_TOKEN", "{key}")], ..DIRECT.of_any("openai") },
    AgentRecipe {
        credential: Key,
        set: &[("GEMINI_API_KEY", "{key}"), ("GOOGLE_API_KEY", "{key}")],
        ..DIRECT.of_any("google")
    },
    AgentRecipe {
        set: &[
            ("GOOGLE_CLOUD_ACCESS_TOKEN", "{key}"),
            ("GOOGLE_GENAI_USE_GCA", "true"),
            ("GOOGLE_CLOUD_PROJECT", "{project}"),
        ],
        unset: &["GOOGLE_CLOUD_PROJECT"],
        ..DIRECT.of_any("google")
    },
    AgentRecipe { set: &[("{NAME}_API_KEY", "{key}")], ..DIRECT },
];
