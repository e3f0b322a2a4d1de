//! From the words of a request to what it is leased under: family, quota, model.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::pool::{OtherQuota, Primary, Target, TargetNames};

use super::PROVIDERS;
use super::models::{self, GeminiPool};

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
    Google { claude: Arc<str>, antigravity: Pool, gemini_cli: Pool },
}

/// One of an account's quotas.
#[derive(Debug)]
struct Pool {
    name: Arc<str>,
    key: Arc<str>,
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
    /// Two quotas at once.
    #[error("the model asks for the pool {model:?}, the request for {pool:?}")]
    TwoPools {
        /// By the model's suffix.
        model: String,
        /// By the parameter.
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
                let pool = |name: &str, key: &str| Pool { name: name.into(), key: key.into() };
                let kind = Kind::Google {
                    claude: "claude".into(),
                    antigravity: pool("antigravity", "gemini-antigravity"),
                    gemini_cli: pool("gemini-cli", "gemini-cli"),
                };
                ("gemini".into(), kind)
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

    /// What a request is leased under; `primary` is where Gemini requests start that do not say it themselves.
    ///
    /// # Errors
    /// When there is no such provider, or it has no such pool, or the request names two.
    pub fn target(
        &self,
        provider: &str,
        model: Option<&str>,
        pool: Option<&str>,
        primary: Primary,
    ) -> Result<Target, BadTarget> {
        let entry = self.providers.get(provider).ok_or_else(|| BadTarget::Provider(provider.to_owned()))?;
        let model = model.filter(|model| !model.is_empty());
        let no_pool = |pool: &str| BadTarget::Pool { provider: provider.to_owned(), pool: pool.to_owned() };
        match &entry.kind {
            Kind::Plain => match pool {
                Some(pool) => Err(no_pool(pool)),
                None => Ok(entry.plain(&entry.family, model)),
            },
            Kind::Google { claude, antigravity, gemini_cli } => {
                let asked = models::gemini(model);
                let pinned = match (asked.pinned, pool) {
                    (Some(pinned), Some(pool)) if pinned.name() != pool => {
                        return Err(BadTarget::TwoPools { model: pinned.name().to_owned(), pool: pool.to_owned() });
                    }
                    (Some(pinned), _) => Some(pinned),
                    (None, Some(pool)) => Some(GeminiPool::named(pool).ok_or_else(|| no_pool(pool))?),
                    (None, None) => None,
                };
                if asked.name.is_some_and(|name| name.contains("claude")) {
                    return pinned
                        .map_or_else(|| Ok(entry.plain(claude, asked.name)), |pool| Err(no_pool(pool.name())));
                }
                let start = pinned.or(asked.starts_on).unwrap_or(match primary {
                    Primary::Antigravity => GeminiPool::Antigravity,
                    Primary::GeminiCli => GeminiPool::GeminiCli,
                });
                let of = |pool: GeminiPool| match pool {
                    GeminiPool::Antigravity => antigravity,
                    GeminiPool::GeminiCli => gemini_cli,
                };
                let may_fall_back = pinned.is_none() && asked.name.is_none_or(models::has_two_pools);
                Ok(entry.pooled(start, &of, asked.name, may_fall_back))
            }
        }
    }
}

impl Entry {
    fn plain(&self, family: &Arc<str>, model: Option<&str>) -> Target {
        let billed = model.map(models::undated).filter(|billed| Some(*billed) != model);
        let names = billed.map(|billed| TargetNames { billed: Some(billed.into()), ..TargetNames::default() });
        Target {
            provider: self.name.clone(),
            family: family.clone(),
            key: family.clone(),
            pool: None,
            model: model.map(Into::into),
            names: names.map(Arc::new),
        }
    }

    fn pooled<'a>(
        &self,
        start: GeminiPool,
        of: &dyn Fn(GeminiPool) -> &'a Pool,
        model: Option<&str>,
        may_fall_back: bool,
    ) -> Target {
        let (pool, other) = (of(start), start.other());
        let called = model.map(|model| start.model_name(model));
        let base = model.map(models::base);
        let differs = |name: &&str| called.as_deref() != Some(*name);
        let names = TargetNames {
            billed: base.filter(differs).map(Into::into),
            plain: model.filter(differs).map(Into::into),
            other: may_fall_back.then(|| OtherQuota {
                key: (&*of(other).key).into(),
                pool: other.name().into(),
                model: model.map(|model| other.model_name(model).into()),
                first: false,
            }),
        };
        Target {
            provider: self.name.clone(),
            family: self.family.clone(),
            key: pool.key.clone(),
            pool: Some(pool.name.clone()),
            names: (names != TargetNames::default()).then(|| Arc::new(names)),
            model: called.map(Into::into),
        }
    }
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
            (
                "google",
                Some("gemini-3-pro:antigravity"),
                Some("gemini-cli"),
                Err("the model asks for the pool \"antigravity\", the request for \"gemini-cli\""),
            ),
            ("nobody", None, None, Err("there is no provider \"nobody\"")),
        ] {
            let target = catalog.target(provider, model, pool, Primary::Antigravity).map_err(|error| error.to_string());
            let seen = target.as_ref().map(|target| (&*target.family, &*target.key, target.pool.as_deref()));
            assert_eq!(seen.map_err(String::as_str), expected, "{provider} {model:?} {pool:?}");
        }
    }

    /// Model, pool, primary; then pool and name it starts with, name for a key, name in the other pool.
    #[test]
    fn gemini_requests_know_their_names_in_both_pools() {
        use Primary::{Antigravity, GeminiCli};
        type Row = (
            &'static str,
            Option<&'static str>,
            Primary,
            (&'static str, &'static str, &'static str, Option<&'static str>),
        );
        let rows: [Row; 10] = [
            (
                "gemini-3-flash",
                None,
                Antigravity,
                ("antigravity", "gemini-3-flash", "gemini-3-flash", Some("gemini-3-flash-preview")),
            ),
            (
                "gemini-3-pro-preview",
                None,
                Antigravity,
                ("antigravity", "gemini-3-pro-low", "gemini-3-pro-preview", Some("gemini-3-pro-preview")),
            ),
            (
                "gemini-3-pro-high",
                None,
                GeminiCli,
                ("gemini-cli", "gemini-3-pro-preview", "gemini-3-pro-high", Some("gemini-3-pro-high")),
            ),
            (
                "antigravity-gemini-3-flash",
                None,
                GeminiCli,
                ("antigravity", "gemini-3-flash", "gemini-3-flash", Some("gemini-3-flash-preview")),
            ),
            (
                "gemini-3-flash:gemini-cli",
                None,
                Antigravity,
                ("gemini-cli", "gemini-3-flash-preview", "gemini-3-flash", None),
            ),
            (
                "antigravity-gemini-3-flash:gemini-cli",
                None,
                Antigravity,
                ("gemini-cli", "gemini-3-flash-preview", "gemini-3-flash", None),
            ),
            (
                "gemini-3-flash",
                Some("antigravity"),
                GeminiCli,
                ("antigravity", "gemini-3-flash", "gemini-3-flash", None),
            ),
            (
                "gemini-3-flash:antigravity",
                Some("antigravity"),
                GeminiCli,
                ("antigravity", "gemini-3-flash", "gemini-3-flash", None),
            ),
            ("gemini-3-pro-image", None, GeminiCli, ("antigravity", "gemini-3-pro-image", "gemini-3-pro-image", None)),
            (
                "gemini-2.5-pro",
                None,
                GeminiCli,
                ("gemini-cli", "gemini-2.5-pro", "gemini-2.5-pro", Some("gemini-2.5-pro")),
            ),
        ];
        for (model, pool, primary, (start, name, plain, other)) in rows {
            let target = Catalog::default().target("google", Some(model), pool, primary).unwrap();
            let turned = target.other_pool();
            assert_eq!((target.pool.as_deref(), target.model.as_deref()), (Some(start), Some(name)), "{model}");
            assert_eq!(target.model_for(crate::pool::CredentialKind::ApiKey), Some(plain), "{model}");
            assert_eq!(turned.as_ref().and_then(|turned| turned.model.as_deref()), other, "{model}");
        }
    }

    #[test]
    fn aliases_of_a_model_share_its_key() {
        let catalog = Catalog::default();
        for (provider, names, shared) in [
            ("anthropic", &["claude-sonnet-4-5", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5-latest"][..], true),
            ("openai", &["gpt-5", "gpt-5-2025-08-07"], true),
            ("openai", &["gpt-5", "gpt-5-mini"], false),
            ("google", &["gemini-3-pro-low", "gemini-3-pro-high", "gemini-3-pro-preview:antigravity"], true),
            ("google", &["gemini-3-pro", "gemini-3.1-pro"], false),
        ] {
            let keys: std::collections::BTreeSet<String> = names
                .iter()
                .map(|name| catalog.target(provider, Some(name), None, Primary::Antigravity).unwrap())
                .map(|target| target.quota().limited_as().unwrap().to_owned())
                .collect();
            assert_eq!(keys.len() == 1, shared, "{keys:?}");
        }
    }
}
