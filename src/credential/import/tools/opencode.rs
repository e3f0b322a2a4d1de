//! opencode: `auth.json`, with a login or key for each provider; since version 2 `opencode.db`, with any number of them.

use super::super::account::{DiscoveredAccount, key, login};
use super::super::{fields::JsonFields, tool::Tool};
use crate::credential::{Secret, claims::LoginClaims};
use crate::provider::{learn_account_id, logins_rotate};

pub(super) fn read(top: &JsonFields<'_>) -> Vec<DiscoveredAccount> {
    let names: Vec<&str> = top.names().take(super::super::MOST_ENTRIES).collect();
    names.into_iter().filter_map(|name| entry(name, &top.object(name)?)).collect()
}

/// The rows of the database, by their ids.
pub(super) fn read_database(top: &JsonFields<'_>) -> Vec<DiscoveredAccount> {
    let names: Vec<&str> = top.names().collect();
    names.into_iter().filter_map(|name| row(name, &top.object(name)?)).collect()
}

fn row(id: &str, row: &JsonFields<'_>) -> Option<DiscoveredAccount> {
    let integration = row.text("integration")?;
    let value = row.object("value")?;
    let provider = provider(&integration);
    let about = value.object("metadata").unwrap_or_else(|| value.none_beside());
    let mut entry = match value.text("type").as_deref() {
        Some("oauth") => oauth(id, provider, &value, about.text("accountID"))?,
        Some("key") if about.value("baseURL").is_some() => {
            row.pass_over("is left out: its key is for another server (baseURL); add it with `lessor account add`");
            return None;
        }
        Some("key") => {
            let Some(secret) = value.secret("key") else { return row.leave_out("it has no key") };
            let mut entry = DiscoveredAccount::new(Tool::Opencode, id.to_owned(), provider, key(secret));
            entry.label = Some(format!("opencode-{integration}"));
            entry
        }
        _ => {
            row.pass_over("is left out: its type is neither oauth nor key");
            return None;
        }
    };
    // the user's name for it, if there is one
    entry.label = row.text("label").filter(|label| label != "default").or(entry.label);
    entry.as_of = row.instant("updated");
    Some(entry)
}

fn provider(name: &str) -> &str {
    match name {
        "gemini" => "google",
        "codex" => "openai",
        other => other,
    }
}

fn entry(name: &str, fields: &JsonFields<'_>) -> Option<DiscoveredAccount> {
    let provider = provider(name);
    match fields.text("type").as_deref() {
        Some("oauth") => oauth(name, provider, fields, fields.text("accountId")),
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

fn oauth(name: &str, provider: &str, fields: &JsonFields<'_>, account_id: Option<String>) -> Option<DiscoveredAccount> {
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
    entry.rotates = logins_rotate(provider) && entry.credential.refresh.is_some();
    learn_account_id(provider, &mut entry.owner, account_id);
    let claims = LoginClaims::of(entry.credential.access.expose(), None);
    entry.learn(claims);
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
