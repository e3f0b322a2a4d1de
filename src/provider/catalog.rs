//! Maps a request's provider, model and pool to a target: family, quota key, model.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::PROVIDERS;
use super::models::{self, GeminiPool};
use crate::pool::{CredentialKind, OtherQuota, Primary, Target, TargetNames};

/// All known providers. Their names are stored so that a request allocates none.
#[derive(Debug)]
pub struct Catalog {
    providers: FxHashMap<Arc<str>, CatalogEntry>,
}

#[derive(Debug)]
struct CatalogEntry {
    name: Arc<str>,
    /// The family of models that belong to no other family.
    family: Arc<str>,
    kind: CatalogKind,
}

#[derive(Debug)]
enum CatalogKind {
    /// One family with one quota.
    Plain,
    /// Gemini's two pools, and Claude models beside them.
    Google { claude: Arc<str>, antigravity: CatalogPool, gemini_cli: CatalogPool },
}

/// One quota pool of an account.
#[derive(Debug)]
struct CatalogPool {
    name: Arc<str>,
    key: Arc<str>,
}

/// The keys of an account's quotas, where it has several; empty where all its requests share one.
#[must_use]
pub fn separate_quotas(provider: &str, kind: CredentialKind) -> &'static [&'static str] {
    match (provider, kind) {
        ("google", CredentialKind::Oauth | CredentialKind::Token) => &["claude", "gemini-antigravity", "gemini-cli"],
        _ => &[],
    }
}

/// The request names something that does not exist.
#[expect(missing_docs, reason = "the names of the fields say what they are")]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TargetError {
    /// The provider is unknown.
    #[error("there is no provider {0:?}")]
    Provider(String),
    /// The provider has no such pool.
    #[error("{provider} has no pool {pool:?}")]
    Pool { provider: String, pool: String },
    /// The pool serves other models only.
    #[error("the pool {pool:?} serves no Claude models; ask for {model:?} without a pool, or with \"antigravity\"")]
    NotInPool { pool: &'static str, model: String },
    /// The request names two pools.
    #[error("the model asks for the pool {model:?}, the request for {pool:?}")]
    TwoPools { model: String, pool: String },
}

impl Default for Catalog {
    fn default() -> Self {
        let mut catalog = Self { providers: FxHashMap::default() };
        for provider in &PROVIDERS {
            catalog.add(provider.name);
        }
        catalog
    }
}

impl Catalog {
    /// Adds a provider that an account or the configuration names.
    pub fn add(&mut self, provider: &str) {
        if self.providers.contains_key(provider) {
            return;
        }
        let name: Arc<str> = provider.into();
        let (family, kind) = match provider {
            "anthropic" => ("claude".into(), CatalogKind::Plain),
            "google" => {
                let pool = |name: &str, key: &str| CatalogPool { name: name.into(), key: key.into() };
                let kind = CatalogKind::Google {
                    claude: "claude".into(),
                    antigravity: pool("antigravity", "gemini-antigravity"),
                    gemini_cli: pool("gemini-cli", "gemini-cli"),
                };
                ("gemini".into(), kind)
            }
            _ => (name.clone(), CatalogKind::Plain),
        };
        self.providers.insert(name.clone(), CatalogEntry { name, family, kind });
    }

    /// All provider names, for messages.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.providers.keys().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    /// The target of a request; `primary` is the pool for Gemini requests that name none.
    ///
    /// # Errors
    /// When the provider or pool is unknown, the pool does not serve the model, or the request names two pools.
    pub fn target(
        &self,
        provider: &str,
        model: Option<&str>,
        pool: Option<&str>,
        primary: Primary,
    ) -> Result<Target, TargetError> {
        let entry = self.providers.get(provider).ok_or_else(|| TargetError::Provider(provider.to_owned()))?;
        let model = model.filter(|model| !model.is_empty()).map(|model| models::without_vendor(provider, model));
        let no_pool = |pool: &str| TargetError::Pool { provider: provider.to_owned(), pool: pool.to_owned() };
        match &entry.kind {
            CatalogKind::Plain => match pool {
                Some(pool) => Err(no_pool(pool)),
                None => Ok(entry.plain(&entry.family, model)),
            },
            CatalogKind::Google { claude, antigravity, gemini_cli } => {
                let asked = models::gemini(model);
                let pinned = match (asked.pinned, pool) {
                    (Some(pinned), Some(pool)) if pinned.name() != pool => {
                        return Err(TargetError::TwoPools { model: pinned.name().to_owned(), pool: pool.to_owned() });
                    }
                    (Some(pinned), _) => Some(pinned),
                    (None, Some(pool)) => Some(GeminiPool::named(pool).ok_or_else(|| no_pool(pool))?),
                    (None, None) => None,
                };
                if let Some(name) = asked.name.filter(|name| name.contains("claude")) {
                    // Antigravity serves them, from a quota of their own
                    return match pinned {
                        Some(GeminiPool::GeminiCli) => {
                            Err(TargetError::NotInPool { pool: GeminiPool::GeminiCli.name(), model: name.to_owned() })
                        }
                        _ => Ok(entry.plain(claude, Some(name))),
                    };
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

impl CatalogEntry {
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
        of: &dyn Fn(GeminiPool) -> &'a CatalogPool,
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

    const CLAUDE_IN_CLI: &str = "the pool \"gemini-cli\" serves no Claude models; \
                                 ask for \"claude-opus-4\" without a pool, or with \"antigravity\"";

    #[test]
    fn the_vendor_s_name_before_a_model_is_not_part_of_it() {
        let catalog = {
            let mut catalog = Catalog::default();
            catalog.add("openrouter");
            catalog
        };
        for (provider, model, name, quota) in [
            ("google", "google/gemini-3-pro", "gemini-3-pro-low", "gemini-3-pro"),
            ("google", "google/gemini-2.5-flash", "gemini-2.5-flash", "gemini-2.5-flash"),
            ("anthropic", "anthropic/claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("openai", "openai/gpt-5", "gpt-5", "gpt-5"),
            ("openai", "openai/", "openai/", "openai/"),
            ("openrouter", "openai/gpt-5", "openai/gpt-5", "openai/gpt-5"),
        ] {
            let target = catalog.target(provider, Some(model), None, Primary::Antigravity).unwrap();
            assert_eq!(target.model.as_deref(), Some(name), "{model}");
            assert_eq!(target.quota().limited_as(), Some(quota), "{model}");
        }
    }

    #[test]
    fn requests_are_mapped_to_their_family_and_quota() {
        let mut catalog = Catalog::default();
        catalog.add("mistral");
        for (provider, model, pool, expected) in [
            ("anthropic", Some("claude-sonnet-4-5"), None, Ok(("claude", "claude", None))),
            ("anthropic", None, None, Ok(("claude", "claude", None))),
            ("openai", Some("gpt-5"), None, Ok(("openai", "openai", None))),
            ("google", Some("gemini-3-pro"), None, Ok(("gemini", "gemini-antigravity", Some("antigravity")))),
            ("google", None, Some("gemini-cli"), Ok(("gemini", "gemini-cli", Some("gemini-cli")))),
            ("google", Some("claude-opus-4"), None, Ok(("claude", "claude", None))),
            ("mistral", None, None, Ok(("mistral", "mistral", None))),
            ("google", Some("google/gemini-3-pro"), None, Ok(("gemini", "gemini-antigravity", Some("antigravity")))),
            (
                "google",
                Some("google/antigravity-gemini-3-pro:gemini-cli"),
                None,
                Ok(("gemini", "gemini-cli", Some("gemini-cli"))),
            ),
            ("google", Some("anthropic/claude-opus-4"), None, Ok(("claude", "claude", None))),
            ("google", Some("claude-opus-4"), Some("antigravity"), Ok(("claude", "claude", None))),
            ("google", Some("claude-opus-4"), Some("gemini-cli"), Err(CLAUDE_IN_CLI)),
            ("google", Some("google/claude-opus-4:gemini-cli"), None, Err(CLAUDE_IN_CLI)),
            ("anthropic", None, Some("x"), Err("anthropic has no pool \"x\"")),
            ("google", None, Some("x"), Err("google has no pool \"x\"")),
            (
                "google",
                Some("gemini-3-pro:antigravity"),
                Some("gemini-cli"),
                Err("the model asks for the pool \"antigravity\", the request for \"gemini-cli\""),
            ),
            ("nosuch", None, None, Err("there is no provider \"nosuch\"")),
        ] {
            let target = catalog.target(provider, model, pool, Primary::Antigravity).map_err(|error| error.to_string());
            let seen = target.as_ref().map(|target| (&*target.family, &*target.key, target.pool.as_deref()));
            assert_eq!(seen.map_err(String::as_str), expected, "{provider} {model:?} {pool:?}");
        }
    }

    /// Model, pool, primary; expected pool and model name, name for an API key, name in the other pool.
    #[test]
    fn gemini_models_are_named_as_each_pool_names_them() {
        let rows = "
            gemini-3-flash - antigravity antigravity gemini-3-flash gemini-3-flash gemini-3-flash-preview
            gemini-3-pro-preview - antigravity antigravity gemini-3-pro-low gemini-3-pro-preview gemini-3-pro-preview
            gemini-3-pro-high - gemini-cli gemini-cli gemini-3-pro-preview gemini-3-pro-high gemini-3-pro-high
            antigravity-gemini-3-flash - gemini-cli antigravity gemini-3-flash gemini-3-flash gemini-3-flash-preview
            gemini-3-flash:gemini-cli - antigravity gemini-cli gemini-3-flash-preview gemini-3-flash -
            antigravity-gemini-3-flash:gemini-cli - antigravity gemini-cli gemini-3-flash-preview gemini-3-flash -
            gemini-3-flash antigravity gemini-cli antigravity gemini-3-flash gemini-3-flash -
            gemini-3-flash:antigravity antigravity gemini-cli antigravity gemini-3-flash gemini-3-flash -
            gemini-3-pro-image - gemini-cli antigravity gemini-3-pro-image gemini-3-pro-image -
            gemini-2.5-pro - gemini-cli gemini-cli gemini-2.5-pro gemini-2.5-pro gemini-2.5-pro";
        let some = |text: &'static str| Some(text).filter(|text| *text != "-");
        for row in rows.trim().lines() {
            let words: Vec<&str> = row.split_whitespace().collect();
            let [model, pool, primary, start, name, plain, other] = words[..] else { panic!("{row}") };
            let (pool, other) = (some(pool), some(other));
            let primary = if primary == "gemini-cli" { Primary::GeminiCli } else { Primary::Antigravity };
            let target = Catalog::default().target("google", Some(model), pool, primary).unwrap();
            let turned = target.other_pool();
            assert_eq!((target.pool.as_deref(), target.model.as_deref()), (Some(start), Some(name)), "{model}");
            assert_eq!(target.model_for(CredentialKind::ApiKey), Some(plain), "{model}");
            assert_eq!(turned.as_ref().and_then(|turned| turned.model.as_deref()), other, "{model}");
        }
    }

    #[test]
    fn aliases_of_a_model_share_its_quota_key() {
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
