//! The settings of an OAuth client.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::missing::{MissingPart, MissingSettings};
use super::stored_client::StoredClient;
use crate::credential::Secret;
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
    /// The stored clients of this provider.
    pub stored: Vec<StoredClient>,
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
    secret: ClientSecret,
    /// The name under which the client is stored.
    stored_as: Option<String>,
    pub(super) built_in: Option<&'static OauthServer>,
    /// The API that the login is for, if it is one for the public API.
    pub(super) resource: Option<String>,
    /// Whether the client only registers another one, which the answer to the authorization names.
    pub(super) registers: bool,
    /// More parameters of the authorization request.
    pub(super) parameters: Vec<(&'static str, String)>,
}

/// Where the secret of a client is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum ClientSecret {
    /// It is a public client, or the secret is missing.
    None,
    /// In the environment variable that this section names.
    Variable { name: String, section: String },
    /// In the store.
    Stored(Arc<Secret>),
}

/// A client that is known: configured, stored, or named by a login.
struct KnownClient {
    id: String,
    secret: ClientSecret,
    stored_as: Option<String>,
    /// Of a configured one: its name, or that of the provider, and its section.
    configured: Option<(String, String)>,
}

impl OauthSettings {
    /// The settings of the provider's default client.
    ///
    /// # Errors
    /// With the missing keys and how to set them.
    pub fn of(provider: &str, given: OauthConfig) -> Result<Self, MissingSettings> {
        Self::for_client(provider, given, None)
    }

    /// The settings of a client: the configured or stored one with this id, or this client without a secret. `None`
    /// selects the provider's default client.
    ///
    /// # Errors
    /// With what is missing and how to provide it.
    pub fn for_client(provider: &str, given: OauthConfig, client_id: Option<&str>) -> Result<Self, MissingSettings> {
        let built_in = built_in(provider).map(|provider| provider.oauth);
        let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        // a server that the user configured may do without
        let wants_secret =
            built_in.is_some_and(|server| server.wants_secret) && given.token_url.is_none() && given.issuer.is_none();
        let missing = |part| MissingSettings { provider: provider.to_owned(), part, wants_secret };
        let client = given.client(provider, client_id).map_err(MissingPart::none_or_several);
        if built_in.is_none() && !is_set(&given.issuer) && !is_set(&given.token_url) {
            return Err(missing(MissingPart::Server { has_client: client.is_ok() }));
        }
        let KnownClient { id, secret, stored_as, configured } = client.map_err(missing)?;
        if wants_secret && secret == ClientSecret::None {
            return Err(missing(match configured {
                Some((name, section)) => MissingPart::Secret { name, section },
                None => MissingPart::SecretOf(id),
            }));
        }
        Ok(Self {
            provider: provider.to_owned(),
            given,
            client_id: id,
            secret,
            stored_as,
            built_in,
            resource: None,
            registers: false,
            parameters: Vec::new(),
        })
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
            secret: ClientSecret::None,
            stored_as: None,
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
        self.secret != ClientSecret::None
    }

    /// The name under which the client or its secret is stored.
    #[must_use]
    pub fn stored_as(&self) -> Option<&str> {
        self.stored_as.as_deref()
    }

    /// What an error calls the client.
    pub(super) fn client_words(&self) -> String {
        match self.stored_as() {
            Some(name) => format!("{} (stored as {name})", self.client_id),
            None => self.client_id.clone(),
        }
    }

    /// The client secret, if there is one.
    ///
    /// # Errors
    /// A sentence, when the environment variable is not set.
    pub(super) fn secret(&self) -> Result<Option<Zeroizing<String>>, String> {
        let (name, section) = match &self.secret {
            ClientSecret::None => return Ok(None),
            ClientSecret::Stored(secret) => return Ok(Some(Zeroizing::new(secret.expose().to_owned()))),
            ClientSecret::Variable { name, section } => (name, section),
        };
        match std::env::var(name) {
            Ok(secret) if !secret.is_empty() => Ok(Some(Zeroizing::new(secret))),
            _ => Err(format!("the environment variable {name} (`client_secret_env` of [{section}]) is not set here")),
        }
    }
}

impl OauthConfig {
    /// The client with this id, or the default one; otherwise the names of those among which none is the default.
    fn client(&self, provider: &str, client_id: Option<&str>) -> Result<KnownClient, Vec<String>> {
        let configured: Vec<KnownClient> = self.configured(provider).collect();
        let mut stored = self.stored.iter().filter_map(of_stored);
        let Some(id) = client_id else {
            let names = configured.iter().filter_map(|client| client.configured.as_ref()).map(|(name, _)| name.clone());
            let with_id = self.stored.iter().filter(|client| client.client_id.is_some());
            let names: Vec<String> = names.chain(with_id.map(|client| client.name.clone())).collect();
            // one of several could be the wrong one; a stored one never replaces a configured one
            let has_default = self.client_id.as_ref().is_some_and(|id| !id.is_empty());
            let (first, other) = match configured.is_empty() {
                true => (stored.next(), stored.next()),
                false => {
                    let mut configured = configured.into_iter();
                    (configured.next(), configured.next().filter(|_| !has_default))
                }
            };
            return first.filter(|_| other.is_none()).ok_or(names);
        };
        let known = configured.into_iter().chain(stored).find(|client| client.id == id);
        Ok(known.unwrap_or_else(|| KnownClient {
            id: id.to_owned(),
            secret: ClientSecret::None,
            stored_as: None,
            configured: None,
        }))
    }

    /// Whether there is a client for logins that name none.
    #[must_use]
    pub fn has_default(&self) -> bool {
        self.client("", None).is_ok()
    }

    /// The configured clients, the default one first.
    fn configured(&self, provider: &str) -> impl Iterator<Item = KnownClient> {
        let section = format!("providers.{provider}.oauth");
        let default = self.client_id.clone().filter(|id| !id.is_empty());
        let default =
            default.map(|id| (id, self.client_secret_env.clone(), provider.to_owned(), section.clone())).into_iter();
        let others = self.clients.iter().map(move |client| {
            let section = format!("{section}.clients.{}", client.name);
            (client.client_id.clone(), client.client_secret_env.clone(), client.name.clone(), section)
        });
        default.chain(others).map(|(id, variable, name, section)| {
            if let Some(variable) = variable.filter(|variable| !variable.is_empty()) {
                let secret = ClientSecret::Variable { name: variable, section: section.clone() };
                return KnownClient { id, secret, stored_as: None, configured: Some((name, section)) };
            }
            let stored = self.stored.iter().find(|client| client.is_configured_as(&name, &id));
            KnownClient {
                id,
                secret: stored.map_or(ClientSecret::None, secret_of),
                stored_as: stored.map(|client| client.name.clone()),
                configured: Some((name, section)),
            }
        })
    }

    /// The id of the configured or stored client with this name or id.
    ///
    /// # Errors
    /// With the names of the known clients.
    pub fn client_named(&self, name: &str) -> Result<&str, String> {
        let known = || {
            let configured = self.clients.iter().map(|client| (client.name.as_str(), client.client_id.as_str()));
            let stored =
                self.stored.iter().filter_map(|client| Some((client.name.as_str(), client.client_id.as_deref()?)));
            configured.chain(stored)
        };
        let named = known().find(|(known, _)| *known == name).map(|(_, id)| id);
        let mut ids = self.client_id.as_deref().into_iter().chain(known().map(|(_, id)| id));
        named.or_else(|| ids.find(|id| *id == name)).ok_or_else(|| {
            let names: Vec<&str> = known().map(|(name, _)| name).collect();
            match names.as_slice() {
                [] => format!("there is no OAuth client {name:?}, in the configuration or stored"),
                names => format!("there is no OAuth client {name:?}; known are {}", names.join(", ")),
            }
        })
    }

    /// The client that the user named after a tool: its name is the tool's, or a part of it, as `antigravity` of
    /// `antigravity-manager`.
    #[must_use]
    pub fn client_of_tool(&self, tool: &str) -> Option<&str> {
        let parts = format!("-{tool}-");
        let configured = self.clients.iter().map(|client| (client.name.as_str(), client.client_id.as_str()));
        let stored = self.stored.iter().filter_map(|client| Some((client.name.as_str(), client.client_id.as_deref()?)));
        // the last of several is taken: a configured one
        let named = stored.chain(configured).filter(|(name, _)| parts.contains(&format!("-{name}-")));
        named.max_by_key(|(name, _)| name.len()).map(|(_, id)| id)
    }
}

fn of_stored(client: &StoredClient) -> Option<KnownClient> {
    let (id, stored_as) = (client.client_id.clone()?, Some(client.name.clone()));
    Some(KnownClient { id, secret: secret_of(client), stored_as, configured: None })
}

fn secret_of(client: &StoredClient) -> ClientSecret {
    match &client.secret {
        Some(secret) => ClientSecret::Stored(secret.clone()),
        None => ClientSecret::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Wall;

    #[test]
    fn missing_keys_are_reported_with_the_commands_that_set_them() {
        let missing = |provider: &str, given: OauthConfig| OauthSettings::of(provider, given).unwrap_err();
        for (provider, command) in [
            ("anthropic", "lessor config set providers.anthropic.oauth.client_id YOUR-CLIENT-ID"),
            ("google", "lessor secrets set NAME --provider google --client-id YOUR-CLIENT-ID"),
        ] {
            let missing = missing(provider, OauthConfig::default());
            assert_eq!((missing.part.clone(), missing.command().as_str()), (MissingPart::Client, command));
            assert_eq!(missing.to_string(), format!("lessor has no OAuth client for {provider}"));
        }
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

    /// The variable that a secret is in, or the name under which it is stored.
    fn place_of(settings: &OauthSettings) -> String {
        match &settings.secret {
            ClientSecret::Variable { name, .. } => name.clone(),
            ClientSecret::Stored(_) => format!("stored as {}", settings.stored_as().unwrap_or_default()),
            ClientSecret::None => String::new(),
        }
    }

    fn stored(name: &str, client_id: Option<&str>) -> StoredClient {
        StoredClient {
            name: name.into(),
            provider: None,
            client_id: client_id.map(str::to_owned),
            secret: Some(Arc::new(Secret::new(format!("secret of {name}")))),
            added_at: Wall(1),
        }
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
            (settings.client_id.clone(), place_of(&settings))
        };
        assert_eq!(secret(None), ("default".into(), "DEFAULT".into()));
        assert_eq!(secret(Some("default")), ("default".into(), "DEFAULT".into()));
        assert_eq!(secret(Some("id-of-antigravity")), ("id-of-antigravity".into(), "ANTIGRAVITY".into()));
        let missing = of(Some("id-of-gemini-cli")).unwrap_err();
        assert_eq!(missing.command(), "lessor secrets set gemini-cli");
        let section = "the OAuth client of [providers.google.oauth.clients.gemini-cli] has no secret";
        assert!(missing.to_string().starts_with(section), "{missing}");
        assert_ne!(of(None).unwrap().client_key(), of(Some("id-of-antigravity")).unwrap().client_key());
    }

    #[test]
    fn a_login_of_an_unknown_client_needs_no_section_unless_the_client_has_a_secret() {
        let said = OauthSettings::for_client("google", two_clients(), Some("other")).unwrap_err();
        assert_eq!(said.to_string(), "the login was made by the OAuth client other, whose secret lessor does not have");
        assert_eq!(said.command(), "lessor secrets set NAME --provider google --client-id other");
        let hostile = OauthSettings::for_client("google", two_clients(), Some("x; rm -r ~")).unwrap_err();
        assert_eq!(hostile.command(), "lessor secrets set NAME --provider google --client-id ID");
        // a public client
        let openai = OauthSettings::for_client("openai", OauthConfig::default(), Some("app_1")).unwrap();
        assert_eq!((openai.client_id(), openai.has_secret()), ("app_1", false));
    }

    #[test]
    fn a_single_named_client_is_the_default_but_one_of_several_is_not() {
        let only = OauthConfig { clients: vec![client("gemini-cli", Some("S"))], ..OauthConfig::default() };
        assert_eq!(OauthSettings::of("google", only).unwrap().client_id(), "id-of-gemini-cli");
        let several = OauthConfig { client_id: None, ..two_clients() };
        let names = ["antigravity", "gemini-cli"].map(str::to_owned).to_vec();
        assert_eq!(OauthSettings::of("google", several).unwrap_err().part, MissingPart::Choice(names));
    }

    #[test]
    fn a_stored_secret_is_found_by_id_or_by_name_and_configuration_comes_first() {
        let given = |clients: Vec<OauthClient>, stored: Vec<StoredClient>| OauthConfig {
            clients,
            stored,
            ..OauthConfig::default()
        };
        let of = |given: OauthConfig, id: Option<&str>| {
            let settings = OauthSettings::for_client("google", given, id);
            settings.map(|settings| (settings.client_id.clone(), place_of(&settings))).map_err(|missing| missing.part)
        };
        let found = |id: &str, place: &str| Ok((id.to_owned(), place.to_owned()));
        let by_id = || stored("mine", Some("id-of-work"));
        for (clients, stored, id, expected) in [
            // no configuration is needed
            (vec![], vec![by_id()], None, found("id-of-work", "stored as mine")),
            (vec![], vec![by_id()], Some("id-of-work"), found("id-of-work", "stored as mine")),
            (vec![], vec![by_id()], Some("other"), Err(MissingPart::SecretOf("other".into()))),
            (
                vec![],
                vec![by_id(), stored("b", Some("b"))],
                None,
                Err(MissingPart::Choice(vec!["mine".into(), "b".into()])),
            ),
            // the configuration names the client
            (vec![client("work", None)], vec![by_id()], None, found("id-of-work", "stored as mine")),
            (vec![client("work", None)], vec![stored("work", None)], None, found("id-of-work", "stored as work")),
            (vec![client("work", Some("V"))], vec![by_id()], None, found("id-of-work", "V")),
            (vec![client("home", Some("V"))], vec![by_id()], None, found("id-of-home", "V")),
            // the secret of another client is not sent
            (
                vec![client("work", None)],
                vec![stored("work", Some("id-of-other"))],
                None,
                Err(MissingPart::Secret { name: "work".into(), section: "providers.google.oauth.clients.work".into() }),
            ),
            // a secret without an id is that of no client until one is configured
            (vec![], vec![stored("work", None)], None, Err(MissingPart::Client)),
        ] {
            let words = format!("{clients:?} {stored:?} {id:?}");
            assert_eq!(of(given(clients, stored), id), expected, "{words}");
        }
        let default = OauthConfig { client_id: Some("c".into()), ..given(vec![], vec![stored("google", None)]) };
        assert_eq!(of(default, None), found("c", "stored as google"), "the default client has the provider's name");
        let named = given(vec![client("antigravity", None)], vec![stored("gemini-cli", Some("g")), by_id()]);
        assert_eq!((named.client_named("mine"), named.client_named("g")), (Ok("id-of-work"), Ok("g")));
        assert_eq!(
            (named.client_of_tool("gemini-cli"), named.client_of_tool("antigravity")),
            (Some("g"), Some("id-of-antigravity"))
        );
        assert!(named.client_named("none").unwrap_err().ends_with("known are antigravity, gemini-cli, mine"));
    }

    #[test]
    fn an_error_calls_a_stored_client_by_its_name_and_never_shows_the_secret() {
        let given = OauthConfig { stored: vec![stored("mine", Some("c"))], ..OauthConfig::default() };
        let settings = OauthSettings::of("google", given).unwrap();
        assert_eq!((settings.client_words().as_str(), settings.stored_as()), ("c (stored as mine)", Some("mine")));
        assert_eq!(settings.secret().unwrap().unwrap().as_str(), "secret of mine");
        assert!(!format!("{settings:?}").contains("secret of"));
    }

    #[test]
    fn the_problem_and_the_ways_to_log_in_are_a_line_each() {
        for (provider, way) in [
            ("anthropic", "lessor login claude"),
            ("openai", "lessor login openai --chatgpt"),
            ("google", "lessor login google --client FILE"),
            ("mine", "lessor config set providers.mine.oauth.issuer"),
        ] {
            let missing = OauthSettings::of(provider, OauthConfig::default()).unwrap_err();
            assert!(missing.ways().contains(way), "{}", missing.ways());
            assert!(missing.login_problem().contains(provider), "{}", missing.login_problem());
            assert!(!format!("{}{}", missing.login_problem(), missing.ways()).contains('\n'));
        }
        let stored = ["a", "b"].map(|name| stored(name, Some(name))).to_vec();
        let several = OauthSettings::of("google", OauthConfig { stored, ..OauthConfig::default() }).unwrap_err();
        assert_eq!(several.ways(), "name one of them: lessor login google --client a");
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
