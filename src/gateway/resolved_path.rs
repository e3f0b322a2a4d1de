//! What the paths of requests lead to. It is known for the paths of earlier requests: agents use the same few.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::Uri;
use rustc_hash::FxHashMap;

use super::auth;
use super::record::recorded_path;
use super::request::WantedText;
use super::route::{RouteError, UpstreamRoute};
use crate::daemon::GatewayConfig;

/// A longer path is resolved each time.
const LONGEST: usize = 200;
/// With more paths, those that are known are forgotten.
const MOST: usize = 64;

/// What a path and a query lead to.
#[derive(Debug)]
pub(super) struct ResolvedPath {
    pub(super) route: Arc<UpstreamRoute>,
    /// What is read from the body of a request.
    pub(super) wanted: WantedText,
    /// The path as it is recorded.
    pub(super) recorded_path: Arc<str>,
}

/// The paths that were resolved with the latest configuration.
#[derive(Debug, Default)]
pub(super) struct ResolvedPaths(Mutex<KnownPaths>);

#[derive(Debug, Default)]
struct KnownPaths {
    config: Option<Arc<GatewayConfig>>,
    /// By path and query.
    resolved: FxHashMap<Box<str>, Arc<ResolvedPath>>,
}

impl ResolvedPath {
    fn find(config: &GatewayConfig, uri: &Uri) -> Result<Arc<Self>, RouteError> {
        let route = UpstreamRoute::find(config, uri.path(), auth::without_key(uri.query()))?;
        let wanted = WantedText::of(&route.provider, &route.path);
        let recorded_path = recorded_path(&route.path).into();
        Ok(Arc::new(Self { route: Arc::new(route), wanted, recorded_path }))
    }
}

impl ResolvedPaths {
    /// What a request's path and query lead to with this configuration.
    pub(super) fn find(&self, config: &Arc<GatewayConfig>, uri: &Uri) -> Result<Arc<ResolvedPath>, RouteError> {
        let whole = uri.path_and_query().map_or("", |whole| whole.as_str());
        // a key is kept nowhere
        if whole.len() > LONGEST || auth::has_key(uri.query()) {
            return ResolvedPath::find(config, uri);
        }
        // each change is complete
        let known = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.config.as_ref().is_some_and(|of| Arc::ptr_eq(of, config)) {
            *known = KnownPaths { config: Some(config.clone()), resolved: FxHashMap::default() };
        }
        if let Some(resolved) = known.resolved.get(whole) {
            return Ok(resolved.clone());
        }
        let resolved = ResolvedPath::find(config, uri)?;
        if known.resolved.len() >= MOST {
            known.resolved.clear();
        }
        known.resolved.insert(whole.into(), resolved.clone());
        Ok(resolved)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::config::{GatewaySection, ProviderSection, TelemetrySection};
    use crate::pool::CredentialKind;

    fn config(base: &str) -> Arc<GatewayConfig> {
        let of = ProviderSection { base_url: Some(base.to_owned()), ..ProviderSection::default() };
        Arc::new(GatewayConfig {
            gateway: GatewaySection::default(),
            max_attempts: 3,
            max_rate_limit_wait: Duration::from_secs(300),
            telemetry: TelemetrySection::default(),
            providers: BTreeMap::from([("llm".to_owned(), of)]),
        })
    }

    fn url(paths: &ResolvedPaths, config: &Arc<GatewayConfig>, path: &str) -> String {
        let resolved = paths.find(config, &path.parse().unwrap()).unwrap();
        resolved.route.address(CredentialKind::ApiKey, false).unwrap().uri.to_string()
    }

    #[test]
    fn a_known_path_leads_where_it_would_without_being_known() {
        let (one, other) = (config("http://one"), config("http://other"));
        let paths = ResolvedPaths::default();
        for _ in 0..2 {
            for (config, base) in [(&one, "http://one"), (&other, "http://other")] {
                for (path, expected) in [
                    ("/llm/chat", "/chat"),
                    ("/llm/chat?beta=true", "/chat?beta=true"),
                    ("/llm/chat?beta=false", "/chat?beta=false"),
                    ("/llm/chat?key=lk_1&beta=true", "/chat?beta=true"),
                ] {
                    assert_eq!(url(&paths, config, path), format!("{base}{expected}"), "{path}");
                    assert_eq!(url(&paths, config, path), format!("{base}{expected}"), "{path}, again");
                }
            }
        }
        assert!(paths.find(&one, &"/unknown/chat".parse().unwrap()).is_err());
    }

    #[test]
    fn few_paths_and_no_keys_are_kept() {
        let (config, paths) = (config("http://one"), ResolvedPaths::default());
        for number in 0..3 * MOST {
            let path = format!("/llm/{number}");
            assert_eq!(url(&paths, &config, &path), format!("http://one/{number}"));
            assert!(paths.0.lock().unwrap().resolved.len() <= MOST);
        }
        let long = format!("/llm/{}", "x".repeat(LONGEST));
        for path in ["/llm/x?a=1&key=lk_1", "/llm/x?key", &long] {
            url(&paths, &config, path);
            assert!(!paths.0.lock().unwrap().resolved.contains_key(path), "{path}");
        }
    }
}
