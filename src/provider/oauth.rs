//! The vendors' OAuth servers. To log in, the user configures the client.

/// A vendor's OAuth server, as far as known without configuration.
#[derive(PartialEq, Eq, Debug)]
pub struct OauthServer {
    /// Where users log in.
    pub authorize_url: &'static str,
    /// The token endpoint.
    pub token_url: &'static str,
    /// The identity endpoint, if the tokens do not contain the identity.
    pub identity_url: Option<&'static str>,
    /// The scopes.
    pub scopes: &'static [&'static str],
    /// Host, port (0 selects any) and path of the redirect to this machine.
    pub redirect: (&'static str, u16, &'static str),
    /// The vendor's page that shows the code for pasting.
    pub paste_page: Option<&'static str>,
    /// Additional parameters of the authorization request.
    pub extra: &'static [(&'static str, &'static str)],
    /// Whether the token endpoint takes JSON instead of a form.
    pub json: bool,
    /// Whether its clients need a secret.
    pub wants_secret: bool,
}

/// Claude: <https://claude.ai>.
pub(super) static ANTHROPIC: OauthServer = OauthServer {
    authorize_url: "https://claude.ai/oauth/authorize",
    token_url: "https://platform.claude.com/v1/oauth/token",
    identity_url: Some("https://api.anthropic.com/api/oauth/profile"),
    scopes: &["user:profile", "user:inference", "user:sessions:claude_code", "user:mcp_servers", "user:file_upload"],
    redirect: ("localhost", 54545, "/callback"),
    paste_page: Some("https://platform.claude.com/oauth/code/callback"),
    extra: &[("code", "true")],
    json: true,
    wants_secret: false,
};

/// ChatGPT. Its redirect is registered with this port only.
pub(super) static OPENAI: OauthServer = OauthServer {
    authorize_url: "https://auth.openai.com/oauth/authorize",
    token_url: "https://auth.openai.com/oauth/token",
    identity_url: None,
    scopes: &["openid", "email", "profile", "offline_access"],
    redirect: ("localhost", 1455, "/auth/callback"),
    paste_page: None,
    extra: &[("id_token_add_organizations", "true"), ("codex_cli_simplified_flow", "true")],
    json: false,
    wants_secret: false,
};

/// Google. Without `offline` and `consent` there is no refresh token.
pub(super) static GOOGLE: OauthServer = OauthServer {
    authorize_url: "https://accounts.google.com/o/oauth2/v2/auth",
    token_url: "https://oauth2.googleapis.com/token",
    identity_url: Some("https://www.googleapis.com/oauth2/v2/userinfo"),
    scopes: &[
        "https://www.googleapis.com/auth/cloud-platform",
        "https://www.googleapis.com/auth/userinfo.email",
        "https://www.googleapis.com/auth/userinfo.profile",
    ],
    redirect: ("127.0.0.1", 0, "/oauth2callback"),
    paste_page: None,
    extra: &[("access_type", "offline"), ("prompt", "consent")],
    json: false,
    wants_secret: true,
};

/// The public OAuth clients of vendors' programs whose tokens do not name their client. They only refresh logins that
/// the program has made; lessor never logs in with them.
static PROGRAM_CLIENTS: [(&str, &str); 1] = [("claude-code", "9d1c250a-e61b-44d9-88ed-5944d1962f5e")];

/// The OAuth client of a vendor's program, by the program's stable name: it refreshes logins that the program has made.
#[must_use]
pub fn client_of_program(tool: &str) -> Option<&'static str> {
    PROGRAM_CLIENTS.iter().find(|(known, _)| *known == tool).map(|(_, client)| *client)
}

/// A login whose tokens are for the provider's public API. Each account has a client of its own, which the first login
/// registers.
#[derive(PartialEq, Eq, Debug)]
pub struct DirectLogin {
    /// The server.
    pub server: OauthServer,
    /// The API: `resource` in OAuth.
    pub resource: &'static str,
    /// The client that a registration is started with.
    pub registration_client: &'static str,
    /// The scope without which the plan cannot be used.
    pub plan_scope: &'static str,
}

/// The login for the public API of a provider that has one.
#[must_use]
pub fn direct_login(provider: &str) -> Option<&'static DirectLogin> {
    (provider == "openai").then_some(&OPENAI_DIRECT)
}

/// Sign in with ChatGPT, for open-source programs: <https://developers.openai.com/siwc/token-sharing-open-source>. It
/// accepts a redirect to any port of 127.0.0.1.
static OPENAI_DIRECT: DirectLogin = DirectLogin {
    server: OauthServer {
        authorize_url: "https://auth.openai.com/api/accounts/authorize",
        token_url: "https://auth.openai.com/api/accounts/oauth/token",
        identity_url: None,
        scopes: &["openid", "profile", "email", "offline_access", "resource.invoke", "chatgpt.tokens.use.direct"],
        redirect: ("127.0.0.1", 0, "/auth/callback"),
        paste_page: None,
        extra: &[],
        json: false,
        wants_secret: false,
    },
    resource: "https://api.openai.com/v1",
    registration_client: "dynamic_agent_client",
    plan_scope: "chatgpt.tokens.use.direct",
};
