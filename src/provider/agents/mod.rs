//! What a program needs to use a leased credential: variables, arguments, files.
//!
//! `recipes` lists it for each agent and provider; this module fills in the values. Nothing here touches the system.

mod interpreters;
mod key_commands;
mod patience;
mod programs;
mod recipes;
mod switches;
mod template;

pub use interpreters::{is_interpreter, script_argument};
pub use key_commands::{KeyCommand, address_variables, refused_key_command};
pub use patience::{Patience, StopSignal};
pub use programs::{Program, known_agents};
pub use switches::{NamePattern, is_credential_variable};

use std::fmt;

use serde_json::Value;

use crate::pool::{CredentialKind, Tier};

use switches::Switches;
use template::TemplateValues;

/// How a credential reaches a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandOut {
    /// The gateway's address and a gateway key; the gateway has the credential.
    Gateway,
    /// The access token or API key itself, in the environment.
    Direct,
    /// The access token or API key, in a configuration directory of the vendor's program.
    Profile,
}

/// What is handed out, and to which program.
#[derive(Clone, Copy)]
pub struct HandOutRequest<'a> {
    /// How it is handed out.
    pub hand_out: HandOut,
    /// The provider's name.
    pub provider: &'a str,
    /// The kind of the account's credential.
    pub kind: CredentialKind,
    /// The agent's name, if known.
    pub agent: Option<&'a str>,
    /// The gateway key, or the access token or API key itself.
    pub key: &'a str,
    /// The provider's address at the gateway.
    pub base: Option<&'a str>,
    /// The same by https.
    pub secure_base: Option<&'a str>,
    /// The gateway's Unix socket.
    pub socket: Option<&'a str>,
    /// The certificate of lessor's own CA, for programs that add it to the system's.
    pub ca_file: Option<&'a str>,
    /// The system's certificates and lessor's, for programs that replace the system's by it.
    pub ca_bundle: Option<&'a str>,
    /// Whether the gateway relays WebSockets of the Responses API.
    pub websocket: bool,
    /// A directory for the program, which need not exist yet.
    pub directory: &'a str,
    /// When the token expires, epoch ms.
    pub expires_at: Option<u64>,
    /// The account's cloud project.
    pub project: Option<&'a str>,
    /// The account's plan.
    pub tier: Tier,
    /// The provider's own id of the account.
    pub account_id: Option<&'a str>,
    /// The time, as RFC 3339.
    pub now: &'a str,
}

/// The settings for a program. Not printed: most of them contain the key.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct AgentSetup {
    /// Variables to set.
    pub set: Vec<(String, String)>,
    /// Variables to set unless the user has set them.
    pub unless_set: Vec<(String, String)>,
    /// Conflicting variables to unset.
    pub unset: Vec<&'static str>,
    /// How further conflicting variables are named.
    pub unset_like: Vec<&'static NamePattern>,
    /// Variables that are set to nothing: unset, the program would read them from a file of the user's.
    pub emptied: Vec<&'static str>,
    /// Arguments before the program's own; they contain no secret.
    pub arguments: Vec<String>,
    /// JSON to merge into the user's settings.
    pub additions: Vec<MergedJson>,
    /// Files in the directory, by relative path.
    pub files: Vec<(&'static str, String)>,
    /// The user's settings that may override the environment.
    pub overriding: Option<OverridingSettings>,
    /// The variables for lessor's certificate, and the file for each.
    pub certificates: Vec<(CertificateVariable, String)>,
}

/// A variable that names a file of certificates that a program trusts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CertificateVariable {
    /// Its name.
    pub name: &'static str,
    /// Variables that the program reads only when this one is not set.
    pub instead_of: &'static [&'static str],
    /// The file for it: lessor's certificate, if the program adds it to the system's, or a bundle of both.
    file: &'static str,
}

/// JSON that is merged over the user's settings for this program.
#[derive(Clone, PartialEq, Eq)]
pub enum MergedJson<T = Value> {
    /// In the value of the variable.
    InVariable(&'static str, T),
    /// In a file that the variable names; if the variable is unset, the program reads the machine-wide path.
    InFile(&'static str, MachineWidePath, T),
}

/// A path that a program reads for all users of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachineWidePath {
    linux: &'static str,
    macos: &'static str,
    windows: &'static str,
}

impl MachineWidePath {
    /// The path on this system.
    #[must_use]
    pub fn here(self) -> &'static str {
        if cfg!(windows) {
            self.windows
        } else if cfg!(target_os = "macos") {
            self.macos
        } else {
            self.linux
        }
    }
}

/// The user's settings that set variables after the environment, and the argument that overrides them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OverridingSettings {
    /// The agent that has such settings.
    agent: &'static str,
    /// The variable that names the settings directory, and its default name in the home directory.
    pub home: (&'static str, &'static str),
    /// Settings files in that directory.
    pub in_home: &'static [&'static str],
    /// Settings files in the current directory.
    pub in_project: &'static [&'static str],
    /// The argument for settings that override all others.
    pub argument: &'static str,
    /// Settings beside the variables that take the place of the credential.
    pub members: &'static [&'static str],
}

impl AgentSetup {
    /// Adds the setup of the same program for another provider.
    pub fn join(&mut self, other: Self) {
        let Self { set, unless_set, unset, unset_like, emptied, arguments, additions, files, overriding, certificates } =
            other;
        self.unless_set.extend(unless_set);
        let new = unset.into_iter().filter(|name| !self.unset.contains(name)).collect::<Vec<_>>();
        self.unset.extend(new);
        self.unset_like.extend(unset_like);
        self.emptied.extend(emptied);
        self.arguments.extend(arguments);
        self.additions.extend(additions);
        self.files.extend(files);
        self.overriding = self.overriding.or(overriding);
        self.certificates.extend(certificates);
        self.serve_also(Self { set, ..Self::default() });
    }

    /// Adds the variables for other programs that may be started beside the agent.
    pub fn serve_also(&mut self, others: Self) {
        for (name, value) in others.set {
            if !self.set.iter().any(|(set, _)| *set == name) {
                self.set.push((name, value));
            }
        }
        self.unset.retain(|name| !self.set.iter().any(|(set, _)| set == name));
        self.emptied.retain(|name| !self.set.iter().any(|(set, _)| set == name));
    }

    /// Whether a variable conflicts with what is set.
    #[must_use]
    pub fn is_unset(&self, name: &str) -> bool {
        self.unset.contains(&name) || !self.sets(name) && self.unset_like.iter().any(|pattern| pattern.fits(name))
    }

    /// Whether a variable is set.
    #[must_use]
    pub fn sets(&self, name: &str) -> bool {
        self.set.iter().any(|(set, _)| set == name)
    }
}

impl fmt::Debug for AgentSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.set.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("AgentSetup").field("set", &names).field("unset", &self.unset).finish_non_exhaustive()
    }
}

/// The setup for a program; `None` if the credential cannot be handed out in this way.
#[must_use]
pub fn agent_setup(handed: &HandOutRequest<'_>) -> Option<AgentSetup> {
    let filling = TemplateValues::new(handed);
    let recipe = recipes::recipes().find(|recipe| recipe.fits(handed, &filling))?;
    let filled = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().filter_map(|(name, value)| Some((filling.text(name)?, filling.text(value)?))).collect()
    };
    let set = filled(recipe.set);
    let additions: Vec<MergedJson> = recipe.merged.iter().filter_map(|merged| merged.filled(&filling)).collect();
    let (unset, unset_like) = unset(handed.provider, recipe, &set);
    Some(AgentSetup {
        unless_set: filled(recipe.unless_set),
        unset,
        unset_like,
        emptied: recipe.emptied.to_vec(),
        arguments: recipe.arguments.iter().filter_map(|argument| filling.text(argument)).collect(),
        additions,
        files: recipe.files.iter().filter_map(|(path, text)| Some((*path, filling.file(text)?))).collect(),
        overriding: recipe.overriding.filter(|overriding| handed.agent == Some(overriding.agent)),
        certificates: recipe
            .certificates
            .into_iter()
            .filter_map(|variable| Some((variable, filling.text(variable.file)?)))
            .collect(),
        set,
    })
}

/// The variables that conflict with those that are set, and how further ones are named. A recipe that sets another
/// vendor's variables also unsets the rest of that vendor's.
fn unset(
    provider: &str,
    recipe: &AgentRecipe,
    set: &[(String, String)],
) -> (Vec<&'static str>, Vec<&'static NamePattern>) {
    const BORROWED: (&str, &str) = ("openai", "OPENAI_");
    let borrows = set.iter().any(|(name, _)| name.starts_with(BORROWED.1));
    let mut names: Vec<&'static str> = recipe.unset.to_vec();
    let mut patterns: Vec<&'static NamePattern> = Vec::new();
    if let Some(own) = Switches::of(provider) {
        names.extend(own.names());
        patterns.extend(own.patterns());
    } else if let Some(lent) = Switches::of(BORROWED.0).filter(|_| borrows) {
        names.extend(lent.names().filter(|name| name.starts_with(BORROWED.1)));
        patterns.extend(lent.patterns().iter().filter(|pattern| pattern.is_of(BORROWED.1)));
    }
    names.retain(|name| set.iter().all(|(set, _)| set != name));
    (names, patterns)
}

/// The agents that support a profile.
#[must_use]
pub fn agents_with_profile() -> Vec<&'static str> {
    let mut agents: Vec<&'static str> = Vec::new();
    for recipe in recipes::recipes().filter(|recipe| recipe.hand_out == HandOut::Profile) {
        agents.extend(recipe.agent.filter(|agent| !agents.contains(agent)));
    }
    agents
}

#[derive(Clone, Copy)]
struct AgentRecipe {
    agent: Option<&'static str>,
    provider: Option<&'static str>,
    hand_out: HandOut,
    credential: CredentialFilter,
    /// Placeholders that must have a value.
    needs: &'static [&'static str],
    set: &'static [(&'static str, &'static str)],
    unless_set: &'static [(&'static str, &'static str)],
    /// Of the conflicting variables, those that the program reads from a file where they are unset.
    emptied: &'static [&'static str],
    /// In addition to the provider's conflicting variables.
    unset: &'static [&'static str],
    arguments: &'static [&'static str],
    merged: &'static [MergedJson<&'static str>],
    files: &'static [(&'static str, &'static str)],
    overriding: Option<OverridingSettings>,
    certificates: Option<CertificateVariable>,
}

/// The kinds of credentials a row is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CredentialFilter {
    Any,
    Key,
    /// A login, or a long-lived token of one.
    Login,
}

impl AgentRecipe {
    fn fits(&self, handed: &HandOutRequest<'_>, filling: &TemplateValues<'_>) -> bool {
        let key = handed.kind == CredentialKind::ApiKey;
        let kind = match self.credential {
            CredentialFilter::Any => true,
            CredentialFilter::Key => key,
            CredentialFilter::Login => !key,
        };
        kind && self.hand_out == handed.hand_out
            && self.agent.is_none_or(|agent| handed.agent == Some(agent))
            && self.provider.is_none_or(|provider| handed.provider == provider)
            && self.needs.iter().all(|place| filling.has(place))
    }
}

impl MergedJson<&'static str> {
    fn filled(&self, filling: &TemplateValues<'_>) -> Option<MergedJson> {
        Some(match self {
            Self::InVariable(name, text) => MergedJson::InVariable(name, filling.json(text)?),
            Self::InFile(name, shared, text) => MergedJson::InFile(name, *shared, filling.json(text)?),
        })
    }
}

#[cfg(test)]
mod tests;
