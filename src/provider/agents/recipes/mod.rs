//! What each agent needs to use a leased credential, as tables: one for each way of handing out.
//!
//! Placeholders: `{base}` is the provider's address at the gateway, `{secure_base}` the same by https, `{socket}` the
//! gateway's Unix socket, `{ca_file}` the certificate of lessor's own CA, `{ca_bundle}` the system's certificates and
//! that one, `{websocket}` whether the gateway relays WebSockets (`true` or `false`), `{key}` the key or token, `{dir}` a
//! directory that is removed afterwards, `{expires}` the expiry of the credential (epoch ms), `{tail}` the last 20
//! characters of the key, `{project}` the cloud project, `{plan}` the subscription in the vendor's word,
//! `{account_id}` the provider's own id of the account, `{now}` the time, `{NAME}` the
//! provider's name as the prefix of a variable. An item whose placeholder has no value is left out; a recipe whose
//! `needs` have no value is not used.

mod direct;
mod gateway;
mod profile;

use super::{AgentRecipe, CredentialFilter, HandOut, OverridingSettings};

/// The first matching recipe is used: those of an agent precede the general ones, and those that need something the
/// ones that do without it.
pub(super) fn recipes() -> impl Iterator<Item = &'static AgentRecipe> {
    [gateway::RECIPES, direct::RECIPES, profile::RECIPES].into_iter().flatten()
}

/// An empty recipe for each way of handing out.
const GATEWAY: AgentRecipe = AgentRecipe {
    agent: None,
    provider: None,
    hand_out: HandOut::Gateway,
    credential: CredentialFilter::Any,
    needs: &[],
    set: &[],
    unless_set: &[],
    emptied: &[],
    unset: &[],
    arguments: &[],
    merged: &[],
    files: &[],
    overriding: None,
    certificates: None,
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

/// Claude Code's `env` settings override the environment, and `--settings` overrides those.
const CLAUDES_SETTINGS: OverridingSettings = OverridingSettings {
    agent: "claude",
    home: ("CLAUDE_CONFIG_DIR", ".claude"),
    in_home: &["settings.json"],
    in_project: &[".claude/settings.json", ".claude/settings.local.json"],
    argument: "--settings",
    members: &[],
};

/// The same where the credential is a login's token: a command for a key would take its place.
const CLAUDES_LOGIN_SETTINGS: OverridingSettings =
    OverridingSettings { members: &["apiKeyHelper"], ..CLAUDES_SETTINGS };
