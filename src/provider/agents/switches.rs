//! Variables that would lead an agent past what `run` hands it.

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
