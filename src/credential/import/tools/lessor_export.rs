//! lessor's own export.

use serde_json::Value;

use super::super::account::{DiscoveredAccount, DiscoveredLimit, login};
use super::super::{fields::JsonFields, tool::Tool};
use crate::credential::{Credential, LinkMode};
use crate::limits::{Reason, Scope};
use crate::pool::{AccountOwner, CredentialKind, Tier, Wall, Window};
use crate::provider::learn_account_id;

/// The maximum number of quota windows per account.
const MOST_WINDOWS: usize = 64;
/// The version of the export format.
pub const EXPORT_VERSION: u64 = 1;

pub(super) fn read(top: &JsonFields<'_>, now: Wall) -> Vec<DiscoveredAccount> {
    if top.value("lessor_export").and_then(Value::as_u64) != Some(EXPORT_VERSION) {
        top.note("this version of the export is not supported; update lessor");
        return Vec::new();
    }
    top.objects("accounts").iter().filter_map(|account| entry(account, now)).collect()
}

fn entry(account: &JsonFields<'_>, now: Wall) -> Option<DiscoveredAccount> {
    let Some(provider) = account.text("provider") else { return account.leave_out("it names no provider") };
    let kind: CredentialKind = account.value("kind").and_then(|kind| serde_json::from_value(kind.clone()).ok())?;
    let secret = account.object("credential");
    let Some(credential) = secret.as_ref().and_then(|secret| credential(secret, kind)) else {
        account.pass_over("is left out: it contains no secret; export with --secrets");
        return None;
    };
    let mut entry = DiscoveredAccount::new(Tool::Lessor, account.text("id").unwrap_or_default(), &provider, credential);
    entry.email = account.text("email");
    entry.label = account.text("label");
    entry.owner = AccountOwner {
        person: account.text("person_id"),
        organization: account.text("organization_id"),
        organization_name: account.text("organization"),
    };
    learn_account_id(&entry.provider, &mut entry.owner, account.text("account_id"));
    entry.project_id = account.text("project_id");
    let tier = account.text("tier").and_then(|tier| Tier::named(&tier));
    entry.tier = tier.unwrap_or(Tier::Unknown);
    let list = account.value("use").and_then(Value::as_array);
    entry.allowed_agents = list.map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    entry.reserve = account.value("reserve").and_then(Value::as_f64).unwrap_or_default();
    entry.fallback_only = account.value("fallback_only").and_then(Value::as_bool).unwrap_or_default();
    entry.max_leases = account.value("max_leases").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    entry.priority = account.value("priority").and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
    if account.flag("enabled") == Some(false) {
        entry.disabled = Some(account.prose("disabled_reason").unwrap_or_else(|| "disabled when exported".to_owned()));
    }
    entry.verification = account.prose("needs_verification");
    entry.login_ended = account.prose("needs_login");
    entry.limits = account.objects("limits").iter().filter_map(limit).filter(|limit| limit.until > now).collect();
    entry.usage = account.objects("usage").iter().filter_map(window).take(MOST_WINDOWS).collect();
    entry.last_used_at = account.instant("last_used_at");
    entry.as_of = account.instant("as_of");
    if let Some(link) = account.object("link") {
        // an account of another tool stays linked to it
        entry.rotates = true;
        entry.tool = link.text("tool").and_then(|name| Tool::named(&name)).unwrap_or(Tool::Lessor);
        entry.file = link.value("path").and_then(Value::as_str).map(str::to_owned);
        entry.item = link.text("item").unwrap_or_default();
        entry.mode = link.text("mode").and_then(|name| LinkMode::from_name(&name));
    }
    Some(entry)
}

fn credential(secret: &JsonFields<'_>, kind: CredentialKind) -> Option<Credential> {
    let (access, refresh) = (secret.secret("access"), secret.secret("refresh"));
    let expires_at = secret.instant("expires_at");
    match kind {
        CredentialKind::Oauth => Some(Credential {
            client_id: secret.text("client_id"),
            resource: secret.text("resource"),
            refresh_from: secret.instant("refresh_from"),
            ..login(access, refresh, expires_at)?
        }),
        CredentialKind::ApiKey | CredentialKind::Token => {
            Some(Credential { expires_at, ..Credential::new(kind, access?) })
        }
    }
}

fn limit(limit: &JsonFields<'_>) -> Option<DiscoveredLimit> {
    let named = |name: &str| limit.value(name).cloned();
    let scope: Scope = serde_json::from_value(named("scope")?).ok()?;
    let reason: Reason = serde_json::from_value(named("reason")?).ok()?;
    let key = limit.value("key").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(DiscoveredLimit { scope, key, reason, until: limit.instant("until")? })
}

fn window(window: &JsonFields<'_>) -> Option<Window> {
    Some(Window {
        name: window.text("window")?,
        key: window.text("key").unwrap_or_default(),
        utilization: window.number("utilization")?.clamp(0.0, 1.0),
        resets_at: window.instant("resets_at"),
        as_of: window.instant("as_of")?,
    })
}
