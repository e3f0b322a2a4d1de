//! opencode-anthropic-multi-auth: `anthropic-accounts.json`, version 1.

use super::super::account::{DiscoveredAccount, DiscoveredLimit, login};
use super::super::{fields::JsonFields, tool::Tool};
use crate::limits::{Reason, Scope};
use crate::pool::Wall;

pub(super) fn read(top: &JsonFields<'_>, now: Wall) -> Vec<DiscoveredAccount> {
    if top.value("version").and_then(serde_json::Value::as_u64) != Some(1) {
        top.note("this version of the file is not supported; lessor reads version 1");
        return Vec::new();
    }
    let accounts = top.objects("accounts");
    accounts.iter().enumerate().filter_map(|(number, account)| entry(account, number, now)).collect()
}

fn entry(account: &JsonFields<'_>, number: usize, now: Wall) -> Option<DiscoveredAccount> {
    let Some(refresh) = account.secret("refresh") else { return account.leave_out("it has no refresh token") };
    let credential = login(account.secret("access"), Some(refresh), account.instant("expires"))?;
    // the tokens change and so may the index, but not the time when it was added
    let added = account.instant("addedAt");
    let item = added.map_or_else(|| account.place().to_owned(), |at| format!("added {}", at.0));
    let mut entry = DiscoveredAccount::new(Tool::AnthropicMultiAuth, item, "anthropic", credential);
    entry.rotates = true;
    entry.last_used_at = account.instant("lastUsed");
    entry.email = account.text("email");
    // the plugin shows its accounts by number
    entry.label = account.text("label").or_else(|| Some(format!("multi-auth {}", number + 1)));
    entry.disabled =
        (account.flag("enabled") == Some(false)).then(|| "disabled in opencode-anthropic-multi-auth".to_owned());
    if let Some(until) = account.instant("rateLimitedUntil").filter(|until| *until > now) {
        let (scope, key) = (Scope::Pool, "claude".to_owned());
        entry.limits.push(DiscoveredLimit { scope, key, reason: Reason::RateLimitExceeded, until });
    }
    Some(entry)
}
