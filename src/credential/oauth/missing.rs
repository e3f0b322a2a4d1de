//! What is missing to log in or to refresh a login, and what to do about it.

/// What is missing to log in or refresh.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", self.text())]
pub struct MissingSettings {
    pub(super) provider: String,
    pub(super) part: MissingPart,
    /// Whether the provider's clients have secrets.
    pub(super) wants_secret: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum MissingPart {
    /// The server of a provider that lessor does not know, and perhaps the client.
    Server { has_client: bool },
    /// No client is configured or stored.
    Client,
    /// There are several clients, with these names, and none is the default.
    Choice(Vec<String>),
    /// The secret of a client that is configured in this section, and would be stored under this name.
    Secret { name: String, section: String },
    /// The secret of the client that made the login, which is not configured or stored.
    SecretOf(String),
}

impl MissingPart {
    /// There is no client, or none of those with these names is the default.
    pub(super) fn none_or_several(names: Vec<String>) -> Self {
        if names.is_empty() { Self::Client } else { Self::Choice(names) }
    }
}

impl MissingSettings {
    fn text(&self) -> String {
        let provider = &self.provider;
        match &self.part {
            MissingPart::Server { has_client: true } => {
                format!("the key `issuer` of [providers.{provider}.oauth] is not set")
            }
            MissingPart::Server { has_client: false } => {
                format!("the keys `issuer` and `client_id` of [providers.{provider}.oauth] are not set")
            }
            MissingPart::Client => format!("lessor has no OAuth client for {provider}"),
            MissingPart::Choice(names) => {
                format!("{provider} has several OAuth clients ({}), and none of them is the default", names.join(", "))
            }
            MissingPart::Secret { section, .. } => {
                format!(
                    "the OAuth client of [{section}] has no secret: `client_secret_env` is not set, and none is stored"
                )
            }
            MissingPart::SecretOf(id) => {
                format!("the login was made by the OAuth client {id}, whose secret lessor does not have")
            }
        }
    }

    /// The command that provides it.
    #[must_use]
    pub fn command(&self) -> String {
        self.command_for("NAME")
    }

    /// The same, with the name under which a client is stored: that of the tool whose logins it refreshes.
    #[must_use]
    pub fn command_for(&self, stored: &str) -> String {
        let provider = &self.provider;
        let set = |key: &str, value: &str| format!("lessor config set providers.{provider}.oauth.{key} {value}");
        match &self.part {
            MissingPart::Server { has_client: true } => set("issuer", "https://…"),
            MissingPart::Server { has_client: false } => {
                format!("{} && {}", set("issuer", "https://…"), set("client_id", "YOUR-CLIENT-ID"))
            }
            MissingPart::Client if self.wants_secret => {
                format!("lessor secrets set {stored} --provider {provider} --client-id YOUR-CLIENT-ID")
            }
            MissingPart::Client => set("client_id", "YOUR-CLIENT-ID"),
            MissingPart::Choice(_) => set("client_id", "ID"),
            MissingPart::Secret { name, .. } => format!("lessor secrets set {}", word(name, stored)),
            MissingPart::SecretOf(id) => {
                format!("lessor secrets set {stored} --provider {provider} --client-id {}", word(id, "ID"))
            }
        }
    }

    /// The same, with where to get the values.
    #[must_use]
    pub fn remedy(&self) -> String {
        let what = match &self.part {
            MissingPart::Server { .. } => {
                "any OpenID provider works: set its issuer, and the id of a client that you registered there for http://127.0.0.1/callback"
            }
            MissingPart::Client => {
                "lessor ships no client: use your own, or the one of the vendor's tool if its terms allow you"
            }
            MissingPart::Choice(_) => "or say which client made a login: lessor account set A client_id=NAME",
            MissingPart::Secret { .. } => "or name a variable of the environment in `client_secret_env`",
            MissingPart::SecretOf(_) => {
                "the secret of that client is in the vendor's tool; use it if its terms allow you"
            }
        };
        format!("{} ({what})", self.command())
    }

    /// Why one cannot log in, in a line.
    #[must_use]
    pub fn login_problem(&self) -> String {
        match &self.part {
            MissingPart::Client => format!("{self}: one is needed to log in with a client of your own"),
            _ => format!("lessor cannot log in at {}: {self}", self.provider),
        }
    }

    /// The ways to log in nevertheless, in a line.
    #[must_use]
    pub fn ways(&self) -> String {
        let provider = &self.provider;
        match (&self.part, provider.as_str()) {
            (MissingPart::Choice(names), _) => {
                let name = names.first().map_or("NAME", |name| word(name, "NAME"));
                format!("name one of them: lessor login {provider} --client {name}")
            }
            (MissingPart::Client, "anthropic") => {
                "lessor login claude (Claude Code's own login), lessor login anthropic \
                                                   --client FILE, or lessor import claude-code"
                    .to_owned()
            }
            (MissingPart::Client, "openai") => {
                "lessor login codex (Codex's own login), lessor login openai --chatgpt, \
                                                lessor login openai --client FILE, or lessor import codex"
                    .to_owned()
            }
            (MissingPart::Client, "google") => "lessor login agy or gemini (Google's own login), lessor login google \
                                                --client FILE, or lessor import gemini-cli"
                .to_owned(),
            (MissingPart::Client, _) => {
                format!(
                    "lessor login {provider} --client FILE, with a JSON or TOML file of `client_id` and `client_secret`"
                )
            }
            (MissingPart::Server { .. }, _) => format!(
                "name its OpenID issuer: lessor config set providers.{provider}.oauth.issuer https://…; then: lessor login \
                 {provider} --client FILE"
            ),
            _ => self.remedy(),
        }
    }
}

/// A name from outside as a word of a command, if it needs no quotes there.
fn word<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.@".contains(letter);
    if text.starts_with('-') || !text.chars().all(is_plain) { otherwise } else { text }
}
