//! Through the gateway: the program gets an address and a key that is valid only there.

use super::super::{
    AgentRecipe, CertificateVariable,
    CredentialFilter::{Key, Login},
    MachineWidePath, MergedJson,
};
use super::{CLAUDES_LOGIN_SETTINGS, CLAUDES_SETTINGS, GATEWAY};

const OPENCODE: &str = "OPENCODE_CONFIG_CONTENT";

/// Settings that precede those of the user.
const GEMINIS_SETTINGS: &str = "GEMINI_CLI_SYSTEM_SETTINGS_PATH";
const GEMINIS_SYSTEM_SETTINGS: MachineWidePath = MachineWidePath {
    linux: "/etc/gemini-cli/settings.json",
    macos: "/Library/Application Support/GeminiCli/settings.json",
    windows: r"C:\ProgramData\gemini-cli\settings.json",
};

pub(super) const RECIPES: &[AgentRecipe] = &[
    // A subscription, used as without lessor: with the token as that of a login, it asks for the prompt cache of an hour
    // and reads the windows of the usage; with an address that it takes for the vendor's, it sends all betas. (Its Unix
    // socket needs the address http://api.anthropic.com, and programs that it starts would send their keys there.)
    AgentRecipe {
        credential: Login,
        set: &[
            ("ANTHROPIC_BASE_URL", "{base}"),
            ("CLAUDE_CODE_OAUTH_TOKEN", "{key}"),
            ("_CLAUDE_CODE_ASSUME_FIRST_PARTY_BASE_URL", "1"),
            ("CLAUDE_CODE_SUBSCRIPTION_TYPE", "{plan}"),
        ],
        unless_set: &[("ENABLE_TOOL_SEARCH", "true")],
        overriding: Some(CLAUDES_LOGIN_SETTINGS),
        ..GATEWAY.of("claude", "anthropic")
    },
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
    // By https codex uses its built-in provider, as with a ChatGPT login of its own. It takes the key, by its beginning,
    // for a personal access token, and asks at CODEX_AUTHAPI_BASE_URL whose that is. Its own login stays where it is:
    // without a store, codex neither reads it nor removes it where the user's configuration restricts logins.
    AgentRecipe {
        credential: Login,
        needs: &["secure_base", "ca_file"],
        set: &[("CODEX_ACCESS_TOKEN", "at-{key}"), ("CODEX_AUTHAPI_BASE_URL", "{secure_base}/api/accounts")],
        arguments: &[
            "-c",
            r#"model_provider="openai""#,
            "-c",
            r#"openai_base_url="{secure_base}""#,
            "-c",
            r#"chatgpt_base_url="{secure_base}/backend-api/""#,
            "-c",
            r#"forced_login_method="chatgpt""#,
            "-c",
            r#"cli_auth_credentials_store="ephemeral""#,
            // codex sends their server no credential at another address than the vendor's
            "-c",
            "features.apps=false",
        ],
        certificates: Some(CertificateVariable {
            name: "CODEX_CA_CERTIFICATE",
            instead_of: &["SSL_CERT_FILE"],
            file: "{ca_file}",
        }),
        ..GATEWAY.of("codex", "openai")
    },
    // codex reads no variable for the address. Its built-in provider takes a key only without a terminal, and always tries
    // a WebSocket first; of a configured provider, `supports_websockets` says whether to. The name "OpenAI" says what else
    // the service supports.
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
            r#"model_providers.lessor={name="OpenAI",base_url="{base}/v1",env_key="OPENAI_API_KEY",wire_api="responses",supports_websockets={websocket}}"#,
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
        // a method that the user has chosen in the settings would take precedence
        merged: &[MergedJson::InFile(
            GEMINIS_SETTINGS,
            GEMINIS_SYSTEM_SETTINGS,
            r#"{"security":{"auth":{"selectedType":"oauth-personal"}}}"#,
        )],
        emptied: &["GOOGLE_GENAI_USE_VERTEXAI", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GEMINI_CLI_USE_COMPUTE_ADC"],
        ..GATEWAY.of("gemini", "google")
    },
    // with a configured address it must also be told that it has a key
    AgentRecipe {
        set: &[("GOOGLE_GEMINI_BASE_URL", "{base}"), ("GEMINI_API_KEY", "{key}")],
        merged: &[MergedJson::InFile(
            GEMINIS_SETTINGS,
            GEMINIS_SYSTEM_SETTINGS,
            r#"{"security":{"auth":{"selectedType":"gemini-api-key"}}}"#,
        )],
        emptied: &[
            "GOOGLE_GENAI_USE_GCA",
            "GOOGLE_GENAI_USE_VERTEXAI",
            "GOOGLE_API_KEY",
            "GOOGLE_CLOUD_ACCESS_TOKEN",
            "GEMINI_CLI_USE_COMPUTE_ADC",
        ],
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
    // not tried with the program itself: its documentation says so
    AgentRecipe {
        credential: Key,
        needs: &["secure_base", "ca_bundle"],
        set: &[
            ("AGY_LLM_GATEWAY_URL", "{secure_base}"),
            ("AGY_LLM_GATEWAY_API_KEY", "{key}"),
            ("AGY_LLM_GATEWAY_WIRE_PROTOCOL", "genai"),
        ],
        // whether it adds the file to the system's certificates or replaces them by it, this one serves
        certificates: Some(CertificateVariable {
            name: "AGY_LLM_GATEWAY_CA_CERT",
            instead_of: &[],
            file: "{ca_bundle}",
        }),
        ..GATEWAY.of("agy", "google")
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
];
