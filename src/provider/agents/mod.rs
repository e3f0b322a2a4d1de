//! What a program must be given to work with a credential that is not its own: variables, arguments, files.
//!
//! `table` says it for each agent and provider; here it is filled in. Nothing of this touches the system.

mod table;
mod template;

use std::fmt;

use serde_json::Value;

use crate::pool::CredentialKind;

use template::Filling;

/// How a credential reaches a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandOut {
    /// An address and a key of the gateway, which has the credential.
    Gateway,
    /// The access token or key itself, in the environment.
    Direct,
    /// The access token or key, in a configuration directory of the vendor's own program.
    Profile,
}

/// What is handed out, and to whom.
#[derive(Clone, Copy)]
pub struct Handed<'a> {
    /// How.
    pub hand_out: HandOut,
    /// The provider's name.
    pub provider: &'a str,
    /// What the account authenticates with.
    pub kind: CredentialKind,
    /// The agent's name, if it is one.
    pub agent: Option<&'a str>,
    /// The gateway's key, or the token or key itself.
    pub key: &'a str,
    /// The provider's address at the gateway.
    pub base: Option<&'a str>,
    /// A directory of the program's own, which need not exist yet.
    pub directory: &'a str,
    /// When a token ends, epoch ms.
    pub expires_at: Option<u64>,
    /// The account's cloud project.
    pub project: Option<&'a str>,
}

/// What a program gets. Not printed: most of it carries the key.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Outfit {
    /// Variables to set.
    pub set: Vec<(String, String)>,
    /// Variables to set where the user has not.
    pub unless_set: Vec<(String, String)>,
    /// Variables that would speak against those.
    pub cleared: Vec<&'static str>,
    /// Arguments, before the program's own; no secret is among them.
    pub arguments: Vec<String>,
    /// Additions to what the user has.
    pub additions: Vec<Addition>,
    /// Files in the directory, by their path in it.
    pub files: Vec<(&'static str, String)>,
    /// The user's settings that could win over the environment.
    pub overruled: Option<Overruled>,
}

/// JSON that is laid over the user's own, for this program alone.
#[derive(Clone, PartialEq, Eq)]
pub enum Addition {
    /// In the variable itself.
    InVariable(&'static str, Value),
    /// In a file that the variable names; without it, the program looks in the second place.
    InFile(&'static str, Shared, Value),
}

/// A place that a program looks at for all users of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shared {
    linux: &'static str,
    macos: &'static str,
    windows: &'static str,
}

impl Shared {
    /// On this system.
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

/// Settings of the user's that set variables of their own, after the environment; and how to be heard after them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overruled {
    /// The only agent that does so.
    agent: &'static str,
    /// The variable that names the user's directory, and its name in the home without that.
    pub home: (&'static str, &'static str),
    /// Files in it.
    pub in_home: &'static [&'static str],
    /// Files in the current directory.
    pub in_project: &'static [&'static str],
    /// The argument that names settings which come last.
    pub argument: &'static str,
}

impl Outfit {
    /// Adds what other programs need that may be started beside the agent.
    pub fn serve_also(&mut self, others: Self) {
        for (name, value) in others.set {
            if !self.set.iter().any(|(set, _)| *set == name) {
                self.set.push((name, value));
            }
        }
        self.cleared.retain(|name| !self.set.iter().any(|(set, _)| set == name));
    }
}

impl fmt::Debug for Outfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.set.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Outfit").field("set", &names).field("cleared", &self.cleared).finish_non_exhaustive()
    }
}

/// What the program gets; `None` when it cannot be given the credential in this way.
#[must_use]
pub fn outfit(handed: &Handed<'_>) -> Option<Outfit> {
    let recipe = table::RECIPES.iter().find(|recipe| recipe.fits(handed))?;
    let filling = Filling::new(handed);
    let filled = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().filter_map(|(name, value)| Some((filling.text(name)?, filling.text(value)?))).collect()
    };
    let set = filled(recipe.set);
    let additions: Vec<Addition> = recipe.merged.iter().filter_map(|merged| merged.filled(&filling)).collect();
    let cleared = cleared(handed.provider, recipe, &set);
    Some(Outfit {
        unless_set: filled(recipe.unless_set),
        cleared,
        arguments: recipe.arguments.iter().filter_map(|argument| filling.text(argument)).collect(),
        additions,
        files: recipe.files.iter().filter_map(|(path, text)| Some((*path, filling.file(text)?))).collect(),
        overruled: recipe.overruled.filter(|overruled| handed.agent == Some(overruled.agent)),
        set,
    })
}

/// What would speak against the variables that are set. What sets those of another vendor's programs clears the rest of
/// theirs, too.
fn cleared(provider: &str, recipe: &Recipe, set: &[(String, String)]) -> Vec<&'static str> {
    const BORROWED: (&str, &str) = ("openai", "OPENAI_");
    let borrows = set.iter().any(|(name, _)| name.starts_with(BORROWED.1));
    let mut cleared: Vec<&'static str> = recipe.cleared.to_vec();
    for (vendor, names) in table::SPOKEN {
        let speaks =
            |name: &&&str| *vendor == provider || borrows && *vendor == BORROWED.0 && name.starts_with(BORROWED.1);
        cleared.extend(names.iter().filter(speaks));
    }
    cleared.retain(|name| set.iter().all(|(set, _)| set != name));
    cleared
}

/// The agents that can be given a profile.
#[must_use]
pub fn with_profile() -> Vec<&'static str> {
    let mut agents: Vec<&'static str> = Vec::new();
    for recipe in table::RECIPES.iter().filter(|recipe| recipe.hand_out == HandOut::Profile) {
        agents.extend(recipe.agent.filter(|agent| !agents.contains(agent)));
    }
    agents
}

/// A row of the table.
#[derive(Debug)]
struct Recipe {
    /// Only for this agent.
    agent: Option<&'static str>,
    /// Only for this provider.
    provider: Option<&'static str>,
    hand_out: HandOut,
    credential: Credential,
    set: &'static [(&'static str, &'static str)],
    unless_set: &'static [(&'static str, &'static str)],
    /// Beside what speaks for the provider.
    cleared: &'static [&'static str],
    arguments: &'static [&'static str],
    merged: &'static [Merged],
    files: &'static [(&'static str, &'static str)],
    overruled: Option<Overruled>,
}

/// What kind of credential a row is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Credential {
    Any,
    Key,
    /// A login, or a long-lived token of one.
    Login,
}

/// An addition, before it is filled in.
#[derive(Debug)]
enum Merged {
    InVariable(&'static str, &'static str),
    InFile(&'static str, Shared, &'static str),
}

impl Recipe {
    fn fits(&self, handed: &Handed<'_>) -> bool {
        let key = handed.kind == CredentialKind::ApiKey;
        let kind = match self.credential {
            Credential::Any => true,
            Credential::Key => key,
            Credential::Login => !key,
        };
        kind && self.hand_out == handed.hand_out
            && self.agent.is_none_or(|agent| handed.agent == Some(agent))
            && self.provider.is_none_or(|provider| handed.provider == provider)
    }
}

impl Merged {
    fn filled(&self, filling: &Filling<'_>) -> Option<Addition> {
        let (Self::InVariable(_, text) | Self::InFile(_, _, text)) = self;
        let value = filling.json(text)?;
        Some(match self {
            Self::InVariable(name, _) => Addition::InVariable(name, value),
            Self::InFile(name, shared, _) => Addition::InFile(name, *shared, value),
        })
    }
}

#[cfg(test)]
mod tests;
