//! opencode-anthropic-multi-auth: `anthropic-accounts.json`, version 1.

use crate::limits::{Reason, Scope};
use crate::pool::Wall;

use super::entry::{Entry, Limited, login};
use super::fields::Fields;
use super::tool::Tool;

pub(super) fn read(top: &Fields<'_>, now: Wall) -> Vec<Entry> {
    if top.value("version").and_then(serde_json::Value::as_u64) != Some(1) {
        top.note("this version of the store is not known; lessor reads 1");
        return Vec::new();
    }
    let accounts = top.objects("accounts");
    accounts.iter().enumerate().filter_map(|(number, account)| entry(account, number, now)).collect()
}

fn entry(account: &Fields<'_>, number: usize, now: Wall) -> Option<Entry> {
    let Some(refresh) = account.secret("refresh") else {
        account.note("is left out: it has no refresh token");
        return None;
    };
    let credential = login(account.secret("access"), Some(refresh), account.instant("expires"))?;
    // the tokens change and the place may: when it was added does not
    let added = account.instant("addedAt");
    let item = added.map_or_else(|| account.place().to_owned(), |at| format!("added {}", at.0));
    let mut entry = Entry::new(Tool::AnthropicMultiAuth, item, "anthropic", credential);
    entry.rotates = true;
    entry.email = account.text("email");
    // it shows its accounts by number
    entry.label = account.text("label").or_else(|| Some(format!("multi-auth {}", number + 1)));
    entry.disabled =
        (account.flag("enabled") == Some(false)).then(|| "disabled in opencode-anthropic-multi-auth".to_owned());
    if let Some(until) = account.instant("rateLimitedUntil").filter(|until| *until > now) {
        let (scope, key) = (Scope::Pool, "claude".to_owned());
        entry.limits.push(Limited { scope, key, reason: Reason::RateLimitExceeded, until });
    }
    Some(entry)
}
