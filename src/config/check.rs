//! What only shows when keys are looked at together.

use super::duration;
use super::problem::ConfigProblem;
use super::read::Reader;
use super::schema::format_key;
use super::settings::{Config, ProviderSection};

/// Providers that need no definition.
const BUILT_IN: [&str; 3] = ["anthropic", "openai", "google"];
/// First path words of the gateway that are not providers.
const RESERVED: [&str; 4] = ["healthz", "metrics", "ui", "lessor"];

/// Whether a provider may have this name: it is a word of the gateway's paths.
pub(super) fn provider_name(name: &str) -> Result<(), String> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if RESERVED.contains(&name) {
        return Err(format!("`{name}` is a path of the gateway's own; give the provider another name"));
    }
    if name.len() > 64 || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(word) {
        return Err("not the name of a provider; allowed: lower-case letters, digits, - _ .".to_owned());
    }
    Ok(())
}

/// ConfigErrors between keys. The blame falls on the first of the named keys that the file sets.
pub(super) fn together(config: &Config, reader: &mut Reader<'_>) {
    let leases = &config.pool.leases;
    let health = &config.pool.selection.health;
    let refresh = &config.refresh;
    order(
        config,
        reader,
        leases.per_account <= leases.max_per_account,
        [
            ("leases.per_account", leases.per_account.to_string()),
            ("leases.max_per_account", leases.max_per_account.to_string()),
        ],
    );
    let top = ("selection.health.max", health.max.to_string());
    order(
        config,
        reader,
        health.initial <= health.max,
        [("selection.health.initial", health.initial.to_string()), top.clone()],
    );
    order(
        config,
        reader,
        health.min_usable <= health.max,
        [("selection.health.min_usable", health.min_usable.to_string()), top],
    );
    order(
        config,
        reader,
        refresh.min_life <= refresh.ahead,
        [("refresh.min_life", duration::format(refresh.min_life)), ("refresh.ahead", duration::format(refresh.ahead))],
    );
    listener(config, reader);
    providers(config, reader);
}

/// Warnings between keys.
pub(super) fn warnings(config: &Config, reader: &Reader<'_>) -> Vec<ConfigProblem> {
    let ceiling = config.pool.leases.max_per_account;
    let mut warnings = Vec::new();
    for account in config.pool.accounts.iter().filter(|account| account.max_leases.is_some_and(|most| most > ceiling)) {
        let key = format_key(&["accounts", &account.name, "max_leases"]);
        if let Some(span) = config.span_of(&key) {
            let message = format!("`{key}` is above `leases.max_per_account` ({ceiling}), which holds");
            warnings.push(reader.warning(&key, &span, message));
        }
    }
    warnings
}

/// Notes that the first of two keys exceeds the second.
fn order(config: &Config, reader: &mut Reader<'_>, fine: bool, [low, high]: [(&str, String); 2]) {
    if fine || reader.is_wrong(low.0) || reader.is_wrong(high.0) {
        return;
    }
    let value = |key: &(&str, String)| {
        let by_default = if config.span_of(key.0).is_none() { ", by default" } else { "" };
        format!("`{}` ({}{by_default})", key.0, key.1)
    };
    let message = format!("{} must not be above {}", value(&low), value(&high));
    // Defaults agree with each other, so the file sets one of them.
    if let Some((key, span)) = [low.0, high.0].into_iter().find_map(|key| Some((key, config.span_of(key)?))) {
        reader.problem(key, &span, message);
    }
}

fn listener(config: &Config, reader: &mut Reader<'_>) {
    let address = config.gateway.listen.0;
    let keys = ["gateway.listen", "gateway.allow_remote"];
    if address.ip().is_loopback() || config.gateway.allow_remote || keys.iter().any(|key| reader.is_wrong(key)) {
        return;
    }
    if let Some(span) = config.span_of("gateway.listen") {
        let message =
            format!("`gateway.listen` ({address}) is not loopback; if that is meant, say `allow_remote = true`");
        reader.problem("gateway.listen", &span, message);
    }
}

fn providers(config: &Config, reader: &mut Reader<'_>) {
    // one whose logins are known can be leased, wherever it is served
    let has_home = |provider: &ProviderSection| {
        let oauth = &provider.oauth;
        [&provider.base_url, &oauth.base_url, &oauth.issuer, &oauth.token_url].iter().any(|url| url.is_some())
    };
    let homeless =
        config.providers.iter().filter(|(name, provider)| !BUILT_IN.contains(&name.as_str()) && !has_home(provider));
    for (name, _) in homeless {
        let key = format_key(&["providers", name]);
        let urls =
            [format_key(&["providers", name, "base_url"]), format_key(&["providers", name, "oauth", "base_url"])];
        let section = config.origins.sections.get(&key);
        if let Some((span, _)) = section.filter(|_| !urls.iter().any(|url| reader.is_wrong(url))) {
            let known = BUILT_IN.join(", ");
            let message = format!("`{name}` is not a built-in provider ({known}), so it needs a `base_url`");
            reader.problem(&key, span, message);
        }
    }
}
