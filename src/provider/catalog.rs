//! From the words of a request to what it is leased under: family, quota, model.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::pool::Target;

use super::PROVIDERS;

/// The quotas a Gemini account has, the first being where a request starts.
const GEMINI_POOLS: [&str; 2] = ["antigravity", "gemini-cli"];

/// The names of all providers there are, kept so that a request allocates none.
#[derive(Debug)]
pub struct Catalog {
    providers: FxHashMap<Arc<str>, Entry>,
}

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    /// The family of models that belong to no other.
    family: Arc<str>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// One family, one quota.
    Plain,
    /// Gemini's two quotas, and Claude models beside them.
    Google { claude: Arc<str>, pools: Vec<(Arc<str>, Arc<str>)> },
}

/// A request names what there is not.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadTarget {
    /// No such provider.
    #[error("there is no provider {0:?}")]
    Provider(String),
    /// No such quota.
    #[error("{provider} has no pool {pool:?}")]
    Pool {
        /// The provider.
        provider: String,
        /// What was asked for.
        pool: String,
    },
}

impl Default for Catalog {
    fn default() -> Self {
        let mut catalog = Self { providers: FxHashMap::default() };
        for provider in &PROVIDERS {
            catalog.learn(provider.name);
        }
        catalog
    }
}

impl Catalog {
    /// Takes in a provider that an account or the configuration names.
    pub fn learn(&mut self, provider: &str) {
        if self.providers.contains_key(provider) {
            return;
        }
        let name: Arc<str> = provider.into();
        let (family, kind) = match provider {
            "anthropic" => ("claude".into(), Kind::Plain),
            "google" => {
                let pools = GEMINI_POOLS.map(|pool| (pool.into(), format!("gemini-{}", pool_suffix(pool)).into()));
                ("gemini".into(), Kind::Google { claude: "claude".into(), pools: pools.to_vec() })
            }
            _ => (name.clone(), Kind::Plain),
        };
        self.providers.insert(name.clone(), Entry { name, family, kind });
    }

    /// All names, for messages.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.providers.keys().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    /// What a request is leased under.
    ///
    /// # Errors
    /// When there is no such provider, or it has no such pool.
    pub fn target(&self, provider: &str, model: Option<&str>, pool: Option<&str>) -> Result<Target, BadTarget> {
        let entry = self.providers.get(provider).ok_or_else(|| BadTarget::Provider(provider.to_owned()))?;
        let model_name = model.map(Box::from);
        let target = |family: &Arc<str>, key: &Arc<str>, pool| Target {
            provider: entry.name.clone(),
            family: family.clone(),
            key: key.clone(),
            pool,
            model: model_name,
        };
        let no_pool = |pool: &str| BadTarget::Pool { provider: provider.to_owned(), pool: pool.to_owned() };
        match (&entry.kind, pool) {
            (Kind::Google { claude, .. }, pool) if model.is_some_and(|model| model.contains("claude")) => {
                pool.map_or_else(|| Ok(target(claude, claude, None)), |pool| Err(no_pool(pool)))
            }
            (Kind::Google { pools, .. }, wanted) => {
                let found = pools.iter().find(|(pool, _)| wanted.is_none_or(|wanted| wanted == &**pool));
                let (pool, key) = found.ok_or_else(|| no_pool(wanted.unwrap_or_default()))?;
                Ok(target(&entry.family, key, Some(pool.clone())))
            }
            (Kind::Plain, Some(pool)) => Err(no_pool(pool)),
            (Kind::Plain, None) => Ok(target(&entry.family, &entry.family, None)),
        }
    }
}

/// The quota key's part for a pool: `gemini-antigravity`, `gemini-cli`.
fn pool_suffix(pool: &str) -> &str {
    pool.strip_prefix("gemini-").unwrap_or(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_find_their_family_and_quota() {
        let mut catalog = Catalog::default();
        catalog.learn("mistral");
        for (provider, model, pool, expected) in [
            ("anthropic", Some("claude-sonnet-4-5"), None, Ok(("claude", "claude", None))),
            ("anthropic", None, None, Ok(("claude", "claude", None))),
            ("openai", Some("gpt-5"), None, Ok(("openai", "openai", None))),
            ("google", Some("gemini-3-pro"), None, Ok(("gemini", "gemini-antigravity", Some("antigravity")))),
            ("google", None, Some("gemini-cli"), Ok(("gemini", "gemini-cli", Some("gemini-cli")))),
            ("google", Some("claude-opus-4"), None, Ok(("claude", "claude", None))),
            ("mistral", None, None, Ok(("mistral", "mistral", None))),
            ("google", Some("claude-opus-4"), Some("gemini-cli"), Err("google has no pool \"gemini-cli\"")),
            ("anthropic", None, Some("x"), Err("anthropic has no pool \"x\"")),
            ("google", None, Some("x"), Err("google has no pool \"x\"")),
            ("nobody", None, None, Err("there is no provider \"nobody\"")),
        ] {
            let target = catalog.target(provider, model, pool).map_err(|error| error.to_string());
            let seen = target.as_ref().map(|target| (&*target.family, &*target.key, target.pool.as_deref()));
            assert_eq!(seen.map_err(String::as_str), expected, "{provider} {model:?} {pool:?}");
        }
    }
}
