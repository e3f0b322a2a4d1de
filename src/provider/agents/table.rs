//! What each agent needs, to work with a credential that is not its own: the table.
//!
//! In the texts `{base}` is the provider's address at the gateway, `{key}` what authenticates, `{dir}` a directory that
//! is thrown away afterwards, `{expires}` when the credential ends (epoch ms), `{tail}` the key's last 20 characters,
//! `{account}` the vendor's own id of the account, `{project}` the cloud project, `{NAME}` the
//! provider's name as a variable begins with it. What has a part that is not known is left out.

use super::{Credential, HandOut, Merged, Overruled, Recipe, Shared};

/// A recipe that does nothing: what the others leave out.
const NONE: Recipe = Recipe {
    agent: None,
    provider: None,
    hand_out: HandOut::Gateway,
    credential: Credential::Any,
    set: &[],
    unless_set: &[],
    cleared: &[],
    arguments: &[],
    merged: &[],
    files: &[],
    overruled: None,
};

/// Everything the vendors' programs take a credential or an endpoint from. A recipe sets some of them; the others would
/// speak against it (two credentials at once are both sent, a key must not go to a host that was meant for another one)
/// and are cleared.
pub(super) const SPOKEN: &[(&str, &[&str])] = &[
    (
        "anthropic",
        &[
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "ANTHROPIC_BASE_URL",
            "ANTHROPIC_UNIX_SOCKET",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CODE_OAUTH_REFRESH_TOKEN",
            "CLAUDE_CODE_OAUTH_SCOPES",
            "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR",
            "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR",
            "CLAUDE_CODE_HOST_CREDS_FILE",
            "CLAUDE_CODE_HOST_AUTH_ENV_VAR",
            "CLAUDE_CODE_SDK_HAS_OAUTH_REFRESH",
            "CCR_OAUTH_TOKEN_FILE",
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_VERTEX",
            "CLAUDE_CODE_USE_FOUNDRY",
        ],
    ),
    (
        "openai",
        &[
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "OPENAI_API_BASE",
            // they go into headers, and belong to the account whose key was replaced
            "OPENAI_ORG_ID",
            "OPENAI_ORGANIZATION",
            "OPENAI_PROJECT_ID",
            "CODEX_API_KEY",
            "CODEX_ACCESS_TOKEN",
        ],
    ),
    (
        "google",
        &[
            "GEMINI_API_KEY",
            "GOOGLE_API_KEY",
            "GOOGLE_GENERATIVE_AI_API_KEY",
            "GOOGLE_GEMINI_BASE_URL",
            "GOOGLE_VERTEX_BASE_URL",
            "GOOGLE_CLOUD_ACCESS_TOKEN",
            "GOOGLE_GENAI_USE_GCA",
            "GOOGLE_GENAI_USE_VERTEXAI",
            "GEMINI_API_KEY_AUTH_MECHANISM",
            "GEMINI_CLI_USE_COMPUTE_ADC",
            "CODE_ASSIST_ENDPOINT",
        ],
    ),
];

/// Claude Code lets what its settings call `env` win over the environment, and `--settings` over that.
const CLAUDES_SETTINGS: Overruled = Overruled {
    agent: "claude",
    home: ("CLAUDE_CONFIG_DIR", ".claude"),
    in_home: &["settings.json"],
    in_project: &[".claude/settings.json", ".claude/settings.local.json"],
    argument: "--settings",
};

const OPENCODE: &str = "OPENCODE_CONFIG_CONTENT";

/// The first that fits is used: the agent's own before everybody's.
pub(super) const RECIPES: &[Recipe] = &[
    // through the gateway: the program gets an address and a key that is worth nothing elsewhere
    Recipe {
        agent: Some("claude"),
        provider: Some("anthropic"),
        set: &[("ANTHROPIC_BASE_URL", "{base}"), ("ANTHROPIC_AUTH_TOKEN", "{key}")],
        // else it turns MCP tool search off where the host is not the vendor's
        unless_set: &[("ENABLE_TOOL_SEARCH", "true")],
        overruled: Some(CLAUDES_SETTINGS),
        ..NONE
    },
    Recipe {
        agent: Some("opencode"),
        provider: Some("anthropic"),
        set: &[("ANTHROPIC_BASE_URL", "{base}"), ("ANTHROPIC_API_KEY", "{key}")],
        merged: &[Merged::InVariable(
            OPENCODE,
            r#"{"provider":{"anthropic":{"options":{"baseURL":"{base}/v1","apiKey":"{key}"}}}}"#,
        )],
        ..NONE
    },
    Recipe {
        provider: Some("anthropic"),
        set: &[("ANTHROPIC_BASE_URL", "{base}"), ("ANTHROPIC_API_KEY", "{key}")],
        ..NONE
    },
    // codex reads no variable for the address. Its built-in provider takes a key only without a terminal, and tries a
    // WebSocket first; one of its own does neither. By the name "OpenAI" it knows what the service can do.
    Recipe {
        agent: Some("codex"),
        provider: Some("openai"),
        credential: Credential::Login,
        set: &[("OPENAI_API_KEY", "{key}")],
        arguments: &[
            "-c",
            r#"model_provider="lessor""#,
            "-c",
            r#"model_providers.lessor={name="OpenAI",base_url="{base}",env_key="OPENAI_API_KEY",wire_api="responses"}"#,
        ],
        ..NONE
    },
    Recipe {
        agent: Some("codex"),
        provider: Some("openai"),
        set: &[("OPENAI_API_KEY", "{key}"), ("OPENAI_BASE_URL", "{base}/v1")],
        arguments: &[
            "-c",
            r#"model_provider="lessor""#,
            "-c",
            r#"model_providers.lessor={name="OpenAI",base_url="{base}/v1",env_key="OPENAI_API_KEY",wire_api="responses"}"#,
        ],
        ..NONE
    },
    Recipe {
        agent: Some("opencode"),
        provider: Some("openai"),
        set: &[("OPENAI_BASE_URL", "{base}/v1"), ("OPENAI_API_KEY", "{key}")],
        merged: &[Merged::InVariable(
            OPENCODE,
            r#"{"provider":{"openai":{"options":{"baseURL":"{base}/v1","apiKey":"{key}"}}}}"#,
        )],
        ..NONE
    },
    Recipe {
        provider: Some("openai"),
        set: &[("OPENAI_BASE_URL", "{base}/v1"), ("OPENAI_API_BASE", "{base}/v1"), ("OPENAI_API_KEY", "{key}")],
        ..NONE
    },
    Recipe {
        agent: Some("gemini"),
        provider: Some("google"),
        credential: Credential::Login,
        set: &[
            ("CODE_ASSIST_ENDPOINT", "{base}"),
            ("GOOGLE_GENAI_USE_GCA", "true"),
            ("GOOGLE_CLOUD_ACCESS_TOKEN", "{key}"),
            ("GOOGLE_CLOUD_PROJECT", "{project}"),
        ],
        cleared: &["GOOGLE_CLOUD_PROJECT"],
        ..NONE
    },
    // with an address of its own it wants to be told, too, that it has a key
    Recipe {
        agent: Some("gemini"),
        provider: Some("google"),
        set: &[("GOOGLE_GEMINI_BASE_URL", "{base}"), ("GEMINI_API_KEY", "{key}")],
        merged: &[Merged::InFile(
            "GEMINI_CLI_SYSTEM_SETTINGS_PATH",
            Shared {
                linux: "/etc/gemini-cli/settings.json",
                macos: "/Library/Application Support/GeminiCli/settings.json",
                windows: r"C:\ProgramData\gemini-cli\settings.json",
            },
            r#"{"security":{"auth":{"selectedType":"gemini-api-key"}}}"#,
        )],
        ..NONE
    },
    Recipe {
        agent: Some("opencode"),
        provider: Some("google"),
        set: &[("GOOGLE_GEMINI_BASE_URL", "{base}"), ("GOOGLE_GENERATIVE_AI_API_KEY", "{key}")],
        merged: &[Merged::InVariable(
            OPENCODE,
            r#"{"provider":{"google":{"options":{"baseURL":"{base}/v1beta","apiKey":"{key}"}}}}"#,
        )],
        ..NONE
    },
    Recipe {
        provider: Some("google"),
        set: &[("GOOGLE_GEMINI_BASE_URL", "{base}"), ("GEMINI_API_KEY", "{key}"), ("GOOGLE_API_KEY", "{key}")],
        ..NONE
    },
    // what the configuration names speaks as OpenAI does
    Recipe {
        agent: Some("codex"),
        set: &[("OPENAI_API_KEY", "{key}")],
        arguments: &[
            "-c",
            r#"model_provider="lessor""#,
            "-c",
            r#"model_providers.lessor={name="lessor",base_url="{base}",env_key="OPENAI_API_KEY",wire_api="responses"}"#,
        ],
        ..NONE
    },
    Recipe {
        set: &[
            ("{NAME}_BASE_URL", "{base}"),
            ("{NAME}_API_KEY", "{key}"),
            ("OPENAI_BASE_URL", "{base}"),
            ("OPENAI_API_BASE", "{base}"),
            ("OPENAI_API_KEY", "{key}"),
        ],
        ..NONE
    },
    // directly: the program gets the account's own token or key
    Recipe {
        provider: Some("anthropic"),
        hand_out: HandOut::Direct,
        credential: Credential::Key,
        set: &[("ANTHROPIC_API_KEY", "{key}")],
        overruled: Some(CLAUDES_SETTINGS),
        ..NONE
    },
    Recipe {
        agent: Some("claude"),
        provider: Some("anthropic"),
        hand_out: HandOut::Direct,
        set: &[("CLAUDE_CODE_OAUTH_TOKEN", "{key}")],
        overruled: Some(CLAUDES_SETTINGS),
        ..NONE
    },
    Recipe {
        provider: Some("anthropic"),
        hand_out: HandOut::Direct,
        set: &[("ANTHROPIC_AUTH_TOKEN", "{key}")],
        ..NONE
    },
    Recipe {
        provider: Some("openai"),
        hand_out: HandOut::Direct,
        credential: Credential::Key,
        set: &[("OPENAI_API_KEY", "{key}"), ("CODEX_API_KEY", "{key}")],
        ..NONE
    },
    Recipe { provider: Some("openai"), hand_out: HandOut::Direct, set: &[("CODEX_ACCESS_TOKEN", "{key}")], ..NONE },
    Recipe {
        provider: Some("google"),
        hand_out: HandOut::Direct,
        credential: Credential::Key,
        set: &[("GEMINI_API_KEY", "{key}"), ("GOOGLE_API_KEY", "{key}")],
        ..NONE
    },
    Recipe {
        provider: Some("google"),
        hand_out: HandOut::Direct,
        set: &[
            ("GOOGLE_CLOUD_ACCESS_TOKEN", "{key}"),
            ("GOOGLE_GENAI_USE_GCA", "true"),
            ("GOOGLE_CLOUD_PROJECT", "{project}"),
        ],
        cleared: &["GOOGLE_CLOUD_PROJECT"],
        ..NONE
    },
    Recipe { hand_out: HandOut::Direct, set: &[("{NAME}_API_KEY", "{key}")], ..NONE },
    // in a profile: the vendor's own program finds the token or key where it would have put it
    Recipe {
        agent: Some("claude"),
        provider: Some("anthropic"),
        hand_out: HandOut::Profile,
        credential: Credential::Key,
        set: &[("CLAUDE_CONFIG_DIR", "{dir}")],
        cleared: &["CLAUDE_SECURESTORAGE_CONFIG_DIR"],
        files: &[(
            ".claude.json",
            r#"{"hasCompletedOnboarding":true,"primaryApiKey":"{key}","customApiKeyResponses":{"approved":["{tail}"]}}"#,
        )],
        ..NONE
    },
    Recipe {
        agent: Some("claude"),
        provider: Some("anthropic"),
        hand_out: HandOut::Profile,
        set: &[("CLAUDE_CONFIG_DIR", "{dir}")],
        cleared: &["CLAUDE_SECURESTORAGE_CONFIG_DIR"],
        files: &[
            (".claude.json", r#"{"hasCompletedOnboarding":true}"#),
            (
                ".credentials.json",
                r#"{"claudeAiOauth":{"accessToken":"{key}","expiresAt":"{expires}","scopes":["user:inference","user:profile"]}}"#,
            ),
        ],
        ..NONE
    },
    Recipe {
        agent: Some("codex"),
        provider: Some("openai"),
        hand_out: HandOut::Profile,
        credential: Credential::Key,
        set: &[("CODEX_HOME", "{dir}")],
        files: &[("auth.json", r#"{"auth_mode":"apikey","OPENAI_API_KEY":"{key}"}"#)],
        ..NONE
    },
    // the access token says of the account what the id token would
    Recipe {
        agent: Some("codex"),
        provider: Some("openai"),
        hand_out: HandOut::Profile,
        set: &[("CODEX_HOME", "{dir}")],
        files: &[(
            "auth.json",
            r#"{"auth_mode":"chatgpt","tokens":{"id_token":"{key}","access_token":"{key}","refresh_token":""}}"#,
        )],
        ..NONE
    },
    Recipe {
        agent: Some("gemini"),
        provider: Some("google"),
        hand_out: HandOut::Profile,
        credential: Credential::Key,
        set: &[("GEMINI_CLI_HOME", "{dir}")],
        files: &[
            (".gemini/settings.json", r#"{"security":{"auth":{"selectedType":"gemini-api-key"}}}"#),
            (".gemini/.env", "GEMINI_API_KEY={key}\n"),
        ],
        ..NONE
    },
    Recipe {
        agent: Some("gemini"),
        provider: Some("google"),
        hand_out: HandOut::Profile,
        set: &[("GEMINI_CLI_HOME", "{dir}"), ("GOOGLE_CLOUD_PROJECT", "{project}")],
        cleared: &["GOOGLE_CLOUD_PROJECT"],
        files: &[
            (".gemini/settings.json", r#"{"security":{"auth":{"selectedType":"oauth-personal"}}}"#),
            (
                ".gemini/oauth_creds.json",
                r#"{"access_token":"{key}","token_type":"Bearer","expiry_date":"{expires}","scope":"https://www.googleapis.com/auth/cloud-platform"}"#,
            ),
        ],
        ..NONE
    },
];
