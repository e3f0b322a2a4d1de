//! Parameters of the `secrets` calls.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::answer::SecretText;

/// `secrets.set`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSecretParams {
    /// The name of the client: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Its provider [default: as stored; else the one whose configuration names the client; google for its client ids].
    pub provider: Option<String>,
    /// Its id [default: as stored, else as configured for this name].
    pub client_id: Option<String>,
    /// Its secret; a public client has none.
    pub secret: Option<SecretText<'static>>,
}

/// `secrets.list`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListSecretsParams {
    /// Those that can be clients of this upstream only.
    pub provider: Option<String>,
    /// Whether the answer carries the secrets.
    pub secrets: bool,
}

/// `secrets.remove`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveSecretParams {
    /// The name of the client.
    pub name: String,
    /// Also while logins are refreshed with it.
    #[serde(default)]
    pub force: bool,
}
