//! opencode: `auth.json`, with a login or key for each provider.

use super::super::account::{DiscoveredAccount, key, login};
use super::super::{fields::JsonFields, tool::Tool};
use crate::{credential::Secret, provider::learn_account_id};

pub(super) fn read(top: &JsonFields<'_>) -> Vec<DiscoveredAccount> {
    let names: Vec<&str> = top.names().take(super::super::MOST_ENTRIES).collect();
    names.into_iter().filter_map(|name| entry(name, &top.object(name)?)).collect()
}

fn entry(name: &str, fields: &JsonFields<'_>) -> Option<DiscoveredAccount> {
    let provider = match name {
        "gemini" => "google",
        "codex" => "openai",
        other => other,
    };
    match fields.text("type").as_deref() {
        Some("oauth") => oauth(name, provider, fields),
        Some("api") => {
            let Some(secret) = fields.secret("key") else { return fields.leave_out("it has no key") };
            if fields.value("baseURL").is_some() {
                fields.pass_over(
                    "is left out: its key is for another server (baseURL); add it with `lessor account add`",
                );
                return None;
            }
            let mut entry = DiscoveredAccount::new(Tool::Opencode, name.to_owned(), provider, key(secret));
            entry.label = Some(format!("opencode-{name}"));
            Some(entry)
        }
        Some("wellknown") => {
            fields.pass_over("is left out: a token for an organisation's server cannot be leased");
            None
        }
        _ => {
            fields.pass_over("is left out: its type is neither oauth nor api");
            None
        }
    }
}

fn oauth(name: &str, provider: &str, fields: &JsonFields<'_>) -> Option<DiscoveredAccount> {
    if fields.value("enterpriseUrl").is_some() || !["anthropic", "openai", "google"].contains(&provider) {
        fields.pass_over("is left out: logins of this provider are not supported");
        return None;
    }
    let refresh = fields.secret("refresh");
    let packed = refresh.as_ref().filter(|_| provider == "google").map(|refresh| unpack(refresh.expose()));
    let (refresh, project) = match packed {
        Some((token, project)) => (Some(Secret::new(token)), project),
        None => (refresh, None),
    };
    let refresh = refresh.filter(|refresh| !refresh.expose().is_empty());
    let Some(credential) = login(fields.secret("access"), refresh, fields.instant("expires")) else {
        return fields.leave_out("it has neither an access nor a refresh token");
    };
    let mut entry = DiscoveredAccount::new(Tool::Opencode, name.to_owned(), provider, credential);
    entry.rotates = provider != "google" && entry.credential.refresh.is_some();
    learn_account_id(provider, &mut entry.owner, fields.text("accountId"));
    entry.project_id = project;
    Some(entry)
}

/// Splits the text in which the Google plugin packs token, project and managed project.
fn unpack(packed: &str) -> (String, Option<String>) {
    let mut parts = packed.split('|');
    let token = parts.next().unwrap_or_default().to_owned();
    let (project, managed) = (parts.next(), parts.next());
    let chosen = managed.filter(|text| !text.is_empty()).or(project).filter(|text| !text.is_empty());
    (token, chosen.map(str::to_owned))
}
