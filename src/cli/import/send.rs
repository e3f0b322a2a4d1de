//! From entries to calls: as few as the size of a message allows, with what belongs together in one.

use std::collections::HashMap;

use crate::client::Client;
use crate::credential::LinkMode;
use crate::credential::Secret;
use crate::credential::import::Entry;
use crate::pool::Window;
use crate::protocol::{
    ImportAccountsParams, ImportEntry, ImportLimit, ImportWindow, ImportedEntry, MAX_MESSAGE, SecretText,
};

use super::super::failure::Failure;

/// What a call has room for, with a margin for its frame.
const ROOM: usize = MAX_MESSAGE - 16 * 1024;

/// Hands the entries to the daemon; answers what has become of each, in order.
pub(in crate::cli) fn send(
    client: &mut Client,
    entries: &[&Entry],
    mode: Option<LinkMode>,
    dry_run: bool,
) -> Result<Vec<ImportedEntry>, Failure> {
    let mut answers: Vec<Option<ImportedEntry>> = entries.iter().map(|_| None).collect();
    for batch in batches(entries) {
        let call = ImportAccountsParams {
            entries: batch.iter().map(|place| on_the_wire(entries[*place])).collect(),
            mode: mode.map(|mode| mode.name().to_owned()),
            dry_run,
        };
        let rows = client.import_accounts(call)?.entries;
        for (place, row) in batch.into_iter().zip(rows) {
            answers[place] = Some(row);
        }
    }
    let all: Option<Vec<ImportedEntry>> = answers.into_iter().collect();
    all.ok_or_else(|| Failure::new("internal", "the daemon has answered fewer entries than it was given"))
}

/// Which entries go together: those that may be of one account stay in one call, so that each is seen by the next.
fn batches(entries: &[&Entry]) -> Vec<Vec<usize>> {
    let mut batches: Vec<(usize, Vec<usize>)> = Vec::new();
    for group in groups(entries) {
        let size = group.iter().map(|place| size(entries[*place])).sum::<usize>();
        match batches.last_mut() {
            Some((used, batch)) if *used + size <= ROOM => {
                *used += size;
                batch.extend(group);
            }
            _ => batches.push((size, group)),
        }
    }
    let order = |(_, mut batch): (usize, Vec<usize>)| {
        batch.sort_unstable();
        batch
    };
    batches.into_iter().map(order).collect()
}

/// Entries that share an address, an id, a token or a label, directly or through others.
fn groups(entries: &[&Entry]) -> Vec<Vec<usize>> {
    let mut first: HashMap<String, usize> = HashMap::new();
    let mut leader: Vec<usize> = (0..entries.len()).collect();
    let find = |leader: &[usize], mut place: usize| {
        while leader[place] != place {
            place = leader[place];
        }
        place
    };
    for (place, entry) in entries.iter().enumerate() {
        let token = entry.credential.refresh.as_ref().unwrap_or(&entry.credential.access);
        let names = [
            entry.email.as_ref().map(|email| format!("email {}", email.to_ascii_lowercase())),
            entry.vendor_id.as_ref().map(|id| format!("id {id}")),
            entry.label.as_ref().map(|label| format!("label {label}")),
            Some(format!("token {}", token.expose())),
        ];
        for name in names.into_iter().flatten() {
            let other = *first.entry(name).or_insert(place);
            let (one, other) = (find(&leader, place), find(&leader, other));
            leader[one.max(other)] = one.min(other);
        }
    }
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); entries.len()];
    for place in 0..entries.len() {
        groups[find(&leader, place)].push(place);
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// At least what an entry takes in a message.
fn size(entry: &Entry) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len) + 8;
    let texts = [&entry.email, &entry.label, &entry.vendor_id, &entry.project_id, &entry.disabled, &entry.verification];
    let more = [&entry.login_ended, &entry.file];
    let limits: usize = entry.limits.iter().map(|limit| limit.key.len() + 32).sum();
    let usage: usize = entry.usage.iter().map(|window| window.key.len() + window.name.len() + 64).sum();
    let refresh = entry.credential.refresh.as_ref().map_or(0, |refresh| refresh.expose().len());
    let uses: usize = entry.allowed_agents.iter().flatten().map(|name| name.len() + 8).sum();
    entry.credential.access.expose().len()
        + refresh
        + limits
        + usage
        + uses
        + texts.into_iter().chain(more).map(text).sum::<usize>()
        + entry.item.len()
        + entry.provider.len()
        + 128
}

fn on_the_wire(entry: &Entry) -> ImportEntry {
    let exposed = |secret: &Secret| SecretText(secret.expose().to_owned().into());
    let limit = |limit: &crate::credential::import::Limited| ImportLimit {
        scope: limit.scope,
        key: limit.key.clone(),
        reason: limit.reason,
        until: limit.until.0,
    };
    let window = |window: &Window| ImportWindow {
        window: window.name.clone(),
        key: window.key.clone(),
        utilization: window.utilization,
        resets_at: window.resets_at.map(|at| at.0),
        as_of: window.as_of.0,
    };
    ImportEntry {
        tool: entry.tool.name().to_owned(),
        item: entry.item.clone(),
        file: entry.file.clone(),
        rotates: entry.rotates,
        provider: entry.provider.clone(),
        kind: entry.credential.kind,
        secret: exposed(&entry.credential.access),
        refresh_token: entry.credential.refresh.as_ref().map(exposed),
        expires_at: entry.credential.expires_at.map(|at| at.0),
        email: entry.email.clone(),
        label: entry.label.clone(),
        account_id: entry.vendor_id.clone(),
        project_id: entry.project_id.clone(),
        tier: Some(entry.tier),
        limits: entry.limits.iter().map(limit).collect(),
        usage: entry.usage.iter().map(window).collect(),
        last_used_at: entry.last_used_at.map(|at| at.0),
        disabled: entry.disabled.clone(),
        verification: entry.verification.clone(),
        login_ended: entry.login_ended.clone(),
        allowed_agents: entry.allowed_agents.clone(),
        max_leases: entry.max_leases,
        priority: entry.priority,
        as_of: entry.as_of.map(|at| at.0),
        mode: entry.mode.map(|mode| mode.name().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Credential;
    use crate::credential::import::Tool;
    use crate::pool::CredentialKind;

    fn entry(email: Option<&str>, token: &str) -> Entry {
        let access = Secret::new(token.to_owned());
        let credential = Credential { kind: CredentialKind::Oauth, access, refresh: None, expires_at: None };
        Entry { email: email.map(str::to_owned), ..Entry::new(Tool::Codex, "x".into(), "openai", credential) }
    }

    #[test]
    fn what_belongs_together_goes_together() {
        let all = [entry(Some("a"), "1"), entry(None, "2"), entry(Some("b"), "3"), entry(Some("A"), "2")];
        assert_eq!(groups(&all.each_ref()), [vec![0, 1, 3], vec![2]]);
        let long = "t".repeat(60 * 1024);
        let all: Vec<Entry> = (0..6).map(|number| entry(None, &format!("{long}{number}"))).collect();
        let batches = batches(&all.iter().collect::<Vec<_>>());
        assert_eq!(batches, [vec![0, 1, 2], vec![3, 4, 5]]);
    }

    #[test]
    fn a_batch_fits_a_message() {
        let all: Vec<Entry> =
            (0..1000).map(|number| entry(Some(&number.to_string()), &format!("{number:0300}"))).collect();
        let all: Vec<&Entry> = all.iter().collect();
        for batch in batches(&all) {
            let entries = batch.iter().map(|place| on_the_wire(all[*place])).collect();
            let call =
                crate::protocol::Call::ImportAccounts(Box::new(ImportAccountsParams { entries, ..Default::default() }));
            crate::protocol::encode_call(1, call, &mut Vec::new()).unwrap();
        }
    }
}
