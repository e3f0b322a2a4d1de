//! Checks that involve several keys.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::problem::{ConfigProblem, ProblemLog};
use crate::config::schema::{lookup::format_key, size};
use crate::config::settings::{Config, ProviderSection};

/// Providers that need no definition.
const BUILT_IN: [&str; 3] = ["anthropic", "openai", "google"];
/// First path segments of the gateway that are not providers.
const RESERVED: [&str; 4] = ["healthz", "metrics", "ui", "lessor"];

/// The smallest history, in bytes.
const LEAST_HISTORY: u64 = 1 << 20;

/// The number of warnings of one kind that are shown each.
const MOST_WARNINGS: usize = 3;

/// Checks a provider's name, which is a segment of the gateway's paths.
pub(in crate::config) fn provider_name(name: &str) -> Result<(), String> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if RESERVED.contains(&name) {
        return Err(format!("`{name}` is a reserved path of the gateway; choose another name for the provider"));
    }
    if name.len() > 64 || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(word) {
        return Err("not a valid provider name; allowed: lower-case letters, digits, - _ .".to_owned());
    }
    Ok(())
}

/// Errors that involve several keys, reported at the first of them that the file sets.
pub(in crate::config) fn together(config: &Config, log: &mut ProblemLog<'_>) {
    let leases = &config.pool.leases;
    let health = &config.pool.selection.health;
    let refresh = &config.refresh;
    let mut order = |fine: bool, low: &str, high: &str| order(config, log, fine, [low, high]);
    order(leases.per_account <= leases.max_per_account, "leases.per_account", "leases.max_per_account");
    order(health.initial <= health.max, "selection.health.initial", "selection.health.max");
    order(health.min_usable <= health.max, "selection.health.min_usable", "selection.health.max");
    order(refresh.min_life <= refresh.ahead, "refresh.min_life", "refresh.ahead");
    listener(config, log);
    providers(config, log);
    history(config, log);
    guest_with_pool(config, log);
}

/// Reports a machine that uses another one's accounts and shares a pool of its own: only one of the two can serve a call.
fn guest_with_pool(config: &Config, log: &mut ProblemLog<'_>) {
    if config.join.host.is_none() || config.shared_pool.url.is_none() {
        return;
    }
    // a file that sets both has a place for either
    if let Some((key, span)) = ["pool.url", "join.host"].into_iter().find_map(|key| Some((key, config.span_of(key)?))) {
        let message = "`pool.url` and `join.host` cannot both be set: a guest uses the accounts of its host, which has \
                       the pool; to leave one of them, run `lessor pool leave` or `lessor leave`";
        log.problem(key, &span, message.to_owned());
    }
}

/// Reports a budget of the history that is too small to hold anything.
fn history(config: &Config, log: &mut ProblemLog<'_>) {
    let key = "history.max_size";
    if (1..LEAST_HISTORY).contains(&config.history.max_size)
        && !log.is_wrong(key)
        && let Some(span) = config.span_of(key)
    {
        let shown = size::format(config.history.max_size);
        log.problem(key, &span, format!("`{key}` is {shown}; allowed: at least 1MiB, or \"0\" for no history"));
    }
}

/// What is valid, but may not have the expected effect.
pub(in crate::config) fn warnings(config: &Config, log: &ProblemLog<'_>) -> Vec<ConfigProblem> {
    let ceiling = config.pool.leases.max_per_account;
    let above = config.pool.accounts.iter().filter(|account| account.max_leases.is_some_and(|most| most > ceiling));
    let above = above.filter_map(|account| {
        let key = format_key(&["accounts", &account.name, "max_leases"]);
        let span = config.span_of(&key)?;
        let message = format!("`{key}` is above `leases.max_per_account` ({ceiling}), which takes precedence");
        Some(Warning { key, span, message })
    });
    let more = "more accounts have a `max_leases` above `leases.max_per_account`";
    let mut warnings = summed_up(above, more, log);
    let clients = config.providers.iter().flat_map(|(name, provider)| oauth_clients(name, provider, config));
    warnings.extend(summed_up(clients, "more OAuth clients have no effect", log));
    let prices = config.prices.iter().filter_map(|(model, price)| {
        let parts = [("input", price.input), ("output", price.output)];
        let (missing, _) = parts.into_iter().find(|(_, price)| price.is_none())?;
        let key = format_key(&["prices", model]);
        let (span, _) = config.origins.sections.get(&key)?;
        let message = format!("[{key}] has no effect until it has `{missing}`, too");
        Some(Warning { key, span: span.clone(), message })
    });
    warnings.extend(summed_up(prices, "more prices have no effect", log));
    let programs = config.agents.iter().filter_map(|(agent, section)| {
        let key = format_key(&["agents", agent, "programs"]);
        let relative = section.programs.iter().find(|path| !Path::new(path).is_absolute())?;
        let span = config.span_of(&key)?;
        let message = format!("`{key}` has {relative:?}, which is not the absolute path of a program");
        Some(Warning { key, span, message })
    });
    warnings.extend(summed_up(programs, "more agents have such programs", log));
    let directories = config.pool.directories.iter().filter_map(|set| {
        let key = format_key(&["directories", &set.name]);
        let (span, _) = config.origins.sections.get(&key)?;
        let message = if set.paths.is_empty() {
            format!("[{key}] has no effect: the home directory is not known")
        } else if set.accounts.is_empty() {
            format!("[{key}] has no effect until it has `accounts`")
        } else {
            return None;
        };
        Some(Warning { key, span: span.clone(), message })
    });
    warnings.extend(summed_up(directories, "more directories have such sections", log));
    warnings
}

struct Warning {
    key: String,
    span: Range<usize>,
    message: String,
}

/// The first warnings of one kind, and one that counts the others, at the first of them.
fn summed_up(found: impl Iterator<Item = Warning>, more: &str, log: &ProblemLog<'_>) -> Vec<ConfigProblem> {
    let mut found: Vec<Warning> = found.collect();
    found.sort_by_key(|one| one.span.start);
    let mut found = found.into_iter();
    let first = found.by_ref().take(MOST_WARNINGS);
    let mut warnings: Vec<_> = first.map(|one| log.warning(&one.key, &one.span, one.message)).collect();
    if let Some(next) = found.next() {
        let number = found.count() + 1;
        warnings.push(log.warning(&next.key, &next.span, format!("{number} {more}")));
    }
    warnings
}

/// Reports that the first of two keys exceeds the second.
fn order(config: &Config, log: &mut ProblemLog<'_>, fine: bool, keys: [&str; 2]) {
    if fine || keys.iter().any(|key| log.is_wrong(key)) {
        return;
    }
    let shown = keys.map(|key| {
        let by_default = if config.span_of(key).is_none() { ", by default" } else { "" };
        let value = config.get(key).ok().and_then(|setting| setting.value);
        format!("`{key}` ({}{by_default})", value.map(|value| value.plain()).unwrap_or_default())
    });
    // The defaults are valid, so the file sets one of the two.
    if let Some((key, span)) = keys.into_iter().find_map(|key| Some((key, config.span_of(key)?))) {
        log.problem(key, &span, shown.join(" must not be above "));
    }
}

fn listener(config: &Config, log: &mut ProblemLog<'_>) {
    let address = config.gateway.listen.0;
    let keys = ["gateway.listen", "gateway.allow_remote"];
    if address.ip().is_loopback() || config.gateway.allow_remote || keys.iter().any(|key| log.is_wrong(key)) {
        return;
    }
    if let Some(span) = config.span_of("gateway.listen") {
        let message =
            format!("`gateway.listen` ({address}) is not a loopback address; to allow it, set `allow_remote = true`");
        log.problem("gateway.listen", &span, message);
    }
}

/// OAuth clients without an id, or with that of another one of the same provider.
fn oauth_clients(name: &str, provider: &ProviderSection, config: &Config) -> Vec<Warning> {
    let default = provider.oauth.client_id.as_deref().filter(|id| !id.is_empty());
    let mut known: BTreeMap<&str, String> =
        default.map(|id| (id, format_key(&["providers", name, "oauth"]))).into_iter().collect();
    let mut warnings = Vec::new();
    for (client, section) in &provider.oauth.clients {
        let key = format_key(&["providers", name, "oauth", "clients", client]);
        let id = section.client_id.as_deref().filter(|id| !id.is_empty());
        let message = match id.map(|id| (id, known.get(id))) {
            None => format!("[{key}] has no `client_id`, so it has no effect"),
            Some((_, Some(other))) => format!("[{key}] has the `client_id` of [{other}], so it has no effect"),
            Some((id, None)) => {
                known.insert(id, key);
                continue;
            }
        };
        if let Some((span, _)) = config.origins.sections.get(&key) {
            warnings.push(Warning { key, span: span.clone(), message });
        }
    }
    warnings
}

fn providers(config: &Config, log: &mut ProblemLog<'_>) {
    // a provider with known login URLs can be leased without a base URL
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
        if let Some((span, _)) = section
            && !log.omits_one()
            && !urls.iter().any(|url| log.is_wrong(url))
        {
            let known = BUILT_IN.join(", ");
            let message = format!("`{name}` is not a built-in provider ({known}), so it needs a `base_url`");
            log.problem(&key, span, message);
        }
    }
}
