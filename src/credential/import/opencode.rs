//! opencode: `auth.json`, a login or key for each provider.

use crate::credential::Secret;

use super::entry::{Entry, key, login};
use super::fields::Fields;
use super::tool::Tool;

pub(super) fn read(top: &Fields<'_>) -> Vec<Entry> {
    let names: Vec<&str> = top.names().take(super::MOST_ENTRIES).collect();
    names.into_iter().filter_map(|name| entry(name, &top.object(name)?)).collect()
}

fn entry(name: &str, fields: &Fields<'_>) -> Option<Entry> {
    let provider = match name {
        "gemini" => "google",
        "codex" => "openai",
        other => other,
    };
    match fields.text("type").as_deref() {
        Some("oauth") => oauth(name, provider, fields),
        Some("api") => {
            let Some(secret) = fields.secret("key") else {
                fields.note("is left out: it has no key");
                return None;
            };
            if fields.value("baseURL").is_some() {
                fields.pass_over("is left out: its key is for another address (baseURL); add it by hand");
                return None;
            }
            let mut entry = Entry::new(Tool::Opencode, name.to_owned(), provider, key(secret));
            entry.label = Some(format!("opencode-{name}"));
            Some(entry)
        }
        Some("wellknown") => {
            fields.pass_over("is left out: a token of an organisation's own server cannot be leased");
            None
        }
        _ => {
            fields.pass_over("is left out: its type is neither oauth nor api");
            None
        }
    }
}

fn oauth(name: &str, provider: &str, fields: &Fields<'_>) -> Option<Entry> {
    if fields.value("enterpriseUrl").is_some() || !["anthropic", "openai", "google"].contains(&provider) {
        fields.pass_over("is left out: lessor knows no logins of this provider");
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
        fields.note("is left out: it has neither an access nor a refresh token");
        return None;
    };
    let mut entry = Entry::new(Tool::Opencode, name.to_owned(), provider, credential);
    entry.rotates = provider != "google" && entry.credential.refresh.is_some();
    entry.vendor_id = fields.text("accountId");
    entry.project_id = project;
    Some(entry)
}

/// The plugin for Google packs token, project and managed project into one text.
fn unpack(packed: &str) -> (String, Option<String>) {
    let mut parts = packed.split('|');
    let token = parts.next().unwrap_or_default().to_owned();
    let (project, managed) = (parts.next(), parts.next());
    let chosen = managed.filter(|text| !text.is_empty()).or(project).filter(|text| !text.is_empty());
    (token, chosen.map(str::to_owned))
}
