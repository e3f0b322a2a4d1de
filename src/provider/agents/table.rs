//! The table of what each agent needs to use a leased credential.
//!
//! Placeholders: `{base}` is the provider's address at the gateway, `{key}` the key or token, `{dir}` a directory that
//! is removed afterwards, `{expires}` the expiry of the credential (epoch ms), `{tail}` the last 20 characters of the
//! key, `{project}` the cloud project, `{NAME}` the provider's name as the prefix of a variable. An item whose
//! placeholder has no value is left out.

use super::CredentialFilter::{self, Key, Login};
use super::{AgentRecipe, HandOut, MachineWidePath, MergedJson, OverridingSettings};

/// An empty recipe for each way of handing out.
const GATEWAY: AgentRecipe = AgentRecipe {
    agent: None,
    provider: None,
    hand_out: HandOut::Gateway,
    credential: CredentialFilter::Any,
    set: &[],
    unless_set: &[],
    unset: &[],
    arguments: &[],
    merged: &[],
    files: &[],
    overriding: None,
};
const DIRECT: AgentRecipe = AgentRecipe { hand_out: HandOut::Direct, ..GATEWAY };
const PROFILE: AgentRecipe = AgentRecipe { hand_out: HandOut::Profile, ..GATEWAY };

impl AgentRecipe {
    /// For this agent with this provider.
    const fn of(self, agent: &'static str, provider: &'static str) -> Self {
        Self { agent: Some(agent), ..self.of_any(provider) }
    }

    /// For any agent with this provider.
    const fn of_any(self, provider: &'static str) -> Self {
        Self { provider: Some(provider), ..self }
    }
}

/// All variables from which the vendors' programs read a credential or an endpoint. A recipe sets some of them; the
/// others would conflict (two credentials would both be sent, a key must not go to another host, and the headers of
/// `OPENAI_ORG_ID` and the like belong to the replaced account) and are unset.
pub(super) const CONFLICTING: &[(&str, &str)] = &[
    (
        "anthropic",
        "ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL ANTHROPIC_UNIX_SOCKET \
         CLAUDE_CODE_OAUTH_TOKEN CLAUDE_CODE_OAUTH_REFRESH_TOKEN CLAUDE_CODE_OAUTH_SCOPES \
         CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR \
         CLAUDE_CODE_HOST_CREDS_FILE CLAUDE_CODE_HOST_AUTH_ENV_VAR CLAUDE_CODE_SDK_HAS_OAUTH_REFRESH \
         CCR_OAUTH_TOKEN_FILE CLAUDE_CODE_USE_BEDROCK CLAUDE_CODE_USE_VERTEX CLAUDE_CODE_USE_FOUNDRY",
    ),
    (
        "openai",
        "OPENAI_API_KEY OPENAI_BASE_URL OPENAI_API_BASE OPENAI_ORG_ID OPENAI_ORGANIZATION OPENAI_PROJECT_ID \
         CODEX_API_KEY CODEX_ACCESS_TOKEN",
    ),
    (
        "google",
        "GEMINI_API_KEY GOOGLE_API_KEY GOOGLE_GENERATIVE_AI_API_KEY GOOGLE_GEMINI_BASE_URL \
         GOOGLE_VERTEX_BASE_URL GOOGLE_CLOUD_ACCESS_TOKEN GOOGLE_GENAI_USE_GCA GOOGLE_GENAI_USE_VERTEXAI \
         GEMINI_API_KEY_AUTH_MECHANISM GEMINI_CLI_USE_COMPUTE_ADC CODE_ASSIST_ENDPOINT",
    ),
];

/// Claude Code's `env` settings override the environment, and `--settings` overrides those.
const CLAUDES_SETTINGS: OverridingSettings = OverridingSettings {
    agent: "claude",
    home: ("CLAUDE_CONFIG_DIR", ".claude"),
    in_home: &["settings.json"],
    in_project: &[".claude/settings.json", ".claude/settings.local.json"],
    argument: "--settings",
};

const OPENCODE: &str = "OPENCODE_CONFIG_CONTENT";

/// The first matching recipe is used: those of the agent precede the general ones.
pub(super) const RECIPES: &[AgentRecipe] = &[
    // through the gateway: the program gets an address and a key that is valid only there
    AgentRecipe {
        set: &[("ANTHROPIC_BASE_URL", "{base}"), ("ANTHROPIC_AUTH_TOKEN", "{key}")],
        // otherwise it disables MCP tool search for hosts other than the vendor's
        unless_set: &[("ENABLE_TOOL_SEARCH", "true")],
        overriding: Some(CLAUDES_SETTINGS),
        ..GATEWAY.of("claude", "anthropic")
    },
    AgentRecipe {
        set: &[("ANTHROPIC_BASE_URL", "{base}"), ("ANTHROPIC_API_KEY", "{key}")],
        merged: &[MergedJson::InVariable(
            OPENCODE,
            r#"{"provider":{"anthropic":{"options":{"baseURL":"{base}/v1","apiKey":"{key}"}}}}"#,
        )],
        ..GATEWAY.of("opencode", "anthropic")
    },
    AgentRecipe {
        set: &[("ANTHROPIC_BASE_URL", "{base}"), ("ANTHROPIC_API_KEY", "{key}")],
        ..GATEWAY.of_any("anthropic")
    },
    // codex reads no variable for the address. Its built-in provider takes a key only without a terminal and tries a
    // WebSocket first; a configured provider does neither. The name "OpenAI" tells it what the service supports.
    AgentRecipe {
        credential: Login,
        set: &[("OPENAI_API_KEY", "{key}")],
        arguments: &[
            "-c",
            r#"model_provider="lessor""#,
            "-c",
            r#"model_providers.lessor={name="OpenAI",base_url="{base}",env_key="OPENAI_API_KEY",wire_api="responses"}"#,
        ],
        ..GATEWAY.of("codex", "openai")
    },
    AgentRecipe {
        set: &[("OPENAI_API_KEY", "{key}"), ("OPENAI_BASE_URL", "{base}/v1")],
        arguments: &[
            "-c",
            r#"model_provider="lessor""#,
            "-c",
            r#"model_providers.lessor={name="OpenAI",base_url="{base}/v1",env_key="OPENAI_API_KEY",wire_api="responses"}"#,
        ],
        ..GATEWAY.of("codex", "openai")
    },
    AgentRecipe {
        set: &[("OPENAI_BASE_URL", "{base}/v1"), ("OPENAI_API_KEY", "{key}")],
        merged: &[MergedJson::InVariable(
            OPENCODE,
            r#"{"provider":{"openai":{"options":{"baseURL":"{base}/v1","apiKey":"{key}"}}}}"#,
        )],
        ..GATEWAY.of("opencode", "openai")
    },
    AgentRecipe {
        set: &[("OPENAI_BASE_URL", "{base}/v1"), ("OPENAI_API_BASE", "{base}/v1"), ("OPENAI_API_KEY", "{key}")],
        ..GATEWAY.of_any("openai")
    },
    AgentRecipe {
        credential: Login,
        set: &[
            ("CODE_ASSIST_ENDPOINT", "{base}"),
            ("GOOGLE_GENAI_USE_GCA", "true"),
            ("GOOGLE_CLOUD_ACCESS_TOKEN", "{key}"),
            ("GOOGLE_CLOUD_PROJECT", "{project}"),
        ],
        unset: &["GOOGLE_CLOUD_PROJECT"],
        ..GATEWAY.of("gemini", "google")
    },
    // with a configured address it must also be told that it has a key
    AgentRecipe {
        set: &[("GOOGLE_GEMINI_BASE_URL", "{base}"), ("GEMINI_API_KEY", "{key}")],
        merged: &[MergedJson::InFile(
            "GEMINI_CLI_SYSTEM_SETTINGS_PATH",
            MachineWidePath {
                linux: "/etc/gemini-cli/settings.json",
                macos: "/Library/Application Support/GeminiCli/settings.json",
                windows: r"C:\ProgramData\gemini-cli\settings.json",
            },
            r#"{"security":{"auth":{"selectedType":"gemini-api-key"}}}"#,
        )],
        ..GATEWAY.of("gemini", "google")
    },
    AgentRecipe {
        set: &[("GOOGLE_GEMINI_BASE_URL", "{base}"), ("GOOGLE_GENERATIVE_AI_API_KEY", "{key}")],
        merged: &[MergedJson::InVariable(
            OPENCODE,
            r#"{"provider":{"google":{"options":{"baseURL":"{base}/v1beta","apiKey":"{key}"}}}}"#,
        )],
        ..GATEWAY.of("opencode", "google")
    },
    AgentRecipe {
        set: &[("GOOGLE_GEMINI_BASE_URL", "{base}"), ("GEMINI_API_KEY", "{key}"), ("GOOGLE_API_KEY", "{key}")],
        ..GATEWAY.of_any("google")
    },
    // configured providers are assumed to use the OpenAI API
    AgentRecipe {
        agent: Some("codex"),
        set: &[("OPENAI_API_KEY", "{key}")],
        arguments: &[
            "-c",
            r#"model_provider="lessor""#,
            "-c",
            r#"model_providers.lessor={name="lessor",base_url="{base}",env_key="OPENAI_API_KEY",wire_api="responses"}"#,
        ],
        ..GATEWAY
    },
    AgentRecipe {
        set: &[
            ("{NAME}_BASE_URL", "{base}"),
            ("{NAME}_API_KEY", "{key}"),
            ("OPENAI_BASE_URL", "{base}"),
            ("OPENAI_API_BASE", "{base}"),
            ("OPENAI_API_KEY", "{key}"),
        ],
        ..GATEWAY
    },
    // directly: the program gets the account's own token or key
    AgentRecipe {
        credential: Key,
        set: &[("ANTHROPIC_API_KEY", "{key}")],
        overriding: Some(CLAUDES_SETTINGS),
        ..DIRECT.of_any("anthropic")
    },
    AgentRecipe {
        set: &[("CLAUDE_CODE_OAUTH_TOKEN", "{key}")],
        overriding: Some(CLAUDES_SETTINGS),
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
    // in a profile: the vendor's program finds the token or key where it would have stored it
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
                r#"{"claudeAiOauth":{"accessToken":"{key}","expiresAt":"{expires}","scopes":["user:inference","user:profile"]}}"#,
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
            r#"{"auth_mode":"chatgpt","tokens":{"id_token":"{key}","access_token":"{key}","refresh_token":""}}"#,
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
