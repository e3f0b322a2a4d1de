//! The settings of an OAuth client.

use crate::http::ConnectOptions;
use crate::provider::{OauthServer, built_in, direct_login};

/// The `oauth` section of a provider's configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OauthConfig {
    /// Discovers the URLs that are not configured.
    pub issuer: Option<String>,
    /// Where users log in.
    pub authorize_url: Option<String>,
    /// The token endpoint.
    pub token_url: Option<String>,
    /// The device authorization endpoint.
    pub device_url: Option<String>,
    /// The client id.
    pub client_id: Option<String>,
    /// The environment variable that contains the client secret.
    pub client_secret_env: Option<String>,
    /// The scopes.
    pub scopes: Vec<String>,
    /// The port of the redirect; 0 selects any.
    pub redirect_port: u16,
    /// How to connect to the server.
    pub reach: ConnectOptions,
    /// The other clients, which refresh the logins that they made.
    pub clients: Vec<OauthClient>,
}

/// One of several OAuth clients of a provider.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OauthClient {
    /// The name that the user chose.
    pub name: String,
    /// The client id.
    pub client_id: String,
    /// The environment variable that contains the client secret.
    pub client_secret_env: Option<String>,
}

/// A client that can log in, or at least refresh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OauthSettings {
    pub(super) provider: String,
    pub(super) given: OauthConfig,
    pub(super) client_id: String,
    /// The environment variable with the secret of this client, and the section that names it.
    secret_env: Option<(String, String)>,
    pub(super) built_in: Option<&'static OauthServer>,
    /// The API that the login is for, if it is one for the public API.
    pub(super) resource: Option<String>,
    /// Whether the client only registers another one, which the answer to the authorization names.
    pub(super) registers: bool,
    /// More parameters of the authorization request.
    pub(super) parameters: Vec<(&'static str, String)>,
}

/// The configuration keys that are missing to log in or refresh.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", self.text())]
pub struct MissingSettings {
    provider: String,
    keys: Vec<&'static str>,
    example: bool,
    /// The client that made the login, if it is known and not configured.
    client_id: Option<String>,
}

impl OauthSettings {
    /// The settings of the provider's default client.
    ///
    /// # Errors
    /// With the missing keys and how to set them.
    pub fn of(provider: &str, given: OauthConfig) -> Result<Self, MissingSettings> {
        Self::for_client(provider, given, None)
    }

    /// The settings of a client: the configured one with this id, or this client without a secret. `None` selects the
    /// provider's default client.
    ///
    /// # Errors
    /// With the missing keys and how to set them.
    pub fn for_client(provider: &str, given: OauthConfig, client_id: Option<&str>) -> Result<Self, MissingSettings> {
        let built_in = built_in(provider).map(|provider| provider.oauth);
        let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let section = format!("providers.{provider}.oauth");
        let client = given.client(&section, client_id);
        let mut keys = Vec::new();
        if built_in.is_none() && !is_set(&given.issuer) && !is_set(&given.token_url) {
            keys.push("issuer");
        }
        if client.is_none() {
            keys.push("client_id");
        }
        // a server that the user configured may do without
        let wants_secret =
            built_in.is_some_and(|server| server.wants_secret) && given.token_url.is_none() && given.issuer.is_none();
        if wants_secret && client.as_ref().is_none_or(|(_, secret)| secret.is_none()) {
            keys.push("client_secret_env");
        }
        // a client that only the login names has no section
        let unknown = client_id.filter(|id| !given.is_configured(id));
        match client.filter(|_| keys.is_empty()) {
            Some((client_id, secret_env)) => {
                let provider = provider.to_owned();
                let (resource, registers, parameters) = (None, false, Vec::new());
                Ok(Self { provider, given, client_id, secret_env, built_in, resource, registers, parameters })
            }
            None => Err(MissingSettings {
                provider: provider.to_owned(),
                keys,
                example: built_in.is_none(),
                client_id: unknown.map(str::to_owned),
            }),
        }
    }

    /// The settings of a login for the provider's public API: of the client that was registered for it, or, without one,
    /// of the registration. `None` if the provider has no such login.
    #[must_use]
    pub fn direct(provider: &str, given: OauthConfig, client_id: Option<&str>) -> Option<Self> {
        let direct = direct_login(provider)?;
        Some(Self {
            provider: provider.to_owned(),
            given,
            client_id: client_id.unwrap_or(direct.registration_client).to_owned(),
            secret_env: None,
            built_in: Some(&direct.server),
            resource: Some(direct.resource.to_owned()),
            registers: client_id.is_none(),
            parameters: Vec::new(),
        })
    }

    /// Adds a parameter of the authorization request.
    #[must_use]
    pub fn with_parameter(mut self, name: &'static str, value: &str) -> Self {
        self.parameters.push((name, value.to_owned()));
        self
    }

    /// The API that the login is for, if it is one for the public API.
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        self.resource.as_deref()
    }

    /// The provider's name.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The client's id.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Identifies the client: one request at a time is made per client.
    #[must_use]
    pub fn client_key(&self) -> String {
        let given = &self.given;
        let built_in = self.built_in.map(|server| server.token_url);
        let server = given.token_url.as_deref().or(given.issuer.as_deref()).or(built_in).unwrap_or_default();
        format!("{} at {server}", self.client_id)
    }
    pub(super) fn scopes(&self) -> Vec<String> {
        match self.built_in {
            _ if !self.given.scopes.is_empty() => self.given.scopes.clone(),
            Some(server) => server.scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            // the identity and a refresh token
            None => ["openid", "email", "profile", "offline_access"].map(str::to_owned).to_vec(),
        }
    }

    pub(super) fn has_secret(&self) -> bool {
        self.secret_env.is_some()
    }

    /// The client secret, if there is one.
    ///
    /// # Errors
    /// A sentence, when the environment variable is not set.
    pub(super) fn secret(&self) -> Result<Option<zeroize::Zeroizing<String>>, String> {
        let Some((name, section)) = &self.secret_env else { return Ok(None) };
        match std::env::var(name) {
            Ok(secret) if !secret.is_empty() => Ok(Some(zeroize::Zeroizing::new(secret))),
            _ => Err(format!("the environment variable {name} (`client_secret_env` of [{section}]) is not set here")),
        }
    }
}

impl MissingSettings {
    /// The keys that must be set.
    #[must_use]
    pub fn keys(&self) -> &[&'static str] {
        &self.keys
    }

    fn text(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(|key| format!("`{key}`")).collect();
        let (verb, noun) = if keys.len() == 1 { ("is", "key") } else { ("are", "keys") };
        let provider = &self.provider;
        match &self.client_id {
            Some(id) => format!(
                "the login was made by the OAuth client {id}, which is not configured: it needs a section \
                 [providers.{provider}.oauth.clients.NAME] with its `client_id` and {}",
                keys.join(" and ")
            ),
            None => format!("the {noun} {} of [providers.{provider}.oauth] {verb} not set", keys.join(" and ")),
        }
    }

    /// The command that sets them.
    #[must_use]
    pub fn command(&self) -> String {
        let provider = &self.provider;
        let set = |key: &str| {
            let (section, id) = match &self.client_id {
                Some(id) if key != "issuer" => ("oauth.clients.NAME", id.as_str()),
                _ => ("oauth", "YOUR-CLIENT-ID"),
            };
            let value = match key {
                "issuer" => "https://…",
                "client_id" => id,
                _ => "NAME_OF_AN_ENVIRONMENT_VARIABLE",
            };
            format!("lessor config set providers.{provider}.{section}.{key} {value}")
        };
        let id = self.client_id.is_some().then_some("client_id");
        let lines: Vec<String> = id.into_iter().chain(self.keys.iter().copied()).map(set).collect();
        lines.join(" && ")
    }

    /// The same, with where to get the values.
    #[must_use]
    pub fn remedy(&self) -> String {
        let what = if self.example {
            "any OpenID provider works: set its issuer, and the id of a client that you registered there for http://127.0.0.1/callback"
        } else if self.client_id.is_some() {
            "the secret of that client is in the vendor's tool; use it if its terms allow you"
        } else {
            "lessor ships no client: use your own, or the one of the vendor's tool if its terms allow \
             you"
        };
        format!("{} ({what})", self.command())
    }
}

impl OauthConfig {
    /// The client with this id, or the default one, and its secret's variable with the section that names it.
    fn client(&self, section: &str, client_id: Option<&str>) -> Option<(String, Option<(String, String)>)> {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let default = filled(&self.client_id).map(|id| (id, filled(&self.client_secret_env), section.to_owned()));
        let others = self.clients.iter().map(|client| {
            let section = format!("{section}.clients.{}", client.name);
            (client.client_id.clone(), filled(&client.client_secret_env), section)
        });
        let mut known = default.into_iter().chain(others);
        let (id, secret_env, section) = match client_id {
            Some(id) => known.find(|(known, _, _)| known == id).unwrap_or_else(|| (id.to_owned(), None, String::new())),
            None => {
                let first = known.next()?;
                // one of several could be the wrong one
                let is_only = filled(&self.client_id).is_some() || known.next().is_none();
                is_only.then_some(first)?
            }
        };
        Some((id, secret_env.map(|name| (name, section))))
    }

    /// Whether there is a client for logins that name none.
    #[must_use]
    pub fn has_default(&self) -> bool {
        self.client("", None).is_some()
    }

    /// Whether a client with this id is configured.
    fn is_configured(&self, id: &str) -> bool {
        self.client_id.as_deref() == Some(id) || self.clients.iter().any(|client| client.client_id == id)
    }

    /// The id of the configured client with this name or id.
    ///
    /// # Errors
    /// With the names of the configured clients.
    pub fn client_named(&self, name: &str) -> Result<&str, String> {
        let named = self.clients.iter().find(|client| client.name == name).map(|client| client.client_id.as_str());
        let ids = self.client_id.iter().chain(self.clients.iter().map(|client| &client.client_id));
        named.or_else(|| ids.map(String::as_str).find(|id| *id == name)).ok_or_else(|| {
            let names: Vec<&str> = self.clients.iter().map(|client| client.name.as_str()).collect();
            match names.as_slice() {
                [] => format!("no OAuth client {name:?} is configured: add a section oauth.clients.{name}"),
                names => format!("no OAuth client {name:?} is configured; known are {}", names.join(", ")),
            }
        })
    }

    /// The client that the user named after a tool: its name is the tool's, or a part of it, as `antigravity` of
    /// `antigravity-manager`.
    #[must_use]
    pub fn client_of_tool(&self, tool: &str) -> Option<&str> {
        let parts = format!("-{tool}-");
        let is_named = |client: &&OauthClient| parts.contains(&format!("-{}-", client.name));
        self.clients.iter().filter(is_named).max_by_key(|client| client.name.len()).map(|one| one.client_id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_keys_are_reported_with_the_commands_that_set_them() {
        let missing = |provider: &str, given: OauthConfig| OauthSettings::of(provider, given).unwrap_err();
        assert_eq!(missing("anthropic", OauthConfig::default()).keys(), ["client_id"]);
        assert_eq!(missing("google", OauthConfig::default()).keys(), ["client_id", "client_secret_env"]);
        let custom = missing("mine", OauthConfig::default());
        assert_eq!(custom.to_string(), "the keys `issuer` and `client_id` of [providers.mine.oauth] are not set");
        assert!(custom.remedy().starts_with(
            "lessor config set providers.mine.oauth.issuer https://… && lessor config set providers.mine.oauth.client_id"
        ));
        let given =
            OauthConfig { issuer: Some("https://id".into()), client_id: Some("c".into()), ..OauthConfig::default() };
        assert_eq!(OauthSettings::of("mine", given).unwrap().client_key(), "c at https://id");
    }

    fn client(name: &str, secret: Option<&str>) -> OauthClient {
        let client_secret_env = secret.map(str::to_owned);
        OauthClient { name: name.to_owned(), client_id: format!("id-of-{name}"), client_secret_env }
    }

    fn two_clients() -> OauthConfig {
        OauthConfig {
            client_id: Some("default".into()),
            client_secret_env: Some("DEFAULT".into()),
            clients: vec![client("antigravity", Some("ANTIGRAVITY")), client("gemini-cli", None)],
            ..OauthConfig::default()
        }
    }

    #[test]
    fn each_client_has_its_own_secret_and_the_default_is_for_logins_that_name_none() {
        let of = |id: Option<&str>| OauthSettings::for_client("google", two_clients(), id);
        let secret = |id: Option<&str>| {
            let settings = of(id).unwrap();
            (settings.client_id.clone(), settings.secret_env.map(|(name, _)| name).unwrap_or_default())
        };
        assert_eq!(secret(None), ("default".into(), "DEFAULT".into()));
        assert_eq!(secret(Some("default")), ("default".into(), "DEFAULT".into()));
        assert_eq!(secret(Some("id-of-antigravity")), ("id-of-antigravity".into(), "ANTIGRAVITY".into()));
        let said = of(Some("id-of-gemini-cli")).unwrap_err();
        assert_eq!((said.keys(), said.client_id.as_deref()), (&["client_secret_env"][..], None));
        assert_ne!(of(None).unwrap().client_key(), of(Some("id-of-antigravity")).unwrap().client_key());
    }

    #[test]
    fn a_login_of_an_unknown_client_needs_no_section_unless_the_client_has_a_secret() {
        let said = OauthSettings::for_client("google", two_clients(), Some("other")).unwrap_err();
        let expected = "the login was made by the OAuth client other, which is not configured: it needs a section \
                        [providers.google.oauth.clients.NAME] with its `client_id` and `client_secret_env`";
        assert_eq!(said.to_string(), expected);
        assert!(said.remedy().starts_with("lessor config set providers.google.oauth.clients.NAME.client_id other && "));
        // a public client
        let openai = OauthSettings::for_client("openai", OauthConfig::default(), Some("app_1")).unwrap();
        assert_eq!((openai.client_id(), openai.has_secret()), ("app_1", false));
    }

    #[test]
    fn a_single_named_client_is_the_default_but_one_of_several_is_not() {
        let only = OauthConfig { clients: vec![client("gemini-cli", Some("S"))], ..OauthConfig::default() };
        assert_eq!(OauthSettings::of("google", only).unwrap().client_id(), "id-of-gemini-cli");
        let several = OauthConfig { client_id: None, ..two_clients() };
        assert_eq!(OauthSettings::of("google", several).unwrap_err().keys(), ["client_id", "client_secret_env"]);
    }

    #[test]
    fn a_client_named_after_a_tool_made_its_logins() {
        for (tool, client) in [
            ("gemini-cli", Some("id-of-gemini-cli")),
            ("antigravity", Some("id-of-antigravity")),
            ("antigravity-manager", Some("id-of-antigravity")),
            ("opencode-antigravity-auth", Some("id-of-antigravity")),
            ("antigravitys", None),
            ("codex", None),
        ] {
            assert_eq!(two_clients().client_of_tool(tool), client, "{tool}");
        }
    }
}
